"""Faults of schedules: what happens to the rates of groups over the run."""

from __future__ import annotations

from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, LambdaLR, LinearLR, LRScheduler, OneCycleLR

from zoo.seeding import LR, Fault, Sound, seed

STEPS = 1_000
RUN = {"total_steps": STEPS}
EVERY = ((0, 0), (0, 1), (0, 2))


def _graded(sound: Sound) -> Optimizer:
    """The sound groups at three rates, 1 : 3 : 10."""
    for options, factor in zip(sound.options, (0.1, 0.3, 1.0), strict=True):
        options["lr"] = factor * LR
    return sound.adamw()


@seed("LR401")
def one_peak_for_all_groups(sound: Sound) -> Fault:
    optimizer = _graded(sound)
    return Fault(
        sound.model,
        optimizer,
        OneCycleLR(optimizer, LR, total_steps=STEPS, cycle_momentum=False),
        groups=EVERY,
        declared=RUN,
    )


@seed("LR419")
def the_scheduler_was_stepped_while_it_was_built(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    scheduler = CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS // 2):
        optimizer._opt_called = True  # as after a step: no warning of the order of the calls
        scheduler.step()
    return Fault(sound.model, optimizer, scheduler, says=f"{STEPS // 2} steps into", declared=RUN, also=("LR403",))


@seed("LR402")
def the_floor_lies_above_a_group(sound: Sound) -> Fault:
    optimizer = _graded(sound)
    scheduler = CosineAnnealingLR(optimizer, STEPS, eta_min=0.2 * LR)
    return Fault(sound.model, optimizer, scheduler, groups=[(0, 0)], declared=RUN)


@seed("LR403")
def the_schedule_ends_at_half_of_the_run(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    return Fault(
        sound.model,
        optimizer,
        OneCycleLR(optimizer, LR, total_steps=STEPS // 2, cycle_momentum=False),
        groups=EVERY,
        declared=RUN,
    )


@seed("LR403")
def the_schedule_counts_every_process(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    return Fault(
        sound.model, optimizer, CosineAnnealingLR(optimizer, 8 * STEPS), groups=EVERY, declared={**RUN, "world_size": 8}
    )


@seed("LR404")
def a_group_comes_after_the_scheduler(sound: Sound) -> Fault:
    late = sound.block()
    sound.drop(late)
    optimizer = sound.adamw()
    scheduler = LinearLR(optimizer, 0.01, total_iters=100)
    optimizer.add_param_group({"params": [sound.parameter(n) for n in late]})
    return Fault(sound.model, optimizer, scheduler, parameters=late, declared=RUN, also=("LR306",))


@seed("LR405")
def the_scheduler_drives_another_optimizer(sound: Sound) -> Fault:
    optimizer, earlier = sound.adamw(), sound.adamw()
    return Fault(sound.model, optimizer, CosineAnnealingLR(earlier, STEPS), groups=EVERY, declared=RUN)


@seed("LR406")
def the_rate_is_edited_behind_the_scheduler(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    CosineAnnealingLR(optimizer, STEPS)
    for group in optimizer.param_groups:
        group["lr"] = 3 * LR
    return Fault(sound.model, optimizer, CosineAnnealingLR(optimizer, STEPS), groups=EVERY, declared=RUN)


@seed("LR407")
def the_function_returns_a_rate(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    scheduler = LambdaLR(optimizer, lambda step: LR * (1 - step / STEPS))
    return Fault(sound.model, optimizer, scheduler, groups=EVERY, declared=RUN, also=("LR203",))


@seed("LR408")
def the_functions_share_their_loop_variable(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    scheduler = LambdaLR(optimizer, [lambda step: factor * 0.999**step for factor in (1.0, 0.5, 0.1)])  # noqa: B023
    return Fault(sound.model, optimizer, scheduler, groups=EVERY, declared=RUN)


@seed("LR409")
def the_rate_falls_below_zero(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    return Fault(
        sound.model,
        optimizer,
        LambdaLR(optimizer, lambda step: 1 - step / 500),
        groups=EVERY,
        declared=RUN,
        also=("LR403",),
    )


@seed("LR413")
def two_schedulers_multiply(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    schedulers = [CosineAnnealingLR(optimizer, STEPS), ExponentialLR(optimizer, 0.999)]
    return Fault(sound.model, optimizer, schedulers, groups=EVERY, declared=RUN)


class FirstGroupOnly(LRScheduler):
    """Its `get_lr` knows one group, as single-group code is copied."""

    def get_lr(self) -> list[float]:
        first, *others = self.base_lrs
        return [first * (1 - self.last_epoch / STEPS), *others]


@seed("LR410")
def only_the_first_group_is_scheduled(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    return Fault(sound.model, optimizer, FirstGroupOnly(optimizer), groups=[(0, 1), (0, 2)], declared=RUN)


@seed("LR411")
def the_warmup_outlasts_the_run(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    scheduler = LinearLR(optimizer, start_factor=0.01, total_iters=4 * STEPS)
    return Fault(sound.model, optimizer, scheduler, groups=EVERY, declared=RUN)


@seed("LR411")
def the_warmup_starts_one_step_late(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    scheduler = LambdaLR(optimizer, lambda step: 1.0 if step == 0 else min(1.0, step / 100))
    return Fault(sound.model, optimizer, scheduler, groups=EVERY, declared=RUN)


@seed("LR205")
def a_group_is_frozen_by_its_rate(sound: Sound) -> Fault:
    sound.options[0]["lr"] = 0.0
    optimizer = sound.adamw()
    scheduler = CosineAnnealingLR(optimizer, STEPS)
    return Fault(sound.model, optimizer, scheduler, groups=[(0, 0)], declared=RUN, also=("LR204",))


@seed("LR412")
def the_cycle_moves_beta1(sound: Sound) -> Fault:
    optimizer = sound.adamw()
    scheduler = OneCycleLR(optimizer, LR, total_steps=STEPS)
    return Fault(sound.model, optimizer, scheduler, groups=EVERY, declared=RUN)


@seed("LR417")
def graded_rates_have_no_scheduler(sound: Sound) -> Fault:
    return Fault(sound.model, _graded(sound), groups=EVERY)
