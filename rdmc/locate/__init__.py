"""Where the mass of a density is, when nothing but its values and gradients is known.

Ascents lead to modes (:class:`Pilot`), curvature gives each a scale, scans look for what ascents do not reach, and maps under which
the density is the same complete the list. Where ascents lead to no mode, Gaussians are moved to the mass. All of it proposes;
nothing later depends on its being right.
"""

from rdmc.locate.atlas import Atlas
from rdmc.locate.folding import Folding
from rdmc.locate.matching import Matching
from rdmc.locate.optimise import Ascent, ascend
from rdmc.locate.pilot import Pilot, extended
from rdmc.locate.survey import Known, Overlooked, Survey, Surveyor
from rdmc.locate.symmetry import Symmetry
from rdmc.locate.trail import Trail

__all__ = [
    "Ascent",
    "Atlas",
    "Folding",
    "Known",
    "Matching",
    "Overlooked",
    "Pilot",
    "Survey",
    "Surveyor",
    "Symmetry",
    "Trail",
    "ascend",
    "extended",
]
