"""A tied weight has two names, and the group it is in fits neither of them.

`named_parameters()` lists a tied weight under its first name only: a pattern for `lm_head` matches nothing, and one for
the embedding takes the head along. Which treatment wins depends on the order of names.

What to do: treat the tied weight explicitly, in a group of its own.

For each name the usual treatment is that of other parameters with the same leaf name and kind of module: rate, decay
and optimizer. *Warning* where the weight has none of its names' treatments; *info* where the treatments differ and it
has one of them, so that one of its two uses gets what was not meant for it.

Sources: https://github.com/zhuhanqing/APOLLO/issues/4, https://github.com/NVIDIA/Megatron-LM/pull/4642
"""

from collections import Counter
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import peak
from lrlint.text.wording import listing, number, rate


@rule("LR114", severity="warning", confidence="medium", needs=("optimizer",))
def tied_weight_conflicting_treatment(setup: Setup) -> Iterator[Finding]:
    tied = [
        m for o in setup.optimizers for m in o.members if len(m.names) > 1 and m.requires_grad and m.ndim and m.ndim > 1
    ]
    usual = _usual(setup, {member.index for member in tied}) if tied else {}
    for member in tied:
        expected = {}
        for name in member.names:
            treatment = usual.get(_kind(setup, name))
            if treatment is not None:
                expected.setdefault(treatment, name)
        own = _treatment(member)
        if len(expected) < 2:
            continue
        told = [f"as `{name}` it would have {_words(setup, treatment)}" for treatment, name in expected.items()]
        yield Finding(
            member,
            f"the tied weight {' = '.join(f'`{n}`' for n in member.names)} has {_words(setup, own)}; {listing(told)}",
            data={"names": list(member.names), "lr": own[1], "weight_decay": own[2]},
            help="give the tied weight a group of its own",
            severity="info" if own in expected else "",
        )


def _kind(setup, name):
    path, _, leaf = name.rpartition(".")
    module = setup.module_by_path.get(path)
    return (module.kind, leaf) if module is not None else None


def _treatment(member):
    return member.group.optimizer, peak(member.group) if member.lr else 0.0, member.weight_decay


def _usual(setup, tied):
    """(kind of module, leaf name) → the treatment of most parameters of that kind."""
    seen = {}
    for optimizer in setup.optimizers:
        for member in optimizer.members:
            if member.index not in tied and member.requires_grad:
                seen.setdefault(_kind(setup, member.name), Counter())[_treatment(member)] += 1
    return {kind: treatments.most_common(1)[0][0] for kind, treatments in seen.items()}


def _words(setup, treatment):
    optimizer, lr, decay = treatment
    named = f" ({setup.optimizers[optimizer].label})" if len(setup.optimizers) > 1 else ""
    return f"lr {rate(lr)} and decay {number(decay)}{named}"
