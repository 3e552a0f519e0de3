"""A hyperparameter of a group is not a number that the optimizer can use; torch checks the constructor's only.

`lr="1e-3"` raises a TypeError when it is passed to the constructor. In a parameter group it is accepted, and fails at
the first step; YAML 1.1 reads `1e-3` as text (it wants `1.0e-3`). Negative rates and decays, and betas of 1 and above,
are accepted in groups too, and train wrongly without an error. A text in a scheduler waits longer still: `min_lr` of
ReduceLROnPlateau is first used at the first plateau, hours into the run.

What to do: convert where the configuration is read, `float(cfg.lr)`.

Reported: rate, decay, eps and momentum that are text, negative or not finite; betas outside [0, 1); numeric attributes
of a scheduler that are text; and a constructor that torch itself refused for a value. *Warning*: `fused`, `foreach` or
`capturable` on in some groups only, and `capturable` with parameters on the CPU, which fails at the first step.

Sources: https://github.com/salesforce/ALBEF/issues/128, https://github.com/huggingface/trl/pull/1450,
https://github.com/weecology/DeepForest/issues/881, https://github.com/pytorch/pytorch/issues/89987; reproduced with
torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.group_values import invalid_values
from lrlint.text.wording import listing

_FLAGS = ("fused", "foreach", "capturable")
_SCHEDULER = ("T_max", "T_0", "factor", "eps", "eta_min", "min_lr", "threshold", "gamma", "power", "start_factor")


@rule("LR601", severity="error", confidence="high")
def invalid_group_hyperparameter(setup: Setup) -> Iterator[Finding]:
    for rejection in setup.rejections:
        if rejection.kind == "value":
            yield Finding(rejection, f"torch refuses to build {rejection.class_name}: {rejection.error}")
    for optimizer in setup.optimizers:
        for group in optimizer.groups:
            for key, problem in invalid_values(group.options):
                yield Finding(
                    group,
                    f"{group.label} of {optimizer.label} has {key} {problem}",
                    data={"key": key, "value": repr(group.options[key])},
                    help="torch checks values of the constructor, not of groups: convert and check where it is read",
                    key=key,
                )
        yield from _flags(optimizer)
    for schedule in setup.schedules:
        texts = sorted({key for node in schedule.nodes() for key in _texts(node)})
        if texts:
            yield Finding(
                schedule,
                f"{schedule.class_name} holds text where a number belongs: {listing(f'`{key}`' for key in texts)}",
                data={"attributes": texts},
                help="convert where the configuration is read: float(cfg.min_lr)",
            )


def _flags(optimizer):
    groups = [group for group in optimizer.groups if group.parameters]
    for flag in _FLAGS:
        on = [group for group in groups if group.options.get(flag) is True]
        if on and len(on) < len(groups):
            message = f"`{flag}` is on in {len(on)} of {len(groups)} groups of {optimizer.label}"
            yield Finding(on, message, data={"flag": flag, "on": len(on)}, key=flag, severity="warning")
        waiting = [group for group in on if any(p.device == "cpu" for p in group.parameters)]
        if flag == "capturable" and waiting:
            message = f"`capturable` of {optimizer.label} needs parameters on an accelerator, and they are on the CPU"
            yield Finding(waiting, message, data={"flag": flag}, key=flag, severity="warning")


def _texts(node):
    yield from (key for key in _SCHEDULER if isinstance(node.attributes.get(key), str))
    if node.plateau is not None and any(isinstance(floor, str) for floor in node.plateau.min_lrs):
        yield "min_lr"
