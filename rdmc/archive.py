"""Values as bytes and back, without pickle: reading a file never runs code that the file chose.

What can be packed: None, bool, int, float, str, tuples, lists, dicts with such keys, tensors, arrays, generators, dtypes, devices,
and frozen dataclasses, named tuples and tables made of those. The bytes are a ``.npz`` file: one text entry for the structure, one
entry for each array.
"""

from __future__ import annotations

import dataclasses
import importlib
import io
import zipfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdmc.errors import ArchiveError
from rdmc.table import Table, dumps, loads

__all__ = ["pack", "unpack"]

_PLAIN = (bool, int, float, str)
_TREE = "tree"


def pack(value: Any) -> bytes:
    """The value as bytes.

    Raises:
        ArchiveError: If a part is of a kind that can't be packed.

    Example:
        >>> unpack(pack((1.5, torch.arange(3))))
        (1.5, tensor([0, 1, 2]))
    """
    arrays: dict[str, Any] = {}
    tree = _Packer(arrays).tree(value)
    buffer = io.BytesIO()
    arrays[_TREE] = np.frombuffer(dumps(tree).encode(), dtype=np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def unpack(data: bytes, packages: Sequence[str] = ("rdmc",), device: torch.device | None = None) -> Any:
    """The value that :func:`pack` was given, tensors with their strides.

    Args:
        data: What ``pack`` gave.
        packages: Top-level packages whose classes may be made.
        device: Where tensors go; by default where they were.

    Raises:
        ArchiveError: If the bytes are damaged, or name a class that is not a dataclass, a named tuple or a table of ``packages``.
    """
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            tree = loads(arrays[_TREE].tobytes().decode())
            return _Unpacker({name: arrays[name] for name in arrays.files}, tuple(packages), device).value(tree)
    except (zipfile.BadZipFile, KeyError, ValueError, TypeError, EOFError, OSError) as error:
        raise ArchiveError(f"the bytes are no archive of this library, or damaged: {error}") from error


class _Packer:
    """Moves arrays out of a value and leaves a tree of JSON's own types."""

    def __init__(self, arrays: dict[str, np.ndarray]) -> None:
        self.arrays = arrays

    def tree(self, value: Any) -> Any:
        if value is None or type(value) in _PLAIN:
            return value
        if isinstance(value, (np.bool_, np.number)):
            return self.tree(value.item())
        if isinstance(value, Tensor):
            return self._tensor(value)
        if isinstance(value, np.ndarray) and value.dtype != object:
            return {"$array": self._add(value)}
        if isinstance(value, torch.Generator):
            return {"$generator": [self._add(value.get_state().numpy()), str(value.device)]}
        if isinstance(value, torch.dtype):
            return {"$dtype": str(value).removeprefix("torch.")}
        if isinstance(value, torch.device):
            return {"$device": str(value)}
        if isinstance(value, Table):
            return {"$table": self.tree({name: value[name] for name in value.columns})}
        if isinstance(value, dict):
            return {"$dict": [[self.tree(key), self.tree(entry)] for key, entry in value.items()]}
        if dataclasses.is_dataclass(value) and not isinstance(value, type):
            fields = {f.name: self.tree(getattr(value, f.name)) for f in dataclasses.fields(value) if f.init}
            return {"$object": _name(type(value)), "fields": fields}
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return {"$object": _name(type(value)), "fields": {k: self.tree(getattr(value, k)) for k in value._fields}}
        if type(value) is tuple:
            return {"$tuple": [self.tree(entry) for entry in value]}
        if type(value) is list:
            return [self.tree(entry) for entry in value]
        raise ArchiveError(f"a value of type {type(value).__module__}.{type(value).__qualname__} can't be packed")

    def _add(self, array: np.ndarray) -> str:
        name = f"a{len(self.arrays)}"
        self.arrays[name] = array
        return name

    def _tensor(self, x: Tensor) -> Any:
        # kept with the order of its strides and its expanded axes, and cloned into torch's own alignment when read: linear
        # algebra may round by layout
        expanded = list(x.shape) if 0 in x.stride() else None
        dense = x.detach()
        for axis, stride in enumerate(x.stride()):
            if stride == 0 and x.shape[axis] > 1:
                dense = dense.narrow(axis, 0, 1)
        strides: Sequence[int] = dense.stride()
        order = sorted(range(x.ndim), key=lambda axis: -strides[axis])
        array = dense.permute(order).contiguous().cpu().numpy()
        return {"$tensor": self._add(array), "order": order, "expanded": expanded, "device": str(x.device)}


class _Unpacker:
    """The inverse of :class:`_Packer`."""

    def __init__(self, arrays: dict[str, np.ndarray], packages: tuple[str, ...], device: torch.device | None) -> None:
        self.arrays = arrays
        self.packages = packages
        self.device = device

    def value(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.value(entry) for entry in tree]
        if not isinstance(tree, dict):
            return tree
        kind = next(iter(tree))
        readers: dict[str, Callable[[Any], Any]] = {
            "$tensor": lambda _: self._tensor(tree),
            "$array": lambda name: self.arrays[name],
            "$generator": lambda given: self._generator(*given),
            "$dtype": self._dtype,
            "$device": lambda name: self.device or torch.device(name),
            "$table": lambda columns: Table(self.value(columns)),
            "$dict": lambda pairs: {self.value(key): self.value(entry) for key, entry in pairs},
            "$tuple": lambda entries: tuple(self.value(entry) for entry in entries),
            "$object": lambda name: self._class(name)(**{k: self.value(v) for k, v in tree["fields"].items()}),
        }
        if kind not in readers:
            raise ValueError(f"unknown kind {kind!r}")
        return readers[kind](tree[kind])

    def _tensor(self, tree: dict[str, Any]) -> Tensor:
        order = tree["order"]
        dense = torch.from_numpy(self.arrays[tree["$tensor"]]).clone().to(self.device or tree["device"])
        x = dense.permute([order.index(axis) for axis in range(len(order))])
        return x if tree["expanded"] is None else x.expand(tree["expanded"])

    def _generator(self, state: str, device: str) -> torch.Generator:
        generator = torch.Generator(device=self.device or device)
        generator.set_state(torch.from_numpy(self.arrays[state]))
        return generator

    @staticmethod
    def _dtype(name: str) -> torch.dtype:
        dtype = getattr(torch, name)
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"unknown dtype {name!r}")
        return dtype

    def _class(self, name: str) -> type:
        module, _, qualname = name.partition(":")
        if module.split(".")[0] not in self.packages or not qualname.isidentifier():
            raise ValueError(f"a class outside the packages {self.packages}: {name!r}")
        found = getattr(importlib.import_module(module), qualname, None)
        if not isinstance(found, type) or not (dataclasses.is_dataclass(found) or hasattr(found, "_fields")):
            raise ValueError(f"not a class of data: {name!r}")
        return found


def _name(kind: type) -> str:
    return f"{kind.__module__}:{kind.__qualname__}"
