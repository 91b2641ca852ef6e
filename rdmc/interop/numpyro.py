"""NumPyro models: NumPyro's own potential on unconstrained space, jitted and batched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from rdmc.interop.jax import as_density, precision, to_numpy
from rdmc.interop.model import Model, require
from rdmc.interop.plates import plate_dims

__all__ = ["density"]

_EXTRA = "jax"


def _float64(jax: Any, tree: Any) -> Any:
    """Floating arrays among a model's arguments at 64 bits; the rest as it is."""

    def widen(leaf: Any) -> Any:
        floating = hasattr(leaf, "dtype") and np.issubdtype(leaf.dtype, np.floating)
        return jax.numpy.asarray(leaf, "float64") if floating else leaf

    return jax.tree.map(widen, tree)


def density(
    model: Callable[..., Any],
    *args: Any,
    **kwargs: Any,
) -> Model:
    """A NumPyro model, called as ``model(*args, **kwargs)``, as a batched density with gradient.

    It runs in float64 under ``jax.enable_x64``, whatever the global setting is: floating arguments are widened. Arrays that the
    model closes over keep their dtype, so make them from NumPy and not from ``jnp.array`` while 64 bits are off. Plates name the
    dims of the variables in them; ``dataclasses.replace(adapted, dims=..., coords=...)`` gives others.

    Cost: NumPyro's trace, then as :func:`rdmc.interop.jax.density`.

    Args:
        model: A Python function with NumPyro primitives.
        *args: Its arguments.
        **kwargs: Its keyword arguments, observed data among them.

    Raises:
        ValueError: If a latent variable is discrete or there is none.
        DensityError: If float64 is lost on the way.
        ImportError: If NumPyro is not installed, with the extra that brings it.
    """
    util = require("numpyro.infer.util", _EXTRA)
    with precision() as jax:
        flatten = require("jax.flatten_util", _EXTRA)
        args, kwargs = _float64(jax, (args, kwargs))
        handlers = require("numpyro.handlers", _EXTRA)
        trace = handlers.trace(handlers.seed(model, jax.random.key(0))).get_trace(*args, **kwargs)
        latent = [site for site in trace.values() if site["type"] == "sample" and not site["is_observed"]]
        if discrete := [site["name"] for site in latent if site["fn"].support.is_discrete]:
            raise ValueError(
                f"`model` must have continuous latent variables only, got the discrete {discrete}: sum them out"
            )
        if not latent:
            raise ValueError("`model` must have at least one latent variable, got none")
        info = util.initialize_model(jax.random.key(0), model, model_args=args, model_kwargs=kwargs)
        flat, unravel = flatten.ravel_pytree(info.param_info.z)
        parameters = sorted(info.param_info.z)  # the order of a dict's leaves in JAX
        shapes = tuple(tuple(np.shape(info.param_info.z[name])) for name in parameters)
        observed = {
            site["name"]: np.asarray(site["value"])
            for site in trace.values()
            if site["type"] == "sample" and site["is_observed"]
        }

    def pointwise(x: Any) -> dict[str, Any]:
        values = info.postprocess_fn(unravel(x))
        given = handlers.substitute(model, {name: values[name] for name in parameters})
        sites = handlers.trace(given).get_trace(*args, **kwargs)
        return {name: sites[name]["fn"].log_prob(sites[name]["value"]) for name in observed}

    dims, coords = plate_dims(trace)
    return Model(
        as_density(lambda x: -info.potential_fn(unravel(x)), flat.size),
        tuple(parameters),
        shapes,
        to_numpy(lambda x: info.postprocess_fn(unravel(x))),
        dims,
        coords,
        to_numpy(pointwise) if observed else None,
        observed,
    )
