"""What loading a checkpoint changes: options of the groups, the scheduler's base rates, the order of the state.

``load_state_dict`` replaces every option of every group by the saved one, so that the rate, the decay and the betas of
the new run are gone without a word. Everything here happens on stand-ins.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lrlint.errors import UsageError
from lrlint.inspection.schedules import kinds
from lrlint.inspection.schedules.checkpoint import read
from lrlint.inspection.schedules.copying import Isolation, Uncopyable, quiet
from lrlint.inspection.schedules.details import number, rates_of
from lrlint.inspection.schedules.stepping import stepper

if TYPE_CHECKING:
    from lrlint.targets.load import LiveTarget

#: Options compared as they are; rates are compared by what they decay from.
OPTIONS = ("weight_decay", "betas", "momentum", "eps", "decoupled_weight_decay")
#: Arguments of torch's schedulers that their state brings along and that no step changes.
ARGUMENTS = (
    *(
        "T_max",
        "eta_min",
        "T_0",
        "T_mult",
        "step_size",
        "gamma",
        "milestones",
        "total_iters",
        "start_factor",
        "end_factor",
    ),
    *("factor", "power", "total_steps", "total_size", "step_ratio", "mode", "_milestones"),
)


def resume(built: LiveTarget, path: str | Path) -> dict[str, Any]:
    """What loading the checkpoint does to the target, as plain data.

    ``path`` is what `checkpoint.read` takes. The result has ``checkpoint`` (the file's name) and
    ``optimizers``, one record per saved optimizer:

    - ``optimizer``: index in the target; ``changes``: ``group``, ``option``, ``configured``, ``loaded`` of each option
      that the load replaces by another value (for ``lr`` also ``origin``, the rate that the saved one decayed from);
    - ``refused``: why torch would not load it (number of groups or of parameters);
    - ``names``: first saved parameter name that stands at the place of another, as [saved, present];
    - ``shapes``: number of state tensors that land on a parameter of another shape, with ``parameters`` saved;
    - ``scheduler``: ``index`` in the target, ``loaded`` (whether the checkpoint has its state), ``base_lrs`` it will
      scale, ``lr`` after the load and ``next_lr`` after its next step, one per group; ``changes`` of the arguments of
      torch's own classes: ``class_name``, ``option``, ``configured``, ``loaded``; ``foreign``: the class whose
      arguments the saved state does not have.

    Raises UsageError as `checkpoint.read` does.
    """
    optimizers, schedulers = read(Path(path))
    records = []
    for index, (optimizer, saved) in enumerate(zip(built.optimizers.values(), optimizers, strict=False)):
        live = kinds.unwrap_optimizer(optimizer)
        try:
            record = {"optimizer": index, **_compare(built, live, saved)}
        except (TypeError, ValueError, AttributeError, KeyError, OverflowError, RecursionError) as error:
            text = f"the checkpoint {path} holds what no optimizer saves ({type(error).__name__}: {error})"
            raise UsageError(text, "save optimizer.state_dict()") from error
        if "refused" not in record and (found := _scheduler(built, live, saved, schedulers)):
            record["scheduler"] = found
        records.append(record)
    return {"checkpoint": Path(path).name, "optimizers": records}


def _compare(built: LiveTarget, optimizer: Any, saved: Mapping[str, Any]) -> dict[str, Any]:
    groups, loaded = optimizer.param_groups, saved["param_groups"]
    counts = [len(group["params"]) for group in groups]
    saved_counts = [len(group["params"]) for group in loaded]
    if counts != saved_counts:
        reason = f"the checkpoint's groups hold {saved_counts} parameters, the optimizer's {counts}"
        return {"refused": reason, "changes": []}
    changes = []
    for index, (group, new) in enumerate(zip(groups, loaded, strict=True)):
        before = built.recording.before(optimizer, index)
        changes += [{"group": index, **change} for change in (*_rate(group, before, new), *_others(group, before, new))]
    return {"changes": changes, **_order(groups, saved)}


def _rate(group: Mapping[str, Any], before: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A rate that has decayed from the configured one is the progress of the run; from another one it is a change."""
    scheduled = "initial_lr" in group and "initial_lr" in new
    configured = _plain(group["initial_lr"] if scheduled else before.get("lr", group.get("lr")))
    origin = _plain(new.get("initial_lr", new.get("lr")))
    if configured is None or origin is None or _equal(configured, origin):
        return []
    return [{"option": "lr", "configured": configured, "loaded": _plain(new.get("lr")), "origin": origin}]


def _others(group: Mapping[str, Any], before: Mapping[str, Any], new: Mapping[str, Any]) -> list[dict[str, Any]]:
    configured = {**group, **before}
    cycled = ("betas", "momentum") if "max_momentum" in group or "max_momentum" in new else ()
    found = []
    for option in OPTIONS:
        old_value, new_value = _plain(configured.get(option)), _plain(new.get(option))
        if option not in cycled and None not in (old_value, new_value) and not _equal(old_value, new_value):
            found.append({"option": option, "configured": old_value, "loaded": new_value})
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value if isinstance(value, bool) else number(value)


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(_equal(a, b) for a, b in zip(first, second, strict=True))
    if isinstance(first, float) and isinstance(second, float):
        return abs(first - second) <= 1e-9 * max(abs(first), abs(second))
    return bool(first == second)


def _order(groups: Sequence[Mapping[str, Any]], saved: Mapping[str, Any]) -> dict[str, Any]:
    """Whether the saved state lands on the parameters it belongs to: torch goes by position alone."""
    found: dict[str, Any] = {}
    present = [parameter for group in groups for parameter in group["params"]]
    identities = [identity for group in saved["param_groups"] for identity in group["params"]]
    shapes = 0
    for identity, parameter in zip(identities, present, strict=True):
        state = saved.get("state", {}).get(identity) or {}
        tensors = [value for value in state.values() if isinstance(value, torch.Tensor) and value.dim() > 0]
        # Factored second moments have fewer dimensions than their parameter by design.
        shapes += any(t.dim() >= parameter.dim() and t.shape != parameter.shape for t in tensors)
    if shapes:
        found.update(shapes=shapes, parameters=len(present))
    names = [name for group in groups for name in group.get("param_names") or ()]
    old = [name for group in saved["param_groups"] for name in group.get("param_names") or ()]
    if len(names) == len(old):
        found.update(next(({"names": [a, b]} for a, b in zip(old, names, strict=True) if a != b), {}))
    return found


def _scheduler(
    built: LiveTarget, optimizer: Any, saved: Mapping[str, Any], states: Sequence[dict[str, Any]]
) -> dict[str, Any] | None:
    """What the scheduler does after the load: its next step may put the old curve, or the new base rate, back."""
    for position, scheduler in enumerate(built.schedulers):
        own = kinds.optimizer_of(scheduler)
        if own is None or not kinds.same_optimizer(own, optimizer) or kinds.data_driven(scheduler):
            continue
        try:
            state = states[position] if position < len(states) else None
            with quiet():
                after = _after(scheduler, saved, state)
            return {"index": position, **after, **(_arguments(scheduler, state) if state is not None else {})}
        except (Uncopyable, KeyError, TypeError, ValueError, AttributeError, ArithmeticError):
            return None  # what cannot be stepped is told by the simulation
    return None


def _after(scheduler: Any, saved: Mapping[str, Any], state: dict[str, Any] | None) -> dict[str, Any]:
    isolation = Isolation()
    copy = isolation.copy(scheduler)
    groups = kinds.optimizer_of(copy).param_groups
    for group, new in zip(groups, saved["param_groups"], strict=True):
        group.update({key: value for key, value in new.items() if key not in ("params", "param_names")})
    if state is not None:
        copy.load_state_dict(isolation.copy(state))
    loaded = [number(group.get("lr")) for group in groups]
    bases = next((rates for leaf in kinds.leaves(copy) if (rates := rates_of(leaf))), None)
    stepper(copy)(int(getattr(copy, "last_epoch", 0)) + 1)
    return {
        "loaded": state is not None,
        "base_lrs": bases,
        "lr": loaded,
        "next_lr": [number(group.get("lr")) for group in groups],
    }


def _arguments(scheduler: Any, state: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of the scheduler, and of those nested in it, that the saved state replaces or does not know."""
    changes, foreign = [], None
    if type(scheduler).__module__.startswith("torch."):
        name = type(scheduler).__name__
        for option in ARGUMENTS:
            if not hasattr(scheduler, option):
                continue
            if option not in state:
                foreign = foreign or name
                continue
            configured, loaded = _listed(getattr(scheduler, option)), _listed(state[option])
            if None not in (configured, loaded) and not _equal(configured, loaded):
                told = {"class_name": name, "option": option.lstrip("_")}
                changes.append({**told, "configured": configured, "loaded": loaded})
    inner = state.get("_schedulers")
    children = kinds.children_of(scheduler)
    if isinstance(inner, list) and len(inner) == len(children):
        for child, child_state in zip(children, inner, strict=True):
            found = _arguments(child, child_state) if isinstance(child_state, Mapping) else {}
            changes += found.get("changes", [])
            foreign = foreign or found.get("foreign")
    return {**({"changes": changes} if changes else {}), **({"foreign": foreign} if foreign else {})}


def _listed(value: Any) -> Any:
    """A number, a string or a list of numbers; milestones are kept as a counter. None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        value = sorted(value)
    found = _plain(value)
    return None if isinstance(found, list) and None in found else found
