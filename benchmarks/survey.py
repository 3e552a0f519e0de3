"""Every architecture of transformers on the meta device, cut as training code cuts it: which rules speak, and how often.

    python benchmarks/survey.py [--seconds 600]

With decay by number of dimensions, and with one group, a finding on decay would be a false alarm: the exit code is 1
where there is one, or where a check crashed. The Trainer's patterns do miss norms of published models; those are
listed.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections import Counter
from collections.abc import Iterator

import torch
import transformers
from tabulate import tabulate
from torch import nn
from torch.optim import AdamW
from transformers.models.auto.modeling_auto import MODEL_MAPPING

import lrlint

Groups = list[dict[str, object]]


def split(model: nn.Module, decayed: set[str]) -> Groups:
    named = list(model.named_parameters())
    return [
        {"params": [p for n, p in named if n in decayed], "weight_decay": 0.1},
        {"params": [p for n, p in named if n not in decayed], "weight_decay": 0.0},
    ]


def by_dimension(model: nn.Module) -> Groups:
    return split(model, {name for name, parameter in model.named_parameters() if parameter.ndim >= 2})


def one_group(model: nn.Module) -> Groups:
    return [{"params": list(model.parameters()), "weight_decay": 0.1}]


def trainer(model: nn.Module) -> Groups:
    return split(model, set(transformers.Trainer.get_decay_parameter_names(None, model)))


def architectures(only: str = "") -> Iterator[tuple[str, nn.Module | None]]:
    """Class name and model of every default configuration; None where it cannot be built from one.

    ``only``: configurations whose class name holds this text.
    """
    for config in sorted((c for c in MODEL_MAPPING if only in c.__name__), key=lambda config: config.__name__):
        try:
            found = MODEL_MAPPING[config]
            kind = found[0] if isinstance(found, tuple) else found
            with torch.device("meta"):
                model = kind(config())
        except Exception:  # whatever a configuration lacks, it is not what is measured here
            yield config.__name__, None
        else:
            yield kind.__name__, model


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600.0, help="stop after this time")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    spoken: Counter[tuple[str, str]] = Counter()
    faults, wrong, built, unbuilt = [], [], 0, 0
    started = time.monotonic()
    for name, model in architectures():
        if time.monotonic() - started > options.seconds:
            break
        if model is None:
            unbuilt += 1
            continue
        built += 1
        for grouping in (by_dimension, one_group, trainer):
            run = lrlint.check(model, AdamW(grouping(model), lr=1e-4, foreach=False), graph=False)
            for found in run.findings:
                if found.severity == "info":
                    continue
                spoken[found.rule, grouping.__name__] += 1
                if grouping is trainer and found.rule.startswith("LR3"):
                    faults.append([name, found.rule, len(found.parameters)])
                elif found.rule.startswith(("LR0", "LR3")):
                    wrong.append(f"{name}, {grouping.__name__}: {found.rule} {found.message}")
    print(tabulate(faults, headers=["under the Trainer's grouping", "rule", "norm scales decayed"]), end="\n\n")
    print(tabulate([[*key, times] for key, times in sorted(spoken.items())], headers=["rule", "grouping", "models"]))
    print(f"\n{built} architectures, {unbuilt} need more than a default configuration")
    print(*wrong, sep="\n", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
