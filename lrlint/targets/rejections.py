"""torch refused to build the optimizer: that is a finding about the setup, with the names of the parameters."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from itertools import chain
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from lrlint.facts import Span
from lrlint.facts.optimizers import RejectionKind
from lrlint.targets.provenance.recorder import ConstructionRecorder, Failed

_BASE = os.path.realpath(os.path.join(os.path.dirname(torch.__file__), "optim", "optimizer.py"))
_FOLDER = os.path.dirname(_BASE)
_KINDS: dict[str, RejectionKind] = {
    "appear in more than one parameter group": "overlap",
    "duplicate parameters": "duplicate",
    "empty parameter list": "empty",
    "non-leaf": "non-leaf",
    "required optimization parameter": "value",
}


def rejected(error: BaseException, recording: ConstructionRecorder) -> Failed | None:
    """The refusal that an exception stands for; None where it is an ordinary error of the user's code."""
    steps = list(_steps(error.__traceback__))
    first = next((k for k, step in enumerate(steps) if _optimizer(step.tb_frame) is not None), None)
    if first is None or not isinstance(error, (ValueError, TypeError, RuntimeError)):
        return None
    inner = steps[-1].tb_frame
    optimizer = _optimizer(inner)
    kind = None if optimizer is None else _kind(error, inner)
    if optimizer is None or kind is None:
        return None
    groups = [step.tb_frame for step in steps[first:] if step.tb_frame.f_code.co_name == "add_param_group"]
    group = groups[-1].f_locals.get("param_group") if groups else None
    return Failed(
        kind,
        type(optimizer).__name__,
        _tensors(kind, str(error), optimizer, group, steps[first].tb_frame),
        str(error),
        recording.literal_span(group) or _call(steps[:first], recording),
    )


def owners(
    error: BaseException, recording: ConstructionRecorder, tensors: Iterable[torch.Tensor]
) -> dict[str, nn.Module]:
    """The modules in reach of the frames that led to the error, outermost of each tree, by the name they had there.

    Those that own one of the tensors, where there are any. A single one has the key ``""``.
    """
    modules: dict[int, tuple[str, nn.Module]] = {}
    for step in _steps(error.__traceback__):
        frame = step.tb_frame
        if recording.project is not None and not recording.project.is_library(frame.f_code.co_filename):
            for name, module in chain(_modules(frame.f_locals), _modules(frame.f_globals)):
                modules.setdefault(id(module), (name, module))
    inner = {id(child) for _, module in modules.values() for child in module.modules() if child is not module}
    roots = [(name, module) for name, module in modules.values() if id(module) not in inner]
    identities = {id(tensor) for tensor in tensors}
    owning = [(n, m) for n, m in roots if any(id(p) in identities for p in m.parameters())] or roots
    return {"": owning[0][1]} if len(owning) == 1 else dict(reversed(owning))


def _steps(trace: TracebackType | None) -> Iterable[TracebackType]:
    while trace is not None:
        yield trace
        trace = trace.tb_next


def _optimizer(frame: FrameType) -> Optimizer | None:
    """The optimizer whose method the frame runs."""
    code = frame.f_code
    owner = frame.f_locals.get(code.co_varnames[0]) if code.co_argcount else None
    return owner if isinstance(owner, Optimizer) else None


def _kind(error: BaseException, frame: FrameType) -> RejectionKind | None:
    """The kind of refusal. A class of torch refuses a value in its own constructor; others do so by ValueError."""
    text = str(error)
    known = next((kind for part, kind in _KINDS.items() if part in text), None)
    path = os.path.realpath(frame.f_code.co_filename)
    if known or path == _BASE:
        return known
    if frame.f_code.co_name not in ("__init__", "add_param_group"):
        return None
    return "value" if path.startswith(_FOLDER + os.sep) or isinstance(error, ValueError) else None


def _tensors(kind: str, text: str, optimizer: Optimizer, group: Any, frame: FrameType) -> list[torch.Tensor]:
    """The tensors a refusal is about: the repeated or non-leaf ones, else all that were given."""
    own = _flatten(group)
    if kind == "overlap":
        taken = {id(tensor) for earlier in getattr(optimizer, "param_groups", ()) for tensor in _flatten(earlier)}
        return _unique(tensor for tensor in own if id(tensor) in taken)
    if kind == "duplicate":
        ids = [id(tensor) for tensor in own]
        return _unique(tensor for tensor in own if ids.count(id(tensor)) > 1)
    if kind == "non-leaf":
        return _unique(tensor for tensor in own if not (tensor.is_leaf or tensor.retains_grad))
    if kind == "empty":
        return []
    arguments = frame.f_locals.get("params", (frame.f_locals.get("args") or (None,))[0])
    everything = _unique(
        [*_flatten(arguments), *(t for g in getattr(optimizer, "param_groups", ()) for t in _flatten(g)), *own]
    )
    flat = [tensor for tensor in everything if tensor.ndim != 2] if "2D" in text else []
    return flat or everything


def _flatten(value: Any) -> list[torch.Tensor]:
    """Tensors in what an optimizer accepts as parameters. An iterator is used up: its optimizer does not exist."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, Mapping):
        return _flatten(value.get("params"))
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        return _flatten(value[1])
    if value is None or isinstance(value, (str, bytes, nn.Module)) or not isinstance(value, Iterable):
        return []
    try:
        return [tensor for item in value for tensor in _flatten(item)]
    except Exception:  # a generator of the user that fails
        return []


def _unique(tensors: Iterable[torch.Tensor]) -> list[torch.Tensor]:
    return list({id(tensor): tensor for tensor in tensors}.values())


def _call(steps: list[TracebackType], recording: ConstructionRecorder) -> Span | None:
    """The user's call that led to the optimizer."""
    project = recording.project
    for step in reversed(steps):
        if project is not None and not project.is_library(step.tb_frame.f_code.co_filename):
            return project.frame_span(step.tb_frame, step.tb_lasti, step.tb_lineno)
    return None


def _modules(names: Mapping[str, Any]) -> Iterable[tuple[str, nn.Module]]:
    """Modules under these names, and one level below in lists, dicts and plain objects."""
    for name, value in list(names.items()):
        if isinstance(value, nn.Module):
            yield name, value
        elif isinstance(value, (list, tuple)):
            yield from ((f"{name}.{k}", item) for k, item in enumerate(value) if isinstance(item, nn.Module))
        elif isinstance(value, dict) or (name == "self" and hasattr(value, "__dict__")):
            inner = value if isinstance(value, dict) else vars(value)
            yield from ((str(key), item) for key, item in list(inner.items()) if isinstance(item, nn.Module))
