"""Any model object to an adapter, recognised by the module its type comes from; and a run that ends in its own variables."""

from __future__ import annotations

import importlib
import logging
from typing import Any

from torch import Tensor

from rdmc.density import Density, HasLogDensity, as_density
from rdmc.interop.arviz import to_arviz
from rdmc.interop.model import Model
from rdmc.result import Result
from rdmc.sampling import sample as sample_density

__all__ = ["adapt", "run", "sample"]

_log = logging.getLogger("rdmc.interop")
_HOMES = (
    # package of a base class, its name, the front end
    ("pymc", "Model", "pymc"),
    ("bridgestan", "StanModel", "stan"),
    ("pyro", "PyroModule", "pyro"),
    ("torch", "Distribution", "distributions"),
    ("torch", "Module", "modules"),
    ("jaxlib", "PjitFunction", "jax"),
)
_FUNCTIONS = (
    "rdmc.interop.numpyro.density(model, *args, **kwargs), rdmc.interop.pyro.density(model, *args, **kwargs), "
    "rdmc.interop.jax.density(log_density, position), rdmc.interop.arrays.density(logp, grad, dim), or "
    "rdmc.sample(log_density, dim) for a batched torch function"
)


def _front_end(model: Any) -> str | None:
    """The front end whose type is among the bases of the object's type. No package is imported for it."""
    bases = [(base.__module__.partition(".")[0], base.__name__) for base in type(model).__mro__]
    return next((home for package, name, home in _HOMES if (package, name) in bases), None)


def _plain(model: Density | HasLogDensity) -> Model:
    """An object with ``dim`` and ``log_density``: one vector ``x``, or the names it has."""
    known = as_density(model)
    names = tuple(getattr(model, "parameter_names", None) or ())
    if not names:
        return Model(known, ("x",), ((known.dim,),), lambda x: {"x": x.detach().cpu().numpy()})

    def constrain(x: Tensor) -> dict[str, Any]:
        return dict(zip(names, x.detach().cpu().numpy().T, strict=True))

    return Model(known, names, ((),) * len(names), constrain)


def adapt(model: Any, *args: Any, **options: Any) -> Model:
    """A model of another library as an adapter for :func:`rdmc.sample`.

    Recognised by the type's module: PyMC models, BridgeStan's ``StanModel``, ``PyroModule``, ``torch.distributions``, ``nn.Module``
    energies (give ``dim``), jitted JAX functions (give ``position``), pairs ``(logp, grad)`` of NumPy functions (give ``dim``), and
    what :func:`rdmc.sample` takes as it is. Plain Python functions could be anything: use the front end's own ``density``.

    Args:
        model: The object.
        *args: What the front end's ``density`` takes after it.
        **options: The same, by keyword.

    Raises:
        ValueError: If the object is not recognised; the message lists the front ends.
        ImportError: If the library is not installed, with the extra that brings it.
    """
    if isinstance(model, Model):
        return model
    if isinstance(model, tuple) and len(model) == 2 and all(map(callable, model)):
        return adapt_with("arrays", *model, *args, **options)
    home = _front_end(model)
    if home is not None:
        return adapt_with(home, model, *args, **options)
    if isinstance(model, Density | HasLogDensity) and not args and not options:
        return _plain(model)
    kind = f"{type(model).__module__}.{type(model).__qualname__}"
    raise ValueError(f"`model` must be of a known library, got {kind}; for functions there are {_FUNCTIONS}")


def adapt_with(home: str, *args: Any, **options: Any) -> Model:
    """The adapter of a front end, imported now."""
    adapted: Model = importlib.import_module(f"rdmc.interop.{home}").density(*args, **options)
    return adapted


def run(model: Any, draws: int = 1000, chains: int = 4, **options: Any) -> tuple[Model, Result]:
    """Adapt a model, sample it, and give the adapter and the result.

    Args:
        model: What :func:`adapt` takes without further arguments, an adapter for example.
        draws: Draws of each chain.
        chains: Independent populations.
        **options: The other arguments of :func:`rdmc.sample`.

    Raises:
        ValueError: If the object is not recognised or an argument is out of range.
    """
    adapted = adapt(model)
    return adapted, sample_density(adapted, None, draws, chains, **{"names": adapted.coordinates, **options})


def sample(model: Any, draws: int = 1000, chains: int = 4, *, log_likelihood: bool = False, **options: Any) -> Any:
    """Sample a model of another library and give its draws in its own variables, as an ArviZ object.

    Args:
        model: What :func:`adapt` takes without further arguments, an adapter for example.
        draws: Draws of each chain.
        chains: Independent populations.
        log_likelihood: Whether to compute the pointwise log likelihood.
        **options: The other arguments of :func:`rdmc.sample`.

    Returns:
        ``InferenceData`` under ArviZ 0.x, ``DataTree`` under 1.x; see :func:`to_arviz`. Problems of the run are logged.

    Raises:
        ValueError: If the object is not recognised or an argument is out of range.
    """
    adapted, result = run(model, draws, chains, **options)
    for problem in result.check():
        _log.warning(problem)
    return to_arviz(adapted, result, log_likelihood=log_likelihood)
