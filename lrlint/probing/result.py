"""What `lrlint.probe` returns: the verdict, what it rests on, and how to show it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lrlint.facts import ProbeFacts, Setup

if TYPE_CHECKING:
    from lrlint.facts.probe import Headroom, Pair, ProbeGroup, ProbeTrace, Recommendation
    from lrlint.lint.finding import Finding


@dataclass(frozen=True, repr=False)
class ProbeResult:
    """The result of a probe; everything in it is plain data (``facts``, in the language of ``setup``).

    ``verdict``: ``stable``, ``unstable``, ``too-low``, ``stalled`` or ``inconclusive``. ``score`` grows with instability:
    0 or less where no lower rate is better, 1 where one gains all that the setup loses, above 2 where it diverges.
    ``groups`` has one record per parameter group, ``guilty`` the (optimizer, group) pairs whose rates have to fall,
    ``recommendations`` what repairs it, those that held first; ``headroom`` how far the rate of each group alone can go.
    """

    facts: ProbeFacts
    setup: Setup

    @property
    def verdict(self) -> str:
        return self.facts.verdict

    @property
    def score(self) -> float:
        return self.facts.score

    @property
    def groups(self) -> tuple[ProbeGroup, ...]:
        return self.facts.groups

    @property
    def guilty(self) -> list[Pair]:
        return list(self.facts.guilty)

    @property
    def recommendations(self) -> tuple[Recommendation, ...]:
        return self.facts.recommendations

    @property
    def headroom(self) -> tuple[Headroom, ...]:
        return self.facts.headroom

    @property
    def trace(self) -> ProbeTrace:
        return self.facts.trace

    @property
    def steps_run(self) -> int:
        return self.facts.steps_run

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What the rules of the probe family say about it."""
        from lrlint.lint import engine, registry

        return engine.run_rules(self.setup, registry.load().select(["probe"])).findings

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data of the facts."""
        data: dict[str, Any] = self.setup.to_dict()["probe"]
        return data

    def __repr__(self) -> str:
        return f"<ProbeResult: {self.verdict}, score {self.score:.3g}, {self.steps_run} steps>"

    def __str__(self) -> str:
        from lrlint.reports.views.probe import render

        return render(self.facts)

    def _repr_html_(self) -> str:
        from lrlint.reports.html import probe_fragment

        return probe_fragment(self.facts)
