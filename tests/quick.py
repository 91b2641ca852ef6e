"""The default sampler where a test is not about its search for modes."""

from __future__ import annotations

import rdmc

QUICK = rdmc.Auto(pilot=rdmc.Pilot(scan=4))
"""A ninth of the points scanned, all else as it is."""
