r"""Forward (noising) processes: the only home of alpha_t, sigma_t and what follows from them.

.. math:: x_t \mid x_0 \sim N(\alpha_t x_0, \sigma_t^2 I), \qquad dx_t = a_t x_t\, dt + g_t\, dB_t

There is one clock: forward time t, 0 = data, and ``s < t`` is the next, smaller time. Times and every coefficient are
Python floats: no broadcasting, no device transfer, and float64 even where particles are float32. Differences of nearly
equal numbers go through expm1/log1p, so t = 1e-12 is as accurate as t = 1.

A new process of the two families, :class:`VariancePreserving` and :class:`VarianceExploding`, is one dataclass with a
rate and a horizon; any other linear one implements :class:`ForwardProcess`.
"""

from __future__ import annotations

import abc
import math
from dataclasses import dataclass, field
from typing import NamedTuple

from rdmc.rate import ConstantRate, LinearRate, Rate, require_positive

__all__ = [
    "EDM",
    "OU",
    "VE",
    "VP",
    "BridgeLaw",
    "ForwardProcess",
    "Transition",
    "VarianceExploding",
    "VariancePreserving",
]


class Transition(NamedTuple):
    """The exact forward law x_t | x_s ~ N(r x_s, sd^2 I); r = alpha_t / alpha_s, sd^2 = sigma_t^2 - r^2 sigma_s^2."""

    r: float
    sd: float


class BridgeLaw(NamedTuple):
    """The exact law x_s | x_0, x_t ~ N(on_x_0 x_0 + on_x_t x_t, sd^2 I)."""

    on_x_0: float
    on_x_t: float
    sd: float


class ForwardProcess(abc.ABC):
    """A linear Gaussian process from the data at t = 0 to nearly pure noise at ``horizon``.

    Raises:
        ValueError: from every method of a pair (t, s), if not 0 <= s < t.
    """

    horizon: float

    @abc.abstractmethod
    def alpha(self, t: float) -> float:
        """Signal scale alpha_t; 1 at t = 0."""

    @abc.abstractmethod
    def sigma(self, t: float) -> float:
        """Noise scale sigma_t; 0 at t = 0."""

    @abc.abstractmethod
    def drift(self, t: float) -> float:
        """a_t = d log(alpha_t) / dt."""

    @abc.abstractmethod
    def diffusion(self, t: float) -> float:
        """g_t, with g_t^2 = d sigma_t^2 / dt - 2 a_t sigma_t^2."""

    @abc.abstractmethod
    def time_at(self, log_snr: float) -> float:
        """The time at which ``log(alpha_t^2 / sigma_t^2)`` is ``log_snr``; the inverse of :meth:`log_snr`."""

    @abc.abstractmethod
    def transition(self, t: float, s: float) -> Transition:
        """The law of x_t given x_s."""

    @abc.abstractmethod
    def score_gain(self, t: float, s: float) -> float:
        r"""Exact weight of a score frozen over [s, t] in the reverse equation.

        .. math:: \int_s^t \frac{\alpha_s}{\alpha_u} g_u^2\, du
        """

    def log_snr(self, t: float) -> float:
        """``log(alpha_t^2 / sigma_t^2)``, decreasing in t; ``inf`` at t = 0."""
        sigma_t = self.sigma(t)
        return 2.0 * (math.log(self.alpha(t)) - math.log(sigma_t)) if sigma_t > 0 else math.inf

    def reverse_noise(self, t: float, s: float) -> float:
        r"""Standard deviation of the noise that the reverse equation with a frozen score gathers over [s, t].

        .. math:: \Big(\int_s^t \frac{\alpha_s^2}{\alpha_u^2} g_u^2\, du\Big)^{1/2}
                  = \alpha_s \sqrt{\sigma_t^2 / \alpha_t^2 - \sigma_s^2 / \alpha_s^2}
        """
        r, sd = self.transition(t, s)
        return sd / r

    def bridge(self, t: float, s: float) -> BridgeLaw:
        r"""The exact law of x_s given both ends, x_0 and x_t.

        .. math:: N\big((\alpha_s v\, x_0 + r \sigma_s^2\, x_t) / \sigma_t^2,\; \sigma_s^2 v / \sigma_t^2\; I\big)

        with r and v = sd^2 of :meth:`transition`. At s = 0 it is the point x_0.

        Source: Gaussian conditioning; Ho et al. (2020), arXiv:2006.11239, eqs. (6)-(7) for VP in discrete time.
        """
        r, sd = self.transition(t, s)
        alpha_s, sigma_s, sigma_t = self.alpha(s), self.sigma(s), self.sigma(t)
        return BridgeLaw(alpha_s * (sd / sigma_t) ** 2, r * (sigma_s / sigma_t) ** 2, sigma_s * sd / sigma_t)


class VariancePreserving(ForwardProcess):
    r"""The family with :math:`\alpha_t^2 + \sigma_t^2 = 1` and rate beta_t = g_t^2.

    .. math:: dx_t = -\tfrac12 \beta_t x_t\, dt + \sqrt{\beta_t}\, dB_t, \qquad \alpha_t = e^{-D_t}, \qquad
              \sigma_t^2 = 1 - e^{-2 D_t}, \qquad D_t = \tfrac12 \int_0^t \beta_u\, du
    """

    rate: Rate

    def __post_init__(self) -> None:
        _check(self, self.rate)

    def decay(self, t: float) -> float:
        """D_t = -log(alpha_t), increasing from 0."""
        return 0.5 * self.rate.integral(t)

    def alpha(self, t: float) -> float:
        """Signal scale alpha_t."""
        return math.exp(-self.decay(t))

    def sigma(self, t: float) -> float:
        """Noise scale sigma_t."""
        return math.sqrt(-math.expm1(-2.0 * self.decay(t)))

    def drift(self, t: float) -> float:
        """a_t = -beta_t / 2."""
        return -0.5 * self.rate(t)

    def diffusion(self, t: float) -> float:
        """g_t = sqrt(beta_t)."""
        return math.sqrt(self.rate(t))

    def time_at(self, log_snr: float) -> float:
        """The time at which ``log(alpha_t^2 / sigma_t^2)`` is ``log_snr``: 2 D_t = log(1 + exp(-log_snr))."""
        return self.rate.inverse(max(-log_snr, 0.0) + math.log1p(math.exp(-abs(log_snr))))

    def transition(self, t: float, s: float) -> Transition:
        """The law of x_t given x_s; here sd^2 = 1 - r^2."""
        _require_reverse_step(t, s)
        decay = self.decay(t) - self.decay(s)
        return Transition(math.exp(-decay), math.sqrt(-math.expm1(-2.0 * decay)))

    def score_gain(self, t: float, s: float) -> float:
        """Weight of a frozen score: 2 (alpha_s / alpha_t - 1)."""
        _require_reverse_step(t, s)
        return 2.0 * math.expm1(self.decay(t) - self.decay(s))


class VarianceExploding(ForwardProcess):
    r"""The family with alpha_t = 1 and rate g_t^2.

    .. math:: dx_t = g_t\, dB_t, \qquad \alpha_t = 1, \qquad \sigma_t^2 = \int_0^t g_u^2\, du
    """

    rate: Rate

    def __post_init__(self) -> None:
        _check(self, self.rate)

    def alpha(self, t: float) -> float:
        """Signal scale, 1 at all times."""
        return 1.0

    def sigma(self, t: float) -> float:
        """Noise scale sigma_t."""
        return math.sqrt(self.rate.integral(t))

    def drift(self, t: float) -> float:
        """a_t, 0 at all times."""
        return 0.0

    def diffusion(self, t: float) -> float:
        """g_t, the root of the rate."""
        return math.sqrt(self.rate(t))

    def time_at(self, log_snr: float) -> float:
        """The time at which ``log(1 / sigma_t^2)`` is ``log_snr``."""
        return self.rate.inverse(math.exp(-log_snr))

    def transition(self, t: float, s: float) -> Transition:
        """The law of x_t given x_s; here r = 1 and sd^2 = sigma_t^2 - sigma_s^2."""
        return Transition(1.0, math.sqrt(self.score_gain(t, s)))

    def score_gain(self, t: float, s: float) -> float:
        """Weight of a frozen score: sigma_t^2 - sigma_s^2."""
        _require_reverse_step(t, s)
        return self.rate.integral(t) - self.rate.integral(s)


@dataclass(frozen=True)
class OU(VariancePreserving):
    r"""Ornstein-Uhlenbeck process, RDMC's own: variance preserving with rate 2.

    .. math:: dx_t = -x_t\, dt + \sqrt{2}\, dB_t, \qquad \alpha_t = e^{-t}, \qquad \sigma_t^2 = 1 - e^{-2t}

    Args:
        horizon: Last time, > 0 and short enough that alpha stays above 0 in float64.

    Raises:
        ValueError: if ``horizon`` is not positive, or so long that alpha underflows.

    Source: Huang et al. (2024), arXiv:2307.02037, the forward process of RDMC.

    Example:
        >>> OU(horizon=3.0).sigma(0.0), OU(horizon=3.0).drift(1.0)
        (0.0, -1.0)
    """

    horizon: float
    rate: Rate = field(default=ConstantRate(2.0), init=False, repr=False)


@dataclass(frozen=True)
class VP(VariancePreserving):
    r"""Variance-preserving process with any rate.

    Args:
        rate: beta_t on [0, ``horizon``].
        horizon: Last time, > 0.

    Raises:
        ValueError: if ``horizon`` is not positive, ``rate`` does not cover [0, ``horizon``], or alpha underflows.

    Source: Song et al. (2021), arXiv:2011.13456, eq. (11). ``VP(ConstantRate(2.0), horizon)`` is :class:`OU`.
    """

    rate: Rate
    horizon: float


@dataclass(frozen=True)
class VE(VarianceExploding):
    r"""Variance-exploding process with any rate.

    Args:
        rate: g_t^2 (not g_t) on [0, ``horizon``].
        horizon: Last time, > 0.

    Raises:
        ValueError: if ``horizon`` is not positive or ``rate`` does not cover [0, ``horizon``].

    Source: Song et al. (2021), arXiv:2011.13456, eq. (9).
    """

    rate: Rate
    horizon: float


@dataclass(frozen=True)
class EDM(VarianceExploding):
    """Variance-exploding process whose time is its noise scale: sigma_t = t, dx_t = sqrt(2t) dB_t.

    Args:
        horizon: Last time and largest noise scale, > 0.

    Raises:
        ValueError: if ``horizon`` is not positive.

    Source: Karras et al. (2022), arXiv:2206.00364, table 1 (last column).

    Example:
        >>> EDM(horizon=80.0).sigma(0.5)
        0.5
    """

    horizon: float
    rate: Rate = field(default=LinearRate(0.0, 2.0, horizon=1.0), init=False, repr=False)


def _require_reverse_step(t: float, s: float) -> None:
    if not 0 <= s < t:
        raise ValueError(f"`t` and `s` must satisfy 0 <= s < t (one step back in forward time), got t = {t}, s = {s}")


def _check(process: ForwardProcess, rate: Rate) -> None:
    require_positive("horizon", process.horizon)
    horizon = process.horizon
    # A rate that ends before the process, or whose inverse does not fit its integral, would misplace times silently.
    if not (rate(horizon) > 0 and math.isclose(rate.inverse(rate.integral(horizon)), horizon, rel_tol=1e-6)):
        raise ValueError(f"`rate` must be positive with an invertible integral up to horizon = {horizon}, got {rate!r}")
    if not process.alpha(horizon) > 0:
        raise ValueError(f"`horizon` must leave alpha above 0 in float64, got {horizon}, where alpha underflows")
