"""Which parameters a clip in the source covers, compared with those that the optimizers hold and that step after it.

Everything is matched by the expressions in the source (``self.actor``, ``optimizer.param_groups[0]``); where one does
not tell which parameters it lists, nothing is said.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrlint.analysis.coverage import coverage
from lrlint.facts.source import STEPS
from lrlint.text.module_names import is_loss

if TYPE_CHECKING:
    from lrlint.facts.parameters import Parameter
    from lrlint.facts.setup import Setup
    from lrlint.facts.source import SourceCall

_GROUP = re.compile(r"^(.+)\.param_groups\[(\d+)\]\[['\"]params['\"]\]$")
_WHOLE = re.compile(r"(^|\.)(ddp_|raw_|dist_|compiled_)?(model|net|network)(\.module)?$")
_SPARED = re.compile(r"head|fc|classif|margin|metric|arc|disc|loss|critic$|prior|ema|teacher", re.IGNORECASE)


@dataclass(frozen=True)
class Mismatch:
    """A ``clip`` of other parameters than those that are moved.

    ``kind``: ``groups`` (of several groups only ``names`` are clipped; ``parameters`` are in the ``others``), ``step``
    (the step that follows, ``step``, is of an optimizer that was built for the model ``others[0]``), ``models`` (the
    optimizer also moves the ``parameters`` of the models ``others``), ``outside`` (``parameters`` of the clipped model
    are in no optimizer).
    """

    kind: str
    clip: SourceCall
    parameters: tuple[Parameter, ...] = ()
    names: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    step: str = ""


def mismatches(setup: Setup, calls: Sequence[SourceCall]) -> Iterator[Mismatch]:
    """What one function's clips leave out or include too much, one for each clip at most."""
    clips = [call for call in calls if call.kind == "clip" and not call.managed]
    if not any(call.kind in STEPS for call in calls) or not all(clip.covers for clip in clips):
        return
    for position, clip in enumerate(calls):
        if clip.kind == "clip" and not clip.managed:
            found = (
                _of_groups(setup, clip, clips)
                or _of_step(setup, calls, position)
                or _of_models(setup, clip, clips)
                or _outside(setup, clip)
            )
            if found is not None:
                yield found


def _of_groups(setup: Setup, clip: SourceCall, clips: Sequence[SourceCall]) -> Mismatch | None:
    matches = [_GROUP.match(text) for call in clips for text in call.covers]
    if len(setup.optimizers) != 1 or not all(matches):
        return None
    clipped = {int(match[2]) for match in matches if match}
    left = [group for group in setup.optimizers[0].groups if group.trainable and group.index not in clipped]
    lost = tuple(parameter for group in left for parameter in group.trainable)
    others = tuple(str(group.index) for group in left)
    return Mismatch("groups", clip, lost, tuple(map(str, sorted(clipped))), others) if left else None


def _of_step(setup: Setup, calls: Sequence[SourceCall], position: int) -> Mismatch | None:
    """The steps up to the next backward pass are all of optimizers that were built for other models."""
    clip = calls[position]
    following = _following(calls, position)
    if not following or len(clip.covers) != 1 or not any("backward" in call.kind for call in calls[:position]):
        return None
    made = defaultdict(set)
    for call in setup.source.of_kind("optimizer") if setup.source else ():
        made[_last(call.receiver)].add(call.covers)
    owners = [made.get(_last(step.receiver), set()) for step in following]
    if any(len(covers) != 1 or () in covers for covers in owners):
        return None
    held = {_last(text) for covers in owners for texts in covers for text in texts}
    known = {_last(text) for covers in made.values() for texts in covers for text in texts}
    before = {_last(text) for call in calls[:position] if call.kind == "clip" for text in call.covers}
    mine = _last(clip.covers[0])
    if mine in held or mine not in known or before & held:
        return None
    return Mismatch("step", clip, others=tuple(sorted(held)), step=following[0].receiver)


def _following(calls: Sequence[SourceCall], position: int) -> list[SourceCall]:
    """The optimizers' steps between a clip and the next gradients; none where a scaler's or another branch's may be."""
    steps = []
    for call in calls[position + 1 :]:
        if "backward" in call.kind or call.kind == "zero_grad":
            break
        if call.kind == "scaler_step" or (call.kind in STEPS and call.excludes(calls[position])):
            return []
        if call.kind == "optimizer_step":
            steps.append(call)
    return steps


def _of_models(setup: Setup, clip: SourceCall, clips: Sequence[SourceCall]) -> Mismatch | None:
    """Of the models that an optimizer holds, some are clipped and some are not."""
    keys = {model.name for model in setup.models if model.prefix}
    clipped = {_last(text) for call in clips for text in call.covers}
    if not clipped or not clipped <= keys:
        return None
    for optimizer in setup.optimizers:
        held: dict[str, list[Parameter]] = defaultdict(list)
        for parameter in (member.parameter for member in optimizer.members):
            if parameter.requires_grad and parameter.origin == "model":
                held[parameter.name.split(".", 1)[0]].append(parameter)
        left = [name for name in held if name in keys and name not in clipped]
        spared = all(is_loss(name) or _SPARED.search(name) for name in left)
        if left and not spared and any(_last(text) in held for text in clip.covers):
            lost = tuple(parameter for name in left for parameter in held[name])
            return Mismatch("models", clip, lost, others=tuple(left))
    return None


def _outside(setup: Setup, clip: SourceCall) -> Mismatch | None:
    """Trainable parameters of the model that is clipped as a whole are in no optimizer."""
    if len(setup.models) != 1 or len(clip.covers) != 1 or not _WHOLE.search(clip.covers[0]):
        return None
    cover = coverage(setup)
    if not cover.unexplained or len(cover.missing) == len(cover.trainable):
        return None
    return Mismatch("outside", clip, tuple(cover.unexplained))


def _last(text: str) -> str:
    return text.removesuffix(".module").rsplit(".", 1)[-1]
