"""The groups that were handed to a wrapper are not the groups that step: rates or decays were lost on the way.

Wrappers and engines (SAM, noisy optimizers, sharded ones) hold the optimizer that steps inside. Where they build it from
the parameters alone, the rates, decays and groups that the user wrote stay on the outside: what one prints is right, and
what trains is not.

What to do: hand the groups on (`base(self.param_groups)`), and share them (`self.param_groups = self.base.param_groups`).

Reported where the wrapper and the optimizer inside hold the same parameters in groups that are different objects, and
rates, decays or the number of groups differ; not where the wrapper's own step hands rates on. For an optimizer that the
target built and an engine replaced see `groups-changed-by-engine`.

Sources: https://github.com/davda54/sam (shares its groups), https://github.com/microsoft/dp-transformers/issues/43,
https://github.com/mosaicml/composer/issues/3493
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.wording import count, listing, number, rate


@rule("LR121", severity="warning", confidence="high", needs=("optimizer",))
def group_handed_in_is_not_the_group_that_steps(setup: Setup) -> Iterator[Finding]:
    driven = {schedule.optimizer for schedule in setup.schedules}
    for optimizer in setup.optimizers:
        inner = optimizer.flags.get("inner")
        if not inner or optimizer.index in driven:
            continue  # what a scheduler writes to copies is `scheduler-wrong-optimizer`
        given, stepping = (_treatments(inner[key]) for key in ("given", "groups"))
        if given == stepping:
            continue
        yield Finding(
            optimizer,
            f"{inner['outer']} was given {count(len(inner['given']), 'group')} ({_told(given)}), the {inner['class_name']} "
            f"inside it steps {count(len(inner['groups']), 'group')} ({_told(stepping)})",
            data={"given": inner["given"], "stepping": inner["groups"]},
            help="build the inner optimizer from the groups, and share them",
        )


def _treatments(groups):
    """(rate, decay) → number of parameters."""
    found = {}
    for group in groups:
        lr, decay = (
            value if isinstance(value, int | float) else None for value in (group["lr"], group["weight_decay"])
        )
        key = lr, decay or 0.0
        found[key] = found.get(key, 0) + group["size"]
    return found


def _told(treatments):
    return listing(
        f"lr {'None' if lr is None else rate(lr)}" + (f" with decay {number(decay)}" if decay else "")
        for lr, decay in list(treatments)[:3]
    )
