"""The baseline through its file: identity across edits, new findings, pruning, damage."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
from setups import HOUSE, decoder, write_rules

from lrlint.config.settings import Settings
from lrlint.errors import UsageError
from lrlint.facts import Setup
from lrlint.lint import baseline
from lrlint.lint.finding import Finding
from lrlint.lint.run import Run, lint


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(select=HOUSE, extra_rules=(str(write_rules(tmp_path)),), root=tmp_path, fail_on="info")


def accept(settings: Settings, setup: Setup) -> Path:
    path = settings.folder / "lrlint-baseline.json"
    result = lint(setup, replace(settings, baseline=""))
    baseline.save(path, baseline.accept(baseline.load(path), result.findings, [setup.target]))
    return path


def open_findings(result: Run) -> list[str]:
    return [found.rule for found in result.active]


def test_accepted_findings_are_quiet_and_stay_in_the_run(settings: Settings) -> None:
    before = lint(decoder(), settings)
    assert before.exit_code == 1
    accept(settings, decoder())
    after = lint(decoder(), settings)
    assert (after.exit_code, open_findings(after)) == (0, [])
    assert len(after.findings) == len(before.findings) == after.counts()["baselined"]
    assert after.findings[0].suppressed["by"] == "baseline"


def test_depth_and_values_churn_nothing_but_a_new_subject_does(settings: Settings) -> None:
    accept(settings, decoder(layers=2))
    assert open_findings(lint(decoder(layers=12), settings)) == []
    renamed = decoder(head="head_b.weight")
    assert "HOUSE002" in open_findings(lint(renamed, settings))


def test_another_target_has_its_own_findings(settings: Settings) -> None:
    accept(settings, decoder())
    assert len(open_findings(lint(decoder(target="other"), settings))) == 3


def test_a_measurement_may_grow_by_a_tenth(settings: Settings) -> None:
    accept(settings, decoder(lr=3.0))
    assert open_findings(lint(decoder(lr=3.2), settings)) == []
    assert open_findings(lint(decoder(lr=3.4), settings)) == ["HOUSE001"]
    assert open_findings(lint(decoder(lr=2.0), settings)) == []


def test_probe_and_engine_findings_are_never_accepted() -> None:
    for code in ("LR901", "LR001"):
        item = Finding(None, "x", rule=code, name="x", severity="error", confidence="high")
        assert baseline.accept(baseline.Baseline({}), [item], [""]).entries == {}
        assert not baseline.Baseline({item.fingerprint: {}}).accepts(item)


def test_accepting_again_keeps_what_was_written_by_hand_and_other_targets(settings: Settings) -> None:
    path = accept(settings, decoder())
    accept(settings, decoder(target="other"))
    data = json.loads(path.read_text())
    data["findings"][0]["reason"] = "legacy run"
    path.write_text(json.dumps(data))
    accept(settings, decoder())
    again = json.loads(path.read_text())["findings"]
    assert [entry.get("reason") for entry in again].count("legacy run") == 1
    assert {entry["target"] for entry in again} == {"demo", "other"}


def test_pruning_only_removes_what_is_fixed(settings: Settings) -> None:
    path = accept(settings, decoder())
    fixed = lint(decoder(lr=0.1), replace(settings, baseline=""))
    before = baseline.load(path)
    after = baseline.prune(before, fixed.findings, ["demo"], HOUSE, ["demo"])
    gone = before.entries.keys() - after.entries.keys()
    assert {before.entries[key]["rule"] for key in gone} == {"HOUSE001"}
    assert after.entries.keys() < before.entries.keys()
    assert baseline.prune(before, fixed.findings, ["demo"], ["HOUSE002"], []).entries == before.entries, (
        "HOUSE001 did not run"
    )
    assert baseline.prune(before, [], ["other"], HOUSE, []).entries == before.entries, "demo was not checked"
    assert baseline.prune(before, [], ["other"], HOUSE, ["other"]).entries == {}, "demo is no target any more"


def test_the_file_is_sorted_and_the_same_for_the_same_findings(settings: Settings) -> None:
    path = accept(settings, decoder())
    first = path.read_bytes()
    accept(settings, decoder())
    assert path.read_bytes() == first
    entries = json.loads(first)["findings"]
    assert entries == sorted(entries, key=lambda entry: (entry["target"], entry["rule"], entry["fingerprint"]))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a baseline"),
        ('{"schema": "lrlint-baseline/9", "findings": []}', "not a baseline"),
        ('{"schema": "lrlint-baseline/1", "findings": [{}]}', "damaged"),
        ("\xff", "not UTF-8"),
    ],
)
def test_a_damaged_file_is_said_and_left_alone(settings: Settings, text: str, words: str) -> None:
    path = settings.folder / "lrlint-baseline.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=words):
        lint(decoder(), settings)
    with pytest.raises(UsageError, match=words):
        accept(settings, decoder())
    assert path.read_bytes() == text.encode("latin-1")


def test_a_failed_write_leaves_the_old_file(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    path = accept(settings, decoder())
    before = path.read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UsageError, match="No space left"):
        accept(settings, decoder(target="other"))
    assert path.read_bytes() == before
    assert [p.name for p in settings.folder.iterdir() if p.name.startswith(".lrlint")] == []
