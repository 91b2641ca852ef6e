"""The parameters of a model together: flat real coordinates for a sampler, named constrained values for people."""

from __future__ import annotations

import inspect
import keyword
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from rdmc.errors import DensityError
from rdmc.parameters.naming import coordinate_names, unconstrained
from rdmc.parameters.parameter import Parameter

__all__ = ["NamedDensity", "Parameters"]

RESERVED = ("chain", "draw", "sample", "pred_id")
"""Names that the ArviZ schema keeps for itself."""


@dataclass(frozen=True, eq=False, init=False, repr=False)
class Parameters:
    r"""Named, shaped, constrained parameters, in the order of the arguments.

    A sampler sees a vector x of ``dim`` real coordinates; the model is written in the values T(x), one per name. The density in
    x is :math:`\pi(T(x)) |\det T'(x)|`: :meth:`density` adds the determinant, so the law of the values is the one that was written.

    Args:
        coords: Label of each entry along a dimension, for ArviZ.
        **parameters: One :class:`Parameter` per name.

    Raises:
        ValueError: If there is no parameter, a name is reserved or that of both a parameter and a dimension, a shape does not
            suit its constraint, or coordinates have the wrong length; the message names it.

    Example:
        >>> parameters = Parameters(mu=Parameter(3), weight=Parameter(3, "simplex"))
        >>> parameters
        Parameters(mu: (3,) Real(), weight: (3,) Simplex(); dim=5)
        >>> {name: tuple(value.shape) for name, value in parameters.constrain(torch.zeros(4, 5)).items()}
        {'mu': (4, 3), 'weight': (4, 3)}
    """

    parameters: Mapping[str, Parameter]
    coords: Mapping[str, tuple[Any, ...]]

    def __init__(self, /, *, coords: Mapping[str, Iterable[Any]] | None = None, **parameters: Parameter) -> None:
        if not parameters:
            raise ValueError("`Parameters` must have at least one parameter, `name=Parameter(...)`, got none")
        labels = {dim: tuple(_plain(values)) for dim, values in (coords or {}).items()}
        shaped = {name: _shaped(name, given, labels) for name, given in parameters.items()}
        _check_dims(shaped, labels)
        object.__setattr__(self, "parameters", MappingProxyType(shaped))
        object.__setattr__(self, "coords", MappingProxyType(labels))
        if self.dim == 0:
            raise ValueError(f"`Parameters` must have at least one free coordinate, got none in {self!r}")

    @property
    def dim(self) -> int:
        """Number of real coordinates."""
        return sum(parameter.size for parameter in self.parameters.values())

    @property
    def slices(self) -> dict[str, slice]:
        """Which real coordinates belong to each parameter."""
        ends = list(accumulate((parameter.size for parameter in self.parameters.values()), initial=0))
        return {name: slice(*ends[i : i + 2]) for i, name in enumerate(self.parameters)}

    @property
    def coordinates(self) -> tuple[str, ...]:
        """One name per real coordinate: ``mu[0]``, and ``tau_unconstrained`` where ``tau`` has a constraint."""
        return coordinate_names(
            [unconstrained(name) if parameter.constrained else name for name, parameter in self.parameters.items()],
            [parameter.unconstrained_shape for parameter in self.parameters.values()],
        )

    def forward(self, x: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Values by name, ``(..., *shape)`` each, and the log determinant ``(...)``, at real coordinates ``(..., dim)``.

        Raises:
            ValueError: If the last axis of ``x`` isn't ``dim`` long.
        """
        if x.ndim < 1 or x.shape[-1] != self.dim:
            raise ValueError(f"`x` must have shape (..., {self.dim}), got {tuple(x.shape)}")
        parts = x.split([parameter.size for parameter in self.parameters.values()], -1)
        pairs = [parameter.forward(part) for parameter, part in zip(self.parameters.values(), parts, strict=True)]
        values = {name: value for name, (value, _) in zip(self.parameters, pairs, strict=True)}
        return values, torch.stack([log_det for _, log_det in pairs]).sum(0)

    def constrain(self, x: Tensor) -> dict[str, Tensor]:
        """Values by name, ``(..., *shape)`` each, at real coordinates ``(..., dim)``: for ``result.samples``, say."""
        return self.forward(x)[0]

    def log_abs_det_jacobian(self, x: Tensor) -> Tensor:
        """``(...)`` log of the volume that the values gain over real coordinates ``(..., dim)``."""
        return self.forward(x)[1]

    def unconstrain(self, values: Mapping[str, Any]) -> Tensor:
        """Real coordinates ``(..., dim)`` of values by name, tensors or what numpy takes, ``(..., *shape)`` each.

        Raises:
            ValueError: If a name is missing or unknown, a shape is wrong, the leading axes differ, or a value lies outside its
                constraint or on its edge, where no real coordinates lead.
        """
        wanted = list(self.parameters)
        if set(values) != set(wanted):
            missing, unknown = _difference(wanted, values)
            raise ValueError(f"`values` must hold {wanted}; missing {missing}, unknown {unknown}")
        parts = [_unconstrain(name, parameter, values[name]) for name, parameter in self.parameters.items()]
        leads = {name: tuple(part.shape[:-1]) for name, part in zip(wanted, parts, strict=True)}
        if len(set(leads.values())) > 1:
            raise ValueError(f"`values` must share their leading axes, got {leads}")
        return torch.cat(parts, -1)

    def density(self, log_density: Callable[..., Tensor]) -> NamedDensity:
        """The log density of these parameters as one of real coordinates: give it to :func:`rdmc.sample`.

        Args:
            log_density: Takes each parameter by name, batched ``(M, *shape)``, and gives ``(M,)``; written for one point,
                ``(*shape)`` to ``()``, it is recognised and mapped. Up to a constant, without determinants.

        Raises:
            ValueError: If it isn't callable or does not take exactly these names.
        """
        return NamedDensity(self, log_density)

    def to_arviz(self, result: Any, values: Mapping[str, Any] | None = None) -> Any:
        """The result as an ArviZ object in the parameters' names; see :func:`rdmc.parameters.arviz.to_arviz`."""
        from rdmc.parameters.arviz import to_arviz

        return to_arviz(self, result, values)

    def __reduce__(self) -> tuple[Callable[..., Parameters], tuple[Any, ...]]:
        return _made, (dict(self.parameters), dict(self.coords))  # a read-only mapping does not pickle

    def __repr__(self) -> str:
        each = ", ".join(f"{name}: {p.value_shape} {p.constraint!r}" for name, p in self.parameters.items())
        return f"Parameters({each}; dim={self.dim})"


@dataclass(frozen=True, eq=False)
class NamedDensity:
    """A log density of named parameters, seen as one of real coordinates; made by :meth:`Parameters.density`.

    Args:
        parameters: What it is a density of.
        function: Takes them by name.

    Raises:
        ValueError: If ``function`` isn't callable or does not take exactly these names.
    """

    parameters: Parameters
    function: Callable[..., Tensor]

    def __post_init__(self) -> None:
        _check_signature(self.function, list(self.parameters.parameters))

    @property
    def dim(self) -> int:
        """Number of real coordinates."""
        return self.parameters.dim

    @property
    def coordinates(self) -> tuple[str, ...]:
        """One name per real coordinate."""
        return self.parameters.coordinates

    def log_density(self, x: Tensor) -> Tensor:
        """``(...)`` log density of the real coordinates ``(..., dim)``: that of the values plus the log determinant.

        Cost: one evaluation of the function a point.

        Raises:
            DensityError: If the function doesn't give one number a point.
        """
        values, log_det = self.parameters.forward(x)
        value = self.function(**values)
        if not isinstance(value, Tensor):
            raise DensityError(f"`log_density` must return a torch.Tensor, got {type(value).__name__}")
        if value.shape != log_det.shape:  # a sum would broadcast and hide it
            came = ", ".join(f"{name} {tuple(v.shape)}" for name, v in values.items())
            raise DensityError(
                f"`log_density` must give one number a point: for {came} wanted {tuple(log_det.shape)}, got {tuple(value.shape)}"
            )
        return value + log_det


def _made(parameters: dict[str, Parameter], coords: dict[str, tuple[Any, ...]]) -> Parameters:
    return Parameters(coords=coords, **parameters)


def _plain(values: Iterable[Any]) -> list[Any]:
    found: list[Any] = np.asarray(values if isinstance(values, Sequence) else list(values)).tolist()
    return found


def _difference(wanted: Iterable[str], came: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names that are missing, and names that are unknown, in order."""
    wanted, came = list(wanted), list(came)
    return [name for name in wanted if name not in came], [name for name in came if name not in wanted]


def _shaped(name: str, parameter: object, coords: Mapping[str, tuple[Any, ...]]) -> Parameter:
    """The parameter with its shape, checked against the coordinates."""
    if not isinstance(parameter, Parameter):
        raise ValueError(f"`{name}` must be an `rdmc.Parameter`, got {parameter!r}")
    if not name.isidentifier() or keyword.iskeyword(name) or name in RESERVED:
        raise ValueError(
            f"the name of a parameter must be one of an argument and none of {', '.join(RESERVED)}, got {name!r}"
        )
    if parameter.shape is None:
        unknown = [dim for dim in parameter.dims if dim not in coords]
        if unknown:
            raise ValueError(f"`{name}` needs a `shape`, or `coords` for its dimensions {unknown}")
        try:
            parameter = replace(parameter, shape=tuple(len(coords[dim]) for dim in parameter.dims))
        except ValueError as error:
            raise ValueError(f"`{name}`: {error}") from error
    return parameter


def _check_dims(parameters: Mapping[str, Parameter], coords: Mapping[str, tuple[Any, ...]]) -> None:
    """Dimensions have one length and a name of their own."""
    found: dict[str, tuple[int, str]] = {dim: (len(labels), f"`coords[{dim!r}]`") for dim, labels in coords.items()}
    used: set[str] = set()
    for name, parameter in parameters.items():
        for dim, length in zip(parameter.dims, parameter.value_shape, strict=bool(parameter.dims)):
            if dim in parameters or dim in RESERVED:
                raise ValueError(
                    f"a dimension must not have the name of a parameter or of {', '.join(RESERVED)}; `{name}` has {dim!r}"
                )
            known, origin = found.setdefault(dim, (length, f"`{name}`"))
            if known != length:
                raise ValueError(
                    f"dimension {dim!r} must have one length: {known} in {origin}, but {length} in `{name}`"
                )
            used.add(dim)
    if unused := [dim for dim in coords if dim not in used]:
        raise ValueError(f"`coords` must be of dimensions that a parameter has, {sorted(used)}, got {unused}")


def _unconstrain(name: str, parameter: Parameter, given: Any) -> Tensor:
    value = given if isinstance(given, Tensor) else torch.as_tensor(np.asarray(given, dtype=np.float64))
    value = value if value.dtype.is_floating_point else value.double()
    shape = parameter.value_shape
    if value.ndim < len(shape) or tuple(value.shape[value.ndim - len(shape) :]) != shape:
        raise ValueError(f"`{name}` must have shape {('...', *shape)}, got {tuple(value.shape)}")
    x = parameter.inverse(value)
    if value.device.type == "meta":
        return x
    inside = parameter.constraint.check(value.contiguous())  # type: ignore[union-attr]
    if not bool(inside.all()) or not bool(torch.isfinite(x).all()):
        raise ValueError(f"`{name}` must lie inside {parameter.constraint!r}, got {value.detach().tolist()}")
    return x


def _check_signature(function: Callable[..., Tensor], names: list[str]) -> None:
    if not callable(function):
        raise ValueError(f"`log_density` must be a function of {', '.join(names)}, got {type(function).__name__}")
    try:
        taken = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return  # some callables of compiled code don't tell
    by_name = [p for p in taken if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    required = [p.name for p in taken if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    anything = any(p.kind is p.VAR_KEYWORD for p in taken)
    missing = [] if anything else [name for name in names if name not in {p.name for p in by_name}]
    unknown = [name for name in required if name not in names]
    if missing or unknown:
        raise ValueError(
            f"`log_density` must take the parameters by name, ({', '.join(names)}); it takes ({', '.join(map(str, taken))})"
            + (f", {', '.join(missing)} missing" if missing else "")
            + (f", {', '.join(unknown)} not a parameter" if unknown else "")
        )
