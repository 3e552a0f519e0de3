"""The optimizer that steps has fewer treatments than the one that was built: an engine merged the groups.

Sharding and engines rebuild optimizers. FSDP with flat parameters knows one group only, DeepSpeed drops empty groups,
wrappers collect everything anew: rates and decays that were set per group are gone.

What to do: FSDP2 or `use_orig_params=True`; set group options in the engine's own configuration; print the groups of
the optimizer that is stepped.

Reported when the target built an optimizer, returned another one over the same parameters, and parameters that had
different rates or decays in the first have one treatment in the second.

Sources: https://github.com/mosaicml/composer/issues/3493, https://github.com/Lightning-Universe/lightning-GPT/pull/27,
https://github.com/modelscope/ms-swift/issues/2723
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.wording import count, listing, number, rate


@rule("LR118", severity="warning", confidence="medium", needs=("optimizer",))
def groups_changed_by_engine(setup: Setup, *, share: float = 0.8) -> Iterator[Finding]:
    for before in setup.discarded:
        asked = {m.index: (m.group.number("lr"), m.weight_decay) for m in before.members if m.requires_grad}
        for after in setup.optimizers:
            got = {m.index: m for m in after.members if m.index in asked}
            if len(got) < share * len(asked) or before.class_name != after.class_name:
                continue
            wanted = {asked[index] for index in got}
            actual = {(member.group.index, member.weight_decay) for member in got.values()}
            if len(wanted) > 1 and len(actual) == 1:
                told = listing(f"lr {rate(lr)} with decay {number(wd)}" for lr, wd in sorted(wanted, key=str))
                yield Finding(
                    after,
                    f"{before.class_name} was built with {count(len(wanted), 'treatment')} ({told}), and the optimizer "
                    f"that is returned has one group for the same {count(len(got), 'parameter')}",
                    data={"treatments": len(wanted), "parameters": len(got)},
                    help="set the options of groups where the engine reads them, or use one that keeps parameters",
                )
