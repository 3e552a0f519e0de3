"""Several processes of one script: real gloo ranks, started by lrlint itself and by torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from lrlint.cli import main
from lrlint.errors import UsageError
from lrlint.lint.run import Run
from lrlint.runner import session

SCRIPT = """
import sys
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.nn.parallel import DistributedDataParallel

kind = sys.argv[1]
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
net, last = model, dist.get_world_size() - 1

def groups(first):
    return [{"params": list(first.parameters())},
            {"params": [p for p in model.parameters() if all(p is not q for q in first.parameters())], "lr": 2e-3}]

if kind == "crash" and rank == 1:
    raise RuntimeError("rank 1 is broken")
if kind == "freeze" and rank == last:
    model[0].requires_grad_(False)
if kind == "early":
    optimizer = torch.optim.AdamW(groups(model[0]), lr=1e-3)
if kind in ("fsdp", "early"):
    fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
elif kind != "freeze":
    net = DistributedDataParallel(model)
if kind == "zero":
    optimizer = ZeroRedundancyOptimizer(model.parameters(), torch.optim.AdamW, lr=1e-3)
elif kind == "freeze":
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
elif kind != "early":
    optimizer = torch.optim.AdamW(groups(model[2 if kind == "order" and rank == last else 0]), lr=1e-3)
nn.functional.cross_entropy(net(torch.randn(8, 8)), torch.randint(0, 2, (8,))).backward()
optimizer.step()
open("trained", "w").close()
"""


def check(folder: Path, kind: str, count: int = 2, **options: Any) -> Run:
    (folder / "train.py").write_text(SCRIPT, encoding="utf-8")
    asked = {"script": "train.py", "nproc": count, "no_graph": True, "select": ("LR1",), **options}
    run = session.check(session.request([kind], asked))
    assert not (folder / "trained").exists()
    return run


@pytest.mark.parametrize(("kind", "count"), [("order", 4), ("freeze", 2)])
def test_ranks_that_differ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, count: int) -> None:
    monkeypatch.chdir(tmp_path)
    run = check(tmp_path, kind, count)
    found = [f for f in run.findings if f.rule == "LR120"]
    assert {f.severity for f in found} == {"error"}
    assert run.exit_code == 1
    assert run.setup is not None
    assert len(run.setup.ranks) == count
    assert all(f.data["ranks"] == [0, count - 1] for f in found)
    if kind == "order":
        assert [f.message.partition(": ")[2] for f in found] == [
            "lr 0.001 on rank 0, lr 0.002 on rank 3",
            "lr 0.002 on rank 0, lr 0.001 on rank 3",
        ]
    else:
        assert "in no optimizer on rank 1" in found[0].message
    assert run.extras["ranks"] == [f"ranks 0–{count - 1} do not all agree about their parameter groups"]


@pytest.mark.parametrize("kind", ["plain", "fsdp", "zero"])
def test_ranks_that_agree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.chdir(tmp_path)
    run = check(tmp_path, kind)
    assert (run.findings, run.failures) == ((), ())
    assert run.extras["ranks"] == ["ranks 0–1 agree about their parameter groups"]


def test_an_optimizer_built_before_sharding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = check(tmp_path, "early")
    assert [f.rule for f in run.findings] == ["LR102"]
    assert "built before the model was sharded" in run.findings[0].message


def test_a_rank_that_fails_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = check(tmp_path, "crash")
    assert [f.message.partition(":")[0] for f in run.failures] == ["on rank 1"]
    assert "rank 1 is broken" in run.failures[0].message
    assert run.exit_code == 3


def test_processes_need_processes() -> None:
    with pytest.raises(UsageError, match="--jobs 0 forbids"):
        session.request(["x"], {"script": "train.py", "nproc": 2, "jobs": 0})


def torchrun(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    lint = ["-m", "lrlint", "check", "--no-graph", "--select", "LR1", *arguments]
    return subprocess.run([*command, *lint], capture_output=True, text=True, timeout=180, check=False)


@pytest.mark.slow
def test_one_report_under_torchrun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text(SCRIPT, encoding="utf-8")
    failed = torchrun("--output", "lint.json", "--script", "train.py", "--", "order")
    assert failed.stdout.count("error[LR120]") == 2, "a report of one rank"
    assert json.loads((tmp_path / "lint.json").read_text())["summary"]["exit_code"] == 1
    assert failed.returncode == 1
    assert "exitcode  : 1" in failed.stderr, "ranks exit with the code of rank 0"  # torchrun may end the second before


def test_findings_alone_need_not_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "setup.py").write_text("import torch\n\ndef build():\n    net = torch.nn.Linear(2, 2)\n"
                                       "    return net, torch.optim.SGD([net.weight], lr=0.1)\n")  # fmt: skip
    assert main._run(["check", "--no-graph", "--jobs", "0", "setup.py:build"]) == 1
    assert main._run(["check", "--no-graph", "--jobs", "0", "--exit-zero", "setup.py:build"]) == 0
    assert main._run(["check", "--no-graph", "--jobs", "0", "--exit-zero", "setup.py:lost"]) == 2
