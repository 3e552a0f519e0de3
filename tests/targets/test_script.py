"""Unmodified training scripts as targets: they run to their first optimizer.step(), and no further."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
import torch.multiprocessing
from commands import lrlint

from lrlint.errors import TargetError, UsageError
from lrlint.inspection.build import build
from lrlint.targets.load import load

NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 8), nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x).relu())
"""

PLAIN = f"""
import argparse
{NET}
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--lr", type=float, required=True)
    lr = parser.parse_args().lr
    net, criterion = Net(), nn.CrossEntropyLoss()
    optimizer = torch.optim.SGD(
        [{{"params": net.body.parameters(), "lr": lr / 10}}, {{"params": [net.head.weight]}}], lr=lr)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 3)
    for _ in range(10):
        try:
            loss = criterion(net(torch.randn(4, 4)), torch.zeros(4, dtype=torch.long))
            loss.backward()
            optimizer.step()
        except Exception:
            pass
        open("trained", "w").close()

if __name__ == "__main__":
    main()
"""

PAIR = f"""
{NET}
class Trainer:
    def __init__(self):
        self.generator, self.critic = Net(), Net()
        self.optimizers = {{
            "g": torch.optim.Adam(self.generator.parameters(), 1e-4),
            "c": torch.optim.Adam(self.critic.parameters(), 4e-4),
        }}

    def step(self, x):
        self.critic(x).sum().backward()
        self.optimizers["c"].step()

unused = torch.optim.SGD(Net().parameters(), 1.0)
del unused
Trainer().step(torch.randn(2, 4))
"""


def script(folder: Path, text: str) -> str:
    (folder / "train.py").write_text(text)
    return str(folder / "train.py")


def test_a_script_stops_before_its_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built = load(None, script=script(tmp_path, PLAIN), script_args=["--lr", "0.1"])
    assert not (tmp_path / "trained").exists()
    setup = build(built, graph=False)
    (optimizer,) = setup.optimizers
    assert [group.lr for group in optimizer.groups] == [pytest.approx(0.01), 0.1]
    assert [schedule.class_name for schedule in setup.schedules] == ["StepLR"]
    assert [p.name for p in setup.parameters if p.index not in setup.membership] == ["head.bias"]
    first = optimizer.groups[0].span
    assert first is not None
    line = PLAIN.split("\n")[first.line - 1]
    assert line.strip().startswith('[{"params": net.body')
    assert setup.span is not None
    assert PLAIN.split("\n")[setup.span.line - 1].strip() == "optimizer.step()", "what has no place of its own"


def test_several_models_and_optimizers_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    built = load(None, script=script(tmp_path, PAIR))
    assert sorted(built.models) == ["critic", "generator"]
    setup = build(built, graph=False)
    assert sorted(group.lr or 0 for optimizer in setup.optimizers for group in optimizer.groups) == [1e-4, 4e-4]
    assert not setup.discarded, "the one that was deleted held nothing of these models"
    assert not [p.name for p in setup.parameters if p.origin == "model" and p.index not in setup.membership]


def test_the_keys_of_a_table_of_optimizers_are_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAIR.replace('self.optimizers["c"].step()', "[o.step() for o in self.optimizers.values()]")
    built = load(None, script=script(tmp_path, text))
    assert sorted(built.optimizers) == ["c", "g"]


def test_a_class_of_the_script_is_marked_where_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"{NET}\nnet = Net()\ntorch.optim.SGD(net.parameters(), 0.5).step()\n"
    root, *_ = build(load(None, script=script(tmp_path, text)), graph=False).modules
    assert root.span is not None
    assert text.split("\n")[root.span.line - 1] == "class Net(nn.Module):"


SAM = f"""
{NET}
class SAM(torch.optim.Optimizer):
    def __init__(self, params, base, **options):
        super().__init__(params, dict(rho=0.05, **options))
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    def second_step(self):
        self.base_optimizer.step()

net = Net()
optimizer = SAM(net.parameters(), torch.optim.SGD, lr=0.1)
net(torch.randn(2, 4)).sum().backward()
optimizer.second_step()
"""


def test_an_optimizer_and_the_one_that_it_steps_are_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    setup = build(load(None, script=script(tmp_path, SAM)), graph=False)
    assert [optimizer.class_name for optimizer in setup.optimizers] == ["SAM"]
    assert not setup.discarded


NORMED = f"""
{NET}
net = nn.ModuleDict({{"body": nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), "head": nn.Linear(8, 2)}})
net.body.requires_grad_(False)
optimizer = torch.optim.SGD(net.head.parameters(), lr=0.1)
for _ in range(2):
    net.train()
    net.body.eval()
    net.head(net.body(torch.randn(4, 4))).sum().backward()
    optimizer.step()
"""


def test_modes_are_those_of_the_first_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for text, expected in ((NORMED, False), (NORMED.replace("net.body.eval()", ""), True)):
        setup = build(load(None, script=script(tmp_path, text)), graph=False)
        assert [norm.trains_statistics for norm in setup.norms] == [expected]


def test_a_library_that_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("accelerate")
    text = f"""
from accelerate import Accelerator
{NET}
accelerator = Accelerator(cpu=True)
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
net, optimizer = accelerator.prepare(net, optimizer)
accelerator.backward(net(torch.randn(2, 4)).sum())
optimizer.step()
raise SystemExit("too far")
"""
    monkeypatch.chdir(tmp_path)
    built = load(None, script=script(tmp_path, text))
    assert [type(optimizer).__name__ for optimizer in built.optimizers.values()] == ["AdamW"]
    assert len(build(built, graph=False).parameters) == 4


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import torch", "ended without an optimizer.step"),
        (PLAIN, "called sys.exit(2)"),
        (
            "import torch\np = torch.nn.Parameter(torch.ones(2))\np.grad = p * 1\ntorch.optim.SGD([p], 1.0).step()",
            "no model",
        ),
        ("1 / 0", "ZeroDivisionError"),
    ],
    ids=["no step", "arguments missing", "no model", "raises"],
)
def test_a_script_that_gives_no_setup(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(TargetError) as raised:
        load(None, script=script(tmp_path, text))
    assert said in raised.value.message
    assert getattr(sys.modules["__main__"], "__file__", None) != str(tmp_path / "train.py")


def test_a_script_that_catches_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = f"{NET}\nnet = Net()\noptimizer = torch.optim.SGD(net.parameters(), 0.5)\n"
    for end in ("import sys\n    sys.exit(3)", "while True: pass"):
        loop = f"try:\n    optimizer.step()\nexcept BaseException:\n    {end}\n"
        built = load(None, script=script(tmp_path, text + loop), timeout=5)
        assert built.optimizers[""].param_groups[0]["lr"] == 0.5


SPAWNED = f"""
import sys
import torch.multiprocessing as mp
{NET}
def work(rank, rate):
    net = Net()
    torch.optim.SGD(net.parameters(), rate + rank).step()
    open("trained", "w").close()

if __name__ == "__main__":
    mp.spawn(work, args=(0.5,), nprocs=int(sys.argv[1]))
"""


def test_processes_that_a_script_starts_do_not_train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    alone = load(None, script=script(tmp_path, SPAWNED), script_args=["1"])
    assert alone.optimizers[""].param_groups[0]["lr"] == 0.5
    with pytest.raises(TargetError, match="trains in 2 processes of its own") as raised:
        load(None, script=script(tmp_path, SPAWNED), script_args=["2"])
    assert "torchrun" in raised.value.hint
    assert not (tmp_path / "trained").exists()
    assert torch.multiprocessing.start_processes.__module__ == "torch.multiprocessing.spawn"


def test_a_module_as_a_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    package = tmp_path / "shop_of_scripts"
    package.mkdir()
    for name in ("__init__.py", "__main__.py", "net.py"):
        (package / name).write_text("from .train import run\nrun()\n" if name == "__main__.py" else "")
    (package / "net.py").write_text(NET)
    (package / "train.py").write_text(
        "import torch\nfrom .net import Net\n\ndef run():\n    net = Net()\n"
        "    torch.optim.SGD(net.parameters(), 0.5).step()\n\nif __name__ == '__main__':\n    run()\n"
    )
    for name in ("shop_of_scripts.train", "shop_of_scripts"):
        assert load(None, script=name).optimizers[""].param_groups[0]["lr"] == 0.5
    with pytest.raises(TargetError, match="no known parent package") as raised:
        load(None, script=str(package / "train.py"))
    assert "python -m" in raised.value.hint
    for name in ("not.there", "shop_of_scripts.nothing", "sys", "shop_of_scripts.train.more"):
        with pytest.raises(UsageError, match="there is no script"):
            load(None, script=name)


def test_a_distributed_script_without_its_launcher(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TargetError, match="RANK expected") as raised:
        load(None, script=script(tmp_path, "import torch\ntorch.distributed.init_process_group('gloo')\n"))
    assert "torchrun" in raised.value.hint


def test_the_command_line_passes_the_script_its_arguments(tmp_path: Path) -> None:
    script(tmp_path, PLAIN)
    done = lrlint("show", "--script", "train.py", "--", "--lr", "0.5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "0.5" in done.stdout
    assert "SGD" in done.stdout
    both = lrlint("show", "--script", "train.py", "--model", "a:b", cwd=tmp_path)
    assert both.returncode == 2
    assert "not both" in both.stderr


PARTS = """
import torch
from torch import nn
parts = [nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 8)), nn.Sequential(nn.Linear(8, 2)), nn.Sequential(nn.Linear(2, 2))]
opts = {"first": torch.optim.AdamW(parts[0][0].parameters(), lr=1e-3), "last": torch.optim.SGD(parts[1].parameters(), 0.1)}
for step in range(3):
    x = torch.randn(4, 4)
    for m in parts[:LAST]:
        x = m(x)
    x.sum().backward()
    for o in opts.values():
        o.step()
        o.zero_grad()
    opts["first"].param_groups[0]["lr"] *= 2
"""


def test_models_in_a_list_are_its_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for last, models, outside in (
        (2, ["parts.0", "parts.1"], ["parts.0.1"]),
        (3, ["parts.0", "parts.1", "parts.2"], ["parts.0.1", "parts.2.0"]),  # it has gradients, and no optimizer
    ):
        built = load(None, script=script(tmp_path, PARTS.replace("LAST", str(last))))
        assert sorted(built.models) == models
        setup = build(built, graph=False)
        assert sorted({p.module for p in setup.parameters if p.index not in setup.membership}) == outside


def test_another_step_than_the_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    target = script(tmp_path, PARTS.replace("LAST", "2"))

    def at(step: int, name: str = "") -> tuple[float, set[int]]:
        built = load(None, script=target, at_step=step, steps_of=name)
        first = built.optimizers["first"]
        return first.param_groups[0]["lr"], {len(o.state) for o in built.optimizers.values()}

    assert at(1) == (1e-3, {0})
    assert at(1, "last") == (1e-3, {2, 0}), "the other one has stepped"
    assert at(2)[0] == 2e-3
    assert at(3, "SGD")[0] == 4e-3
    with pytest.raises(TargetError, match="ended before step 4 of 'last'"):
        at(4, "last")
    with pytest.raises(TargetError, match="before step 1 of 'lost'") as raised:
        at(1, "lost")
    assert raised.value.hint == "optimizers that stepped: first, last"


IN_BACKWARD = f"""
{NET}
net = Net()
optimizers = {{p: torch.optim.SGD([p], lr=0.1, weight_decay=0.1 if p.ndim > 1 else 0.0) for p in net.parameters()}}
for p in net.parameters():
    p.register_post_accumulate_grad_hook(lambda p: optimizers[p].step())
net(torch.randn(2, 4)).sum().backward()
"""


def test_an_optimizer_per_parameter_is_one_optimizer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    setup = build(load(None, script=script(tmp_path, IN_BACKWARD)), graph=False)
    (optimizer,) = setup.optimizers
    assert (optimizer.class_name, [len(group.parameters) for group in optimizer.groups]) == ("SGD", [2, 2])
    assert not setup.discarded


@pytest.mark.parametrize("change", ["copy.deepcopy(net)", "fully_shard(net, mesh=mesh)"])
def test_an_optimizer_that_was_built_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str) -> None:
    from lrlint.config.settings import Settings
    from lrlint.lint.run import lint

    text = f"""
import copy
{NET}
net = Net()
optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3)
if {"shard" in change}:
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.device_mesh import init_device_mesh
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    mesh = init_device_mesh("cpu", (1,))
net = {change}
net(torch.randn(2, 4)).sum().backward()
optimizer.step()
"""
    monkeypatch.chdir(tmp_path)
    try:
        setup = build(load(None, script=script(tmp_path, text)), graph=False)
    finally:
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
    found = {f.rule: f.message for f in lint(setup, Settings()).findings}
    assert ("sharded" if "shard" in change else "copied") in found["LR102"]
