"""Which features does a logistic regression need? A spike-and-slab posterior in which near-copies stand in for each other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from targets.base import Target

__all__ = ["FEATURES", "SpikeAndSlab", "spike_and_slab"]

FEATURES = ("radius", "perimeter", "area", "texture", "smoothness", "concavity")
"""Names of the features, all means over a sample's cell nuclei; the first three measure size and correlate by .99."""

_COLUMNS = (0, 2, 3, 1, 4, 6)
_DEFAULT = (0.1, 3.0, 0.2)
_LOG_Z = -98.9972
_PATTERNS = (0.0, 0.1241, 0.0407, 0.0225, 0.6107, 0.1028, 0.0825, 0.0167)
_LOG_2PI = math.log(2.0 * math.pi)


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class SpikeAndSlab(Target):
    r"""Posterior of a logistic regression whose coefficients are either about zero or free.

    .. math:: P(c_i = 1) = 1 / (1 + e^{-(b_0 + a_i \cdot b)}), \quad b_0 \sim N(0, 2.5^2), \quad
              b_j \sim (1 - q) N(0, s_0^2) + q N(0, s_1^2)

    Coordinates: :math:`b_0, b`. All constants are included. The modes are the patterns of large coefficients among the first
    three: bit j is set if :math:`|b_j|` exceeds the point where slab and spike are equally probable.

    Attributes:
        signed_design: ``(n, 1+p)`` rows (1, a) with the sign of the class.
        spike: :math:`s_0`.
        slab: :math:`s_1`.
        inclusion: q.
    """

    signed_design: Tensor
    spike: float
    slab: float
    inclusion: float

    @property
    def parameter_names(self) -> tuple[str, ...]:
        """Name of each coordinate."""
        return ("intercept", *FEATURES)

    @property
    def threshold(self) -> float:
        """Size at which a coefficient is as probably of the slab as of the spike."""
        odds = math.log((1.0 - self.inclusion) / self.inclusion * self.slab / self.spike)
        return math.sqrt(2.0 * odds / (self.spike**-2 - self.slab**-2))

    def log_density(self, x: Tensor) -> Tensor:
        """Log likelihood plus log prior: ``(M, 1+p) -> (M,)``."""
        return self.value_and_grad(x)[0]

    def value_and_grad(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Log density and gradient."""
        margins = x @ self.signed_design.T
        logs = self._logs(x[:, 1:])
        prior = torch.logsumexp(logs, 0)
        of_slab = torch.exp(logs[1] - prior)
        shrink = of_slab / self.slab**2 + (1.0 - of_slab) / self.spike**2
        of_intercept = -0.5 * (x[:, 0] / 2.5).square() - math.log(2.5) - 0.5 * _LOG_2PI
        value = torch.nn.functional.logsigmoid(margins).sum(1) + prior.sum(1) + of_intercept
        pull = torch.sigmoid(-margins) @ self.signed_design
        return value, pull - torch.cat([x[:, :1] / 2.5**2, x[:, 1:] * shrink], dim=1)

    def slab_probability(self, x: Tensor) -> Tensor:
        """``(M, p)`` probability that each coefficient is of the slab, given the point ``(M, 1+p)``."""
        return torch.softmax(self._logs(x[:, 1:]), 0)[1]

    def mode_of(self, x: Tensor) -> Tensor:
        """Pattern of the three sizes, 0 to 7: ``(M, 1+p) -> (M,)``; for the default prior, whose weights are known."""
        if not self.has_modes:
            return super().mode_of(x)
        large = (x[:, 1:4].abs() > self.threshold).to(torch.int64)
        return large[:, 0] + 2 * large[:, 1] + 4 * large[:, 2]

    def _logs(self, b: Tensor) -> Tensor:
        """``(2, M, p)`` logs of weight times density for spike and slab."""
        spike = math.log((1.0 - self.inclusion) / self.spike) - 0.5 * (b / self.spike).square()
        slab = math.log(self.inclusion / self.slab) - 0.5 * (b / self.slab).square()
        return torch.stack([spike, slab]) - 0.5 * _LOG_2PI


def spike_and_slab(spike: float = 0.1, slab: float = 3.0, inclusion: float = 0.2) -> SpikeAndSlab:
    r"""Posterior for six standardised features of the Wisconsin breast cancer data, malignant against benign.

    Needs scikit-learn, which ships the data.

    Ground truth, for the default arguments: which coefficients are of the slab makes 64 cases, each with a log-concave posterior;
    each was summed by importance sampling from a Student law at its mode, 2 x 40,000 draws. The standard error of ``log_z`` is
    .0011, that of the mode weights below .0007. Of the coefficients' own slab, radius has .279, perimeter .177, area .816.

    Args:
        spike: :math:`s_0`.
        slab: :math:`s_1`, larger.
        inclusion: q.

    Raises:
        ValueError: If the scales aren't positive and in ascending order, or ``inclusion`` isn't in (0, 1/2].
        ModuleNotFoundError: If scikit-learn isn't installed.

    Source: Street, Wolberg, Mangasarian (1993), Nuclear feature extraction for breast tumor diagnosis; the prior is that of
    George, McCulloch (1993), Variable selection via Gibbs sampling, JASA 88.
    """
    if not 0.0 < spike < slab or not 0.0 < inclusion <= 0.5:
        raise ValueError(
            f"`spike` and `slab` must be positive, ascending, `inclusion` in (0, 1/2], got {spike}, {slab}, {inclusion}"
        )
    from sklearn.datasets import load_breast_cancer

    features, benign = load_breast_cancer(return_X_y=True)
    chosen = torch.from_numpy(features[:, list(_COLUMNS)])
    standard = (chosen - chosen.mean(0)) / chosen.std(0, correction=0)
    design = torch.cat([torch.ones(len(standard), 1, dtype=torch.float64), standard], dim=1)
    signs = 1.0 - 2.0 * torch.from_numpy(benign).to(torch.float64)[:, None]
    known = (spike, slab, inclusion) == _DEFAULT
    weights = torch.tensor(_PATTERNS, dtype=torch.float64)
    return SpikeAndSlab(
        name="spike_and_slab",
        dim=design.shape[1],
        source="Street, Wolberg, Mangasarian (1993), UCI breast cancer (diagnostic)",
        log_z=_LOG_Z if known else None,
        mode_weights=weights / weights.sum() if known else None,
        signed_design=signs * design,
        spike=spike,
        slab=slab,
        inclusion=inclusion,
    )
