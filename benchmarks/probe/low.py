"""How often the probe is right about one group whose rate is too low.

python -m benchmarks.probe.low --limit 40            judge setups, label those that are new, print the table
python -m benchmarks.probe.low --first 1420          those that no limit of a verdict was set on

A setup that a long run calls healthy, and in which one group's rate is then divided by 100 to 100,000. What is true of it
a run of all its steps says: too low where it reaches less than 0.7 of the progress of the rates as they were, sound where
it reaches 0.95 (a group that matters little may stand still); what lies between is left out. Labels are kept in
``low.jsonl``, so that a run that was interrupted goes on.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

import lrlint
from benchmarks.probe.__main__ import TRUTH
from benchmarks.probe.nets import loss
from benchmarks.probe.setups import STEPS, Spec, build, spec
from benchmarks.probe.truth import Truth

LABELS = Path(__file__).with_name("low.jsonl")
LOW, SOUND = 0.7, 0.95


def lowered(first: int) -> Iterator[tuple[Spec, Spec, int, dict[str, Any]]]:
    """(the healthy setup, the same with a group's rate lowered, that group, what is known of the healthy one)."""
    for row in map(json.loads, TRUTH.read_text().splitlines()):
        if row["seed"] < first or row["label"] != "healthy" or not 2 <= len(row["rates"]) <= 4:
            continue
        sound = replace(spec(row["seed"]), rates=tuple(row["rates"]))
        draw = random.Random(row["seed"] * 101 + 3)
        group = draw.randrange(len(sound.rates))
        factor = 10 ** -draw.uniform(2, 5)
        rates = tuple(rate * factor if g == group else rate for g, rate in enumerate(sound.rates))
        yield sound, replace(sound, rates=rates), group, row


def label(sound: Spec, slow: Spec, row: dict[str, Any]) -> dict[str, Any]:
    """Progress by the end of the run, as it was and lowered."""
    truth = Truth(sound)
    before = truth.progress(sound.rates, row["reference"])
    after = truth.progress(slow.rates, row["reference"])
    kept = after / before if math.isfinite(after) else 0.0
    return {"seed": sound.seed, "kept": float(f"{kept:.4g}")}


def judged(slow: Spec) -> Any:
    """The probe's result."""
    setup = build(slow)
    return lrlint.probe(
        setup.model,
        setup.optimizers,
        scheduler=[s for s in setup.schedulers if s is not None] or None,
        batches=[slow.data.batch(k) for k in range(100)],
        loss_fn=loss,
        total_steps=STEPS,
        headroom=False,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--first", type=int, default=0, help="setups from this seed on")
    parser.add_argument("--limit", type=int, default=40, help="so many setups")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    known = {}
    if LABELS.exists():
        known = {row["seed"]: row for row in map(json.loads, LABELS.read_text().splitlines())}
    low, fine, steps = [], [], []
    for count, (sound, slow, group, row) in enumerate(lowered(options.first)):
        if count >= options.limit:
            break
        if sound.seed not in known:
            known[sound.seed] = label(sound, slow, row)
            with LABELS.open("a") as file:
                file.write(json.dumps(known[sound.seed]) + "\n")
        kept = known[sound.seed]["kept"]
        if LOW <= kept < SOUND:
            continue
        found = judged(slow)
        place = {key: index for index, key in enumerate(build(slow).groups)}
        named = {place[pair] for found_low in found.facts.too_low for pair in found_low.groups}
        (low if kept < LOW else fine).append(group in named and len(named) == 1 if kept < LOW else bool(named))
        steps.append(found.steps_run)
        print(f"{slow.name}: kept {kept:.2f}, {found.verdict}, lowered {group}, named {sorted(named)}", flush=True)
    print(f"one group too low: named alone {sum(low)} of {len(low)}")
    print(f"a group that may stand still: called too low {sum(fine)} of {len(fine)}")
    print(f"steps, median: {median(steps) if steps else 0:.0f}")


if __name__ == "__main__":
    main()
