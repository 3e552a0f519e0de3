"""Every seeded fault is flagged by the right rule with the right names, on every real model it can be planted in.

The same models are clean before anything is planted: otherwise a finding would prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

import pytest

import lrlint
from lrlint.finding import Finding
from lrlint.inspection.build import build
from lrlint.inspection.target import load
from lrlint.run import lint
from lrlint.settings import Settings
from zoo import models, planted
from zoo.seeding import SEEDS, Seed, Sound


def loud(findings: Iterable[Finding]) -> list[str]:
    return [f"{found.rule} {found.name}: {found.message}" for found in findings if found.severity != "info"]


def canonical(name: str) -> str:
    """The name as messages give it: what torch's parametrizations put into it is left out."""
    return name.replace("parametrizations.", "")


def check(seed: Seed, name: str) -> tuple[Finding, ...]:
    """What lrlint finds on the target, on the path that the command takes."""
    target = load("zoo.planted:planted", args={"operator": str(seed), "model": name})
    return lint(build(target, graph=False), Settings()).findings


@pytest.mark.parametrize("name", models.MODELS)
def test_a_sound_setup_is_clean(name: str) -> None:
    sound = Sound(name)
    assert not loud(lrlint.check(sound.model, sound.adamw(), graph=False).findings)


@pytest.mark.parametrize(("seed", "name"), [(seed, name) for seed in SEEDS for name in seed.models], ids=str)
def test_a_seeded_fault_is_found(seed: Seed, name: str) -> None:
    findings = check(seed, name)
    fault = planted.latest
    assert fault is not None
    own = [found for found in findings if found.rule == seed.code]
    assert own, f"missed; found {loud(findings)}"
    if fault.parameters is not None:
        named = {parameter for found in own for parameter in found.parameters}
        assert named == {canonical(name) for name in fault.parameters}
    if fault.groups is not None:
        assert {group for found in own for group in found.groups} == set(fault.groups)
    others = loud(found for found in findings if found.rule not in (seed.code, *fault.also))
    assert not others, "the damage raised other findings"


def test_every_rule_that_reads_groups_and_modules_has_an_operator() -> None:
    planted_codes = {seed.code for seed in SEEDS}
    assert len(SEEDS) >= 50
    assert {code[:3] for code in planted_codes} == {"LR1", "LR2", "LR3", "LR4", "LR5", "LR6"}
