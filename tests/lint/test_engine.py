"""The engine over hand-made facts: completion, order, missing facts, crashes, options. No torch needed."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrlint.errors import UsageError
from lrlint.facts import Group, Note, Optimizer, Parameter, Setup, Span
from lrlint.lint import engine, registry

RULES = {
    "first_rule.py": '''"""Summary of the first.

Details."""
from lrlint import Finding, rule

@rule("LR891", severity="warning", confidence="medium")
def first_rule(setup, *, limit: float = 0.5):
    for group in setup.optimizers[0].groups:
        if group.lr > limit:
            yield Finding(group, f"{group.label} is fast", key="lr", related={"other": setup.parameters[1]})
''',
    "crashing_rule.py": '''"""Crashes."""
from lrlint import rule

@rule("LR892", severity="error", confidence="high")
def crashing_rule(setup):
    yield 1 / 0
''',
    "needy_rule.py": '''"""Needs a graph."""
from lrlint import Finding, rule

@rule("LR893", severity="error", confidence="high", needs=("graph",), default=False)
def needy_rule(setup):
    yield Finding(setup, "seen")
''',
}


@pytest.fixture
def rules(tmp_path: Path) -> Iterator[registry.Catalog]:
    folder = tmp_path / "rules" / "own"
    folder.mkdir(parents=True)
    for name, source in RULES.items():
        (folder / name).write_text(source)
    before = set(sys.modules)
    yield registry.load([tmp_path / "rules"], entry_points=False)
    for name in set(sys.modules) - before:
        if name.startswith("lrlint_rules_"):
            del sys.modules[name]


@pytest.fixture
def setup() -> Setup:
    parameters = tuple(
        Parameter(i, name, (name,), "model", "matrix", (2, 2), "float32", "cpu")
        for i, name in enumerate(("a.weight", "b.weight"))
    )
    spans = [Span("train.py", line, 5) for line in (3, 4)]
    groups = tuple(
        Group(0, i, {"lr": lr}, (parameters[i],), span=spans[i], key_spans={"lr": Span("train.py", 10 + i, 9)})
        for i, lr in enumerate((1.0, 0.1))
    )
    optimizer = Optimizer(0, "", "SGD", "torch.optim", "sgd", groups)
    return Setup(
        target="demo", parameters=parameters, optimizers=(optimizer,), notes=(Note("graph", "pass example_inputs"),)
    )


def named(rules: registry.Catalog, *names: str) -> list:
    return [rules.get(name) for name in names]


def test_a_finding_is_completed(rules: registry.Catalog, setup: Setup) -> None:
    (found,) = engine.run_rules(setup, named(rules, "first-rule")).findings
    assert (found.rule, found.name, found.severity, found.confidence) == ("LR891", "first-rule", "warning", "medium")
    assert found.parameters == ("a.weight",)
    assert found.groups == ((0, 0),)
    assert found.locations == (Span("train.py", 10, 9),), "the offending key's own line comes first"
    assert found.related[0].label == "other"
    assert found.related[0].parameters == ("b.weight",)
    assert found.related[0].locations == (Span("train.py", 11, 9),)


def test_options_reach_the_rule(rules: registry.Catalog, setup: Setup) -> None:
    outcome = engine.run_rules(setup, named(rules, "LR891"), {"first-rule": {"limit": 0.05}})
    assert [found.groups for found in outcome.findings] == [((0, 0),), ((0, 1),)]


def test_an_unknown_option_is_a_usage_error(rules: registry.Catalog, setup: Setup) -> None:
    with pytest.raises(UsageError, match="no option 'limits'"):
        engine.run_rules(setup, named(rules, "LR891"), {"first-rule": {"limits": 1}})


def test_severity_override_wins(rules: registry.Catalog, setup: Setup) -> None:
    (found,) = engine.run_rules(setup, named(rules, "LR891"), severities={"first-rule": "info"}).findings
    assert found.severity == "info"


def test_a_crashing_rule_loses_only_itself(rules: registry.Catalog, setup: Setup) -> None:
    findings = engine.run_rules(setup, named(rules, "LR891", "LR892")).findings
    assert [found.rule for found in findings] == ["LR003", "LR891"]
    assert "LR892" in findings[0].message
    assert "ZeroDivisionError" in findings[0].message


def test_a_missing_fact_skips_with_its_reason(rules: registry.Catalog, setup: Setup) -> None:
    outcome = engine.run_rules(setup, named(rules, "needy-rule"))
    assert outcome.findings == ()
    assert [(s.rule, s.reason) for s in outcome.skipped] == [("LR893", "pass example_inputs")]


def test_selection(rules: registry.Catalog) -> None:
    def codes(**arguments: tuple[str, ...]) -> set[str]:
        return {r.code for r in rules.select(**arguments) if r.code.startswith("LR89")}

    assert codes() == {"LR891", "LR892"}
    assert codes(select=("LR89",)) == {"LR891", "LR892"}, "a prefix leaves out what is off by default"
    assert codes(select=("needy-rule",)) == {"LR893"}
    assert codes(select=("own",), ignore=("LR891",)) == {"LR892"}
    assert codes(select=("ALL",)) == {"LR891", "LR892", "LR893"}
    assert codes(extend_select=("LR893",), ignore=("LR89",)) == set(), "ignore always wins"
    with pytest.raises(UsageError, match="first-rule"):
        rules.select(select=("frst-rule",))


def test_codes_are_never_reused(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.py").write_text(RULES["crashing_rule.py"].replace("def crashing_rule", f"def {name}"))
    with pytest.raises(UsageError, match="LR892 is declared twice"):
        registry.load([tmp_path], entry_points=False)


def test_a_broken_rule_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("def (")
    with pytest.raises(UsageError, match=r"broken\.py"):
        registry.load([tmp_path], entry_points=False)
