"""A few batches have gradients many times the usual size, and clipping them helps.

Measured on a quiet run (a tenth of the rates), so that the sizes are the data's and not those of an instability. Such
batches throw SGD far off and spoil Adam's moments; a smaller rate repairs this in one case of two to five, clipping in
nine of ten, whatever the optimizer.

What to do: clip the norm of the whole gradient at the value that is named (its 90th percentile, or the median where
the tail is fat), after unscaling and before `step`; or look at those batches.

Reported where the largest norm is ten times the median or more, at most one step in ten is that large, no clipping is
declared, and the clipped run was better by 30 % of what it gained; as an info where training is stable all the same.

Sources: https://github.com/google-research/tuning_playbook (clip at the 90th percentile; lower the rate if more than
half of the steps would be clipped), https://arxiv.org/abs/1211.5063 (clipping), https://arxiv.org/abs/1905.11881
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import confidence, cure, repaired, severity
from lrlint.text.wording import number


@rule("LR906", severity="warning", confidence="high", needs=("probe",))
def heavy_tailed_gradients(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    tail = facts.tail
    clip = next((r for r in facts.recommendations if r.kind == "clip" and r.verified), None)
    if tail is None or not tail.heavy or not tail.repaired or clip is None:
        return
    yield Finding(
        list(setup.optimizers) or setup,
        f"gradient norms up to {number(tail.largest)}, {tail.largest / max(tail.median, 1e-30):.0f} times their median, "
        f"in {tail.outliers} of {tail.count} quiet steps; {repaired(clip)}",
        data={"median": tail.median, "p90": tail.p90, "largest": tail.largest, "clip": clip.value},
        help=cure(facts, clip),
        severity=severity(facts, "warning" if facts.verdict == "unstable" else "info"),
        confidence=confidence(facts),
    )
