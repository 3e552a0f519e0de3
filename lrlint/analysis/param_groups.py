"""How an optimizer treats its parameters, as the rules on decay and rates ask for it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from lrlint.text.wording import MULTIPLIER_KEYS, listing

if TYPE_CHECKING:  # a rule's documentation is shown without loading the facts
    from lrlint.facts import Group, Member, Members, Optimizer, Parameter

#: Decay up to here is none: fine-tuning recipes write 1e-8 for "off".
NEGLIGIBLE_DECAY = 1e-8
#: Optimizers whose step does not scale with the gradient: one element moves by about the rate.
ADAPTIVE = frozenset(("adam", "sign", "adafactor", "lamb", "muon", "lr-free"))
#: Modules whose weights are ordinary matrices, as opposed to tables, gates and free-standing tensors.
ORDINARY = frozenset(("linear", "conv", "rnn", "attention"))

_MATRICES = frozenset(("matrix", "lora_A", "lora_B"))
_FAST_ROLES = frozenset(
    (
        "embedding",
        "position",
        "token",
        "relative_position",
        "lora_A",
        "lora_B",
        "scalar",
        "scale",
        "prelu",
        "wn_g",
        "ssm",
    )
)
_LADDER_RATES = 6


def decays(member: Member) -> bool:
    """Whether the member's group decays it."""
    return member.weight_decay > NEGLIGIBLE_DECAY


def trainable(optimizer: Optimizer, *roles: str) -> Members:
    """The optimizer's members that require gradients: torch leaves the others alone, whatever their group says."""
    return optimizer.parameters(*roles).where(lambda member: member.parameter.requires_grad)


def enclosing_modules(path: str) -> Iterator[str]:
    """The module path and every enclosing one, innermost first; ``""`` is the root."""
    while path:
        yield path
        path = path.rpartition(".")[0]
    yield ""


class DecayPolicyByModule:
    """Which modules of the model an optimizer decays, judged by their weight matrices.

    A part whose matrices are all spared follows a policy of its own (a head, a layer that is not to be decayed): its
    norms and biases say nothing about the optimizer's no-decay filter.
    """

    def __init__(self, members: Iterable[Member]) -> None:
        self._decays: dict[str, bool] = {}
        for member in members:
            if member.parameter.role in _MATRICES and member.parameter.requires_grad:
                for path in enclosing_modules(member.parameter.module):
                    self._decays[path] = self._decays.get(path, False) or decays(member)

    def decay(self, member: Member) -> bool:
        """Whether the innermost part around the member that has matrices decays any of them."""
        policies = (self._decays[path] for path in enclosing_modules(member.parameter.module) if path in self._decays)
        return next(policies, False)


class WholeModuleGroups:
    """Which groups hold all of a submodule (``{"params": model.head.parameters()}``).

    Such a group was made without a filter: that its norms and biases decay is no filter's oversight.
    """

    def __init__(self, members: Members) -> None:
        self._members = members
        self._known: dict[tuple[int, int], bool] = {}

    def hold(self, member: Member) -> bool:
        """Whether the member's group holds matrices and everything that is trained beside them in one part."""
        group = member.group
        key = group.optimizer, group.index
        if key not in self._known:
            self._known[key] = self._whole(group)
        return self._known[key]

    def _whole(self, group: Group) -> bool:
        if not any(parameter.role in _MATRICES for parameter in group.trainable):
            return False
        part = _common([parameter.module for parameter in group.trainable])
        lead = f"{part}." if part else ""
        inside = (m for m in self._members if m.parameter.name.startswith(lead) and m.parameter.requires_grad)
        return all(member.group is group for member in inside)


def _common(paths: list[str]) -> str:
    """The innermost module path around all of them."""
    low, high = min(paths).split("."), max(paths).split(".")
    shared = 0
    while shared < min(len(low), len(high)) and low[shared] == high[shared]:
        shared += 1
    return ".".join(low[:shared])


def chosen(members: Iterable[Member], key: str, roles: Iterable[str]) -> bool:
    """Whether the user wrote the option on groups that hold nothing but these roles: a decision, not an oversight."""
    groups = {(m.group.optimizer, m.group.index): m.group for m in members}.values()
    allowed = frozenset(roles)
    return all(
        key in (group.written or ()) and all(parameter.role in allowed for parameter in group.parameters)
        for group in groups
    )


def written(groups: Iterable[Group], key: str) -> bool:
    """Whether the user wrote the option on every one of the groups."""
    return all(key in (group.written or ()) for group in groups)


def labels(groups: Iterable[Group]) -> str:
    """How messages call several groups: the first ones, and how many more."""
    names = [group.label for group in groups]
    return listing([*names[:3], *([f"{len(names) - 3} more"] if len(names) > 3 else [])])


def peak(group: Group) -> float:
    """The largest rate the group will have; 0 where it has none (placeholder, or chosen by the optimizer)."""
    value = group.peak_lr
    return value if value is not None and math.isfinite(value) and value > 0 else 0.0


def rated(optimizer: Optimizer) -> list[Group]:
    """Groups that train something at a known rate above 0."""
    return [group for group in optimizer.groups if group.trainable and peak(group)]


def by_family(groups: Iterable[Group]) -> dict[str, list[Group]]:
    """Groups by the algorithm that updates them: rates are comparable within one."""
    families: dict[str, list[Group]] = {}
    for group in groups:
        families.setdefault(group.family, []).append(group)
    return families


def is_ladder(groups: Iterable[Group]) -> bool:
    """Whether the rates are a layer-wise decay: many distinct ones, or a multiplier key that differs."""
    groups = list(groups)
    if len({peak(group) for group in groups}) >= _LADDER_RATES:
        return True
    return any(len({group.number(key) for group in groups} - {None}) > 1 for key in MULTIPLIER_KEYS)


def runs_fast(parameter: Parameter) -> bool:
    """Whether training code gives this kind of parameter high rates on purpose.

    Tables (rows are updated rarely), low-rank and prompt adapters, scalars, and tensors that stand by themselves
    (splats, hash grids).
    """
    if parameter.role in _FAST_ROLES or "prompt" in parameter.name or parameter.origin in ("optimizer", "unregistered"):
        return True
    alone = parameter.module_kind == "other" and (not parameter.module or parameter.role == "vector")
    return alone or parameter.module_class in ("ParameterDict", "ParameterList")


def is_ordinary(parameter: Parameter) -> bool:
    """Whether it is the matrix of an ordinary layer, for which rates are known that are usual."""
    return parameter.role == "matrix" and parameter.module_kind in ORDINARY and not runs_fast(parameter)


def outlier(optimizer: Optimizer, factor: float) -> Group | None:
    """The one group whose rate is more than ``factor`` above those of at least two others, if it holds matrices."""
    everyone = sorted(rated(optimizer), key=peak)
    groups = [group for group in everyone if group.family == everyone[-1].family]
    if len(groups) < 3 or is_ladder(groups) or not exceeds(peak(groups[-1]) / peak(groups[-2]), factor):
        return None
    top = groups[-1]
    return top if any(p.module_kind in ORDINARY and p.role == "matrix" for p in top.trainable) else None


def exceeds(ratio: float, limit: float) -> bool:
    """Whether a ratio of two rates is above the limit, and not only by rounding (1e-2 / 1e-5)."""
    return ratio > limit * (1 + 1e-9)


_QUERY_KEY = re.compile(
    r"^((q|k|qk|query|key)_?(layer_?)?(norm|ln)|(layer_?)?(norm|ln)(_added)?_?(q|k|qk|query|key))$", re.IGNORECASE
)


def is_query_key_norm(member: Member) -> bool:
    """Whether the member scales the queries or keys of an attention layer."""
    return _QUERY_KEY.match(member.parameter.module.rpartition(".")[2]) is not None


def distinction(decayed: Members, spared: Members, key: Callable[[Member], str]) -> str:
    """What always sets two lots of members apart, in words; "" where nothing does."""
    missed, known = ({key(member): None for member in members} for members in (decayed, spared))
    if missed.keys() & known.keys() or "" in missed or "" in known:
        return ""
    quoted = [listing([f"`{text}`" for text in texts][:3]) for texts in (known, missed)]
    return f"{quoted[0]} and not {quoted[1]}"


def why_far_apart(groups: Sequence[Group], warning: float) -> str:
    """Why rates more than ``warning`` times apart are a family of recipes, or ""."""
    if is_ladder(groups):
        return f"a layer-wise ladder of {len({peak(group) for group in groups})} rates"
    slowest = min(map(peak, groups))
    fast = [group for group in groups if exceeds(peak(group) / slowest, warning)]
    if fast and all(runs_fast(parameter) for group in fast for parameter in group.trainable):
        return "the fast groups hold only tables, adapters, scalars or free-standing tensors"
    return ""
