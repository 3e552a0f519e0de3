"""Suppression through `conclude`: comments, configuration, what matches nothing, what has expired."""

import datetime
from pathlib import Path

import pytest
from setups import HOUSE, SOURCE, decoder, write_rules

from lrlint.config.settings import Settings, Suppression
from lrlint.facts import Setup
from lrlint.lint.finding import Finding
from lrlint.lint.run import Run, conclude, examine, lint
from lrlint.lint.selection import select

TODAY = datetime.date(2026, 6, 1)


@pytest.fixture
def rules(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_rules(tmp_path_factory.mktemp("house")))


def run(root: Path, rules: str, source: str = SOURCE, setup: Setup | None = None, **values: object) -> Run:
    (root / "train.py").write_text(source)
    values.setdefault("select", HOUSE)
    return lint(setup or decoder(), Settings(extra_rules=(rules,), root=root, today=TODAY, **values))  # type: ignore[arg-type]


def of(result: Run, code: str) -> list[Finding]:
    return [found for found in result.findings if found.rule == code]


def with_comment(line: int, comment: str) -> str:
    lines = SOURCE.splitlines()
    lines[line - 1] += f"  {comment}"
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("line", [6, 8, 9, 12])
def test_a_comment_on_any_line_of_the_statement(tmp_path: Path, rules: str, line: int) -> None:
    result = run(tmp_path, rules, with_comment(line, "# lrlint: ignore[HOUSE001] measured"))
    (found,) = of(result, "HOUSE001")
    assert found.suppressed == {
        "by": "comment",
        "kind": "ignore",
        "where": found.suppressed["where"],
        "reason": "measured",
    }
    assert found.suppressed["where"].startswith(f"train.py:{line}:")
    assert not of(result, "HOUSE002")[0].suppressed, "it names one rule only"
    assert not of(result, "LR001")


def test_a_comment_alone_above_the_statement(tmp_path: Path, rules: str) -> None:
    # It takes the place of the line above, so that the spans still fit.
    lines = SOURCE.splitlines()
    lines[4] = "    # lrlint: ignore[fast-group, HOUSE002] both"
    result = run(tmp_path, rules, "\n".join(lines) + "\n")
    assert of(result, "HOUSE001")[0].suppressed
    assert of(result, "HOUSE002")[0].suppressed


def test_a_comment_at_another_statement_does_nothing_and_is_reported(tmp_path: Path, rules: str) -> None:
    result = run(tmp_path, rules, with_comment(5, "# lrlint: ignore[HOUSE001]"))
    assert not of(result, "HOUSE001")[0].suppressed
    (unused,) = of(result, "LR001")
    assert (unused.severity, unused.target) == ("warning", "demo")
    assert "sets nothing aside" in unused.message
    assert unused.locations[0].line == 5


def test_a_comment_outside_what_was_examined_is_none_of_our_business(tmp_path: Path, rules: str) -> None:
    other = "\n\ndef other():\n    return AdamW(x)  # lrlint: ignore[HOUSE001]\n"
    assert not of(run(tmp_path, rules, SOURCE + other), "LR001")


def test_an_unused_comment_counts_only_when_its_rule_ran(tmp_path: Path, rules: str) -> None:
    source = with_comment(5, "# lrlint: ignore[HOUSE004]")
    assert not of(run(tmp_path, rules, source), "LR001"), "HOUSE004 was skipped: there is no graph"
    source = with_comment(5, "# lrlint: ignore[HOUSE001]")
    assert not of(run(tmp_path, rules, source, select=("HOUSE002",)), "LR001")


@pytest.mark.parametrize(
    ("comment", "words"),
    [
        ("# lrlint: ignore", "names no rule"),
        ("# lrlint: ignore[]", "names no rule"),
        ("# lrlint: ignore[HOUSE010]", "there is no rule 'HOUSE010'; did you mean"),
        ("# lrlint: ignore[fast-grup]", "did you mean 'fast-group'"),
    ],
)
def test_a_comment_that_says_nothing_useful(tmp_path: Path, rules: str, comment: str, words: str) -> None:
    (unused,) = of(run(tmp_path, rules, with_comment(8, comment)), "LR001")
    assert words in unused.message


def test_fixme_counts_as_debt(tmp_path: Path, rules: str) -> None:
    counts = run(tmp_path, rules, with_comment(8, "# lrlint: fixme[HOUSE001] next week")).counts()
    assert (counts["suppressed"], counts["fixme"], counts["error"]) == (1, 1, 0)


def test_a_comment_in_a_string_is_no_comment(tmp_path: Path, rules: str) -> None:
    source = SOURCE.replace('"""A training script."""', '"""# lrlint: ignore[HOUSE001]"""')
    assert not of(run(tmp_path, rules, source), "HOUSE001")[0].suppressed


def test_source_in_another_encoding_and_source_that_is_gone(tmp_path: Path, rules: str) -> None:
    latin = "# -*- coding: latin-1 -*-\n" + SOURCE.split("\n", 1)[1].replace(
        "lr=3.0,", "lr=3.0,  # lrlint: ignore[HOUSE001] é"
    )
    (tmp_path / "train.py").write_bytes(latin.encode("latin-1"))
    settings = Settings(select=HOUSE, extra_rules=(rules,), root=tmp_path, today=TODAY)
    (found,) = of(lint(decoder(), settings), "HOUSE001")
    assert found.suppressed
    assert found.suppressed["reason"] == "é"
    (tmp_path / "train.py").write_bytes(b"\xff\xfe broken \x00")
    assert not of(lint(decoder(), settings), "HOUSE001")[0].suppressed
    (tmp_path / "train.py").unlink()
    assert not of(lint(decoder(), settings), "HOUSE001")[0].suppressed


@pytest.mark.parametrize(
    ("entry", "hit"),
    [
        ({"rules": ("HOUSE002",)}, True),
        ({"rules": ("head-spared",)}, True),
        ({"rules": ("house",)}, True),
        ({"rules": ("HOUSE",)}, True),
        ({"rules": ("HOUSE001",)}, False),
        ({"rules": ("HOUSE002",), "parameters": ("head",)}, True),
        ({"rules": ("HOUSE002",), "parameters": ("h.*",)}, False),
        ({"rules": ("HOUSE002",), "groups": (1,)}, True),
        ({"rules": ("HOUSE002",), "groups": ("spared",)}, True),
        ({"rules": ("HOUSE002",), "groups": (0,)}, False),
        ({"rules": ("HOUSE002",), "targets": ("de*",)}, True),
        ({"rules": ("HOUSE002",), "targets": ("prod",)}, False),
        ({"rules": ("HOUSE002",), "modules": ("head",)}, False),
    ],
)
def test_configuration_by_subject(tmp_path: Path, rules: str, entry: dict, hit: bool) -> None:
    result = run(tmp_path, rules, suppress=(Suppression(reason="known", **entry),))
    aside = of(result, "HOUSE002")[0].suppressed
    assert bool(aside) is hit
    if hit:
        assert (aside["by"], aside["reason"]) == ("configuration", "known")


def test_a_finding_is_set_aside_only_when_all_its_parameters_are_covered(tmp_path: Path, rules: str) -> None:
    entry = Suppression(("HOUSE001",), "one layer", parameters=("h.0.**",))
    assert not of(run(tmp_path, rules, suppress=(entry,)), "HOUSE001")[0].suppressed
    entry = Suppression(("HOUSE001",), "all layers", parameters=("h.*.attn.weight",))
    assert of(run(tmp_path, rules, suppress=(entry,)), "HOUSE001")[0].suppressed


def test_an_expired_entry_sets_nothing_aside_and_is_a_finding(tmp_path: Path, rules: str) -> None:
    last = Suppression(("HOUSE002",), "until spring", until=TODAY)
    assert of(run(tmp_path, rules, suppress=(last,)), "HOUSE002")[0].suppressed, "its last day still counts"
    over = Suppression(("HOUSE002",), "until spring", until=TODAY - datetime.timedelta(days=1))
    result = run(tmp_path, rules, suppress=(over,))
    assert not of(result, "HOUSE002")[0].suppressed
    (expired,) = of(result, "LR002")
    assert "2026-05-31: until spring" in expired.message
    assert not of(result, "LR001")


def test_an_unused_entry_is_reported_only_when_all_targets_are_there(tmp_path: Path, rules: str) -> None:
    entry = Suppression(("HOUSE002",), "known", parameters=("tail",))
    settings = Settings(select=HOUSE, extra_rules=(rules,), root=tmp_path, today=TODAY, suppress=(entry,))
    part = examine(decoder(), select(settings))
    assert len(of(conclude([part], settings), "LR001")) == 1
    assert not of(conclude([part], settings, complete=False), "LR001")


def test_engine_findings_can_be_ignored_and_given_a_severity(tmp_path: Path, rules: str) -> None:
    source = with_comment(5, "# lrlint: ignore[HOUSE001]")
    assert not of(run(tmp_path, rules, source, ignore=("LR001",)), "LR001")
    assert not of(run(tmp_path, rules, source, ignore=("unused-suppression",)), "LR001")
    (found,) = of(run(tmp_path, rules, source, severities={"unused-suppression": "error"}), "LR001")
    assert found.severity == "error"
