"""The schedule is longer or shorter than the run: it ends early, or has hardly begun when training ends.

The usual causes are an epoch count given where steps are counted, gradient accumulation, and wrappers that step the
scheduler once per process. The simulation follows the scheduler over the declared optimizer steps and reports: a
scheduler that raises before the run is over (error); one whose own length (`T_max`, `total_iters`,
`num_training_steps`, ...) ends before 80 % of it, or whose rate falls below 0.1 % of the peak there and stays or rises
again (for half of the run and more, for decays per step that have no length); and one at least twice as long that has
not halved the rate when training ends. The factor is named where it is the declared number of processes, accumulation
steps or steps per epoch, or a power of two.

What to do: compute the number of optimizer steps once (`ceil(len(loader) / accumulation) * epochs`) and pass it to the
scheduler; with accelerate either multiply it by the number of processes or do not prepare the scheduler.

Needs `total_steps`, declared or counted in a rehearsal, which also shows how often the scheduler is stepped: then a
decay without a length, stepped per batch, is reported where less than 1e-5 of the rate is left at the end. Constant,
cyclic and data-driven schedulers, decays without a length and warm-ups are not judged by their length;
`partial_schedule=True` declares a deliberate difference. A scheduler much shorter than the run is taken for one
stepped per epoch; where neither `steps_per_epoch` is declared nor the source of the training loop shows it, this is
told as *info*. Severity is warning (error only where training would crash), as measured on published recipes.

Sources: https://github.com/huggingface/transformers/pull/24088, https://github.com/huggingface/accelerate/issues/2318,
https://github.com/jzhang38/EasyContext/issues/21, https://github.com/huggingface/diffusers/issues/3954,
https://github.com/NovaSky-AI/SkyRL/pull/873, https://github.com/ContextualAI/HALOs/pull/33 (cosine rises again)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.schedule_faults import cause, early_message, late_message
from lrlint.analysis.schedule_length import (
    counted_in_steps,
    ending,
    gone_per_batch,
    own_end,
    runs_out,
)

#: A schedule shorter than this share of the run has ended early.
EARLY = 0.8


@rule("LR403", severity="warning", confidence="medium", needs=("optimizer", "schedule", "total_steps"))
def scheduler_horizon_mismatch(setup: Setup) -> Iterator[Finding]:
    training = setup.training
    for schedule in setup.schedules:
        if not schedule.is_primary or training.options.get("partial_schedule") or schedule.wiring.yields_to:
            continue
        text, severity, confidence = _judge(schedule, training)
        if text:
            length = schedule.length
            yield Finding(
                schedule,
                text,
                data={
                    "length": length.steps if length else None,
                    "length_name": length.name if length else None,
                    "period": schedule.period,
                },
                help="give it ceil(batches / accumulation) * epochs, or declare steps_per_epoch if it counts epochs",
                severity=severity,
                confidence=confidence,
            )


def _judge(schedule, training):
    """(message, severity, confidence); an empty message where the lengths agree."""
    name, error, end = schedule.class_name, schedule.error, own_end(schedule)
    if counted_in_steps(schedule, training):
        text = (
            f"{name}: {schedule.length} counts the run's optimizer steps, but the training loop steps it once per epoch"
        )
        seen = schedule.clock.source == "rehearsal"
        return f"{text}: it hardly begins", "error" if seen else "", "high" if seen else ""
    if (left := gone_per_batch(schedule, training)) is not None:
        text = f"{name} is stepped with every one of {training.total_steps} optimizer steps: {left:.0e} of the rate is left"
        return f"{text} at the end, as if its steps were meant to be epochs", "warning", "high"
    if schedule.unit == "epoch" and schedule.clock.source == "assumed" and end:
        text = f"{name} is over after {end:.0f} of its own steps, the run has {training.total_steps}"
        return f"{text}: right only if it is stepped once per epoch (declare steps_per_epoch)", "info", "low"
    if (short := runs_out(schedule)) is not None:
        followed = f" (followed to step {schedule.capped})" if schedule.capped is not None else ""
        text = (
            f"{short[0]} has total_steps={short[1]}, the run {schedule.horizon} steps: it raises at step {short[2]:.0f}"
        )
        return text + followed + cause(schedule, short[2], training), "error", "high"
    if not schedule.has_declared_horizon:
        return "", "", ""
    if error is not None:
        past = end is not None and error.step >= end
        text = f"{name} raises at step {error.step} of {schedule.horizon}: {error.message}"
        return (text + cause(schedule, end, training), "error", "high") if past else ("", "", "")
    found = ending(schedule)
    if found is None or found.step >= EARLY * schedule.horizon:
        return late_message(schedule, end, training), "", ""
    if schedule.clock.source == "assumed":
        if end is None and schedule.kinds == ("decay",):
            return "", "", ""  # a decay without a length is mostly stepped once per epoch
        if 20 * found.step <= schedule.horizon:
            return f"{early_message(schedule, found, training)}, unless it is stepped once per epoch", "info", "low"
    return early_message(schedule, found, training), "", ""
