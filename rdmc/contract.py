"""The contract of a user's density, tried at a few points: what breaks it is said before anything is sampled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from rdmc.errors import DensityError

if TYPE_CHECKING:
    from rdmc.density import Density

__all__ = ["checked"]

_SHOWN = 4  # coordinates of a gradient shown in a message
_LIE = 0.05  # relative error of a slope, far above what two differences that agree can leave


def checked(density: Density, x: Tensor) -> Density:
    """The density, mapped over the batch if it was written for one point; :meth:`rdmc.Density.check` says what is tried.

    Args:
        density: What is tried.
        x: ``(M, d)`` points, M >= 3 and M != d.

    Raises:
        DensityError: Naming what was wanted and what came.
    """
    known = density if _is_batched(density, x) else replace(density, log_density=torch.vmap(density.log_density))
    _check_rows(known, x)
    _check_closed_form(known, x)
    _check_gradient(known, x)
    return known


def _is_batched(density: Density, x: Tensor) -> bool:
    try:
        value = _try(density, density.log_density, x)
    except DensityError:
        if not _takes_one_point(density, x):
            raise
        return False
    if value.shape == (x.shape[0],):
        return True
    if _takes_one_point(density, x):
        return False
    advice = "; sum over the coordinates with `.sum(-1)`" if value.shape in (x.shape, (len(x), 1)) else ""
    raise DensityError(
        f"`log_density` must map a batch (M, d) to (M,): for x of shape {tuple(x.shape)} wanted ({x.shape[0]},), "
        f"got {tuple(value.shape)}{advice}"
    )


def _takes_one_point(density: Density, x: Tensor) -> bool:
    if density.gradient is not None:
        return False  # a closed form is batched by contract, so its log density must be too
    try:
        value = _try(density, density.log_density, x[0])
        mapped = _try(density, torch.vmap(density.log_density), x)
    except DensityError:
        return False
    return value.shape == () and mapped.shape == (x.shape[0],)


def _try(density: Density, function: Callable[[Tensor], Any], x: Tensor) -> Tensor:
    given = x.clone()
    changes = given._version
    density.counter.densities += max(1, x[..., 0].numel())
    try:
        with torch.no_grad():
            value = function(given)
    except Exception as error:
        raise DensityError(
            f"`log_density` raised {type(error).__name__} for x of shape {tuple(x.shape)}, dtype {x.dtype}, "
            f"device {x.device}: {error}"
        ) from error
    if not isinstance(value, Tensor):
        raise DensityError(f"`log_density` must return a torch.Tensor, got {type(value).__name__}")
    if given._version != changes or (x.device.type != "meta" and not torch.equal(given, x)):
        raise DensityError("`log_density` changed its input in place; write `x = x + ...` instead of `x += ...`")
    return value


def _check_rows(density: Density, x: Tensor) -> None:
    value = _try(density, density.log_density, x)
    if not value.is_floating_point():
        raise DensityError(f"`log_density` must return real floating numbers of {x.dtype}, got {value.dtype}")
    if value.dtype != x.dtype:
        raise DensityError(
            f"`log_density` must keep the dtype of its input: wanted {x.dtype}, got {value.dtype}; create constants with "
            f"`dtype={x.dtype}` (or `.to(x)`), or pass `dtype=` to match"
        )
    if value.device != x.device:
        raise DensityError(f"`log_density` must stay on the device of its input: wanted {x.device}, got {value.device}")
    if x.device.type == "meta":
        return
    alone = [_try(density, density.log_density, x[i : i + 1]) for i in range(2)]
    if any(row.shape != (1,) for row in alone):
        raise DensityError(
            f"`log_density` must map a batch (M, d) to (M,), also for M = 1: for x of shape {tuple(x[:1].shape)} "
            f"wanted (1,), got {tuple(alone[0].shape)}; a `squeeze()` may have taken the axis away"
        )
    rows = torch.cat(alone)
    close = torch.isclose(rows, value[:2], rtol=1e-4, atol=1e-6, equal_nan=True)
    if not bool(close.all()):
        raise DensityError(
            "`log_density` must treat the points of a batch one by one and give the same value each time: alone the first "
            f"two points gave {rows.tolist()}, in a batch {value[:2].tolist()}"
        )


def _check_closed_form(density: Density, x: Tensor) -> None:
    if density.gradient is None:
        return
    given = x.clone()
    changes = given._version
    try:
        with torch.no_grad():
            pair = density.gradient(given)
    except Exception as error:
        raise DensityError(
            f"`gradient` raised {type(error).__name__} for x of shape {tuple(x.shape)}: {error}"
        ) from error
    parts = list(pair) if isinstance(pair, tuple | list) else [pair]
    found = [(tuple(part.shape), part.dtype) if isinstance(part, Tensor) else type(part).__name__ for part in parts]
    if found != [((x.shape[0],), x.dtype), (tuple(x.shape), x.dtype)]:
        raise DensityError(
            f"`gradient` must map (M, d) to ((M,), (M, d)) in {x.dtype}: for x of shape {tuple(x.shape)} got {found}"
        )
    if given._version != changes or (x.device.type != "meta" and not torch.equal(given, x)):
        raise DensityError("`gradient` changed its input in place; write `x = x + ...` instead of `x += ...`")


def _check_gradient(density: Density, x: Tensor) -> None:
    try:
        value, grad = density.value_and_grad(x)
    except RuntimeError as error:
        raise DensityError(
            "`log_density` must be differentiable by torch autograd (it may have been detached, or computed outside torch), "
            f"or come with `gradient=` in closed form; autograd said: {error}"
        ) from error
    if density.gradient is None or x.device.type == "meta":
        return
    plain = density(x)
    finite = torch.isfinite(plain) & torch.isfinite(value)
    if not bool(torch.isclose(plain, value, rtol=1e-4, atol=1e-6)[finite].all()):
        raise DensityError(
            f"`gradient` and `log_density` must give the same value, got {value.tolist()} and {plain.tolist()}"
        )
    try:
        _, derived = replace(density, gradient=None).value_and_grad(x)
    except Exception:  # not differentiable by autograd, which is what a closed form may be for
        _check_slope(density, x, grad)
        return
    finite = finite & torch.isfinite(derived).all(-1)
    if not bool(torch.isclose(grad, derived, rtol=1e-3, atol=1e-5)[finite].all()):
        raise DensityError(
            f"`gradient` must be that of `log_density`: autograd gave {derived[:2, :_SHOWN].tolist()}, "
            f"got {grad[:2, :_SHOWN].tolist()} (first points and coordinates)"
        )


def _check_slope(density: Density, x: Tensor, grad: Tensor) -> None:
    """Compare the closed form with differences along one direction a point, where two step sizes agree on them.

    Only a gradient that is wrong at every point that can be judged is refused: a kink may be between two of them.
    """
    direction = torch.where(x < 0, -1.0, 1.0).to(x) / x.shape[-1] ** 0.5
    steps = torch.tensor([1.0, 0.25], dtype=x.dtype, device=x.device)[:, None, None] * torch.finfo(x.dtype).eps ** 0.25
    up, down = density(torch.stack([x + steps * direction, x - steps * direction]))
    coarse, fine = (up - down) / (2.0 * steps[..., 0])
    claimed = (grad * direction).sum(-1)
    size = torch.maximum(coarse.abs(), claimed.abs())
    judged = (coarse - fine).abs() < 0.1 * _LIE * size
    wrong = (coarse - claimed).abs() > _LIE * size
    if bool(judged.any()) and bool(wrong[judged].all()):
        raise DensityError(
            f"`gradient` must be that of `log_density`: differences of values gave slopes {coarse[judged].tolist()}, "
            f"the closed form {claimed[judged].tolist()}"
        )
