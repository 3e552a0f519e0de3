"""The model's author declared parameters as exempt from weight decay, and the optimizer decays them.

Models say what must not decay: `model.no_weight_decay()` and `no_weight_decay_keywords()` (timm, Swin, DeiT),
`parameter._no_weight_decay = True` (Mamba), `parameter._optim = {"lr": …, "weight_decay": 0}` (S4). PyTorch knows
none of these: the code that builds the groups has to honour them, and a wrapper that forwards one and not the other
re-enables decay silently. `copy.deepcopy` drops attributes of parameters.

What to do: pass the names on (`timm.optim.param_groups_weight_decay(model,
no_weight_decay_list=model.no_weight_decay())`), or put the parameters in a group with the declared options.

Declarations of every submodule count, and a declared name that matches nothing is matched by likeness (a published
model says `level.0.pos_embed` for `levels.0.pos_embed`). *Warning* where the optimizer exempts something else, so
that a no-decay policy exists and misses these; *info* where it decays everything or ignores all marks alike. In our
survey of published recipes this found real faults and no false one.

Sources: https://github.com/state-spaces/mamba/issues/798, https://github.com/athms/mad-lab/issues/5,
https://github.com/HazyResearch/state-spaces (`_optim`),
https://timm.fast.ai/ (`no_weight_decay`), https://github.com/huggingface/pytorch-image-models
"""

import math
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import NEGLIGIBLE_DECAY, decays, trainable
from lrlint.text.names import describe
from lrlint.text.wording import count, listing, number


@rule("LR307", severity="warning", confidence="high", needs=("optimizer",))
def author_declared_no_decay_ignored(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        members = trainable(optimizer).where(lambda member: member.numel)
        selective = any(not decays(member) for member in members) or len({g.lr for g in optimizer.groups}) > 1
        declared = members.where(lambda member: member.no_decay and decays(member))
        for declaration, found in declared.by(lambda member: member.no_decay).items():
            strengths = sorted({member.weight_decay for member in found})
            yield Finding(
                found,
                f"{count(len(found), 'parameter')} decayed at {listing(map(number, strengths))} although the model "
                f"exempts {'it' if len(found) == 1 else 'them'} by `{declaration}`: {describe(m.name for m in found)}",
                data={"parameters": len(found), "declaration": declaration, "weight_decay": strengths},
                help="put what the model declares into the group without weight decay",
                key="weight_decay",
                severity="" if selective else "info",
            )
        for key in ("lr", "weight_decay"):
            ignored = members.where(lambda member, key=key: not member.no_decay and _ignored(member, key))
            if ignored:
                wanted = sorted({number(member.wanted[key]) for member in ignored})
                given = sorted({number(member.group.number(key)) for member in ignored})
                yield Finding(
                    ignored,
                    f"{count(len(ignored), 'parameter')} at {key} {listing(given)} although `_optim` on "
                    f"{'it' if len(ignored) == 1 else 'them'} asks for {listing(wanted)}: "
                    f"{describe(m.name for m in ignored)}",
                    data={"parameters": len(ignored), "option": key, "wanted": wanted, "given": given},
                    help="build groups from the parameters' `_optim` options",
                    key=key,
                    severity="" if selective else "info",
                )


def _ignored(member, key):
    """Whether the group's option differs from the one its author attached to the parameter."""
    wanted, group = member.wanted.get(key), member.group
    if isinstance(wanted, bool) or not isinstance(wanted, (int, float)):
        return False
    if key == "weight_decay":
        return abs(group.weight_decay - wanted) > NEGLIGIBLE_DECAY
    rates = [rate for rate in (group.lr, group.peak_lr, group.number("initial_lr")) if rate is not None]
    return bool(rates) and not any(math.isclose(rate, wanted, rel_tol=1e-6) for rate in rates)
