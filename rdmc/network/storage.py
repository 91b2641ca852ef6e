"""A score network as a file, without pickle."""

from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch

from rdmc.archive import pack, unpack
from rdmc.coordinates import Affine
from rdmc.errors import ArchiveError
from rdmc.export import atomic_path

__all__ = ["FORMAT_VERSION", "read", "write"]

FORMAT_NAME = "rdmc.ScoreNetwork"
FORMAT_VERSION = 2
"""Version of the file format; raised when a reader of the older one could not read the newer."""


def write(network: Any, path: str | os.PathLike[str]) -> Path:
    """Write a :class:`ScoreNetwork`, in one piece or not at all."""
    names = [f.name for f in fields(network) if f.name not in ("module", "affine")]
    content = {
        "format": FORMAT_NAME,
        "format_version": FORMAT_VERSION,
        "weights": {name: value.cpu() for name, value in network.module.state_dict().items()},
        "values": {name: getattr(network, name) for name in names},
        "centre": network.affine.centre,
        "factor": network.affine.factor,
    }
    with atomic_path(path) as temporary:
        temporary.write_bytes(pack(content))
    return Path(path)


def read(path: str | os.PathLike[str], device: torch.device | str) -> dict[str, Any]:
    """The fields of a :class:`ScoreNetwork` that :func:`write` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the file is damaged, was written by something else, or by a newer version of the format.
    """
    device, data = torch.device(device), Path(path).read_bytes()
    try:
        content = unpack(data, ("rdmc",), device)
        if content["format"] != FORMAT_NAME:
            raise ValueError(f"format {content['format']!r}")
        version = int(content["format_version"])
        if version <= FORMAT_VERSION:
            values = dict(content["values"])
            affine = Affine(content["centre"], content["factor"])
            module = values["architecture"].build(affine.dim, 0, device)
            module.load_state_dict(content["weights"])
            return {**values, "module": module.requires_grad_(False).eval(), "affine": affine}
    except (ArchiveError, AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"`path` must be a file written by `ScoreNetwork.save`; {str(path)!r} is not, or is damaged ({error})"
        ) from error
    raise ValueError(
        f"{str(path)!r} has format version {version}, this rdmc reads up to {FORMAT_VERSION}: use a newer rdmc"
    )
