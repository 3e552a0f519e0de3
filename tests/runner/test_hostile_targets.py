"""Targets that do harm, among good ones: they lose themselves, and nobody else (`make fuzz` runs all there are)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from commands import lrlint

from benchmarks.fuzz import hostile, run_hostile
from lrlint.runner import memory

#: The cheapest of each kind.
NAMES = (
    *("kills_its_group", "crashes", "leaves", "interrupts", "raises_what_cannot_be_shown", "binary.py"),
    *("writes_garbage_and_leaves", "closes_everything", "leaves_a_process_behind", "replaces_exit", "replaces_torch"),
    *("takes_much_memory", "class_modules", "class_hash", "class_getattr"),
)


def test_a_target_that_does_harm_is_the_only_one_that_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = run_hostile.check(tmp_path, NAMES, apart=8, graph=False)
    assert not run_hostile.faults(run, NAMES)
    assert sum(part.target.startswith("good-") for part in run.checked) == 3
    (crash,) = [failure for failure in run.failures if failure.target == "crashes"]
    assert "in crashes" in crash.trace
    assert "lrlint" not in crash.trace
    (hungry,) = [failure for failure in run.failures if failure.target == "takes_much_memory"]
    assert hungry.message.startswith("memory limit of 768 MiB reached: ")


@pytest.mark.long
def test_every_target_that_does_harm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = [*hostile.ALL, *hostile.FILES]
    run = run_hostile.check(tmp_path, names)
    assert not run_hostile.faults(run, names)
    assert sum(part.target.startswith("good-") for part in run.checked) == len(names) + 1


def test_what_a_target_writes_is_told_clean_and_a_crash_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import os, sys\n"
        "def build():\n"
        r"    os.write(2, b'\x1b[2Jprinted\n::error::mine\n'); print('too')" + "\n"
        "    os.system('echo by a program'); os.abort()\n"
    )
    result = lrlint("check", "job.py:build", "--no-graph", cwd=tmp_path)
    assert (result.returncode, result.stdout) == (3, "")
    lines = result.stderr.splitlines()
    assert lines[:4] == ["\\x1b[2Jprinted", ": :error::mine", "too", "by a program"]
    assert lines[5] == f'  File "{tmp_path}/job.py", line 4 in build'
    assert lines[6] == "lrlint: job.py:build: its process was killed by SIGABRT"
    assert "Fatal Python error" not in result.stderr


def test_a_target_does_not_reach_the_pipes_of_whoever_runs_lrlint(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(
        "import os, stat, torch\n"
        "def build():\n"
        "    for number in range(3, 256):\n"
        "        try:\n"
        "            stat.S_ISFIFO(os.fstat(number).st_mode) and os.write(number, b'garbage')\n"
        "        except OSError:\n"
        "            pass\n"
        "    model = torch.nn.Linear(2, 2)\n"
        "    return model, torch.optim.SGD(model.parameters(), lr=0.1)\n"
    )
    reads, writes = os.pipe()
    with open(reads, "rb") as end:
        lrlint("check", "job.py:build", "--no-graph", cwd=tmp_path)
        os.close(writes)
        assert end.read() == b""


def test_a_limit_of_memory_is_a_size_and_leaves_room(tmp_path: Path) -> None:
    assert [memory.parse(text) for text in ("512M", "8g", "1.5 GiB", "100")] == [1 << 29, 1 << 33, 3 << 29, 100]
    (tmp_path / "job.py").write_text("def build(): pass\n")
    for size, code, told in (
        ("10M", 2, "--memory-limit 10 MiB leaves nothing"),
        ("ten", 2, "is no size such as 512M or 8G"),
        ("0", 2, "is no size"),
    ):
        result = lrlint("check", "job.py:build", "--memory-limit", size, cwd=tmp_path)
        assert (result.returncode, told in result.stderr) == (code, True), result.stderr
    result = lrlint("check", "job.py:build", "--memory-limit", "8G", "--jobs", "0", cwd=tmp_path)
    assert result.returncode == 2
