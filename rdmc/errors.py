"""Exceptions that carry the offending data, so that a caller can look at it instead of parsing a message."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "ArchiveError",
    "CheckpointError",
    "DensityError",
    "ImproperDensityError",
    "NonFiniteDensityError",
    "RejectionBoundError",
    "SamplingWarning",
    "SamplingWarningError",
    "WorkerLostError",
]


class ArchiveError(ValueError):
    """A value can't be packed into bytes, or bytes are damaged or name what may not be made."""


class CheckpointError(ValueError):
    """A checkpoint is damaged, belongs to another run or another version, or can't be written; nothing was overwritten."""


class WorkerLostError(RuntimeError):
    """The workers of an executor died again and again on the same part of a run; the parts that were done are kept."""


class DensityError(ValueError):
    """``log_density`` does not keep its contract ``(M, d) -> (M,)``; the message shows what was wanted and what came."""


class NonFiniteDensityError(RuntimeError):
    """Too many evaluations gave NaN or ``+inf``.

    Attributes:
        t: Forward time (noise level) of the run at which the limit was passed; None outside the reverse diffusion.
        points: ``(m, d)`` some of the offending points, in the user's coordinates.
    """

    def __init__(self, message: str, *, t: float | None = None, points: Tensor | None = None) -> None:
        super().__init__(message)
        self.t = t
        self.points = points


class ImproperDensityError(RuntimeError):
    """The density has no finite mass as far as the pilot could see: ascent runs off to infinity.

    Attributes:
        points: ``(m, d)`` the points at which the ascent was stopped.
    """

    def __init__(self, message: str, *, points: Tensor | None = None) -> None:
        super().__init__(message)
        self.points = points


class RejectionBoundError(RuntimeError):
    """Rejection sampling of the inner posterior accepted nothing for some particles, or its bound was broken.

    Attributes:
        particles: ``(m,)`` indices of the particles concerned.
    """

    def __init__(self, message: str, *, particles: Tensor | None = None) -> None:
        super().__init__(message)
        self.particles = particles


class SamplingWarning(UserWarning):
    """Said once, at the end of a run that shows its progress, if ``Result.check()`` lists a problem."""


class SamplingWarningError(RuntimeError):
    """Raised at the end of a run with ``strict=True`` when ``Result.check()`` lists a problem.

    Attributes:
        result: The complete :class:`rdmc.Result`; nothing computed is lost.
    """

    def __init__(self, message: str, *, result: object) -> None:
        super().__init__(message)
        self.result = result
