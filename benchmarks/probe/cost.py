"""What the probe costs: a measured step beside a bare training step, and the whole probe, in steps, seconds and bytes.

    python -m benchmarks.probe.cost                # on CUDA where there is one: ViT-B and a GPT of 125M parameters
    python -m benchmarks.probe.cost --device cpu   # the same architectures, small

Both kinds of step alternate within one process, and the ratio of their medians is what counts. A bare step is what a
training loop does that prints its loss: gradients, the optimizer's step, and one wait for the loss.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from tabulate import tabulate
from torch import nn

import lrlint
from lrlint.facts import Training
from lrlint.stability.batches import Batches, collect
from lrlint.stability.steps import Stepper

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


def steps(model: nn.Module, batches: Batches, precision: str | None, rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of bare steps and of the probe's, taken in turn."""
    optimizer = adamw(model)
    stepper = Stepper([model], [optimizer], batches, None, Training(precision=precision))

    def bare(k: int) -> None:
        optimizer.zero_grad()
        with stepper.autocast():
            loss = model(**batches.at(k)).loss
        loss.backward()
        optimizer.step()
        loss.item()

    def probed(k: int) -> None:
        stepper.step(k).read()

    found: dict[Callable[[int], None], list[float]] = {bare: [], probed: []}
    for k in range(rounds + 3):
        for take, times in found.items():
            started = time.perf_counter()
            take(k)
            if k >= 3:
                times.append(time.perf_counter() - started)
    return found[bare], found[probed]


def waits(model: nn.Module, batches: Batches, precision: str | None, count: int = 5) -> float:
    """How often a measured step makes the host wait for the device."""
    stepper = Stepper([model], [adamw(model)], batches, None, Training(precision=precision))
    stepper.step(0).read()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        for k in range(count):
            stepper.step(k).read()
    torch.cuda.synchronize()  # outside the profile
    return sum(event.count for event in profile.key_averages() if event.key in WAITS) / count


def peak(device: torch.device) -> int:
    """Bytes: the most that was allocated on the device, or the process's largest size."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def row(name: str, make: Callable[[bool], tuple[nn.Module, list[Any]]], device: torch.device, rounds: int) -> list[str]:
    """All figures of one model."""

    def fresh() -> tuple[nn.Module, list[Any]]:
        torch.manual_seed(0)
        model, items = make(device.type != "cuda")
        return model.to(device), items

    model, items = fresh()
    precision = "bf16-mixed" if device.type == "cuda" else None
    bare, probed = steps(model, collect(items, device), precision, rounds)
    synced = f"{waits(model, collect(items, device), precision):g}" if device.type == "cuda" else "–"
    model, items = fresh()  # the steps above have learnt these batches
    state = 3 * sum(p.numel() * p.element_size() for p in model.parameters())
    before, started = peak(device), time.perf_counter()
    found = lrlint.probe(model, adamw(model), batches=items, precision=precision)
    seconds = time.perf_counter() - started
    return [
        name,
        f"{sum(p.numel() for p in model.parameters()) / 1e6:.0f}M",
        f"{1e3 * median(bare):.1f}",
        f"{median(probed) / median(bare):.2f}",
        synced,
        found.verdict,
        f"{found.steps_run}",
        f"{seconds:.1f}",
        f"{(peak(device) - before) / state:.2f}",
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
    heads = ["model", "size", "bare step, ms", "measured / bare", "waits / step", "verdict", "steps", "probe, s"]
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU, one thread"
    print(where)
    print(tabulate(rows, headers=[*heads, "memory above, in states"], disable_numparse=True))


if __name__ == "__main__":
    main()
