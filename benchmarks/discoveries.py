"""Find again what `docs/discoveries.md` tells of the installed transformers: every architecture, from its default
configuration, on the meta device.

    python -m benchmarks.discoveries [--seconds 1800] [--only Bert]

Two questions per architecture, each answered by lrlint's own rules on the facts: does the Trainer's grouping decay norm
scales (`inconsistent-norm-decay`, `decay-on-norm`, `norms-decayed-biases-exempt`), and does a batch norm have a
momentum in TensorFlow's convention (`bn-momentum-convention`)? No weights are downloaded, no forward pass runs.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings

import transformers
from torch import nn
from torch.optim import AdamW

import lrlint
from benchmarks.survey import architectures, trainer
from lrlint.config.settings import Settings
from lrlint.lint.run import lint

DECAY = ("LR301", "LR302", "LR304")
MOMENTUM = ("LR505",)


def examined(model: nn.Module) -> tuple[list[tuple[str, str]], int]:
    """((code, message) of each finding of these rules under the Trainer's grouping, norm scales that it decays)."""
    optimizer = AdamW(trainer(model), lr=5e-5, foreach=False)
    setup = lrlint.inspect(model, optimizer, graph=False)
    findings = lint(setup, Settings(select=(*DECAY, *MOMENTUM))).findings
    decayed = setup.optimizers[0].parameters("norm").where(lambda member: member.weight_decay > 0)
    return [(finding.rule, finding.message) for finding in findings], len(decayed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=1800.0)
    parser.add_argument("--only", default="", help="configurations whose class name holds this")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    built = missing = decayed = tensors = 0
    mixed: list[str] = []
    momenta: list[str] = []
    began = time.monotonic()
    for name, model in architectures(arguments.only):
        if time.monotonic() - began > arguments.seconds:
            print(f"stopped after {arguments.seconds:.0f} seconds, at {name}", flush=True)
            break
        if model is None:
            missing += 1
            continue
        built += 1
        findings, count = examined(model)
        tensors += count
        decayed += bool(count)
        for code, message in findings:
            (momenta if code in MOMENTUM else mixed if code == "LR301" else []).append(name)
            print(f"{name}: {code} {message}", flush=True)
    print(f"transformers {transformers.__version__}: {built} architectures built, {missing} could not be")
    print(
        f"the Trainer decays norm scales of {decayed} ({tensors} tensors), of {len(set(mixed))} beside others that it spares"
    )
    print(
        f"batch norms with a momentum in TensorFlow's convention: {len(set(momenta))} ({', '.join(sorted(set(momenta)))})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
