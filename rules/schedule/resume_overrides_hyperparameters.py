"""Loading a checkpoint replaces the rate, decay or betas configured for this run, or the scheduler puts old rates back.

`Optimizer.load_state_dict` overwrites every option of every group: a new `lr=5e-5` or `weight_decay=0.3` is gone after
the load, without a word. A scheduler built before the load keeps the new base rate while the groups have the old one;
one whose state is loaded too brings its old curve along: a `T_max` raised for a longer run is the old one again. State
is matched by position: with groups or parameters in another order it lands on the wrong weights, and only a different
shape shows.

Judged for a checkpoint given to the check (`--resume`), and for a target that loads one itself.

What to do: after loading, set the options again (`lr` and `initial_lr`, and the scheduler's `base_lrs`), or load only
`state_dict["state"]`. Keep parameters and groups in the order of the run that saved them.

Silent for a resumed run with the same configuration: a decayed `lr` beside an equal `initial_lr` is its progress.

Sources: https://github.com/pytorch/pytorch/issues/156846, https://github.com/pytorch/examples/issues/816,
https://github.com/facebookresearch/ParlAI/issues/3116, https://github.com/AnswerDotAI/ModernBERT/pull/124 (base_lrs)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.resume_messages import misplaced_state, replaced_options, replaced_schedule
from lrlint.analysis.schedule_length import replaced_by_target
from lrlint.text.wording import rate

HELP = "set the options again after the load (lr, initial_lr and the scheduler's base_lrs), or load only the state"


@rule("LR416", severity="warning", confidence="high", needs=("optimizer",))
def resume_overrides_hyperparameters(setup: Setup) -> Iterator[Finding]:
    resumed = setup.resume
    if resumed is None:
        yield from _loaded_by_factory(setup)
        return
    for record in resumed.optimizers:
        optimizer, name = setup.optimizers[record.index], resumed.checkpoint
        if record.refused:
            yield Finding(optimizer, f"{name} does not load: {record.refused}", help="", severity="error")
            continue
        if changes := record.changes:
            subject = [optimizer.groups[index] for index in dict.fromkeys(change.group for change in changes)]
            text = f"loading {name} replaces {replaced_options(changes, optimizer)}"
            yield Finding(
                subject, text, data={"changes": [c.data() for c in changes]}, help=HELP, key=changes[0].option
            )
        if text := misplaced_state(record, name):
            yield Finding(optimizer, text, help="keep parameters in the order they were saved in", severity="error")
        if record.scheduler is not None:
            yield from _rescheduled(setup, record.scheduler, name)
            yield from _undone(setup, optimizer, record.scheduler, name)


def _rescheduled(setup, scheduler, name):
    if message := replaced_schedule(scheduler, name):
        data = {"changes": [c.data() for c in scheduler.changes]}
        yield Finding(setup.schedules[scheduler.index], message[0], data=data, help=message[1], key="scheduler")


def _undone(setup, optimizer, after, name):
    """A scheduler that was not loaded moves the rate away from the loaded one in one step."""
    for group, lr, following in zip(optimizer.groups, after.lr, after.next_lr, strict=False):
        if not after.loaded and lr and following and not 0.5 <= following / lr <= 2:
            schedules = [s.of(group.index) for s in setup.schedules if s.optimizer == optimizer.index]
            text = f"{group.label}: {rate(lr)} after loading {name}, {rate(following)} one scheduler step later"
            yield Finding([*schedules[:1], group], text, data={"group": group.index}, help=HELP)
            return


def _loaded_by_factory(setup):
    """Options that the constructor was given for all groups, and that the groups no longer have."""
    for optimizer, changes in replaced_by_target(setup):
        subject = [optimizer, *(optimizer.groups[i] for i in dict.fromkeys(c.group for c in changes))]
        text = f"the state loaded by the target replaced {replaced_options(changes, optimizer)}"
        yield Finding(subject, text, data={"changes": [c.data() for c in changes]}, help=HELP)
