"""`lrlint.probe`: what it says of setups whose fault is known, and that nobody notices that it was there."""

from __future__ import annotations

import copy
import json
import math
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import commands
import pytest
import torch
import torch.nn.functional as F
from setups_probe import Odd
from torch import nn
from torch.optim import SGD, AdamW

import lrlint
from lrlint.errors import DeviceError, LrlintError, UsageError

Batch = tuple[torch.Tensor, torch.Tensor]


def task(count: int = 40, scale: float = 1.0) -> list[Batch]:
    g = torch.Generator().manual_seed(0)
    teacher = torch.randn(12, 4, generator=g)
    inputs = [torch.randn(32, 12, generator=g) * scale for _ in range(count)]
    return [(x, (x @ teacher).argmax(1)) for x in inputs]


def net() -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential()
    model.add_module("body", nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU()))
    model.add_module("norm", nn.BatchNorm1d(32))
    model.add_module("head", nn.Sequential(nn.Dropout(0.1), nn.Linear(32, 4)))
    return model


def loss_fn(model: nn.Module, batch: Batch) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def split(model: Any, body: float, head: float) -> list[dict[str, Any]]:
    rest = [*model.norm.parameters()]
    return [
        {"params": [*model.body.parameters(), *rest], "lr": body, "name": "body"},
        {"params": model.head.parameters(), "lr": head, "name": "head"},
    ]


def probed(rule: Callable[..., Any], body: float, head: float, device: str = "cpu", **options: Any) -> Any:
    model = net()
    optimizer = rule(split(model, body, head), **options)
    return lrlint.probe(model, optimizer, batches=task(), loss_fn=loss_fn, device=device)


@pytest.mark.parametrize(
    ("rule", "rate", "options"),
    [(SGD, 0.1, {"momentum": 0.9}), (AdamW, 3e-3, {}), (Odd, 3e-3, {"lr": 3e-3})],
    ids=["momentum", "adamw", "unknown class"],
)
def test_a_healthy_setup_is_stable_and_cheap(
    rule: Callable[..., Any], rate: float, options: dict[str, Any], device: str
) -> None:
    found = probed(rule, rate, rate, device, **options)
    assert found.verdict == "stable"
    assert found.score < 0.5
    assert found.guilty == []
    assert not [finding for finding in found.findings if finding.severity != "info"]
    assert found.steps_run <= 200 + 2 * 55  # the headroom of two groups
    assert all(group.margin and group.margin >= 1 for group in found.groups)


@pytest.mark.parametrize(
    ("rule", "rates", "options", "guilty"),
    [
        (SGD, (0.05, 300.0), {"momentum": 0.9}, (0, 1)),
        (SGD, (300.0, 0.05), {}, (0, 0)),
        (AdamW, (1e-3, 5.0), {}, (0, 1)),
    ],
    ids=["momentum, head", "sgd, body", "adamw, head"],
)
def test_the_group_at_fault_is_named_and_repaired(
    rule: Callable[..., Any],
    rates: tuple[float, float],
    options: dict[str, Any],
    guilty: tuple[int, int],
    device: str,
) -> None:
    found = probed(rule, *rates, device, **options)
    assert found.verdict == "unstable"
    assert found.score > 1
    assert found.guilty == [guilty]
    best = found.recommendations[0]
    assert best.verified
    assert best.kind == "lr"
    assert best.groups == (guilty,)
    assert any(finding.rule in ("LR901", "LR902", "LR903") for finding in found.findings)
    # The recommendation holds for ten times as long as the probe looked.
    lowered = [rate * best.factor if index == guilty[1] else rate for index, rate in enumerate(rates)]
    model = net()
    optimizer = rule(split(model, *lowered), **options)
    losses = train(model, optimizer, 300)
    assert sum(losses[-20:]) / 20 < 0.6 * losses[0]


def train(model: nn.Module, optimizer: Any, steps: int) -> list[float]:
    torch.manual_seed(3)
    losses, batches = [], task()
    for k in range(steps):
        optimizer.zero_grad()
        loss = loss_fn(model, batches[k % len(batches)])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_what_cannot_learn_is_stalled_and_scores_as_sick(device: str) -> None:
    model = net()
    nn.init.constant_(model.body[0].bias, -1e3)  # every unit is dead
    nn.init.zeros_(model.head[1].weight)
    model.head[1].bias.requires_grad_(False)
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    found = lrlint.probe(model, optimizer, batches=task(), loss_fn=loss_fn, device=device)
    assert found.verdict == "stalled"
    assert found.score >= 1
    assert any("zero" in phrase for phrase in found.facts.seen)


def test_an_outlying_batch_is_no_explosion() -> None:
    """One loss a million times the others passes, when the steps themselves are bounded."""
    torch.manual_seed(0)
    batches = [(x := torch.randn(32, 12), x @ torch.ones(12, 1)) for _ in range(40)]
    batches[8] = (batches[8][0] * 1e3, batches[8][1] * 1e3)
    model = nn.Linear(12, 1)

    def squared(model: nn.Module, batch: Batch) -> torch.Tensor:
        return F.mse_loss(model(batch[0]), batch[1])

    found = lrlint.probe(model, torch.optim.Adam(model.parameters(), lr=0.01), batches=batches, loss_fn=squared)
    assert found.verdict == "stable", found.facts.reason


@pytest.mark.parametrize(
    ("scale", "rate", "verdict"), [(0.0, 0.05, "stable"), (1.0, 0.05, "stable"), (1.0, 50.0, "unstable")]
)
def test_a_loss_may_be_zero_or_negative(scale: float, rate: float, verdict: str) -> None:
    """As a likelihood's may; a rate that overshoots still loses it."""
    torch.manual_seed(0)
    model = nn.Linear(12, 1)

    def loss(model: nn.Module, batch: Batch) -> torch.Tensor:
        miss = model(batch[0]).squeeze(1) - batch[0].sum(1)
        return (miss.square().mean() - 20) * scale

    found = lrlint.probe(model, SGD(model.parameters(), lr=rate), batches=task(), loss_fn=loss)
    assert found.verdict == verdict, found.facts.reason


def test_training_after_a_probe_is_training_without_one(device: str) -> None:
    model = net()
    optimizer = AdamW(split(model, 1e-3, 5.0))
    train(model, optimizer, 3)
    twin, twin_optimizer = copy.deepcopy((model, optimizer))
    random_state = torch.get_rng_state()
    gradient = model.head[1].weight.grad
    assert lrlint.probe(model, optimizer, batches=task(), loss_fn=loss_fn, device=device).steps_run > 60
    assert torch.equal(torch.get_rng_state(), random_state)
    assert model.head[1].weight.grad is gradient
    assert train(model, optimizer, 20) == train(twin, twin_optimizer, 20)


@pytest.mark.parametrize("what", ["model", "loss", "step"])
def test_what_is_compiled_is_probed_as_written_and_is_not_compiled_for_it(what: str) -> None:
    compiled = []

    def backend(graph: Any, inputs: Any) -> Any:
        compiled.append(graph)
        return graph.forward

    model = net()
    optimizer = SGD(split(model, 0.05, 300.0), momentum=0.9)
    probed, loss = model, loss_fn
    if what == "model":
        probed = torch.compile(model, backend=backend)
    elif what == "loss":
        loss = torch.compile(loss_fn, backend=backend)
    else:
        optimizer.step = torch.compile(optimizer.step, backend=backend)
    before = copy.deepcopy(model.state_dict())
    found = lrlint.probe(probed, optimizer, batches=task(), loss_fn=loss)
    assert found.guilty == [(0, 1)]
    assert not compiled
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    loss(probed, task()[0]).backward()
    optimizer.step()
    assert compiled  # the user's own steps are


def test_the_same_seed_gives_the_same_bytes(device: str) -> None:
    first, second = (probed(SGD, 0.05, 30.0, device, momentum=0.9) for _ in range(2))
    assert json.dumps(first.to_dict()) == json.dumps(second.to_dict())
    assert first._repr_html_() == second._repr_html_()


def test_a_notebook_shows_curves_groups_and_what_repairs_it() -> None:
    found = probed(SGD, 0.05, 30.0, momentum=0.9)
    shown = ElementTree.fromstring(f"<div>{found._repr_html_()}</div>")
    titles = [svg.get("aria-label", "").partition(":")[0] for svg in shown.iter("svg")]
    assert titles == ["loss", "update / weights"]
    groups, headroom = shown.iter("table")
    for table in (groups, headroom):
        assert [row.findtext("td") for row in table.iter("tr")][1:] == ["body", "head"]
    assert "verified: multiply its rate" in "".join(shown.itertext())


@pytest.mark.parametrize("error", [RuntimeError("broken loss"), KeyboardInterrupt()], ids=["exception", "Ctrl-C"])
def test_an_interruption_leaves_everything_as_it_was(error: BaseException) -> None:
    model = net()
    optimizer = AdamW(split(model, 1e-2, 1e-2))
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    calls = 0

    def failing(model: nn.Module, batch: Batch) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 17:
            raise error
        return loss_fn(model, batch)

    with pytest.raises((KeyboardInterrupt, LrlintError)):
        lrlint.probe(model, optimizer, batches=task(), loss_fn=failing)
    after = (model.state_dict(), optimizer.state_dict())
    assert after[1] == before[1]
    assert all(torch.equal(value, before[0][name]) for name, value in after[0].items())


def test_few_batches_are_cycled_and_it_is_said() -> None:
    model = net()
    found = lrlint.probe(model, SGD(model.parameters(), lr=0.1), batches=task(4), loss_fn=loss_fn)
    assert found.verdict == "stable"
    assert found.facts.cycled
    assert found.facts.batches == 4


def test_a_budget_ends_the_probe_and_it_is_said() -> None:
    model = net()
    found = lrlint.probe(model, SGD(model.parameters(), lr=0.1), batches=task(), loss_fn=loss_fn, budget=1e-9)
    assert found.verdict == "inconclusive"
    assert "time" in found.facts.reason


def test_the_first_value_that_is_not_finite_is_located() -> None:
    class Root(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x - 50).sqrt()

    model = nn.Sequential(nn.Linear(12, 4), Root())
    found = lrlint.probe(model, SGD(model.parameters(), lr=0.1), batches=task(), loss_fn=loss_fn)
    assert found.verdict == "unstable"
    origin = found.facts.non_finite
    assert (origin.place, origin.module, origin.kind) == ("forward", "1", "nan")


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (lambda model, batch: model(batch[0]), "not one value"),
        (lambda model, batch: loss_fn(model, batch).detach(), "grad"),
        (lambda model, batch: 3.0, "loss"),
        (lambda model, batch: model(batch["x"]), "loss"),
    ],
    ids=["no scalar", "no gradient", "no tensor", "raises"],
)
def test_a_loss_that_is_none_is_refused_with_a_reason(loss: Callable[..., Any], message: str) -> None:
    model = net()
    with pytest.raises(LrlintError, match=message):
        lrlint.probe(model, SGD(model.parameters(), lr=0.1), batches=task(), loss_fn=loss)


def test_arguments_are_checked() -> None:
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1)
    with pytest.raises(UsageError, match="too few"):
        lrlint.probe(model, optimizer, batches=task(), loss_fn=loss_fn, steps=3)
    with pytest.raises(DeviceError, match="xpu"):
        lrlint.probe(model, optimizer, batches=task(), loss_fn=loss_fn, device="xpu:7")


def test_the_peak_is_probed_not_the_start_of_a_warm_up() -> None:
    model = net()
    optimizer = SGD(model.parameters(), lr=200.0, momentum=0.9)
    warm = torch.optim.lr_scheduler.LinearLR(optimizer, 1e-6, 1.0, total_iters=500)
    found = lrlint.probe(model, optimizer, scheduler=warm, batches=task(), loss_fn=loss_fn, total_steps=1000)
    assert found.verdict == "unstable"
    assert found.groups[0].lr == pytest.approx(200.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2e-4)


SCRIPT = """
import torch
from torch import nn

def setup(rate=0.1):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=float(rate))
    teacher = torch.randn(12, 4)
    inputs = [torch.randn(32, 12) for _ in range(40)]
    loss = lambda model, batch: nn.functional.cross_entropy(model(batch[0]), batch[1])
    return {"model": model, "optimizer": optimizer, "batches": [(x, (x @ teacher).argmax(1)) for x in inputs], "loss_fn": loss}
"""


def command(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    (folder / "job.py").write_text(SCRIPT)
    return commands.lrlint("probe", "job.py:setup", *arguments, cwd=folder)


def test_the_command_line_judges_and_draws(tmp_path: Path) -> None:
    sick = command(tmp_path, "--arg", "rate=500", "--format", "json")
    assert sick.returncode == 1, sick.stderr
    found = json.loads(sick.stdout)["findings"]
    assert {item["rule"] for item in found} & {"LR901", "LR902"}
    assert found[0]["locations"][0]["line"] == 8
    healthy = command(tmp_path, "--no-color")
    assert healthy.returncode == 0, healthy.stdout
    assert "stable" in healthy.stdout
    assert "loss" in healthy.stdout


def test_a_required_device_that_is_missing_is_exit_4(tmp_path: Path) -> None:
    missing = command(tmp_path, "--require-device", "xpu")
    assert missing.returncode == 4
    assert "xpu" in missing.stderr


def test_numbers_are_finite_or_said_to_be_none() -> None:
    found = probed(SGD, 0.05, 300.0, momentum=0.9)
    assert math.isfinite(found.score)
    assert all(group.lr > 0 for group in found.groups)
