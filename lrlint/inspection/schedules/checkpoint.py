"""The states of optimizers and schedulers in a checkpoint, read without running anything that it holds."""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import pickle
import re
import types
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from lrlint.errors import UsageError

_OPTIMIZER_KEYS = (
    *("optimizer", "optimizer_state_dict", "optimizer_state", "optimizer_states", "optimizers", "optim", "opt"),
)
_SCHEDULER_KEYS = (
    *("lr_scheduler", "scheduler", "lr_schedulers", "schedulers", "scheduler_state_dict", "lr_scheduler_state_dict"),
    *("lr_sched", "sched", "scheduler_state"),
)
#: Files of transformers and accelerate; accelerate numbers those of further optimizers.
_SUFFIXES = (".pt", ".bin")

#: Plain records that training scripts save beside the states (``"args": args``). Making one runs no code of the file.
_RECORDS = (argparse.Namespace, types.SimpleNamespace, pathlib.PosixPath, pathlib.WindowsPath, pathlib.PurePosixPath)

_GLOBAL = re.compile(r"GLOBAL ([\w.]+)|[Cc]lass ([\w.]+)|function ([\w.]+)")

States = list[dict[str, Any]]


def read(path: Path) -> tuple[States, States]:
    """(optimizer states, scheduler states) of the checkpoint.

    ``path`` is a file of torch.save, or a folder with ``optimizer.pt`` and ``scheduler.pt`` as transformers writes it
    (``optimizer.bin``, ``optimizer_1.bin``, ... of accelerate). Files are read with ``weights_only=True``, and mapped
    instead of read where their format allows. Raises UsageError when one cannot be read or holds no optimizer state.
    """
    if path.is_dir():
        optimizers = [state for file in _numbered(path, "optimizer") for state in _states(_load(file))]
        if not optimizers:
            raise UsageError(f"no optimizer state in the folder {path}", _folder_hint(path))
        schedulers = [_load(file) for file in _numbered(path, "scheduler")]
        return optimizers, [state for state in schedulers if isinstance(state, dict)]
    data = _load(path)
    optimizers = _states(data)
    if not optimizers and isinstance(data, Mapping):
        optimizers = next((states for key in _OPTIMIZER_KEYS if (states := _states(data.get(key)))), [])
    if not optimizers:
        keys = ", ".join(map(str, list(data)[:8])) if isinstance(data, Mapping) else type(data).__name__
        raise UsageError(f"no optimizer state in {path}", f"it holds: {keys}" if keys else "it is empty")
    held = [data.get(key) for key in _SCHEDULER_KEYS] if isinstance(data, Mapping) else []
    stored: Any = next((item for item in held if item), [])
    states = stored if isinstance(stored, list) else [stored]
    return optimizers, [state for state in states if isinstance(state, dict)]


def _numbered(folder: Path, stem: str) -> list[Path]:
    """``stem.pt`` or ``stem.bin``, then ``stem_1``, ``stem_2``, ... of the same kind."""
    for suffix in _SUFFIXES:
        files = [folder / f"{stem}{suffix}", *(folder / f"{stem}_{k}{suffix}" for k in range(1, 9))]
        if files[0].is_file():
            return [file for file in files if file.is_file()]
    return []


def _folder_hint(folder: Path) -> str:
    """Where the state may be instead: below, or in a form that is not read."""
    below = sorted({file.parent.name for suffix in _SUFFIXES for file in folder.glob(f"*/optimizer{suffix}")})
    if below:
        return f"it has {', '.join(below[:4])}: give one of them"
    if any(folder.glob("*optim_states.pt")) or any(folder.glob("*/*optim_states.pt")) or any(folder.rglob("*.distcp")):
        return "it holds a sharded state (DeepSpeed, FSDP), which is not read: consolidate it into one file first"
    return "expected optimizer.pt or optimizer.bin in it"


def _load(path: Path) -> Any:
    try:
        with warnings.catch_warnings(), _records():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=_is_archive(path))
    except OSError as error:
        raise UsageError(f"cannot read the checkpoint {path}: {error.strerror or error}") from error
    except Exception as error:
        raise UsageError(f"cannot read the checkpoint {path}: {_reason(path, error)}", _HINT) from error


def _is_archive(path: Path) -> bool:
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:  # damaged in such a way that not even this can be told
        return False


_HINT = "it must be a file of torch.save with tensors and plain data only: save state_dicts, not objects"


def _reason(path: Path, error: Exception) -> str:
    """Why torch refused the file, without its advice to load it all the same."""
    if not path.stat().st_size:
        return "it is empty"
    text = str(error)
    if isinstance(error, pickle.UnpicklingError) and (match := _GLOBAL.search(text)):
        name = next(group for group in match.groups() if group)
        return f"it holds `{name.rstrip('.')}`, which could run code when loaded; nothing was run"
    if not _is_archive(path):
        return "it is damaged, or was not written by torch.save"
    return text.split("\n", 1)[0] or type(error).__name__


def _records() -> contextlib.AbstractContextManager[Any]:
    """Let torch make plain records and numpy's values; before 2.6 it cannot be told those that changed their names."""
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 6):
        return contextlib.nullcontext()
    known: list[Any] = [*_RECORDS]
    with contextlib.suppress(ImportError):
        import numpy

        core: Any = getattr(numpy, "_core", None) or numpy.core
        known += [numpy.ndarray, numpy.dtype]
        known += [kind for kind in vars(numpy.dtypes).values() if isinstance(kind, type)]
        for name in ("scalar", "_reconstruct"):
            made = getattr(core.multiarray, name)
            known += [(made, f"numpy.{package}.multiarray.{name}") for package in ("_core", "core")]
    return torch.serialization.safe_globals(known)


def _states(value: Any) -> States:
    """Optimizer state dicts in a value: one, a list of them, or one by name."""
    if isinstance(value, Mapping) and "param_groups" not in value:
        value = list(value.values())
    items = value if isinstance(value, list) else [value]
    return [dict(item) for item in items if _is_state(item)]


def _is_state(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("state", {}), Mapping):
        return False
    groups = value.get("param_groups")
    return isinstance(groups, list) and all(isinstance(g, dict) and isinstance(g.get("params"), list) for g in groups)
