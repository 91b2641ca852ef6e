"""What callers hand over for numbers, types and devices, understood or refused with the name of the argument."""

from __future__ import annotations

import operator

import torch

__all__ = ["as_device", "as_dtype", "whole"]


def whole(value: object) -> int | None:
    """The integer that ``value`` is, also one of numpy's, or None; a bool and a float are none.

    Example:
        >>> whole(3), whole(3.0), whole(True)
        (3, None, None)
    """
    try:
        return None if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None


def as_dtype(dtype: object) -> torch.dtype:
    """The floating type of a run.

    Raises:
        ValueError: If it is not float32 or float64, in which alone matrices can be factored.
    """
    if isinstance(dtype, torch.dtype) and not dtype.is_floating_point:
        raise ValueError(f"`dtype` must be a real floating type, got {dtype}")
    if dtype not in (torch.float32, torch.float64) or not isinstance(dtype, torch.dtype):
        raise ValueError(f"`dtype` must be float32 or float64 of torch, got {dtype!r}")
    return dtype


def as_device(device: object) -> torch.device:
    """The device of a run, tried with an empty tensor.

    Raises:
        ValueError: If torch has no such device here, or one that holds no values.
    """
    try:
        known = torch.device(device)  # type: ignore[call-overload]
        torch.empty(0, device=known)
    except (RuntimeError, TypeError, AssertionError) as error:  # torch built without CUDA asserts
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"`device` must be one that torch can use here, got {device!r}: {reason}") from error
    if known.type == "meta":
        raise ValueError("`device` must be one whose tensors hold values, got 'meta'")
    return known
