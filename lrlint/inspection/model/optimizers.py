"""Optimizers as facts: families, groups as torch holds them, state that does not fit.

What a class means by ``lr`` and ``weight_decay`` stands in one cited table, `lrlint.facts.algorithms`.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch.optim import Optimizer as TorchOptimizer

from lrlint.facts import Group, Optimizer, Parameter, StateMisfit
from lrlint.facts.algorithms import algorithm, family_of_group
from lrlint.facts.optimizers import DecayForm, number
from lrlint.inspection.model.class_cache import per_class
from lrlint.targets.provenance.recorder import ConstructionRecorder
from lrlint.targets.safe_getattr import attribute, is_on
from lrlint.text.wording import MULTIPLIER_KEYS

_MASTER = re.compile(
    r"bf16$|kahan|stochasticround|fp16_optimizer|bf16_optimizer|deepspeed|masterparams|float16optimizer", re.IGNORECASE
)
_MASTER_LISTS = ("fp32_from_fp16_groups", "single_partition_of_fp32_groups")
_MASTER_FLAGS = ("bf16_stochastic_round", "kahan_sum", "use_kahan_summation", "stochastic_rounding", "master_weights")
_STATE_KEYS = frozenset(
    "exp_avg exp_avg_sq max_exp_avg_sq exp_inf momentum_buffer square_avg grad_avg acc_delta sum ax prev mu".split()
)
#: How optimizers outside torch say that their decay is decoupled (apex and DeepSpeed, AdaBelief, optimi, Shampoo).
_DECOUPLED = (
    *("decoupled_weight_decay", "decoupled_decay", "use_decoupled_weight_decay", "weight_decouple", "decouple"),
    *("decouple_wd", "adam_w_mode", "adamw_mode"),
)
# What a step looks like that multiplies weights by 1 - lr * decay, and one that adds decay * weight to the gradient.
_SHRINKS = re.compile(
    r"\b(lr|step_size)\b[^\n]*\*[^\n]*(weight_decay|\bwd\b)|(weight_decay|\bwd\b)[^\n]*\*[^\n]*\blr\b"
)
_ADDS = re.compile(r"grad\w*\s*(=\s*grad\w*\s*(\.add|\+)|\.add_\(|\+=)[^\n]*(weight_decay|\bwd\b)")
_FLAGS = ("split_groups", "relative_step", "warmup_init", "scale_parameter", "decouple_lr", "foreach", "fused")


@per_class
def family(cls: type) -> tuple[str, bool]:
    """(family, whether weight decay is decoupled by default) of an optimizer class; ``other`` where unknown."""
    for base in cls.__mro__:
        if base is not TorchOptimizer and (row := algorithm(base.__name__)).pattern:
            return row.family, row.decoupled
    return "other", False


#: The fact of a tensor that an optimizer holds, by the tensor and a name for it where no module has one.
Find = Callable[[torch.Tensor, str], Parameter]
#: The highest rate that a group (by index) will have, given the rate that it declares.
Peak = Callable[[int, float | None], float | None]


def held(optimizer: Any, index: int) -> Iterator[tuple[torch.Tensor, str]]:
    """Every tensor that an optimizer holds, with a name for it where no module has one."""
    for i, group in enumerate(optimizer.param_groups):
        yield from _held(group, f"optimizer{index}.group{i}")


def _held(group: Mapping[str, Any], path: str) -> Iterator[tuple[torch.Tensor, str]]:
    given = group.get("param_names") or ()
    for k, tensor in enumerate(group["params"]):
        yield tensor, given[k] if k < len(given) else f"{path}.{k}"


def optimizer_fact(
    optimizer: Any,
    index: int,
    name: str,
    find: Find,
    recording: ConstructionRecorder,
    *,
    wraps: str | None = None,
    outer: Any = None,
    groups_from: str = "",
    peak: Peak = lambda group, declared: declared,
) -> Optimizer:
    """One optimizer. ``wraps`` is the class it was unwrapped from, ``outer`` that object; the rest as in the fact."""
    cls = type(optimizer)
    kind, decoupled = family(cls)
    form = _decay_form(cls)
    told = _says_decoupled(lambda key: attribute(optimizer, key, _class_defaults(cls).get(key)))
    decoupled = told if told is not None else decoupled or form == "decoupled"
    groups = optimizer.param_groups
    multipliers = _multipliers(groups)
    facts = tuple(
        _group(optimizer, index, i, kind, decoupled, find, recording, partial(peak, i), multipliers[i])
        for i in range(len(groups))
    )
    defaults = {key: plain(value) for key, value in _defaults(optimizer).items()}
    return Optimizer(
        index=index,
        name=name,
        class_name=cls.__name__,
        module=cls.__module__,
        family=kind,
        groups=facts,
        defaults=defaults,
        class_defaults=_class_defaults(cls),
        decay_form=form,
        bases=tuple(base.__name__ for base in cls.__mro__[1:] if base is not object),
        flags={
            **{flag: plain(value) for flag in _FLAGS if (value := attribute(optimizer, flag)) is not None},
            **(
                {"inner": inner}
                if (inner := inner_groups(outer, optimizer) if outer is not None else inner_groups(optimizer))
                else {}
            ),
        },
        reads=_keys_read(
            cls, {key for group in groups for key in group if isinstance(key, str)} - set(defaults) - {"params"}
        ),
        master_weights=_keeps_master_weights(optimizer, wraps),
        wraps=wraps,
        groups_from=groups_from,
        state_size=len(optimizer.state),
        misfits=tuple(_misfits(optimizer, find)),
        span=recording.optimizer(optimizer),
    )


def inner_groups(optimizer: Any, only: Any = None) -> dict[str, Any] | None:
    """The optimizer that steps inside this one, where its groups are copies: class, and lr, decay and size
    of its ``groups`` and of those ``given`` to the outer one.

    Rates that are written to the outer groups (by a scheduler, or by hand) then never reach a step. None where the
    groups are shared, and where the outer class's own step reads its groups' options or hands them on.
    """
    for value in [only] if only is not None else list(getattr(optimizer, "__dict__", {}).values()):
        outer, inner = (getattr(item, "param_groups", None) for item in (optimizer, value))
        if value is optimizer or not isinstance(value, TorchOptimizer) or not isinstance(outer, list) or not inner:
            continue
        same = {id(p) for group in outer for p in group["params"]} == {
            id(p) for group in inner for p in group["params"]
        }
        step = inspect.getattr_static(type(optimizer), "step", None)
        try:
            text = inspect.getsource(step) if inspect.isfunction(step) else ""
        except (OSError, TypeError):
            text = ""
        if (
            not same
            or any(a is b for a in outer for b in inner)
            or re.search(r"""['"](lr|weight_decay)['"]|update\(""", text)
        ):
            continue
        names = {"class_name": type(value).__name__, "outer": type(optimizer).__name__}
        return {**names, "groups": list(map(_treatment, inner)), "given": list(map(_treatment, outer))}
    return None


def _treatment(group: Mapping[str, Any]) -> dict[str, Any]:
    return {**{key: plain(group.get(key)) for key in ("lr", "weight_decay")}, "size": len(group["params"])}


@per_class
def _decay_form(cls: type) -> DecayForm:
    """``decoupled`` or ``coupled``, where torch or the source of the class's own step says so; else ``""``."""
    for base in cls.__mro__:
        if base.__module__.startswith("torch.") and base is not TorchOptimizer:
            return "decoupled" if family(base)[1] else "coupled"
        if "step" in base.__dict__:
            text = _source(base) or ""
            return "decoupled" if _SHRINKS.search(text) else "coupled" if _ADDS.search(text) else ""
    return ""


def _says_decoupled(read: Callable[[str], Any]) -> bool | None:
    """What the options say about decay, where one of them does."""
    told = [bool(value) for key in _DECOUPLED if isinstance(value := read(key), (bool, int))]
    # Fully decoupled implies decoupled; not fully says nothing.
    return True if any(told) or is_on(read("decouple_lr")) else False if told else None


@per_class
def _source(cls: type) -> str | None:
    try:
        return inspect.getsource(cls)
    except (OSError, TypeError):
        return None


def _group(
    optimizer: Any,
    index: int,
    i: int,
    kind: str,
    decoupled: bool,
    find: Find,
    recording: ConstructionRecorder,
    peak: Callable[[float | None], float | None],
    multiplier: float,
) -> Group:
    group = optimizer.param_groups[i]
    options = {str(key): plain(value) for key, value in group.items() if key != "params"}
    told = _says_decoupled(options.get)
    record = recording.group(optimizer, i)
    siblings = (other for k, other in enumerate(optimizer.param_groups) if k != i)
    return Group(
        optimizer=index,
        index=i,
        options=options,
        parameters=tuple(find(tensor, name) for tensor, name in _held(group, f"optimizer{index}.group{i}")),
        family=family_of_group(options, type(optimizer).__name__, kind, siblings),
        decoupled=decoupled if told is None else told,
        peak_lr=peak(declared_peak(options, multiplier)),
        written=record.written if record else None,
        requested={str(key): plain(value) for key, value in recording.before(optimizer, i).items() if key != "params"},
        span=record.span if record else None,
        key_spans=record.key_spans if record else {},
    )


def declared_peak(options: Mapping[str, Any], multiplier: float = 1.0) -> float | None:
    """The rate a group is heading for when no schedule was simulated: torch's OneCycleLR notes it in ``max_lr``,
    every torch scheduler the unwarmed rate in ``initial_lr``."""
    keys = ("max_lr", "initial_lr", "lr") if "initial_lr" in options else ("lr",)
    rate = next((value for key in keys if (value := number(options, key)) is not None), None)
    return None if rate is None else rate * multiplier


def _multipliers(groups: Iterable[Mapping[str, Any]]) -> list[float]:
    """What a training loop will still multiply each group's rate by.

    A key such as ``lr_scale`` is pending where it differs while ``lr`` does not; where ``lr`` differs it was folded in.
    """
    groups = list(groups)
    rates = {float(g["lr"]) for g in groups if isinstance(g.get("lr"), (int, float))}
    for key in MULTIPLIER_KEYS:
        scales = [g.get(key) for g in groups]
        numbers = [float(s) for s in scales if isinstance(s, (int, float)) and not isinstance(s, bool)]
        if len(set(numbers)) > 1 and len(rates) == 1:
            return [float(s) if isinstance(s, (int, float)) else 1.0 for s in scales]
    return [1.0] * len(groups)


def plain(value: Any) -> Any:
    """An option as plain data: numbers, text and short lists as they are, the rest by type."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        if value.numel() == 1 and value.device.type != "meta":
            return {"tensor": float(value.detach().cpu().reshape(()).item())}
        return {"object": f"tensor of shape {tuple(value.shape)} on {value.device}"}
    if isinstance(value, (list, tuple)) and len(value) <= 16:
        return [plain(item) for item in value]
    return {"object": type(value).__name__}


@per_class
def _class_defaults(cls: type) -> dict[str, Any]:
    try:
        signature = inspect.signature(cls)
    except (TypeError, ValueError):
        return {}
    given = {name: p.default for name, p in signature.parameters.items() if p.default is not p.empty}
    return {name: plain(value) for name, value in given.items()}


def _defaults(optimizer: Any) -> Mapping[str, Any]:
    found = attribute(optimizer, "defaults")
    return found if isinstance(found, Mapping) else {}


def _keys_read(cls: type, unknown: set[str]) -> frozenset[str] | None:
    """Which of the unknown group keys the optimizer's own source mentions; None where there is no source to read."""
    if not unknown:
        return frozenset()
    texts = []
    for base in cls.__mro__:
        if base in (TorchOptimizer, object):
            continue
        text = _source(base)
        if text is None:
            return None
        texts.append(text)
    text = "\n".join(texts)
    return frozenset(key for key in unknown if re.search(rf"""['"]{re.escape(key)}['"]""", text))


def _keeps_master_weights(optimizer: Any, wraps: str | None) -> bool:
    if _MASTER.search(type(optimizer).__name__) or (wraps and _MASTER.search(wraps)):
        return True
    if any(attribute(optimizer, name) is not None for name in _MASTER_LISTS):
        return True
    groups = [_defaults(optimizer), *optimizer.param_groups]
    return any(is_on(source.get(flag)) for source in groups for flag in _MASTER_FLAGS) or any(
        attribute(optimizer, flag) is True for flag in _MASTER_FLAGS
    )


def _misfits(optimizer: Any, find: Find) -> Iterable[StateMisfit]:
    fused = {id(p): bool(g.get("fused") or g.get("capturable")) for g in optimizer.param_groups for p in g["params"]}
    for tensor, state in list(optimizer.state.items()):
        if not isinstance(tensor, torch.Tensor) or id(tensor) not in fused or not isinstance(state, Mapping):
            continue
        if type(tensor).__name__ not in ("Parameter", "Tensor"):
            continue  # sharded and quantized tensors keep state in shapes of their own
        for key, value in state.items():
            if isinstance(value, torch.Tensor):
                yield from _misfit(tensor, key, value, fused[id(tensor)], find)


def _misfit(tensor: torch.Tensor, key: str, value: torch.Tensor, fused: bool, find: Find) -> Iterable[StateMisfit]:
    if key == "step":
        if value.device.type != "cpu" and not fused:
            expected = "cpu (neither fused nor capturable)"
            yield StateMisfit(find(tensor, ""), key, "step-device", str(value.device), expected)
        return
    if key not in _STATE_KEYS or value.ndim == 0:
        return
    parameter: Parameter = find(tensor, "")
    if value.shape != tensor.shape:
        yield StateMisfit(parameter, key, "shape", str(tuple(value.shape)), str(tuple(tensor.shape)))
    elif value.device != tensor.device:
        yield StateMisfit(parameter, key, "device", str(value.device), str(tensor.device))
    elif value.dtype != tensor.dtype and tensor.dtype in (torch.float16, torch.bfloat16):
        yield StateMisfit(parameter, key, "dtype", str(value.dtype), str(tensor.dtype))
