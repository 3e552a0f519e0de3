"""Files that are read are input: whatever is in them, the answer is a usage error that names them."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest
import setups
from commands import lrlint
from hypothesis import given, settings
from hypothesis import strategies as st

from lrlint.config import files
from lrlint.errors import UsageError
from lrlint.lint import baseline
from lrlint.runner import session

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("fingerprint", "rule", "name", "target", "subject", "measured"), JSON)
)


@settings(max_examples=40)
@given(st.one_of(JSON, st.builds(lambda e: {"schema": baseline.SCHEMA, "findings": e}, st.lists(ENTRY, max_size=3))))
def test_any_json_is_a_baseline_or_a_usage_error(tmp_path_factory: pytest.TempPathFactory, data: Any) -> None:
    path = tmp_path_factory.mktemp("baseline") / "b.json"
    path.write_text(json.dumps(data))
    entries = data.get("findings") if isinstance(data, dict) else None
    sound = isinstance(entries, list) and data.get("schema") == baseline.SCHEMA and all(map(_is_sound, entries))
    if sound:
        found = baseline.load(path)
        baseline.save(path, found)
        assert baseline.load(path).entries.keys() == found.entries.keys()
    else:
        with pytest.raises(UsageError, match=r"b\.json"):
            baseline.load(path)


def _is_sound(entry: Any) -> bool:
    texts = all(isinstance(entry.get(key, ""), str) for key in ("rule", "name", "target"))
    measured, subject = entry.get("measured", 0), entry.get("subject", [])
    is_number = isinstance(measured, (int, float)) and not isinstance(measured, bool)
    names = isinstance(subject, list) and all(isinstance(name, str) for name in subject)
    return isinstance(entry.get("fingerprint"), str) and texts and is_number and names


@settings(max_examples=40)
@given(st.one_of(st.binary(max_size=40), JSON.map(lambda data: json.dumps(data).encode())))
def test_any_content_is_a_snapshot_or_a_usage_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.mktemp("snapshot") / "s.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"s\.json"):
        session.snapshot(path)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 10_000, '{"schema": NaN}', "\ufeff", "\x00"])
def test_text_that_breaks_parsers(tmp_path: Path, text: str) -> None:
    path = tmp_path / "s.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"s\.json"):
        session.snapshot(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes in the file system")
def test_a_pipe_or_a_device_is_not_waited_for(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for path in (pipe, Path("/dev/zero"), tmp_path):
        with pytest.raises(UsageError, match=r"is no regular file|is a folder"):
            files.read_json(path, "baseline")


RULE = """from lrlint import Finding, rule
import os, sys
{outside}

@rule("ACME001", severity="warning", confidence="high")
def mine(setup):
    {inside}
    yield Finding(setup, "seen")
"""


@pytest.mark.parametrize(
    ("outside", "inside", "code", "told"),
    [
        ("print('loading')", "print('judging'); sys.stdout.close()", 1, ["ACME001"]),
        ("raise SystemExit(0)", "pass", 2, "SystemExit"),
        ("raise BaseException('mine')", "pass", 2, "BaseException"),
        ("", "sys.exit(0)", 1, ["LR003"]),
        ("", "raise BaseException('mine')", 1, ["LR003"]),
        ("", "yield 3", 1, ["LR003"]),
        ("", "object.__setattr__(setup, 'optimizers', None)", 1, ["ACME001"]),
        ("", "setup.optimizers[0].groups[0].options.clear()", 1, ["ACME001"]),
    ],
)
def test_a_rule_file_does_as_it_likes_to_itself_alone(
    tmp_path: Path, outside: str, inside: str, code: int, told: str | list[str]
) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules" / "mine.py").write_text(RULE.format(outside=outside, inside=inside))
    (tmp_path / "setup.json").write_text(files.dump(setups.decoder().to_dict()))
    command = ("check", "setup.json", "--extra-rules", "rules", "--select", "ACME001,LR103", "--format", "json")
    result = lrlint(*command, cwd=tmp_path)
    assert result.returncode == code, result.stderr
    if isinstance(told, str):
        assert (result.stdout, told in result.stderr, "mine.py" in result.stderr) == ("", True, True)
    else:
        assert {found["rule"] for found in json.loads(result.stdout)["findings"]} == set(told)


def test_two_updates_of_a_baseline_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "b.json"

    def add(name: str) -> None:
        for k in range(10):
            with files.locked(path):
                before = baseline.load(path)
                entry = {"fingerprint": f"{name}{k}", "target": name, "rule": "LR301"}
                baseline.save(path, baseline.Baseline({**before.entries, f"{name}{k}": entry}))

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(baseline.load(path).entries) == 40


def test_a_target_has_one_name_wherever_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pyproject.toml").write_text("[tool.lrlint]\n")
    (tmp_path / "sub").mkdir()
    names = set()
    for folder, spec in ((".", "train.py:build"), ("sub", "../train.py:build"), (".", "sub/../train.py:build")):
        monkeypatch.chdir(tmp_path / folder)
        asked = session.request([spec], {})
        parts = session.request([], {"model": spec, "optimizer": spec})
        names.add((asked.targets[0].name, parts.targets[0].name))
    assert names == {("train.py:build", "train.py:build train.py:build")}
