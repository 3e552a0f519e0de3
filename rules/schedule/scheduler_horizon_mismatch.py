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
from lrlint.analysis.schedule_faults import length_fault


@rule("LR403", severity="warning", confidence="medium", needs=("optimizer", "schedule", "total_steps"))
def scheduler_horizon_mismatch(setup: Setup) -> Iterator[Finding]:
    training = setup.training
    for schedule in setup.schedules:
        if not schedule.is_primary or training.options.get("partial_schedule") or schedule.wiring.yields_to:
            continue
        text, severity, confidence = length_fault(schedule, training)
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
