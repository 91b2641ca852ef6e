"""From a reference law to exact draws: fit, temper, judge, and again until the reference covers what it should.

Each part is useful alone. A *reference* is a law that can be drawn from and evaluated; tempering turns its draws into draws of pi
with an estimate of the evidence, whatever the reference is; the judgement says how near the two were.
"""

from rdmc.correct.axes import AxesMixture, fit_axes
from rdmc.correct.fit import fit_mixture
from rdmc.correct.judge import Judgement
from rdmc.correct.product import ProductMixture, fit_product, independent_directions
from rdmc.correct.reference import Law, Reference
from rdmc.correct.refine import Refined, Refinement
from rdmc.correct.temper import Ladder, Population, Tempering, Trial
from rdmc.correct.tempered import Tempered

__all__ = [
    "AxesMixture",
    "Judgement",
    "Ladder",
    "Law",
    "Population",
    "ProductMixture",
    "Reference",
    "Refined",
    "Refinement",
    "Tempered",
    "Tempering",
    "Trial",
    "fit_axes",
    "fit_mixture",
    "fit_product",
    "independent_directions",
]
