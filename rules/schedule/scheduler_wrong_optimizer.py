"""A scheduler drives an optimizer that is not the one that trains.

The scheduler writes rates to an object nobody steps: an optimizer that was rebuilt after the scheduler, a copy, or the
one that a nested scheduler kept from before. The training optimizer keeps its initial rate, without a warning.

What to do: build the scheduler from the optimizer that is returned, after the last time it is rebuilt; rebuild nested
schedulers with it.

Optimizers are compared by identity, through the wrappers of accelerate, Lightning and DeepSpeed. With several
optimizers a scheduler must drive one of them. A wrapper of another kind (SAM, a noisy optimizer) holds the optimizer
that steps as an attribute: where its groups are copies of that one's, rates written to them reach no step.

Sources: https://github.com/ildoonet/pytorch-gradual-warmup-lr/issues/27 (the nested scheduler drives another object),
https://github.com/microsoft/dp-transformers/issues/43 (groups that were copied)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.order import seen_loop
from lrlint.text.wording import rate


@rule("LR405", severity="error", confidence="high", needs=("optimizer",))
def scheduler_wrong_optimizer(setup: Setup) -> Iterator[Finding]:
    for seen in seen_loop(setup).schedulers:
        if seen.unreached is not None and seen.unreached[2] >= 2 and not seen.nested:
            written, stepped, times = seen.unreached
            schedule = next((s for s in setup.schedules if s.index == seen.schedule), None)
            yield Finding(
                schedule or setup,
                f"{seen.class_name} writes {rate(written)}, and the optimizer that steps goes on with {rate(stepped)} "
                f"({times} steps): its groups are copies",
                data={"written": written, "stepped": stepped, "steps": times},
                help="let wrapper and inner optimizer share one list of groups",
            )
    for schedule in setup.schedules:
        if orphan := schedule.wiring.orphan:
            yield Finding(
                [schedule, *setup.optimizers],
                f"{schedule.class_name} drives another {orphan} than the one that trains: no rate will change",
                data={"drives": orphan},
                help="build the scheduler from the optimizer that is returned",
            )
        inner = setup.optimizers[schedule.optimizer].flags.get("inner") if schedule.optimizer is not None else None
        if inner and inner["outer"] == setup.optimizers[schedule.optimizer].class_name:
            outer = setup.optimizers[schedule.optimizer]
            yield Finding(
                [schedule, outer],
                f"{schedule.class_name} writes to the groups of {inner['outer']}, which are copies: the "
                f"{inner['class_name']} inside it steps with its own rates",
                data={"steps": inner["class_name"]},
                help="share the group dicts (`self.param_groups = inner.param_groups`), or drive the inner optimizer",
            )
        for node in schedule.nodes():
            if node.foreign:
                yield Finding(
                    schedule,
                    f"{node.class_name} inside {schedule.class_name} drives another optimizer than its parent: "
                    "its part of the schedule reaches no rate",
                    data={"child": node.class_name},
                    help="build the nested scheduler from the same optimizer",
                )
