"""Parts of space outside of which a density is -inf: how they are found, and seen without bounds."""

from rdmc.supports.bounds import find_box
from rdmc.supports.box import Box
from rdmc.supports.facets import find_polyhedron
from rdmc.supports.polyhedron import Polyhedron
from rdmc.supports.support import Support

__all__ = ["Box", "Polyhedron", "Support", "find_box", "find_polyhedron"]
