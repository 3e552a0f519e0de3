"""Every seeded fault is flagged by the right rule with the right names, on every real model it can be planted in.

The same models are clean before anything is planted: otherwise a finding would prove nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

import lrlint
from lrlint.config.settings import Settings
from lrlint.inspection.build import build
from lrlint.lint import registry
from lrlint.lint.finding import Finding
from lrlint.lint.run import lint
from lrlint.targets.load import load
from zoo import models, planted
from zoo.seeding import SEEDS, Seed, Sound

#: Groupings that are sound on these models, for the operators that can be planted in any.
ELSEWHERE = (
    *(("bert", "classic"), ("gpt2", "by_ndim"), ("llama", "trainer"), ("t5", "trainer"), ("mixtral", "layerwise")),
    *(("vit", "layerwise"), ("resnet", "single"), ("whisper", "single"), ("convnext", "by_ndim"), ("lora", "single")),
)


#: A fault that fits few models is planted in all of them in every run.
FEW = 4


def loud(findings: Iterable[Finding]) -> list[str]:
    return [f"{found.rule} {found.name}: {found.message}" for found in findings if found.severity != "info"]


def canonical(name: str) -> str:
    """The name as messages give it: what torch's parametrizations and peft put into it is left out."""
    return name.replace("parametrizations.", "").removeprefix("base_model.model.")


def check(seed: Seed, name: str, grouping: str) -> tuple[Finding, ...]:
    """What lrlint finds on the target, on the path that the command takes."""
    target = load("zoo.planted:planted", args={"operator": str(seed), "model": name, "grouping": grouping})
    return lint(build(target, graph=seed.graph), Settings()).findings


@pytest.mark.parametrize(("name", "grouping"), [*((name, "") for name in models.MODELS), *ELSEWHERE], ids=str)
def test_a_sound_setup_is_clean(name: str, grouping: str) -> None:
    sound = Sound(name, grouping)
    run = lrlint.check(sound.model, sound.adamw())
    assert run.setup.graph is not None, run.setup.note("graph")
    assert not loud(run.findings)


def cases() -> Iterable[Any]:
    """Every fault in every model it can be planted in. Where these are many, all but every fifth are for a long run:
    which ones changes from fault to fault, so that each model and each grouping keeps its share.
    """
    for number, seed in enumerate(SEEDS):
        planted_in = [*((name, "") for name in seed.models), *(ELSEWHERE if seed.anywhere else ())]
        for index, (name, grouping) in enumerate(planted_in):
            short = len(planted_in) <= FEW or (index + number) % 5 == 0
            marks = () if short else (pytest.mark.long,)
            yield pytest.param(seed, name, grouping, marks=marks, id=f"{seed}-{name}-{grouping}")


@pytest.mark.parametrize(("seed", "name", "grouping"), cases())
def test_a_seeded_fault_is_found(seed: Seed, name: str, grouping: str) -> None:
    findings = check(seed, name, grouping)
    fault = planted.latest
    assert fault is not None
    own = [found for found in findings if found.rule == seed.code]
    assert own, f"missed; found {loud(findings)}"
    if fault.parameters is not None:
        named = {parameter for found in own for parameter in found.parameters}
        assert named == {canonical(name) for name in fault.parameters}
    if fault.groups is not None:
        assert {group for found in own for group in found.groups} == set(fault.groups)
    if fault.parameters is None and fault.groups is None:
        assert fault.says
        assert any(fault.says in found.message for found in own), [found.message for found in own]
    others = loud(found for found in findings if found.rule not in (seed.code, *fault.also))
    assert not others, "the damage raised other findings"


#: Rules on groups and modules without an operator: what they need is not a damaged setup of a plain model.
ELSEWHERE_PROVEN = {
    "LR114": "needs siblings on both sides of a tie",
    "LR120": "needs several processes",
    "LR123": "needs a model of which all but one or two parameters train",
    "LR314": "needs a decay chosen against the length of the run",
    "LR316": "needs Muon beside Adam",
    "LR418": "needs a long run of a transformer",
    "LR121": "needs a wrapper around the optimizer that steps",
    "LR122": "needs a model that overrides train()",
    "LR212": "needs adapters at several rates",
    "LR214": "needs a declared base rate",
    "LR215": "needs a mixture of experts",
    "LR216": "needs a preference trainer",
    "LR217": "needs a model of which only adapters train",
    "LR118": "needs an engine that rewrites the groups",
    "LR414": "needs Lightning's intervals",
    "LR415": "needs a monitored metric",
    "LR416": "needs a checkpoint",
    "LR508": "needs a norm and its neighbours in different groups",
}


def test_every_rule_on_groups_and_modules_has_an_operator() -> None:
    rules = {rule.code for rule in registry.load(entry_points=False).rules if rule.default and rule.code[2] in "123456"}
    planted_codes = {seed.code for seed in SEEDS}
    assert planted_codes <= rules
    assert rules - planted_codes <= set(ELSEWHERE_PROVEN)
