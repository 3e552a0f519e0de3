"""The training loop is read from whatever source there is, and never run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import lrlint

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
            optimizer.zero_grad()
        scheduler.step()
"""


def check(folder: Path, target: str, *arguments: str) -> tuple[int, list[dict[str, object]]]:
    run = lrlint("check", target, "--format", "json", "--select", "LR7", *arguments, cwd=folder)
    assert run.returncode in (0, 1), run.stderr
    return run.returncode, json.loads(run.stdout)["findings"]


def test_the_file_of_the_target_is_read_and_its_loop_named(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LOOP)
    code, found = check(tmp_path, "train.py:build")
    assert code == 1
    assert [(item["rule"], item["locations"][0]["line"]) for item in found] == [("LR703", 18)]  # type: ignore[index]


def test_a_snapshot_keeps_what_was_read(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LOOP)
    assert lrlint("show", "train.py:build", "--output", "setup.json", cwd=tmp_path).returncode == 0
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
        b"def f(xs):\n    go = True\n    for x in xs:\n        go = go and x\n        if go:\n            optimizer.step()\n",
        b"def f(x):\n    g(x)\n    optimizer.step()\ndef g(x):\n    f(x)\n    self.f(x)\n    missing.f(x)\n",
        b"def f(m):\n    for n, *p in m.named_parameters():\n        n in n or n.split('.')[0] in p\n",
        b"while False:\n    try:\n        scheduler.step()\n    finally:\n        optimizer.step()\nelse:\n    pass\n",
    ],
    ids=["latin-1", "very long", "match", "async", "class body", "own flag", "recursion", "odd names", "while, try"],
)
def test_odd_sources_raise_no_finding_and_no_crash(tmp_path: Path, loop: bytes) -> None:
    start = LOOP.partition("def main")[0].encode()
    (tmp_path / "train.py").write_bytes((loop + start) if loop.startswith(b"#") else start + loop)
    code, found = check(tmp_path, "train.py:build")
    assert (code, found) == (0, [])


STEP = """
def run(model, optimizer, scheduler, loader):
    for k, batch in enumerate(loader):
        (model(batch).sum() / 4).backward()
        if (k + 1) % 4 == 0:
            optimizer.step()
            optimizer.zero_grad()
        scheduler.step()
"""


@pytest.mark.parametrize(
    ("start", "call"),
    [
        ("from engine.steps import run", "run(model, optimizer, scheduler, loader)"),
        ("from engine import steps", "steps.run(model, optimizer, scheduler, loader)"),
        ("import engine.steps as steps", "steps.run(model, optimizer, scheduler, loader)"),
    ],
)
def test_a_loop_in_another_file_of_the_project_is_followed(tmp_path: Path, start: str, call: str) -> None:
    (tmp_path / "pyproject.toml").touch()
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "__init__.py").touch()
    (tmp_path / "engine" / "steps.py").write_text(STEP)
    build = LOOP.partition("def main")[0]
    (tmp_path / "train.py").write_text(
        f"{build}\ndef main(model, optimizer, scheduler, loader):\n    {start}\n    {call}\n"
    )
    _, found = check(tmp_path, "train.py:build")
    places = [(item["rule"], item["locations"][0]["path"], item["locations"][0]["line"]) for item in found]  # type: ignore[index]
    assert places == [("LR703", "engine/steps.py", 8)]


CLASS = """
class Base:
    def clip(self):
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)

class Trainer(Base):
    def __init__(self, model):
        self.params = filter(lambda p: p.requires_grad, model.parameters())
        self.optimizer = torch.optim.SGD(self.params, lr=0.1)
        self.scaler = torch.amp.GradScaler()

    def step(self, loss):
        self.scaler.scale(loss).backward()
        self.clip()
        self.scaler.step(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.params, 1.0)
"""


def test_a_class_is_read_through_its_methods_and_bases(tmp_path: Path) -> None:
    start = LOOP.partition("def main")[0]
    (tmp_path / "train.py").write_text(start + CLASS)
    _, found = check(tmp_path, "train.py:build")
    first = start.count("\n")
    lines = {(item["rule"], item["locations"][0]["line"] - first) for item in found}  # type: ignore[index]
    assert lines == {("LR701", 4), ("LR702", 16)}


FROZEN = """
import torch
from torch import nn

def build():
    model = nn.Module()
    model.body, model.head = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), nn.Linear(8, 2)
    model.body.requires_grad_(False)
    {once}
    return model, torch.optim.SGD(model.head.parameters(), lr=0.1)

def quiet(module):
    if isinstance(module, nn.BatchNorm1d):
        module.eval()

def main(loader):
    model, optimizer = build()
    for epoch in range(10):
        model.train()
        {each}
        for batch in loader:
            model.head(model.body(batch)).sum().backward()
            optimizer.step()
            optimizer.zero_grad()
        model.eval()
"""


@pytest.mark.parametrize(
    ("once", "each", "expected"),
    [
        ("pass", "model.body.eval()", []),
        ("pass", "model.apply(quiet)", []),
        ("pass", "[m.eval() for m in model.modules() if isinstance(m, nn.BatchNorm1d)]", []),
        ("pass", "for m in model.body.modules(): m.eval()", []),
        ("pass", "teacher.eval()", ["LR504"]),
        ("pass", "pass", ["LR504"]),
        ("model.body.eval()", "pass", ["LR504"]),
        ("pass", "model.head.eval()", ["LR504"]),
    ],
)
def test_parts_that_the_loop_puts_back_into_evaluation_mode(
    tmp_path: Path, once: str, each: str, expected: list[str]
) -> None:
    (tmp_path / "train.py").write_text(FROZEN.format(once=once, each=each))
    _, found = check(tmp_path, "train.py:build", "--select", "LR504")
    assert [item["rule"] for item in found] == expected


LIGHTNING = """
import lightning
import torch
from torch import nn

class Base(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8)), nn.Linear(8, 2)
        self.body.requires_grad_(False)

    def configure_optimizers(self):
        return torch.optim.SGD(self.head.parameters(), lr=0.1)

class Quiet(Base):
    def on_train_epoch_start(self):
        self.body.eval()

class Inherits(Quiet):
    pass

class Loud(Quiet):
    def on_train_epoch_start(self):
        self.head.eval()
"""


@pytest.mark.parametrize(("name", "expected"), [("Quiet", []), ("Inherits", []), ("Loud", ["LR504"])])
def test_parts_that_a_hook_puts_back_into_evaluation_mode(tmp_path: Path, name: str, expected: list[str]) -> None:
    pytest.importorskip("lightning")
    (tmp_path / "train.py").write_text(LIGHTNING)
    _, found = check(tmp_path, f"train.py:{name}", "--select", "LR504")
    assert [item["rule"] for item in found] == expected


WRAPPED = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

def build():
    model = nn.DataParallel(Net())
    slow = [p for n, p in model.named_parameters() if n.startswith("backbone")]
    fast = [p for n, p in model.named_parameters() if not n.startswith("backbone")]
    return model, torch.optim.SGD([{"params": slow, "lr": 0.01}, {"params": fast}], lr=0.1)
"""


def test_names_as_the_target_saw_them_are_in_the_snapshot(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(WRAPPED)
    assert lrlint("show", "train.py:build", "--output", "setup.json", cwd=tmp_path).returncode == 0
    for target in ("train.py:build", "setup.json"):
        _, found = check(tmp_path, target)
        assert [(item["rule"], item["locations"][0]["line"]) for item in found] == [("LR705", 12)]  # type: ignore[index]
        assert found[0]["data"] == {"patterns": ["backbone"], "prefix": "module.", "nearest": ""}


def test_watching_names_leaves_modules_as_they_were(tmp_path: Path) -> None:
    from torch import nn

    from lrlint.targets.load import load

    before = nn.Module.named_parameters
    (tmp_path / "train.py").write_text(WRAPPED)
    built = load(f"{tmp_path / 'train.py'}:build", root=tmp_path)
    assert nn.Module.named_parameters is before
    assert [len(names) for _, names in built.recording.walks] == [4, 4]


UNCLEARED = """
import torch
from torch import nn
from elsewhere import Base

def build():
    model = nn.Linear(4, 2)
    return model, torch.optim.SGD(model.parameters(), lr=0.1)

def update(model, optimizer, x):
    model(x).sum().backward()
    optimizer.step()

def main():
    model, optimizer = build()
    torch.save({"optimizer": optimizer.state_dict()}, "first.pt")
    for x in torch.randn(100, 2, 4):
        update(model, optimizer, x)  # optimizer.zero_grad()
"""
TRAINER = """
class Trainer(%s):
    def train(self):
        for x in self.batches:
            self.model(x).sum().backward()
            self.optimizer.step()
"""


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        (UNCLEARED, [12]),
        (UNCLEARED + "\ndef clear(model):\n    for p in model.parameters():\n        p.grad.data.zero_()\n", []),
        (UNCLEARED.replace("  # optimizer.zero_grad()", "; log(optimizer)"), []),
        (UNCLEARED.replace("  # optimizer.zero_grad()", "; log({'optimizer': optimizer})"), []),
        (UNCLEARED.replace("optimizer.step()", "optimizer.step(); after(model)"), []),
        (UNCLEARED.replace("optimizer.step()", "optimizer.step(); callback.on_step_end()"), []),
        (UNCLEARED.replace("optimizer.step()", "optimizer.step(); delattr(model.weight, 'grad')"), []),
        (
            UNCLEARED.replace("2, 4):\n", "2, 4):\n        model, optimizer = build()\n"),
            [],
        ),
        (UNCLEARED.partition("def update")[0] + TRAINER % "object", []),
    ],
    ids=[
        "a function of the file",
        "cleared anywhere",
        "handed on",
        "in a container",
        "the model",
        "a hook",
        "otherwise",
        "built anew",
        "a method",
    ],
)
def test_gradients_that_nothing_clears_are_found_where_nothing_else_can(
    tmp_path: Path, source: str, lines: list[int]
) -> None:
    (tmp_path / "elsewhere.py").write_text("class Base:\n    pass\n")
    (tmp_path / "train.py").write_text(source)
    found = check(tmp_path, "train.py:build")[1]
    assert [(item["rule"], item["locations"][0]["line"]) for item in found] == [("LR709", line) for line in lines]  # type: ignore[index]


BY_HAND = """
import torch
from torch import nn
from torch.optim import SGD, AdamW

def build():
    model = nn.Sequential(nn.Linear(32, 32), nn.Linear(32, 32))
    for layer in model:
        nn.init.normal_(layer.weight, std=0.02)
    groups = [{"params": layer.parameters()} for layer in model]
    for k, group in enumerate(groups):
        group["lr"] = %s
    return model, %s

def main():
    model, optimizer = build()
    for step in range(100):
        %s
        optimizer.zero_grad()
        model(torch.randn(2, 32)).sum().backward()
        optimizer.step()
"""
ZERO, APART, LARGE = ("0.1 * k", "SGD(groups)"), ("0.1 + k", "SGD(groups)"), ("4e-3", "AdamW(groups)")
SCALED = ("1e-3; group['lr_scale'] = 0.5 + k", "AdamW(groups)")


@pytest.mark.parametrize(
    ("setup", "rule"),
    [(ZERO, "LR204"), (APART, "LR417"), (LARGE, "LR206"), (SCALED, "LR210")],
    ids=lambda item: item[0],
)
@pytest.mark.parametrize(
    ("statement", "sets"),
    [
        ("for group in optimizer.param_groups: group['lr'] = 0.1", True),
        ("for k, g in enumerate(optimizer.param_groups): g['lr'] *= k", True),
        ("optimizer.param_groups[0]['lr'] = 0.1", True),
        ("for group in optimizer.param_groups: print(group['lr'])", False),
        ("adjust(optimizer, step)", False),
    ],
)
def test_rates_that_the_loop_sets_by_hand(
    tmp_path: Path, setup: tuple[str, str], rule: str, statement: str, sets: bool
) -> None:
    (tmp_path / "train.py").write_text(BY_HAND % (*setup, statement))
    found = check(tmp_path, "train.py:build", "--select", rule)[1]
    assert [item["rule"] for item in found if item["rule"] == rule] == ([] if sets else [rule])
