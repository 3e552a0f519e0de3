"""What the probe costs: a measured step beside a bare training step, and the whole probe, in steps, seconds and bytes.

    python -m benchmarks.probe.cost                # on CUDA where there is one: ViT-B and a GPT of 125M parameters
    python -m benchmarks.probe.cost --device cpu   # the same architectures, small

Both kinds of step alternate within one process, and the ratio of their medians is what counts. A bare step is what a
training loop does that prints its loss: gradients, the optimizer's step, and one wait for the loss.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

import lrlint
from lrlint.facts import Training
from lrlint.probing.training.batches import Batches, collect
from lrlint.probing.training.determinism import repeatable
from lrlint.probing.training.stepper import Stepper

#: CUDA's calls that make the host wait.
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")


def vit(small: bool) -> tuple[nn.Module, list[Any]]:
    """ViT-B/16 at 224 pixels (https://arxiv.org/abs/2010.11929)."""
    from transformers import ViTConfig, ViTForImageClassification

    sizes = {"hidden_size": 192, "num_hidden_layers": 6, "num_attention_heads": 3, "intermediate_size": 768}
    config = ViTConfig(num_labels=100, image_size=64 if small else 224, **(sizes if small else {}))
    side, count = config.image_size, 8 if small else 32
    g = torch.Generator().manual_seed(0)
    labels = [torch.randint(100, (count,), generator=g) for _ in range(20)]
    patterns = torch.randn(100, 3, side, side, generator=g)
    return ViTForImageClassification(config), [{"pixel_values": patterns[y], "labels": y} for y in labels]


def gpt(small: bool) -> tuple[nn.Module, list[Any]]:
    """GPT-2 of 125M parameters, 512 tokens a sequence."""
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = {"n_embd": 256, "n_layer": 4, "n_head": 4, "vocab_size": 5000}
    config = GPT2Config(bos_token_id=0, eos_token_id=0, **(sizes if small else {}))
    g = torch.Generator().manual_seed(0)
    shape = (4, 64) if small else (8, 512)
    texts = [torch.randint(1, 500, shape, generator=g) for _ in range(20)]
    return GPT2LMHeadModel(config), [{"input_ids": text, "labels": text} for text in texts]


def adamw(model: nn.Module) -> torch.optim.Optimizer:
    """AdamW as for pre-training, vectors without decay."""
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": matrices, "name": "matrices"}, {"params": vectors, "name": "vectors", "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=3e-4, weight_decay=0.1)


def bare(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Any, precision: str | None) -> None:
    """A step of a training loop that looks at its loss."""
    optimizer.zero_grad()
    with torch.autocast(batch["labels"].device.type, torch.bfloat16, enabled=precision == "bf16-mixed"):
        loss = model(**batch).loss
    loss.backward()
    optimizer.step()
    loss.item()


def steps(model: nn.Module, batches: Batches, precision: str | None, rounds: int) -> tuple[list[float], ...]:
    """Seconds of bare steps, of the probe's, and of the probe's with deterministic algorithms, taken in turn."""
    optimizer = adamw(model)
    stepper = Stepper([model], [optimizer], batches, None, Training(precision=precision))

    def probed(k: int) -> None:
        stepper.step(k).read()

    def repeated(k: int) -> None:
        with repeatable(stepper.device):
            probed(k)

    takes = (lambda k: bare(model, optimizer, batches.at(k), precision), probed, repeated)
    found: tuple[list[float], ...] = ([], [], [])
    for k in range(rounds + 3):
        for take, times in zip(takes, found, strict=True):
            started = time.perf_counter()
            take(k)
            if k >= 3:
                times.append(time.perf_counter() - started)
    return found


def waits(model: nn.Module, batches: Batches, precision: str | None) -> int:
    """How often a measured step makes the host wait for the device."""
    stepper = Stepper([model], [adamw(model)], batches, None, Training(precision=precision))
    stepper.step(0).read()

    def counted(steps: int) -> int:
        activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=activities) as profile:
            for k in range(steps):
                stepper.step(k).read()
        return sum(event.count for event in profile.key_averages() if event.key in WAITS)

    return counted(2) - counted(1)  # the profiler waits as well, when it begins and ends


def peak(device: torch.device) -> int:
    """Bytes: the most that was allocated on the device since the last call."""
    found = torch.cuda.max_memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    return found


def of_training(model: nn.Module, batches: Batches, precision: str | None) -> int:
    """Bytes that bare steps take on the device, with the model."""
    peak(model.device)  # type: ignore[arg-type]
    optimizer = adamw(model)
    for k in range(3):
        bare(model, optimizer, batches.at(k), precision)
    optimizer.zero_grad()
    return peak(model.device)  # type: ignore[arg-type]


def row(name: str, make: Callable[[bool], tuple[nn.Module, list[Any]]], device: torch.device, rounds: int) -> list[str]:
    """All figures of one model."""

    def fresh() -> tuple[nn.Module, list[Any]]:
        torch.manual_seed(0)
        model, items = make(device.type != "cuda")
        return model.to(device), items

    model, items = fresh()
    precision = "bf16-mixed" if device.type == "cuda" else None
    plain, probed, repeated = steps(model, collect(items, device), precision, rounds)
    synced = memory = "–"
    training = 0
    if device.type == "cuda":
        synced = f"{waits(model, collect(items, device), precision)}"
        training = of_training(model, collect(items, device), precision)
    model, items = fresh()  # the steps above have learnt these batches
    started = time.perf_counter()
    found = lrlint.probe(model, adamw(model), batches=items, precision=precision)
    seconds = time.perf_counter() - started
    if device.type == "cuda":
        state = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
        memory = f"{(peak(device) - training) / state:.2f}"
    return [
        name,
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f}M",
        f"{1e3 * median(plain):.1f}",
        f"{median(probed) / median(plain):.2f}",
        f"{median(repeated) / median(plain):.2f}",
        synced,
        found.verdict,
        f"{found.steps_run}",
        f"{seconds:.1f}",
        memory,
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    device = torch.device(options.device)
    if device.type == "cpu":
        torch.set_num_threads(1)
    rows = [row(name, make, device, options.rounds) for name, make in (("ViT", vit), ("GPT", gpt))]
    heads = [
        "model",
        "size",
        "bare step, ms",
        "measured / bare",
        "repeatable / bare",
        "waits / step",
        "verdict",
        "steps",
        "probe, s",
    ]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    print(where)
    print(tabulate(rows, headers=[*heads, "memory above, in states"], disable_numparse=True))


if __name__ == "__main__":
    main()
