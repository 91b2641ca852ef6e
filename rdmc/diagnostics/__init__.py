"""What a run says about itself: agreement of populations, modes, inner chains, and distances to a known truth."""

from rdmc.diagnostics.capture import Capture, capture
from rdmc.diagnostics.convergence import Convergence, convergence, rhat_threshold
from rdmc.diagnostics.error_budget import ErrorBudget, error_budget
from rdmc.diagnostics.inner import pooled_ess, pooled_rhat
from rdmc.diagnostics.modes import mode_table
from rdmc.diagnostics.quality import iid_floor, ks_projected, mode_weight_tv, sliced_w2
from rdmc.diagnostics.rules import RULES, ResultLike, check

__all__ = [
    "RULES",
    "Capture",
    "Convergence",
    "ErrorBudget",
    "ResultLike",
    "capture",
    "check",
    "convergence",
    "error_budget",
    "iid_floor",
    "ks_projected",
    "mode_table",
    "mode_weight_tv",
    "pooled_ess",
    "pooled_rhat",
    "rhat_threshold",
    "sliced_w2",
]
