"""What `lrlint.scale` returns: the layers at all widths, and how to show them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from lrlint.facts import ScaleFacts, Setup

if TYPE_CHECKING:
    from lrlint.facts.scale import ScaledLayer, ScaledParameter
    from lrlint.lint.finding import Finding


@dataclass(frozen=True, repr=False)
class ScaleResult:
    """The comparison of widths; everything in it is plain data (``facts``, and the ``setup`` at the smallest width).

    ``layers`` stand in the order they run in, with the slopes (exponents of the width) of what comes in and out, of the
    gradient and of their own update; ``faults`` are those that keep rates from carrying over. ``findings`` are empty where
    the setup does not declare that it ``transfers``.
    """

    facts: ScaleFacts
    setup: Setup

    @property
    def layers(self) -> tuple[ScaledLayer, ...]:
        return self.facts.layers

    @property
    def parameters(self) -> tuple[ScaledParameter, ...]:
        return self.facts.parameters

    @property
    def faults(self) -> tuple[ScaledLayer, ...]:
        return self.facts.faults

    @property
    def transfers(self) -> str:
        return self.facts.transfers

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What the rule about width scaling says of it."""
        from lrlint.lint import engine, registry

        return engine.run_rules(self.setup, registry.load().select(["LR218"])).findings

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON data of the facts."""
        data: dict[str, Any] = self.setup.to_dict()["scale"]
        return data

    def __repr__(self) -> str:
        widths = ", ".join(f"{width:g}" for width in self.facts.widths)
        return f"<ScaleResult: {self.facts.vary}={widths}, {len(self.layers)} layers, {len(self.faults)} off>"

    def __str__(self) -> str:
        from lrlint.reports.style import Style
        from lrlint.reports.views.scale import render

        return render(self.facts, Style(80))
