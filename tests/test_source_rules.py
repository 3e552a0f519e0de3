"""The training loop is read from whatever source there is, and never run."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

LOOP = """
import torch
from torch import nn

def build():
    model = nn.Linear(4, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)

def main():
    raise SystemExit("the loop was run")
    model, optimizer = build()
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10)
    for k in range(100):
        model(torch.randn(2, 4)).sum().backward()
        if (k + 1) % 4 == 0:
            optimizer.step()
        scheduler.step()
"""


def check(folder: Path, target: str, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    run = subprocess.run(
        [sys.executable, "-m", "lrlint", "check", target, "--format", "json", "--select", "LR7", *arguments],
        cwd=folder, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert run.returncode in (0, 1), run.stderr
    return run.returncode, json.loads(run.stdout)["findings"]


def test_the_file_of_the_target_is_read_and_its_loop_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LOOP)
    code, found = check(tmp_path, "train.py:build")
    assert code == 1
    assert [(item["rule"], item["locations"][0]["line"]) for item in found] == [("LR703", 17)]  # type: ignore[index]


def test_a_snapshot_keeps_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LOOP)
    show = [sys.executable, "-m", "lrlint", "show", "train.py:build", "--output", "setup.json"]
    subprocess.run(show, cwd=tmp_path, check=True, capture_output=True, timeout=120)
    assert [item["rule"] for item in check(tmp_path, "setup.json")[1]] == ["LR703"]


@pytest.mark.parametrize(
    "loop",
    [
        b"# -*- coding: latin-1 -*-\n# \xe9t\xe9\n",
        b"\n" * 25_000,
        b"def f(x):\n    match x:\n        case [a, *_]: a.step()\n        case _: pass\n",
        b"async def f(ws):\n    async for optimizer in ws:\n        await optimizer.step()\n    (lambda: scheduler.step())()\n",
        b"class A:\n    params = filter(None, [])\n    for optimizer in []:\n"
        b"        optimizer[0].step()\n        getattr(optimizer, 'x').step()\n",
        b"while False:\n    try:\n        scheduler.step()\n    finally:\n        optimizer.step()\nelse:\n    pass\n",
    ],
    ids=["latin-1", "very long", "match", "async", "class body", "while, try"],
)
def test_odd_sources_raise_no_finding_and_no_crash(tmp_path: Path, loop: bytes) -> None:
    start = LOOP.partition("def main")[0].encode()
    (tmp_path / "train.py").write_bytes((loop + start) if loop.startswith(b"#") else start + loop)
    code, found = check(tmp_path, "train.py:build")
    assert (code, found) == (0, [])
