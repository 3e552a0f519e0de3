"""What loading a checkpoint changes, told before training resumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import lr_scheduler as s

import lrlint
from lrlint.config import Settings
from lrlint.errors import UsageError


def net() -> nn.Module:
    return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))


def trained(make: Any, schedule: Any = None, steps: int = 4) -> dict[str, Any]:
    """The state of a run after some steps; ``make`` is called with the model."""
    model = net()
    optimizer = make(model)
    scheduler = schedule(optimizer) if schedule else None
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.ones(1, 2)).sum().backward()
        optimizer.step()
        if scheduler:
            scheduler.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    return {**state, "lr_scheduler": scheduler.state_dict()} if scheduler else state


def store(path: Path, state: Any) -> str:
    torch.save(state, path)
    return str(path)


def resumed(model: nn.Module, optimizer: Any, path: str, scheduler: Any = None) -> tuple[dict[str, Any], list[str]]:
    """(the record of the only optimizer, messages of the rule)."""
    run = lrlint.check(model, optimizer, scheduler, resume=path, graph=False, settings=Settings(select=("LR416",)))
    assert run.setup is not None
    (record,) = run.setup.training.options["resumed"]["optimizers"]
    return record, [f"{f.severity}: {f.message}" for f in run.findings]


def cosine(optimizer: Any) -> Any:
    return s.CosineAnnealingLR(optimizer, 10)


def test_a_new_configuration_is_overridden(tmp_path: Path) -> None:
    path = store(tmp_path / "old.pt", trained(lambda m: AdamW(m.parameters(), lr=1e-3, weight_decay=0.1), cosine))
    model = net()
    optimizer = AdamW(model.parameters(), lr=5e-5, weight_decay=0.3, betas=(0.9, 0.95))
    record, messages = resumed(model, optimizer, path, cosine(optimizer))
    assert {c["option"]: (c["configured"], c["loaded"]) for c in record["changes"]} == {
        "lr": (5e-5, pytest.approx(6.545e-4, rel=1e-3)),
        "weight_decay": (0.3, 0.1),
        "betas": ([0.9, 0.95], [0.9, 0.999]),
    }
    assert messages == [
        "warning: loading old.pt replaces lr 5e-05 of group 0 by 6.55e-04, weight_decay 0.3 of group 0 by 0.1 and "
        "betas [0.9, 0.95] of group 0 by [0.9, 0.999]"
    ]
    assert optimizer.param_groups[0]["lr"] == 5e-5
    assert not optimizer.state


def test_progress_of_the_same_run_is_no_change(tmp_path: Path) -> None:
    path = store(tmp_path / "a.pt", trained(lambda m: AdamW(m.parameters(), lr=1e-3), cosine))
    model = net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    record, messages = resumed(model, optimizer, path, cosine(optimizer))
    assert (record["changes"], messages) == ([], [])
    assert record["scheduler"]["loaded"]


def test_one_cycles_momentum_is_no_change(tmp_path: Path) -> None:
    def one_cycle(optimizer: Any) -> Any:
        return s.OneCycleLR(optimizer, 1e-3, total_steps=20)

    path = store(tmp_path / "a.pt", trained(lambda m: AdamW(m.parameters(), lr=1e-3), one_cycle))
    model = net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    assert resumed(model, optimizer, path, one_cycle(optimizer))[1] == []


def test_a_scheduler_that_is_not_loaded_puts_its_own_rate_back(tmp_path: Path) -> None:
    state = trained(lambda m: AdamW(m.parameters(), lr=1e-3), cosine)
    del state["lr_scheduler"]
    model = net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    scheduler = s.LambdaLR(optimizer, lambda t: min(1.0, (t + 1) / 1000))
    record, messages = resumed(model, optimizer, store(tmp_path / "a.pt", state), scheduler)
    assert record["scheduler"]["next_lr"] == pytest.approx([2e-6])
    assert messages == ["warning: group 0: 6.55e-04 after loading a.pt, 2e-06 one scheduler step later"]


def test_groups_in_another_order(tmp_path: Path) -> None:
    path = store(tmp_path / "a.pt", trained(lambda m: AdamW(list(m.parameters())[::-1], lr=1e-3)))
    model = net()
    record, messages = resumed(model, AdamW(model.parameters(), lr=1e-3), path)
    assert record["shapes"] == 2  # the shapes of a bias and a weight never agree; two of four get more dimensions
    assert messages == [
        "error: the state in a.pt is in another order: 2 parameters of 4 would get state of another shape"
    ]


def test_names_tell_an_order_that_shapes_do_not(tmp_path: Path) -> None:
    def two_groups(model: Any, order: tuple[int, int]) -> Any:
        named = [list(layer.named_parameters(prefix=str(k))) for k, layer in enumerate(model)]
        return AdamW([{"params": named[k]} for k in order], lr=1e-3)

    path = store(tmp_path / "a.pt", trained(lambda m: two_groups(m, (1, 0))))
    model = net()
    record, messages = resumed(model, two_groups(model, (0, 1)), path)
    assert record["names"] == ["1.weight", "0.weight"]
    assert messages == ["error: the state in a.pt is in another order: that of `1.weight` lands on `0.weight`"]


def test_other_groups_are_refused(tmp_path: Path) -> None:
    path = store(tmp_path / "a.pt", trained(lambda m: SGD(m.parameters(), lr=0.1)))
    model = net()
    optimizer = SGD([{"params": layer.parameters()} for layer in model.children()], lr=0.1)
    assert resumed(model, optimizer, path)[1] == [
        "error: a.pt does not load: the checkpoint's groups hold [4] parameters, the optimizer's [2, 2]"
    ]


def test_adam_state_in_adamw(tmp_path: Path) -> None:
    path = store(tmp_path / "a.pt", trained(lambda m: Adam(m.parameters(), lr=1e-3)))
    model = net()
    (message,) = resumed(model, AdamW(model.parameters(), lr=1e-3), path)[1]
    assert "weight_decay 0.01 of group 0 by 0" in message


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state["optimizer"],
        lambda state: {"optimizer_state_dict": state["optimizer"]},
        lambda state: {"optimizer_states": [state["optimizer"]], "lr_schedulers": [state["lr_scheduler"]]},
        lambda state: {"optimizers": {"main": state["optimizer"]}},
    ],
)
def test_layouts_of_checkpoints(tmp_path: Path, wrap: Any) -> None:
    state = trained(lambda m: SGD(m.parameters(), lr=0.1, weight_decay=0.5), cosine)
    model = net()
    record, _ = resumed(model, SGD(model.parameters(), lr=0.1), store(tmp_path / "a.pt", wrap(state)))
    assert [(c["option"], c["loaded"]) for c in record["changes"]] == [("weight_decay", 0.5)]


def test_a_folder_as_transformers_writes_it(tmp_path: Path) -> None:
    state = trained(lambda m: SGD(m.parameters(), lr=0.1, weight_decay=0.5), cosine)
    store(tmp_path / "optimizer.pt", state["optimizer"])
    store(tmp_path / "scheduler.pt", state["lr_scheduler"])
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1)
    record, _ = resumed(model, optimizer, str(tmp_path), cosine(optimizer))
    assert record["scheduler"]["loaded"]
    assert record["changes"][0]["loaded"] == 0.5


class Payload:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('it ran')",))


@pytest.mark.parametrize("content", ["pickle", "text", "missing", "no optimizer"])
def test_what_cannot_be_read_is_said_and_nothing_is_run(tmp_path: Path, content: str) -> None:
    path = tmp_path / "a.pt"
    if content == "pickle":
        torch.save({"optimizer": Payload()}, path)
    elif content == "text":
        path.write_text("not a checkpoint")
    elif content == "no optimizer":
        torch.save({"model": {}}, path)
    model = net()
    with pytest.raises(UsageError, match=r"a\.pt"):
        resumed(model, SGD(model.parameters(), lr=0.1), str(path))
