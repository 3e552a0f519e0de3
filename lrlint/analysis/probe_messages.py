"""What the probe's runs say, in the words of its findings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from lrlint.text.grades import Confidence, Severity
from lrlint.text.wording import count, listing, number, rate

if TYPE_CHECKING:  # a rule's documentation is shown without loading the facts
    from lrlint.facts import Group, ProbeFacts, Setup
    from lrlint.facts.probe import LowRates, Pair, ProbeRun, Recommendation


def groups(setup: Setup, pairs: Iterable[Pair]) -> list[Group]:
    """The groups of these (optimizer, group) indices, as the subject of a finding."""
    known = {(group.optimizer, group.index): group for o in setup.optimizers for group in o.groups}
    return [known[o, g] for o, g in pairs if (o, g) in known]


def confidence(facts: ProbeFacts, usual: Confidence = "high") -> Confidence:
    """Evidence from batches or a loss that were made up counts for little."""
    return "low" if facts.weak else usual


def severity(facts: ProbeFacts, usual: Severity) -> Severity:
    """What was seen with batches or a loss that were made up breaks no build."""
    return "info" if facts.weak else usual


def rates(facts: ProbeFacts, pairs: Sequence[Pair]) -> str:
    """```head` at 3e-03``, or ``all groups``, with the rate they were judged at."""
    judged = [group for pair in pairs if (group := facts.group(pair)) is not None]
    everything = len(judged) == len(facts.groups)
    values = sorted({group.lr for group in judged})
    at = f" at {rate(values[0])}" if len(values) == 1 else f" at {rate(values[0])} to {rate(values[-1])}"
    if everything and len(judged) > 1:
        return f"all {count(len(judged), 'group')}{at}"
    return labels(facts, pairs) + at


def labels(facts: ProbeFacts, pairs: Iterable[Pair]) -> str:
    """```body` and `head```; of more than four groups the first."""
    names = [f"`{group.label}`" for pair in pairs if (group := facts.group(pair)) is not None]
    return f"{', '.join(names[:4])} and more" if len(names) > 4 else listing(names)


def course(arm: ProbeRun) -> str:
    """``loss 2.30 → 14.1 in 30 steps``, ``loss 2.30, not finite after 1 step``."""
    if arm.ended == "non-finite" or not math.isfinite(arm.last):
        before = max(arm.steps - 1, 0)
        return f"loss {number(arm.first)}, not finite after {count(before, 'step')}"
    return f"loss {number(arm.first)} → {number(arm.last)} in {count(arm.steps, 'step')}"


def configured(facts: ProbeFacts) -> ProbeRun | None:
    """The longest run as configured."""
    plain = [arm for arm in facts.arms if not (arm.changes or arm.fresh or arm.cooled) and arm.clip is None]
    return max(plain, key=lambda arm: arm.steps, default=None)


def cure(facts: ProbeFacts, recommendation: Recommendation) -> str:
    """What to do: ``multiply its rate by 0.1 (3e-04)``, ``… all rates …`` or ``clip the gradient norm at 0.8``."""
    if recommendation.kind == "clip":
        return f"clip the gradient norm at {number(recommendation.value)}"
    if recommendation.factor is None:
        rows = zip(recommendation.groups, recommendation.factors, recommendation.rates, strict=True)
        parts = [f"of {labels(facts, [pair])} by {number(factor)} ({rate(value)})" for pair, factor, value in rows]
        return f"multiply the rate {listing(parts)}"
    everything = len(recommendation.groups) == len(facts.groups) > 1
    its = "all rates" if everything else "its rate" if len(recommendation.groups) == 1 else "their rates"
    values = sorted(set(recommendation.rates))
    to = f" ({listing(rate(value) for value in values)})" if len(values) <= 3 else ""
    return f"multiply {its} by {number(recommendation.factor)}{to}"


def bounds(recommendation: Recommendation) -> str:
    """``up to × 0.1 held``: how far above what is recommended rates still held; "" where that was not tried."""
    if recommendation.range is None:
        return ""
    return f"the best seen; up to × {number(recommendation.range[1])} held"


def expected(low: LowRates) -> str:
    """What higher rates gain, and what the configured ones can be expected to in the whole run."""
    higher = f"{count(low.steps, 'step')} at {number(low.factor)} times them take {share(low.gain)} off the loss"
    if low.total is None:
        return (
            f"{higher}; as configured, even {low.stands_for:,} steps can be expected to take only {share(low.reached)}"
        )
    return f"{higher}; as configured, all {low.total:,} steps of the run can be expected to take {share(low.reached)}"


def made_up_for(low: LowRates) -> str:
    """What raising one group's rate gains, beside what it would have gained by the end of the run."""
    run = f"{low.total:,} steps" if low.total else f"a run of {low.stands_for:,} steps"
    return (
        f"with {number(low.factor)} times its rate {count(low.steps, 'step')} take {share(low.gain)} off the loss; with as "
        f"much as {run} move it, {share(low.reached)}"
    )


def share(value: float | None) -> str:
    """``45 %``, ``0.3 %``."""
    return "nothing" if value is None or value <= 0 else f"{100 * value:.2g} %"


def repaired(recommendation: Recommendation) -> str:
    """``at 3e-04: 2.30 → 1.12 in 60 steps over fresh batches``: what the change did."""
    arms = [arm for arm in recommendation.evidence if not arm.failed]
    if not arms:
        return ""
    first = sum(arm.first for arm in arms) / len(arms)
    last = sum(arm.last for arm in arms) / len(arms)
    values = sorted(set(recommendation.rates))
    if recommendation.kind == "clip":
        what = f"clipped at {number(recommendation.value)}"
    else:
        common = "each at its own rate" if recommendation.factor is None else f"× {number(recommendation.factor)}"
        what = f"at {rate(values[0])}" if len(values) == 1 else common
    fresh = " over fresh batches" if all(arm.fresh for arm in arms) else ""
    return f"{what}: {number(first)} → {number(last)} in {count(max(arm.steps for arm in arms), 'step')}{fresh}"


def alternatives(facts: ProbeFacts) -> list[str]:
    """What was tried and did not help: ``clipping at 0.8 does not help (1.9)``."""
    tried = [r for r in facts.recommendations if r.kind == "clip" and not r.verified]
    return [
        f"clipping at {number(r.value)} does not help ({number(r.evidence[-1].last)})" for r in tried if r.evidence
    ][:1]


def story(facts: ProbeFacts, pairs: Iterable[Pair]) -> str:
    """The message of LR901 to LR903: `<groups> at <rate>: loss a → b in n steps; at <lower rate>: a → c in m steps`."""
    run, guilty = configured(facts), list(pairs)
    parts = [f"{rates(facts, guilty)}{': ' + course(run) if run else ''}"]
    if facts.best is not None:
        why = facts.best.reason
        widened = facts.best.kind == "lr" and len(facts.best.groups) > len(guilty)
        parts.append(f"{'all groups ' if widened else ''}{repaired(facts.best)}{f' ({why})' if why else ''}")
    return "; ".join(part for part in (*parts, *alternatives(facts)) if part)


def advice(facts: ProbeFacts) -> str:
    """The help of LR901 to LR903 findings: the change that held, else why none did."""
    if facts.best is not None:
        known = bounds(facts.best)
        return f"{cure(facts, facts.best)}{f' ({known})' if known else ''}"
    return f"no reduction held: {facts.reason}" if facts.reason else "lower the rates, and probe again"


def numbers(facts: ProbeFacts) -> dict[str, object]:
    """The ``data`` of LR901 to LR903 findings: score, steps run, and all recommendations."""
    return {
        "score": facts.score,
        "steps": facts.steps_run,
        "recommendations": [r.to_dict() for r in facts.recommendations],
    }
