"""Gradients of other parameters are clipped than those that the optimizer moves.

A clip that leaves out a parameter group or a model lets its gradients through unbounded. A clip of another model than
the one whose optimizer steps next bounds nothing that is used. A clip that includes parameters which no optimizer
holds measures gradients that nobody clears: they grow, and the rest is scaled down by them.

What to do: clip what the optimizer holds, `[p for g in optimizer.param_groups for p in g["params"]]`.

Read from the source of the training loop and compared with the optimizers. Reported: `param_groups[0]` is clipped
alone of several groups; one of several models that share an optimizer is clipped alone (losses and heads left out:
some are spared on purpose); the step after the clip is of an optimizer that was built for another model. *Info* for a
model with trainable parameters in no optimizer, which `param-not-in-optimizer` reports. Silent where an expression
does not tell which parameters it lists, and for a part of a model, which somebody chose.

Sources: reproduced with torch 2.13 (a head outside the optimizer: the norm that is clipped grows from 2.6 to 3.1);
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
"""

import re

from lrlint import Finding, rule
from lrlint.facts.coverage import coverage
from lrlint.vocabulary import count, is_loss

_STEPS = ("optimizer_step", "scaler_step")
_GROUP = re.compile(r"^(.+)\.param_groups\[(\d+)\]\[['\"]params['\"]\]$")
_WHOLE = re.compile(r"(^|\.)(ddp_|raw_|dist_|compiled_)?(model|net|network)(\.module)?$")
_SPARED = re.compile(r"head|fc|classif|margin|metric|arc|disc|loss|critic$|prior|ema|teacher", re.IGNORECASE)


@rule("LR706", severity="warning", confidence="medium", needs=("source", "optimizer"))
def clip_scope_mismatch(setup):
    found = {}
    for calls in setup.source.functions():
        clips = [(place, call) for place, call in enumerate(calls) if call.kind == "clip" and not call.managed]
        steps = any(call.kind in _STEPS for call in calls)
        if not steps or not all(call.covers for _, call in clips):
            continue
        for place, clip in clips:
            said = (
                _one_group(setup, clip, clips)
                or _another_model(setup, calls, place, clip)
                or _one_model(setup, clip, clips)
                or _outside(setup, clip)
            )
            if said and clip.span not in found:
                text, data, severity = said
                found[clip.span] = Finding(
                    clip,
                    text,
                    data=data,
                    help='clip `[p for g in optimizer.param_groups for p in g["params"]]`',
                    severity=severity,
                )
    yield from found.values()


def _one_group(setup, clip, clips):
    matches = [_GROUP.match(text) for _, call in clips for text in call.covers]
    if len(setup.optimizers) != 1 or not all(matches):
        return None
    clipped = {int(match[2]) for match in matches}
    left = [g for g in setup.optimizers[0].groups if g.trainable and g.index not in clipped]
    if not left:
        return None
    lost = sum(len(group.trainable) for group in left)
    text = f"only {_groups(clipped)} is clipped: {count(lost, 'parameter')} of {_groups(g.index for g in left)} are not"
    return text, {"parameters": lost, "groups": [group.index for group in left]}, ""


def _groups(indices):
    listed = sorted(indices)
    return f"group{'s' if len(listed) > 1 else ''} {', '.join(map(str, listed))}"


def _another_model(setup, calls, place, clip):
    """The steps up to the next backward pass are all of optimizers that were built for other models."""
    made = {}
    for call in setup.source.of_kind("optimizer"):
        made.setdefault(_last(call.receiver), set()).add(call.covers)
    following = []
    for call in calls[place + 1 :]:
        if "backward" in call.kind or call.kind == "zero_grad":
            break
        if call.kind == "scaler_step" or (call.kind in _STEPS and call.excludes(clip)):
            return None
        if call.kind == "optimizer_step":
            following.append(call)
    before = [call for call in calls[:place] if call.kind == "clip"]
    if not following or len(clip.covers) != 1 or not any("backward" in call.kind for call in calls[:place]):
        return None
    owners = [made.get(_last(step.receiver), set()) for step in following]
    if any(len(covers) != 1 or () in covers for covers in owners):
        return None
    held = {_last(text) for covers in owners for texts in covers for text in texts}
    known = {_last(text) for covers in made.values() for texts in covers for text in texts}
    mine = _last(clip.covers[0])
    if mine in held or mine not in known or any(_last(text) in held for call in before for text in call.covers):
        return None
    step = following[0].receiver
    text = f"`{clip.covers[0]}` is clipped, but the next step is that of `{step}`, which holds `{sorted(held)[0]}`"
    return text, {"optimizer": step}, ""


def _one_model(setup, clip, clips):
    """Of the models that an optimizer holds, some are clipped and some are not."""
    keys = {model.name: model for model in setup.models if model.prefix}
    clipped = {_last(text) for _, call in clips for text in call.covers}
    if not clipped or not clipped <= set(keys):
        return None
    for optimizer in setup.optimizers:
        held = {}
        for member in optimizer.members:
            if member.parameter.requires_grad and member.parameter.origin == "model":
                held.setdefault(member.parameter.name.split(".", 1)[0], []).append(member)
        left = {name: members for name, members in held.items() if name in keys and name not in clipped}
        spared = all(is_loss(name) or _SPARED.search(name) for name in left)
        if left and not spared and any(_last(text) in held for text in clip.covers):
            names = " and ".join(f"`{name}`" for name in left)
            lost = sum(map(len, left.values()))
            text = f"`{clip.covers[0]}` is clipped, but the optimizer also moves {names} ({count(lost, 'parameter')})"
            return text, {"parameters": lost, "models": list(left)}, ""
    return None


def _outside(setup, clip):
    """Trainable parameters of the model that is clipped as a whole are in no optimizer."""
    if len(setup.models) != 1 or len(clip.covers) != 1 or not _WHOLE.search(clip.covers[0]):
        return None
    cover = coverage(setup)
    if not cover.lost or len(cover.missing) == len(cover.trainable):
        return None
    lost, elements = len(cover.lost), sum(p.numel for p in cover.lost)
    text = (
        f"the clipped norm includes {count(lost, 'trainable parameter')} ({elements:,} of "
        f"{sum(p.numel for p in cover.trainable):,} elements) that no optimizer holds"
    )
    return text, {"parameters": lost, "elements": elements}, "info"


def _last(text):
    return text.removesuffix(".module").rsplit(".", 1)[-1]
