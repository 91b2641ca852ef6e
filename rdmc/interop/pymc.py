"""PyMC models: one compiled, batched PyTensor function for value and gradient, and ``sample`` in place of ``pm.sample``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from rdmc.density import Density
from rdmc.interop.arviz import to_arviz
from rdmc.interop.model import Draws, Model, require, require_precision
from rdmc.result import Result
from rdmc.sampling import sample as sample_density

__all__ = ["density", "run", "sample"]

_log = logging.getLogger(__name__)
_EXTRA = "pymc"


def _modelcontext(model: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # ArviZ 0.23 announces its own refactoring at the first import
        pymc = require("pymc", _EXTRA)
    return pymc.modelcontext(model)


def _flat(model: Any, outputs: Sequence[Any]) -> tuple[list[Any], Any]:
    """The outputs as functions of one vector that holds all free variables on R^d.

    A check of a parameter (a scale must be positive) becomes ``-inf`` where it fails. PyMC does the same when it compiles; here it
    comes first, because PyTensor batches a check as one check of all points, and one bad point would take all others with it.
    """
    pytensorf, checks = require("pymc.pytensorf", _EXTRA), require("pymc.logprob.utils", _EXTRA)
    rewriting = require("pytensor.graph.rewriting", _EXTRA)
    joined, flat = pytensorf.join_nonshared_inputs(model.initial_point(), list(outputs), model.value_vars)
    rule = checks.local_check_parameter_to_ninf_switch if model.check_bounds else checks.local_remove_check_parameter
    rewritten = rewriting.utils.rewrite_graph(list(joined), include=(), custom_rewrite=rewriting.basic.in2out(rule))
    return list(rewritten), flat


def _compiled(model: Any, outputs: Sequence[Any], flat: Any, mode: str | None) -> Callable[[NDArray[Any]], list[Any]]:
    """Outputs for ``(M, d)`` points, each with a leading M; batched by PyTensor, or point by point where it can't."""
    pytensor, pytensorf = require("pytensor", _EXTRA), require("pymc.pytensorf", _EXTRA)
    replace = require("pytensor.graph.replace", _EXTRA)
    x = pytensor.tensor.matrix("x", dtype=flat.dtype)
    ndims = [out.type.ndim for out in outputs]
    with model:
        try:
            batched = list(replace.vectorize_graph(list(outputs), replace={flat: x}))
            function = pytensorf.compile([x], batched, mode=mode, trust_input=True, on_unused_input="ignore")
        except (NotImplementedError, TypeError, ValueError) as error:
            _log.warning("PyTensor can't batch this model (%s): it is evaluated point by point, which is slow", error)
            single = pytensorf.compile(
                [flat], list(outputs), mode=mode, trust_input=True, on_unused_input="ignore", allow_input_downcast=True
            )
            return lambda points: [np.stack(part) for part in zip(*(single(point) for point in points), strict=True)]
    constant = [out.type.ndim == ndim for out, ndim in zip(batched, ndims, strict=True)]  # doesn't depend on x

    def call(points: NDArray[Any]) -> list[Any]:
        values = [np.asarray(value) for value in function(points)]
        return [
            np.broadcast_to(value, (len(points), *value.shape)) if fixed else value
            for value, fixed in zip(values, constant, strict=True)
        ]

    return call


def _lazily(build: Callable[[], Callable[[NDArray[Any]], list[Any]]]) -> Callable[[NDArray[Any]], list[Any]]:
    """Compile at the first call: a density that is only asked for gradients never pays for its value alone."""
    built: list[Callable[[NDArray[Any]], list[Any]]] = []

    def call(points: NDArray[Any]) -> list[Any]:
        if not built:
            built.append(build())
        return built[0](points)

    return call


def _numpy(x: Tensor, dtype: str) -> NDArray[Any]:
    """Points for a compiled function, which trusts its input to be contiguous and of the right type."""
    if x.dtype == torch.float64 and dtype != "float64":
        raise ValueError(
            f"`dtype` torch.float64 would be rounded to {dtype}, the `floatX` of PyTensor with which the model was built: "
            'build it under pytensor.config.change_flags(floatX="float64"), or sample with dtype=torch.float32'
        )
    return np.ascontiguousarray(x.detach().cpu().numpy().astype(dtype, copy=False))


def _default_mode() -> str | None:
    try:
        require("numba", _EXTRA)
    except ImportError:
        return None
    return "NUMBA"


def _require_continuous(model: Any) -> None:
    if discrete := [variable.name for variable in model.discrete_value_vars]:
        raise ValueError(
            f"`model` must have continuous free variables only, got the discrete {discrete}: sum them out (for a mixture "
            "pm.Mixture or pm.NormalMixture), or give them as data; rdmc moves by gradients, which they don't have"
        )
    if not model.value_vars:
        raise ValueError("`model` must have at least one free variable, got none")


def density(model: Any = None, *, mode: str | None = None) -> Model:
    """A PyMC model as a batched density with gradient.

    The log density is ``model.logp()``: priors, likelihood, potentials and Jacobians, all constants included, so that the log
    evidence is the model's. Data containers are read at every call, so ``pm.set_data`` is seen.

    Cost: PyTensor's compilation, seconds; a gradient evaluation is one call for a whole batch.

    Args:
        model: A ``pymc.Model``; inside a ``with`` block the model of the block by default.
        mode: PyTensor mode, for example "NUMBA" or "FAST_RUN"; "NUMBA" where numba is installed, PyTensor's own default else.

    Raises:
        ValueError: If a free variable is discrete or there is none.
        ImportError: If PyMC is not installed, with the extra that brings it.
    """
    model = _modelcontext(model)
    _require_continuous(model)
    mode = mode if mode is not None else _default_mode()
    pytensor, util = require("pytensor", _EXTRA), require("pymc.util", _EXTRA)
    shown = util.get_default_varnames(model.unobserved_value_vars, include_transformed=False)
    # distinct, because PyMC 5 lists observed variables twice after sample_posterior_predictive
    observed = list(dict.fromkeys(model.observed_RVs))
    terms = [*dict.fromkeys(model.basic_RVs), *model.potentials]
    [logp], flat = _flat(model, [model.logp(vars=terms)])
    value_only = _lazily(lambda: _compiled(model, [logp], flat, mode))
    with_grad = _lazily(lambda: _compiled(model, [logp, pytensor.gradient.grad(logp, flat)], flat, mode))
    variables = _lazily(lambda: _compiled(model, *_flat(model, shown), mode))

    def pointwise() -> Callable[[NDArray[Any]], list[Any]]:
        each = model.logp(vars=observed, sum=False, jacobian=False)
        return _compiled(model, *_flat(model, each), mode)

    likelihood = _lazily(pointwise)

    def log_density(x: Tensor) -> Tensor:
        return torch.from_numpy(np.array(value_only(_numpy(x, flat.dtype))[0])).to(x)

    def value_and_grad(x: Tensor) -> tuple[Tensor, Tensor]:
        value, grad = with_grad(_numpy(x, flat.dtype))
        return torch.from_numpy(np.array(value)).to(x), torch.from_numpy(np.array(grad)).to(x)

    def constrain(x: Tensor) -> Draws:
        return dict(zip((v.name for v in shown), variables(_numpy(x, flat.dtype)), strict=True))

    def log_likelihood(x: Tensor) -> Draws:
        return dict(zip((v.name for v in observed), likelihood(_numpy(x, flat.dtype)), strict=True))

    backend = require("pymc.backends.arviz", _EXTRA)
    coords, dims = backend.coords_and_dims_for_inferencedata(model)
    point = model.initial_point()
    names = tuple(variable.name for variable in model.value_vars)
    shapes = tuple(np.shape(point[name]) for name in names)
    size = sum(int(np.prod(shape)) for shape in shapes)
    known = Density(log_density, size, value_and_grad, torch.float64 if flat.dtype == "float64" else torch.float32)
    return Model(
        require_precision(known, 'build the model with pytensor.config.floatX = "float64"'),
        names,
        shapes,
        constrain,
        dims,
        coords,
        log_likelihood if observed else None,
        {name: np.asarray(data) for name, data in backend.find_observations(model).items()},
        {name: np.asarray(data) for name, data in backend.find_constants(model).items()},
    )


def _seed(seed: int | None, random_seed: int | np.random.Generator | None) -> int:
    if seed is not None and random_seed is not None:
        raise ValueError(f"`seed` and `random_seed` are the same thing: give one, got {seed!r} and {random_seed!r}")
    if isinstance(random_seed, np.random.Generator):
        return int(random_seed.integers(2**31))
    chosen = seed if seed is not None else random_seed
    return 0 if chosen is None else int(chosen)


def run(
    model: Any = None,
    *,
    draws: int = 1000,
    chains: int = 4,
    seed: int | None = None,
    random_seed: int | np.random.Generator | None = None,
    mode: str | None = None,
    **options: Any,
) -> tuple[Model, Result]:
    """Sample a PyMC model and give the adapter and the result, for those who want modes, costs and evidence.

    ``rdmc.interop.to_arviz(adapted, result)`` is what :func:`sample` would have given.

    Args:
        model: As for :func:`density`.
        draws: Draws of each chain.
        chains: Independent populations.
        seed: As for :func:`rdmc.sample`; 0 by default.
        random_seed: PyMC's name for it; also a NumPy generator, which is advanced.
        mode: As for :func:`density`.
        **options: The other arguments of :func:`rdmc.sample`.

    Raises:
        ValueError: If an argument is out of range or the model has discrete free variables.
    """
    chosen = _seed(seed, random_seed)
    adapted = density(model, mode=mode)
    return adapted, sample_density(
        adapted, None, draws, chains, seed=chosen, **{"names": adapted.coordinates, **options}
    )


def sample(
    model: Any = None,
    *,
    var_names: Sequence[str] | None = None,
    idata_kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> Any:
    """Sample a PyMC model; what comes back has the variables, dims, coords and groups that ``pm.sample`` gives.

    Args:
        model: As for :func:`density`.
        var_names: Variables to keep; all by default.
        idata_kwargs: ``{"log_likelihood": True}`` adds the pointwise log likelihood, as for ``pm.sample``.
        **options: The arguments of :func:`run`: ``draws``, ``chains``, ``seed`` or ``random_seed``, ``sampler``, ``progressbar``.

    Returns:
        ``InferenceData`` under ArviZ 0.x, ``DataTree`` under 1.x; ``posterior.attrs`` has ``log_evidence`` and its error, and
        ``problems``, which are logged as well.

    Raises:
        ValueError: If an argument is out of range or the model has discrete free variables.
    """
    wanted = dict(idata_kwargs or {})
    log_likelihood = bool(wanted.pop("log_likelihood", False))
    if wanted:
        raise ValueError(f"`idata_kwargs` may have the key 'log_likelihood' only, got {sorted(wanted)}")
    adapted, result = run(model, **options)
    for problem in result.check():
        _log.warning(problem)
    return to_arviz(adapted, result, var_names=var_names, log_likelihood=log_likelihood)
