"""Muon and its Adam part share one weight decay at rates that differ by an order of magnitude.

Decay per step is lr × weight_decay. With Muon at 0.02 and Adam at 3e-4 the same 0.1 decays hidden matrices 67 times as
strongly as embeddings and head.

What to do: a decay for each part (`weight_decay = c / lr`), or none for the Adam part, as the speed runs have it.

*Info*. Compared are the peak rates of the Muon groups and the Adam-like groups of one optimizer, or of a Muon optimizer and
an Adam-like one beside it, that decay decoupled with the same value; reported when they differ by more than `ratio`.

Sources: https://arxiv.org/abs/2502.16982 (Moonlight: matched update sizes, one decay),
https://github.com/KellerJordan/Muon, https://github.com/karpathy/nanochat (a decay of its own for each part)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import NEGLIGIBLE_DECAY, exceeds, peak, rated
from lrlint.text.wording import number, rate


@rule("LR316", severity="info", confidence="medium", needs=("optimizer",))
def muon_hybrid_decay(setup: Setup, *, ratio: float = 10.0) -> Iterator[Finding]:
    groups = [g for optimizer in setup.optimizers for g in rated(optimizer) if g.decoupled]
    muon = [g for g in groups if g.family == "muon" and g.weight_decay > NEGLIGIBLE_DECAY]
    for group in muon:
        alike = [g for g in groups if g.family == "adam" and g.weight_decay == group.weight_decay]
        far = [g for g in alike if exceeds(max(peak(group) / peak(g), peak(g) / peak(group)), ratio)]
        if far:
            yield Finding(
                group,
                f"Muon's {group.label} at {rate(peak(group))} and Adam's {far[0].label} at {rate(peak(far[0]))} share weight "
                f"decay {number(group.weight_decay)}: one decays {peak(group) / peak(far[0]):.3g}× as fast as the other",
                related={"adam": far},
                data={"muon": peak(group), "adam": peak(far[0]), "weight_decay": group.weight_decay},
                help="a weight decay for each part: c / lr",
                key="weight_decay",
            )
            return
