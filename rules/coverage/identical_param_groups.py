"""Two groups of an optimizer have the same options: the split has no effect.

Either an override was lost on the way (an engine that rewrites groups, a configuration value that was never read), or
the split is left over from an earlier version.

What to do: set what was meant to differ, or merge the groups.

Compared are all options except `params` and names. Left alone: groups with names of their own (prepared for a callback
or a scheduler), numbered layers (`layer_id`), and groups that a library wrote (transformers' Trainer always makes two, and
they are alike at its default decay of 0).

Sources: https://github.com/mosaicml/composer/issues/3493, https://github.com/msight-tech/research-ms-loss/issues/27
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count

_NAMES = ("params", "param_names", "name", "group_name", "param_group")


@rule("LR111", severity="info", confidence="high", needs=("optimizer",))
def identical_param_groups(setup: Setup) -> Iterator[Finding]:
    for optimizer in (o for o in setup.optimizers if not o.groups_from):
        alike = {}
        for group in optimizer.groups:
            if group.parameters and not group.name:
                options = {key: value for key, value in group.options.items() if key not in _NAMES}
                alike.setdefault(repr(sorted(options.items(), key=lambda item: item[0])), []).append(group)
        for groups in alike.values():
            if len(groups) > 1:
                firsts = describe(group.parameters[0].name for group in groups)
                yield Finding(
                    groups,
                    f"{count(len(groups), 'group')} of {optimizer.label} have the same options, from {firsts}",
                    data={"groups": [group.index for group in groups]},
                    help="set what was meant to differ, or merge them",
                )
