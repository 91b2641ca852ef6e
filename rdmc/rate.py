"""Time-dependent rates: how fast a forward process injects noise, with the integral and its inverse.

A rate ``b`` enters :class:`rdmc.process.VP` as beta_t and :class:`rdmc.process.VE` as g_t^2. Both processes, and every
grid in a noise variable, need ``B(t) = int_0^t b(u) du`` and the time at which ``B`` reaches a value; a rate offers
all three, so no process ever solves an equation itself. Everything here is a Python float.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

__all__ = [
    "ConstantRate",
    "GeometricRate",
    "LinearRate",
    "QuadratureRate",
    "Rate",
    "require_non_negative",
    "require_positive",
]


def require_positive(name: str, value: float) -> None:
    """Raises ``ValueError`` unless ``value`` is a positive finite Python number (a tensor is refused)."""
    if not isinstance(value, (int, float)) or not (math.isfinite(value) and value > 0):
        raise ValueError(f"`{name}` must be a positive finite float, got {value!r}")


def require_non_negative(name: str, value: float) -> None:
    """Raises ``ValueError`` unless ``value`` is zero or a positive finite Python number."""
    if not isinstance(value, (int, float)) or not (math.isfinite(value) and value >= 0):
        raise ValueError(f"`{name}` must be a non-negative finite float, got {value!r}")


class Rate(Protocol):
    """A rate b(t), positive on (0, horizon), with its integral from 0 and the inverse of that integral.

    Law: ``integral(0) == 0``, ``d integral / dt == b``, ``inverse(integral(t)) == t``.
    """

    def __call__(self, t: float) -> float:
        """The rate b(t)."""
        ...

    def integral(self, t: float) -> float:
        """B(t) = int_0^t b(u) du."""
        ...

    def inverse(self, integral: float) -> float:
        """The time t with B(t) equal to ``integral``."""
        ...


@dataclass(frozen=True)
class ConstantRate:
    r"""The same rate at all times.

    .. math:: b(t) = \text{value}, \qquad B(t) = \text{value}\; t

    Args:
        value: The rate, > 0. ``VP(ConstantRate(2.0), horizon)`` is the OU process.

    Raises:
        ValueError: if ``value`` is not positive.

    Example:
        >>> ConstantRate(2.0).integral(1.5)
        3.0
    """

    value: float

    def __post_init__(self) -> None:
        require_positive("value", self.value)

    def __call__(self, t: float) -> float:
        """The rate b(t)."""
        return self.value

    def integral(self, t: float) -> float:
        """B(t)."""
        return self.value * t

    def inverse(self, integral: float) -> float:
        """The time t with B(t) equal to ``integral``."""
        return integral / self.value


@dataclass(frozen=True)
class LinearRate:
    r"""A rate that goes linearly from ``start`` at time 0 to ``end`` at ``horizon``.

    .. math:: b(t) = \text{start} + c\, t, \qquad B(t) = \text{start}\; t + c\, t^2 / 2,
              \qquad c = (\text{end} - \text{start}) / \text{horizon}

    The inverse is the root of the quadratic written without cancellation, so it keeps full relative accuracy near 0.

    Args:
        start: Rate at time 0, >= 0.
        end: Rate at ``horizon``, > 0; below ``start`` is allowed.
        horizon: Time at which ``end`` is reached, > 0.

    Raises:
        ValueError: if ``start`` is negative, or ``end`` or ``horizon`` is not positive.

    Source: Song et al. (2021), arXiv:2011.13456, appendix C (VP SDE: start 0.1, end 20, horizon 1).

    Example:
        >>> LinearRate(1.0, 4.0, horizon=2.0).integral(2.0)
        5.0
    """

    start: float
    end: float
    horizon: float

    def __post_init__(self) -> None:
        require_non_negative("start", self.start)
        require_positive("end", self.end)
        require_positive("horizon", self.horizon)

    @property
    def slope(self) -> float:
        """The slope c of the rate."""
        return (self.end - self.start) / self.horizon

    def __call__(self, t: float) -> float:
        """The rate b(t)."""
        return self.start + self.slope * t

    def integral(self, t: float) -> float:
        """B(t)."""
        return (self.start + 0.5 * self.slope * t) * t

    def inverse(self, integral: float) -> float:
        """The time t with B(t) equal to ``integral``."""
        if integral == 0:
            return 0.0
        # The square of the rate at the sought time; only rounding, where a falling rate ends, can push it below zero.
        squared_rate = max(self.start * self.start + 2.0 * self.slope * integral, 0.0)
        return 2.0 * integral / (self.start + math.sqrt(squared_rate))


@dataclass(frozen=True)
class GeometricRate:
    r"""The rate of a variance that grows geometrically, ``sigma_min``^2 at time 0, ``sigma_max``^2 at ``horizon``.

    .. math:: b(t) = \frac{d}{dt}\, \sigma_\min^2 \rho^{2t/\text{horizon}}, \qquad
              B(t) = \sigma_\min^2 \left(\rho^{2t/\text{horizon}} - 1\right), \qquad \rho = \sigma_\max / \sigma_\min

    ``VE(GeometricRate(...), horizon)`` is the VE SDE of Song et al. with its exact transition: sigma_t^2 = B(t), which
    is 0 at t = 0 (their code drops the -1, which shifts the variance by ``sigma_min``^2 at every time).

    Args:
        sigma_min: Smallest noise scale, > 0.
        sigma_max: Largest noise scale, > ``sigma_min``.
        horizon: Time at which ``sigma_max`` is reached, > 0.

    Raises:
        ValueError: if an argument is not positive, or ``sigma_max`` is not above ``sigma_min``.

    Source: Song et al. (2021), arXiv:2011.13456, appendix C (VE SDE: sigma_min 0.01, horizon 1).

    Example:
        >>> round(GeometricRate(0.1, 10.0, horizon=1.0).integral(0.5), 12)
        0.99
    """

    sigma_min: float
    sigma_max: float
    horizon: float

    def __post_init__(self) -> None:
        require_positive("sigma_min", self.sigma_min)
        require_positive("sigma_max", self.sigma_max)
        require_positive("horizon", self.horizon)
        if not self.sigma_max > self.sigma_min:
            raise ValueError(f"`sigma_max` must be above sigma_min = {self.sigma_min}, got {self.sigma_max}")

    @property
    def growth(self) -> float:
        """Growth rate of the variance, 2 log(rho) / horizon."""
        return 2.0 * math.log(self.sigma_max / self.sigma_min) / self.horizon

    def __call__(self, t: float) -> float:
        """The rate b(t)."""
        return self.sigma_min**2 * self.growth * math.exp(self.growth * t)

    def integral(self, t: float) -> float:
        """B(t)."""
        return self.sigma_min**2 * math.expm1(self.growth * t)

    def inverse(self, integral: float) -> float:
        """The time t with B(t) equal to ``integral``."""
        return math.log1p(integral / self.sigma_min**2) / self.growth


@dataclass(frozen=True)
class QuadratureRate:
    r"""Any positive function of time as a rate; integral by adaptive quadrature, inverse by bracketed root finding.

    .. math:: b(t) = \text{function}(t), \qquad B(t) = \int_0^t b(u)\, du

    Error: relative 1e-12 of the integral for a smooth function. Cost: at least 21 calls of ``function`` per integral,
    and one integral per iteration of the inverse; none depends on the number of particles.

    Args:
        function: Positive rate on [0, ``horizon``], a float to a float.
        horizon: End of the interval in which :meth:`inverse` looks, > 0.

    Raises:
        ValueError: if ``function`` is not callable or not positive at 0, ``horizon``/2 or ``horizon`` (checked at
            construction) or at any later call; if ``horizon`` is not positive; for a time or an inverse beyond it.

    Source: QUADPACK (``scipy.integrate.quad``) and Brent (1973) (``scipy.optimize.brentq``).

    Example:
        >>> import math
        >>> rate = QuadratureRate(lambda t: 1.0 + math.cos(t) ** 2, horizon=2.0)
        >>> round(rate.inverse(rate.integral(0.7)), 12)
        0.7
    """

    function: Callable[[float], float]
    horizon: float

    def __post_init__(self) -> None:
        require_positive("horizon", self.horizon)
        if not callable(self.function):
            raise ValueError(f"`function` must be a callable, float to float, got {self.function!r}")
        for t in (0.0, 0.5 * self.horizon, self.horizon):
            self(t)

    def __call__(self, t: float) -> float:
        """The rate b(t)."""
        if not 0 <= t <= self.horizon:
            raise ValueError(f"`t` must lie in [0, {self.horizon}], where this rate is declared, got {t}")
        value = float(self.function(t))
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"`function` must be positive and finite on [0, {self.horizon}], got {value} at t = {t}")
        return value

    def integral(self, t: float) -> float:
        """B(t)."""
        from scipy.integrate import quad

        return float(quad(self, 0.0, t, epsabs=0.0, epsrel=1e-12, limit=200)[0]) if t > 0 else 0.0

    def inverse(self, integral: float) -> float:
        """The time t with B(t) equal to ``integral``."""
        from scipy.optimize import brentq

        total = self.integral(self.horizon)
        if not 0 <= integral <= total * (1 + 1e-9):
            raise ValueError(f"`integral` must lie in [0, {total}], its range up to the horizon, got {integral}")
        if integral == 0 or integral >= total:
            return 0.0 if integral == 0 else float(self.horizon)
        # Tiny xtol: near 0 only the relative tolerance counts, and bisection may need a step per binary exponent.
        return float(brentq(lambda t: self.integral(t) - integral, 0.0, self.horizon, (), 1e-300, 1e-15, maxiter=2000))
