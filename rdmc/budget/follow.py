"""The errors of a run, followed from level to level and summed up at its end: what the loop of the reverse diffusion calls."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.budget.direct import DIRECT, First, measure
from rdmc.budget.step_law import StepLaw
from rdmc.budget.terms import StartError, start_error
from rdmc.budget.transport import Look, Transport, centres, members, within
from rdmc.capture import Modes
from rdmc.coordinates import Affine
from rdmc.correct.fit import fit_mixture
from rdmc.locate.survey import Survey
from rdmc.mixture import GaussianMixture
from rdmc.process import ForwardProcess
from rdmc.start import MatchedNormal, Start

__all__ = ["LEFT", "MOST_COORDINATES", "Followed", "last_columns"]

LEFT = ("left_start", "left_discretisation", "left_score")
"""Columns with what is left of each term."""
MOST_COORDINATES = 64
"""Dimension up to which errors are followed: beyond it matrices cost too much."""
_FITTED = slice(1024)  # draws to which modes are fitted where no survey found them
_LEAST_FITTED = 100
_MOST_FITTED = 8
_CLEAR = 3.0  # times its expected noise, from which on the start's error is one


class Followed(NamedTuple):
    """What is known of the errors so far.

    Attributes:
        views: Errors of moments on their way (:class:`rdmc.budget.transport.Transport`): of the whole and, where there are modes,
            within these. None where there are too many coordinates.
        first: What the first level knew of the end; None where the steps are the bridge, which leaves no error.
        modes: Modes fitted to the first level's draws, where no survey told any.
        expanded: Whether every step so far could be compared with the exact kernel, so that the views know its error.
        flows: Whether none of them added noise.
    """

    views: tuple[Transport, ...]
    first: First | None = None
    modes: Modes | None = None
    expanded: bool = True
    flows: bool = True

    @classmethod
    def begin(
        cls, process: ForwardProcess, law: StepLaw, s: float, end: float, look: Look, modes: Modes | None
    ) -> Followed:
        """At the first level.

        Args:
            process: Forward process.
            law: The first step's coefficients.
            s: Where it goes.
            end: Last time, of x_t or of a draw of x_0.
            look: At the first level.
            modes: The survey's, None where there was none.
        """
        d = look.x_t.shape[1]
        if d > MOST_COORDINATES or look.x_t.device.type == "meta":
            return cls(())
        own = _fitted(look.draws.draw) if modes is None else None
        first = None if law.is_exact(process, look.t, s) else First.seen(process, end, look)
        nothing = look.x_t.new_zeros(d, d)
        counts = [1 if view is None else view.count + 1 for view in _views(modes or own)]
        return cls(tuple(Transport(look.x_t.new_zeros(n, d), nothing, nothing) for n in counts), first, own)

    def step(
        self, process: ForwardProcess, law: StepLaw, s: float, end: float, look: Look, modes: Modes | None
    ) -> Followed:
        """One step on, from the time of the look to s; arguments as in :meth:`begin`."""
        pairs = zip(self.views, _views(modes or self.modes), strict=False)
        views = tuple(transport.step(process, law, s, end, look, view) for transport, view in pairs)
        last = s == 0.0
        return self._replace(
            views=views,
            expanded=self.expanded and (law.compares or (law.whole and last)),
            flows=self.flows and (law.flows or last),
        )


def last_columns(
    levels: int,
    start: tuple[Start, ForwardProcess, GaussianMixture | None, Tensor, tuple[Tensor, Tensor] | None],
    followed: Followed,
    modes: Modes | None,
) -> dict[str, NDArray[np.float64]]:
    """What can be told at the end of a run, as ``(levels,)`` columns: the start's error at the first, what is left at the last.

    What is left is the sum of both views, as the divergence is that of the modes' weights and, on average, of their shapes: the
    first view, in the directions in which modes are apart, sees the weights, the second the shapes. NaN where it can't be told,
    also where draws are so far off that a matrix is singular. What the steps leave is measured too
    (:func:`rdmc.budget.direct.measure`).

    Args:
        levels: Number of levels.
        start: What :func:`rdmc.budget.terms.start_error` takes, with the ``(n, d)`` draws.
        followed: The errors on their way.
        modes: The survey's, None where there was none.
    """
    modes = modes or followed.modes
    columns = {name: np.zeros(levels) for name in ("start_error", *LEFT, *DIRECT)}
    x, views = start[3], followed.views
    nats, left, truth = math.nan, (math.nan, math.nan, math.nan), None
    try:
        begun = start_error(*start, slope=views[0].slope if views else None)
        if begun is not None:
            nats, truth = begun.nats, _law_at_horizon(start, begun)
            ways = zip(views, _views(modes), (_between(x, modes), None), strict=False)
            errors = (begun.mean, begun.covariance)
            exact = None if followed.first is None else followed.first.draws[0]
            found = [transport.left(x, errors, view, seen, exact) for transport, view, seen in ways]
            if found:
                by_start, steps, noise = map(sum, zip(*found, strict=True))
                # a flow is one to one: it keeps the divergence that the start had
                left = nats if followed.flows else by_start, steps if followed.expanded else math.nan, noise
    except RuntimeError:  # of linear algebra: not known, and no reason to lose the run
        pass
    columns["start_error"][0] = nats
    for name, value in zip((*LEFT, *DIRECT), (*left, *_direct(x, truth, followed, modes)), strict=True):
        columns[name][-1] = value
    return columns


def _law_at_horizon(
    start: tuple[Start, ForwardProcess, GaussianMixture | None, Tensor, tuple[Tensor, Tensor] | None], error: StartError
) -> tuple[Tensor, Tensor] | None:
    """Mean and covariance of p_T, where a normal start is near it; None of another start."""
    how, process, surrogate, x, _ = start
    if not isinstance(how, MatchedNormal):
        return None
    mean, covariance = how.law(process, surrogate, x[0])
    if error.nats < _CLEAR * error.own:  # what the draws say of p_T is no better than what the start did
        return mean, covariance
    return mean - error.mean, covariance - error.covariance


def _direct(
    x: Tensor, truth: tuple[Tensor, Tensor] | None, followed: Followed, modes: Modes | None
) -> tuple[float, ...]:
    """The fields of :class:`rdmc.budget.direct.Measured`, NaN where nothing was measured."""
    if followed.first is None or not followed.views:
        return (math.nan,) * len(DIRECT)
    try:
        noise = followed.views[-1].arrived(x, _views(modes)[-1]).noise
        noise = torch.where(torch.isfinite(noise).all(), noise, torch.zeros_like(noise))
        measured = measure(followed.first, x, truth, _views(modes)[-1], noise)
    except RuntimeError:  # of linear algebra
        measured = None
    return (math.nan,) * len(DIRECT) if measured is None else tuple(measured)


def _fitted(x: Tensor) -> Modes | None:
    """Modes of ``(B, d)`` draws: Gaussians fitted to them, those without a valley between them as one mode."""
    if len(x) < _LEAST_FITTED or not bool(torch.isfinite(x).all()):
        return None
    try:
        mixture = fit_mixture(x[_FITTED], _MOST_FITTED)
    except (RuntimeError, ValueError):  # draws that are no sample: all in one point, or on a line
        return None
    nothing = torch.zeros_like(mixture.log_weight)
    identity = Affine.identity(mixture.dim, dtype=x.dtype, device=x.device)
    return Modes.of(Survey(identity, mixture, nothing, nothing.long(), math.nan))


def _views(modes: Modes | None) -> tuple[Modes | None, ...]:
    return (None,) if modes is None or modes.count == 1 else (None, modes)


def _between(x: Tensor, modes: Modes | None) -> Tensor | None:
    """``(d, r)`` directions in which the modes of ``(n, d)`` draws are farther apart than wide; None where there is one mode."""
    if modes is None or modes.count == 1:
        return None
    member = members(x, modes)
    root = torch.linalg.cholesky(within(x, member))
    apart = torch.linalg.solve_triangular(root, (member @ centres(x, member) - x.mean(0)).T, upper=False)
    values, vectors = torch.linalg.eigh(apart @ apart.T / len(x))
    return torch.linalg.solve_triangular(root.T, vectors[:, values > 1.0], upper=True)
