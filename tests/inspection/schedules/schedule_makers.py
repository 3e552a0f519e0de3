"""Every scheduler of torch and transformers, with drawn parameters that use it correctly over ``total`` steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from hypothesis import strategies as st
from torch.optim import lr_scheduler as s

Draw = Callable[[st.SearchStrategy[Any]], Any]
steps = st.integers(20, 400)
shares = st.floats(0.02, 0.4)
rates = st.sampled_from([1e-5, 3e-4, 1e-3, 0.05, 0.5])


def warmup(draw: Draw, total: int) -> int:
    return max(1, int(draw(shares) * total))


def torch_makers(draw: Draw, total: int, lrs: list[float]) -> dict[str, Callable[[Any], Any]]:
    low = min(lrs)
    start = warmup(draw, total)
    gamma = draw(st.floats(0.05, 0.9))
    milestones = sorted(draw(st.sets(st.integers(1, total - 1), min_size=1, max_size=4)))
    floor = draw(st.floats(0, 0.09)) * low
    share = draw(st.floats(0.01, 1.0))
    pct = draw(st.floats(0.15, 0.6))
    decay = draw(st.floats(0.0, 0.9))

    def sequence(optimizer: Any) -> Any:
        parts = [s.LinearLR(optimizer, share, 1.0, start), s.CosineAnnealingLR(optimizer, total - start, floor)]
        return s.SequentialLR(optimizer, parts, [start])

    def chain(optimizer: Any) -> Any:
        return s.ChainedScheduler([s.ConstantLR(optimizer, share, start), s.ExponentialLR(optimizer, 0.99)])

    return {
        "StepLR": lambda o: s.StepLR(o, draw(st.integers(1, total - 1)), gamma),
        "MultiStepLR": lambda o: s.MultiStepLR(o, milestones, gamma),
        "ConstantLR": lambda o: s.ConstantLR(o, share, start),
        "LinearLR": lambda o: s.LinearLR(o, share, 1.0, start),
        "LinearLR down": lambda o: s.LinearLR(o, 1.0, decay, total),
        "ExponentialLR": lambda o: s.ExponentialLR(o, draw(st.floats(0.8, 0.9999))),
        "PolynomialLR": lambda o: s.PolynomialLR(o, total, draw(st.floats(0.5, 3.0))),
        "CosineAnnealingLR": lambda o: s.CosineAnnealingLR(o, total, floor),
        "CosineAnnealingWarmRestarts": lambda o: s.CosineAnnealingWarmRestarts(
            o, max(1, total // draw(st.integers(1, 9))), draw(st.integers(1, 3)), floor
        ),
        "CyclicLR": lambda o: s.CyclicLR(o, [lr / 10 for lr in lrs], lrs, max(1, total // 8), cycle_momentum=False),
        "OneCycleLR": lambda o: s.OneCycleLR(
            o, lrs, total, pct_start=pct, three_phase=pct < 0.4 and draw(st.booleans())
        ),
        "MultiplicativeLR": lambda o: s.MultiplicativeLR(o, lambda step: 0.97),
        "LambdaLR": lambda o: s.LambdaLR(o, lambda step: max(0.0, 1 - step / total)),
        "LambdaLR warm": lambda o: s.LambdaLR(o, lambda step: min(1.0, (step + 1) / start)),
        "LambdaLR each": lambda o: s.LambdaLR(
            o, [lambda step, k=k: 0.9 ** (step * k / total) for k in range(len(lrs))]
        ),
        "SequentialLR": sequence,
        "ChainedScheduler": chain,
        "ReduceLROnPlateau": lambda o: s.ReduceLROnPlateau(o, factor=0.5, min_lr=floor),
        "SWALR": lambda o: torch.optim.swa_utils.SWALR(o, [lr / 2 for lr in lrs], anneal_epochs=start),
    }


def transformers_makers(draw: Draw, total: int, lrs: list[float]) -> dict[str, Callable[[Any], Any]]:
    import transformers.optimization as t

    start = draw(st.sampled_from([0, warmup(draw, total)]))
    cycles = draw(st.integers(1, 5))
    share = draw(st.floats(0.0, 0.5))
    down = max(1, (total - start) // 3)
    kinds = draw(st.sampled_from(["linear", "cosine", "1-sqrt"]))
    return {
        "constant": t.get_constant_schedule,
        "constant_with_warmup": lambda o: t.get_constant_schedule_with_warmup(o, start),
        "linear": lambda o: t.get_linear_schedule_with_warmup(o, start, total),
        "cosine": lambda o: t.get_cosine_schedule_with_warmup(o, start, total),
        "cosine_with_restarts": lambda o: t.get_cosine_with_hard_restarts_schedule_with_warmup(o, start, total, cycles),
        "polynomial": lambda o: t.get_polynomial_decay_schedule_with_warmup(o, start, total, lr_end=min(lrs) / 100),
        "inverse_sqrt": lambda o: t.get_inverse_sqrt_schedule(o, start or 10),
        "cosine_with_min_lr": lambda o: t.get_cosine_with_min_lr_schedule_with_warmup(
            o, start, total, min_lr_rate=share
        ),
        "cosine_warmup_with_min_lr": lambda o: t.get_cosine_with_min_lr_schedule_with_warmup_lr_rate(
            o, start, total, min_lr_rate=share, warmup_lr_rate=draw(st.sampled_from([None, 0.1]))
        ),
        "warmup_stable_decay": lambda o: t.get_wsd_schedule(
            o, start, down, num_training_steps=total, warmup_type=kinds, decay_type=kinds, min_lr_ratio=share
        ),
        "greedy": lambda o: t.get_greedy_schedule(o, min_lr=1e-9),
    }


TORCH = [
    *("StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "LinearLR down", "ExponentialLR", "PolynomialLR"),
    *("CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR", "MultiplicativeLR", "LambdaLR"),
    *("LambdaLR warm", "LambdaLR each", "SequentialLR", "ChainedScheduler", "ReduceLROnPlateau", "SWALR"),
]
_HF = "constant constant_with_warmup linear cosine cosine_with_restarts polynomial inverse_sqrt cosine_with_min_lr"
HF = [*_HF.split(), "cosine_warmup_with_min_lr", "warmup_stable_decay", "greedy"]
