"""Muon and the Adam that trains the rest share one rate without matching their update sizes.

Muon's update has a root mean square of about 0.87 / √max(rows, columns) per unit of rate (0.11 for 64 × 64, 0.03 for
768 × 768), Adam's about 0.2 to 1: the best rates differ by a factor of 10 to 100 (the reference uses 0.02 and 3e-4).

What to do: separate rates, or `adjust_lr_fn="match_rms_adamw"`, with which one rate serves both.

Off by default. Compared are the peak rates of Muon groups (`adjust_lr_fn` absent or "original") with those of Adam-like
groups, in the same optimizer or beside it.

Sources: https://github.com/KellerJordan/Muon, https://github.com/google-deepmind/optax/pull/1564,
https://docs.pytorch.org/docs/stable/generated/torch.optim.Muon.html
"""

import math
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import peak, rated
from lrlint.text.wording import rate


@rule("LR213", severity="info", confidence="medium", needs=("optimizer",), default=False)
def muon_adam_shared_lr(setup: Setup) -> Iterator[Finding]:
    groups = [group for optimizer in setup.optimizers for group in rated(optimizer)]
    for muon in groups:
        if not _is_muon(muon) or muon.options.get("adjust_lr_fn") not in (None, "original"):
            continue
        shared = [g for g in groups if _is_adam(g) and math.isclose(peak(g), peak(muon), rel_tol=1e-6)]
        if shared:
            yield Finding(
                muon,
                f"Muon's {muon.label} and Adam's {shared[0].label} share the rate {rate(peak(muon))}, "
                "but Muon's update is several times smaller",
                related={"adam": shared},
                data={"lr": peak(muon)},
                help='separate rates, or adjust_lr_fn="match_rms_adamw"',
                key="lr",
            )


def _is_muon(group):
    return group.family == "muon"


def _is_adam(group):
    return group.family == "adam"
