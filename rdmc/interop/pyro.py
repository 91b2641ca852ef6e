"""Pyro models: Pyro's own potential on unconstrained space, batched by ``torch.func.vmap``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from rdmc.density import Density
from rdmc.interop.model import Draws, Model, require, require_precision, unravel
from rdmc.interop.plates import plate_dims

__all__ = ["density"]

_EXTRA = "pyro"
_ADVICE = (
    "give the tensors that the model closes over in float64 (x.double()) or pass them as arguments, and take a PyroModule with "
    "parameters to .double(); or sample with dtype=torch.float32"
)
_MAKERS = (
    torch.tensor,
    torch.as_tensor,
    torch.scalar_tensor,
    torch.zeros,
    torch.ones,
    torch.full,
    torch.eye,
    torch.linspace,
)


class _Makes(TorchFunctionMode):
    """Within it, new float32 tensors are of another dtype: Pyro makes float32 of Python numbers, ``Normal(0.0, 5.0)``.

    It holds for this thread and this block, unlike torch's default dtype.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _MAKERS and out.dtype == torch.float32 != self.dtype:
            return func(*args, **{**(kwargs or {}), "dtype": self.dtype})  # again, as 0.1 has been rounded
        return out


def _moved(tree: Any, dtype: torch.dtype, device: torch.device) -> Any:
    """Tensors among a model's arguments on ``device``, the floating ones at ``dtype``; the rest as it is."""
    if isinstance(tree, Tensor):
        return tree.to(device, dtype) if tree.is_floating_point() else tree.to(device)
    if isinstance(tree, dict):
        return {name: _moved(part, dtype, device) for name, part in tree.items()}
    if isinstance(tree, (list, tuple)) and not hasattr(tree, "_fields"):
        return type(tree)(_moved(part, dtype, device) for part in tree)
    return tree


@dataclass(frozen=True, eq=False)
class _Built:
    """A model at one dtype and device.

    Attributes:
        run: Runs the model with given values and gives the sites of its trace.
        point: Latent variables on unconstrained space.
        potential: Minus the log density of such.
        transforms: Constrained to unconstrained, by latent variable.
        sites: Of a trace of the model.
    """

    run: Callable[[Mapping[str, Tensor]], Mapping[str, Any]]
    point: Mapping[str, Tensor]
    potential: Callable[[Mapping[str, Tensor]], Tensor]
    transforms: Mapping[str, Any]
    sites: Mapping[str, Any]


def _build(model: Any, args: Any, kwargs: Any, dtype: torch.dtype, device: torch.device) -> _Built:
    pyro, poutine = require("pyro", _EXTRA), require("pyro.poutine", _EXTRA)
    infer = require("pyro.infer.mcmc.util", _EXTRA)
    args, kwargs = _moved(args, dtype, device), _moved(kwargs, dtype, device)

    def run(values: Mapping[str, Tensor]) -> Mapping[str, Any]:
        nodes: Mapping[str, Any] = poutine.trace(poutine.condition(model, values)).get_trace(*args, **kwargs).nodes
        return nodes

    # Pyro draws a point to begin with: global random numbers are afterwards as they were
    with torch.random.fork_rng(devices=[]), pyro.validation_enabled(False), _Makes(dtype), torch.enable_grad():
        sites = {
            name: site
            for name, site in run({}).items()
            if site["type"] == "sample" and type(site["fn"]).__name__ != "_Subsample"
        }
        latent = [name for name, site in sites.items() if not site["is_observed"]]
        if discrete := [name for name in latent if sites[name]["fn"].support.is_discrete]:
            raise ValueError(
                f"`model` must have continuous latent variables only, got the discrete {discrete}: sum them out"
            )
        if not latent:
            raise ValueError("`model` must have at least one latent variable, got none")
        point, potential, transforms, _ = infer.initialize_model(model, model_args=args, model_kwargs=kwargs)
    return _Built(run, point, potential, transforms, sites)


def density(model: Callable[..., Any], *args: Any, **kwargs: Any) -> Model:
    """A Pyro model, called as ``model(*args, **kwargs)``, as a batched density with gradient.

    Tensors among the arguments are taken to the dtype and device of the run, and so are tensors that the model makes of Python
    numbers. Plates name the dims of the variables in them; ``dataclasses.replace(adapted, dims=..., coords=...)`` gives others.

    Cost: one run of the model's Python per batch, under ``vmap``; the value alone costs as much as with its gradient.

    Args:
        model: A Python function (or ``PyroModule``) with Pyro primitives, without control flow that depends on values.
        *args: Its arguments.
        **kwargs: Its keyword arguments, observed data among them.

    Raises:
        ValueError: If a latent variable is discrete or there is none.
        DensityError: If float64 is lost on the way.
        ImportError: If Pyro is not installed, with the extra that brings it.
    """
    pyro = require("pyro", _EXTRA)

    built: dict[tuple[torch.dtype, torch.device], _Built] = {}

    def at(dtype: torch.dtype, device: torch.device) -> _Built:
        if (dtype, device) not in built:
            built[dtype, device] = _build(model, args, kwargs, dtype, device)
        return built[dtype, device]

    first = at(torch.float64, torch.device("cpu"))
    names = tuple(sorted(first.point))
    shapes = tuple(tuple(first.point[name].shape) for name in names)
    observed = [name for name, site in first.sites.items() if site["is_observed"]]
    deterministic = [name for name in observed if first.sites[name]["infer"].get("_deterministic")]
    data = [name for name in observed if name not in deterministic]

    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        potential = at(x.dtype, x.device).potential
        both = torch.func.grad_and_value(lambda one: -potential(unravel(one, names, shapes)))
        with pyro.validation_enabled(False), _Makes(x.dtype):  # vmap can't run Pyro's checks of values
            grad, value = torch.func.vmap(both)(x.detach())
        return value, grad

    def values(own: _Built, one: Tensor) -> dict[str, Tensor]:
        return {name: own.transforms[name].inv(part) for name, part in unravel(one, names, shapes).items()}

    def variables(own: _Built, one: Tensor) -> dict[str, Tensor]:
        latent = values(own, one)
        nodes = own.run(latent) if deterministic else {}
        return {**latent, **{name: nodes[name]["value"] for name in deterministic}}

    def pointwise(own: _Built, one: Tensor) -> dict[str, Tensor]:
        nodes = own.run(values(own, one))
        return {name: nodes[name]["fn"].log_prob(nodes[name]["value"]) for name in data}

    def mapped(function: Callable[[_Built, Tensor], dict[str, Tensor]]) -> Callable[[Tensor], Draws]:
        def call(x: Tensor) -> Draws:
            own = at(x.dtype, x.device)
            with pyro.validation_enabled(False), _Makes(x.dtype), torch.no_grad():
                out = torch.func.vmap(lambda one: function(own, one))(x.detach())
            return {name: value.cpu().numpy() for name, value in out.items()}

        return call

    dims, coords = plate_dims(first.sites)
    size = sum(part.numel() for part in first.point.values())
    return Model(
        require_precision(Density(lambda x: value_and_grad(x)[0], size, value_and_grad), _ADVICE),
        names,
        shapes,
        mapped(variables),
        dims,
        coords,
        mapped(pointwise) if data else None,
        {name: first.sites[name]["value"].detach().cpu().numpy() for name in data},
    )
