"""What ``TARGET`` on the command line stands for: an attribute of a module or of a file.

Only the standard library is imported here, so that ``rdmc --help`` answers at once.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

__all__ = ["UsageError", "is_target", "load_target", "module_named", "pool_for"]


class UsageError(Exception):
    """Something the user can put right by another command line, in one line."""


@contextlib.contextmanager
def _importable(folder: str) -> Iterator[None]:
    """The folder at the front of ``sys.path``; console scripts, unlike ``python -m``, leave the current one out."""
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(folder)


def _module_name(path: Path) -> str:
    return f"_rdmc_target_{path.stem}"  # a user's file may be called torch.py


def module_named(source: str) -> Any:
    """The module ``package.module`` or the file ``file.py``, imported.

    Raises:
        UsageError: If there is none, or importing it fails.
    """
    try:
        if not source.endswith(".py"):
            with _importable(str(Path.cwd())):
                return importlib.import_module(source)
        path = Path(source).resolve()
        if not path.is_file():
            raise UsageError(f"no file {source!r}")
        name = _module_name(path)
        spec = importlib.util.spec_from_file_location(name, path)
        if spec is None or spec.loader is None:
            raise UsageError(f"{source!r} cannot be imported as Python")
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module  # dataclasses look their module up
        with _importable(str(path.parent)):
            spec.loader.exec_module(module)
        return module
    except UsageError:
        raise
    except ModuleNotFoundError as error:
        if error.name is not None and (source == error.name or source.startswith(f"{error.name}.")):
            raise UsageError(f"no module {error.name!r} (to name a file, write file.py:attribute)") from error
        raise UsageError(f"importing {source!r} failed: {error}") from error
    except Exception as error:
        raise UsageError(f"importing {source!r} failed: {type(error).__name__}: {error}") from error


def is_target(value: object) -> bool:
    """Whether the value itself, not what it makes, has a dimension and a log density."""
    return not inspect.isclass(value) and hasattr(value, "dim") and callable(getattr(value, "log_density", None))


def _factory_arguments(value: Any, dim: int | None) -> dict[str, int] | None:
    """Arguments with which to call ``value`` as a factory of targets, None if it does not look like one."""
    try:
        parameters = inspect.signature(value).parameters
    except (TypeError, ValueError):  # no signature: built in or compiled
        return None
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    required = {name for name, p in parameters.items() if p.default is p.empty and p.kind not in variable}
    if dim is not None and "dim" in parameters and required <= {"dim"}:
        return {"dim": dim}
    return {} if dim is None and not required else None


def load_target(text: str, dim: int | None) -> tuple[Any, int | None]:
    """What ``TARGET`` on the command line stands for, and the ``dim`` to pass on.

    Args:
        text: ``package.module:attribute`` or ``file.py:attribute``. The attribute is a target (it has ``dim`` and
            ``log_density``), a factory of one that needs no argument (or only ``dim``), or a bare batched log density.
        dim: What ``--dim`` said.

    Raises:
        UsageError: If there is no such thing, or a bare density comes without ``dim``.
    """
    source, colon, attribute = text.rpartition(":")
    if not (source and colon and attribute):
        raise UsageError(f"TARGET must be package.module:attribute or file.py:attribute, got {text!r}")
    value: Any = module_named(source)
    for part in attribute.split("."):
        if not hasattr(value, part):
            near = [name for name in dir(value) if not name.startswith("_") and callable(getattr(value, name, None))]
            hint = f"; there are {', '.join(near[:12])}" if near else ""
            raise UsageError(f"{source!r} has no attribute {attribute!r}{hint}")
        value = getattr(value, part)
    if is_target(value):
        return value, dim
    if not callable(value):
        raise UsageError(f"{text!r} must be a target or callable, got {type(value).__name__}")
    arguments = _factory_arguments(value, dim)
    if arguments is not None:
        try:
            made = value(**arguments)
        except Exception as error:
            raise UsageError(f"calling {text!r} failed: {type(error).__name__}: {error}") from error
        if not is_target(made):
            raise UsageError(f"{text!r} must return a target, got {type(made).__name__}")
        return made, None if arguments else dim
    if dim is None:
        raise UsageError(f"{text!r} is a bare callable: say --dim, the number of coordinates")
    return value, dim


def pool_for(text: str, workers: int) -> Callable[[], Executor] | None:
    """What makes a pool of so many processes, each of which can import what ``TARGET`` names; None for one."""
    if workers == 1:
        return None
    source = text.rpartition(":")[0]
    if source.endswith(".py"):  # no process can import it by name, so what it defines travels by value
        importlib.import_module("cloudpickle").register_pickle_by_value(sys.modules[_module_name(Path(source))])
    context = get_context("spawn")
    return partial(ProcessPoolExecutor, workers, context, sys.path.append, (str(Path.cwd()),))
