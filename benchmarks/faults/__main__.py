"""Recall by kind, the right parameter, findings on the fixed twins, seconds; ``--confirm`` trains every pair instead.

python -m benchmarks.faults              # the table; exit code 1 below the limits at the end of it
python -m benchmarks.faults --confirm    # the measured harm of each fault
python -m benchmarks.faults --list       # one line per pair: verdict and findings
"""

from __future__ import annotations

import argparse
import importlib
import statistics
import sys
import time
import warnings
from collections import Counter
from pathlib import Path

import torch
from tabulate import tabulate

from benchmarks.faults import PAIRS, Pair, Setup, data

HERE = Path(__file__).parent
MODULES = ("coverage", "decay", "rates", "schedule", "numerics", "beyond")
RECALL, FIXED, SECONDS = 0.9, 0.02, 10.0


def trained(made: Setup, steps: int) -> Setup:
    """Train the setup for so many steps on the common task; ``loss`` is the mean over the last tenth of them."""
    x, y = made.pop("data", None) or data()
    models = made["model"]
    model = next(iter(models.values())) if isinstance(models, dict) else models
    optimizers = made["optimizer"] if isinstance(made["optimizer"], list) else [made["optimizer"]]
    loss_fn = made.get("loss_fn") or torch.nn.functional.mse_loss
    losses = []
    for step in range(steps):
        rows = slice(64 * (step % 4), 64 * (step % 4) + 64)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = loss_fn(model(x[rows].to(next(model.parameters()).dtype)), y[rows].to(next(model.parameters()).dtype))
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        if (scheduler := made.get("scheduler")) is not None:
            scheduler.step()
        losses.append(float(loss.detach()))
    made["loss"] = statistics.fmean(losses[-max(steps // 10, 1) :])
    return made


def confirm(pair: Pair) -> tuple[bool, str]:
    """Whether training shows the harm, and what was measured, over three seeds."""
    values: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(3):
        for fault, found in values.items():
            torch.manual_seed(seed)
            try:
                made = trained(pair.make(fault), pair.steps)
                harm = pair.harm(made) if pair.harm else made["loss"]
            except Exception as error:
                harm = float("inf") if fault else float("nan")
                if not fault:
                    return False, f"the fixed one raises {type(error).__name__}: {error}"
            found.append(harm if harm == harm else float("inf"))
    bad, fixed = (statistics.median(values[fault]) for fault in (True, False))
    return bad > pair.factor * fixed, f"{bad:.3g} against {fixed:.3g}"


def checked(pair: Pair, suffix: str) -> tuple[list[tuple[str, str, str]], float]:
    """((code, severity, text with names) of each finding, seconds of CPU)."""
    from lrlint.config.settings import Settings
    from lrlint.inspection.build import build
    from lrlint.lint.run import lint
    from lrlint.targets.load import load

    path = HERE / f"{pair.module.rpartition('.')[2]}.py"
    began = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        setup = build(load(f"{path}:{pair.name}_{suffix}", root=HERE.parent.parent))
        findings = list(lint(setup, Settings()).findings)
    return [(f.rule, f.severity, f"{f.message}") for f in findings], time.process_time() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--confirm", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("names", nargs="*", help="only these pairs")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in MODULES:
        importlib.import_module(f"benchmarks.faults.{name}")
    pairs = [pair for pair in PAIRS.values() if not arguments.names or pair.name in arguments.names]
    if arguments.confirm:
        verdicts = [(pair, *confirm(pair)) for pair in pairs]
        print(
            tabulate(
                [(p.kind, p.name, "yes" if ok else "NO", text) for p, ok, text in verdicts],
                ("kind", "pair", "harm", "measured"),
            )
        )
        return 0 if all(ok for _, ok, _ in verdicts) else 1
    return _table(pairs, arguments.list)


def _table(pairs: list[Pair], listing: bool) -> int:
    scope, found, named, noisy, seconds = Counter(), Counter(), Counter(), [], []
    for pair in pairs:
        (bad, took), (fixed, _) = checked(pair, "bad"), checked(pair, "fixed")
        seconds.append(took)
        noisy += [(pair.name, *finding) for finding in fixed if finding[1] != "info"]
        right = [finding for finding in bad if finding[0] in pair.codes]
        if pair.codes:
            scope[pair.kind] += 1
            found[pair.kind] += bool(right)
            named[pair.kind] += any(pair.names in text for _, _, text in right)
        if listing:
            verdict = "found" if right else "MISSED" if pair.codes else f"out of scope ({pair.beyond})"
            print(f"{pair.name}: {verdict}; {[f'{code} {severity}' for code, severity, _ in bad]}")
    rows = [(kind, scope[kind], found[kind], named[kind]) for kind in scope]
    total = tuple(sum(counter.values()) for counter in (scope, found, named))
    print(tabulate([*rows, ("all in scope", *total)], ("kind", "pairs", "found", "right parameter")))
    print(f"out of scope, by their headers: {sum(not pair.codes for pair in pairs)}")
    print(f"fixed twins with a finding at warning or above: {len({name for name, *_ in noisy})} of {len(pairs)}")
    for name, code, severity, text in noisy:
        print(f"  {name}: {code} {severity}: {text}")
    print(f"seconds of CPU for a check: median {statistics.median(seconds):.2f}, most {max(seconds):.2f}")
    good = total[1] >= RECALL * total[0] and len({n for n, *_ in noisy}) <= FIXED * len(pairs)
    return 0 if good and statistics.median(seconds) < SECONDS else 1


if __name__ == "__main__":
    sys.exit(main())
