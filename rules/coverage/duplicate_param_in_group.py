"""The same parameter is listed twice: in one group, or in two groups of one optimizer.

Within a group torch only warns. SGD then applies the update twice, Adam advances its step counter twice per step, and
its fused kernel gives a third answer. In two groups torch refuses. Both come from lists built by hand: a module listed
in place of another one, which then is in no list.

What to do: remove the duplicate (`dict.fromkeys(parameters)`), and look for the module that is missing.

Read from the groups, and from torch's refusal where it raises. A tied weight, which a model lists once, is none.

Sources: https://github.com/line/open-universe/issues/5, https://github.com/zhuhanqing/APOLLO/issues/4; measured with
torch 2.13
"""

from collections import Counter
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count

_ADVICE = "list each parameter once, and check that no other module is missing in its place"


@rule("LR103", severity="error", confidence="high")
def duplicate_param_in_group(setup: Setup) -> Iterator[Finding]:
    for rejection in setup.rejections:
        if rejection.kind in ("overlap", "duplicate"):
            named = describe(p.name for p in rejection.parameters)
            where = "in two groups" if rejection.kind == "overlap" else "twice"
            yield Finding(
                rejection,
                f"torch refuses to build {rejection.class_name}: {named or 'a parameter'} is listed {where}",
                help=_ADVICE,
            )
    for optimizer in setup.optimizers:
        for group in optimizer.groups:
            times = Counter(parameter.index for parameter in group.parameters)
            twice = {m.index: m for m in group.members if times[m.index] > 1}.values()
            if twice:
                yield Finding(
                    list(twice),
                    f"{count(len(twice), 'parameter')} listed more than once in {group.label} of {optimizer.label}, "
                    f"and updated as often: {describe(member.name for member in twice)}",
                    data={"parameters": len(twice), "times": max(times.values())},
                    help=_ADVICE,
                    key="params",
                )
