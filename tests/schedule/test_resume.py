"""What loading a checkpoint changes, told before training resumes."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW
from torch.optim import lr_scheduler as s

import lrlint
from lrlint.config.loader import Settings
from lrlint.errors import UsageError
from lrlint.facts.resume import ResumedOptimizer


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


def resumed(model: nn.Module, optimizer: Any, path: str, scheduler: Any = None) -> tuple[ResumedOptimizer, list[str]]:
    """(the record of the only optimizer, messages of the rule)."""
    run = lrlint.check(model, optimizer, scheduler, resume=path, graph=False, settings=Settings(select=("LR416",)))
    assert run.setup is not None
    assert run.setup.resume is not None
    (record,) = run.setup.resume.optimizers
    return record, [f"{f.severity}: {f.message}" for f in run.findings]


def cosine(optimizer: Any) -> Any:
    return s.CosineAnnealingLR(optimizer, 10)


def test_a_new_configuration_is_overridden(tmp_path: Path) -> None:
    path = store(tmp_path / "old.pt", trained(lambda m: AdamW(m.parameters(), lr=1e-3, weight_decay=0.1), cosine))
    model = net()
    optimizer = AdamW(model.parameters(), lr=5e-5, weight_decay=0.3, betas=(0.9, 0.95))
    record, messages = resumed(model, optimizer, path, cosine(optimizer))
    assert {c.option: (c.configured, c.loaded) for c in record.changes} == {
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
    assert (record.changes, messages) == ((), [])
    assert record.scheduler is not None
    assert record.scheduler.loaded


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
    assert record.scheduler is not None
    assert record.scheduler.next_lr == pytest.approx([2e-6])
    assert messages == ["warning: group 0: 6.55e-04 after loading a.pt, 2e-06 one scheduler step later"]


def test_groups_in_another_order(tmp_path: Path) -> None:
    path = store(tmp_path / "a.pt", trained(lambda m: AdamW(list(m.parameters())[::-1], lr=1e-3)))
    model = net()
    record, messages = resumed(model, AdamW(model.parameters(), lr=1e-3), path)
    assert record.shapes == 2  # the shapes of a bias and a weight never agree; two of four get more dimensions
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
    assert record.names == ("1.weight", "0.weight")
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
    assert [(c.option, c.loaded) for c in record.changes] == [("weight_decay", 0.5)]


def test_a_folder_as_transformers_writes_it(tmp_path: Path) -> None:
    state = trained(lambda m: SGD(m.parameters(), lr=0.1, weight_decay=0.5), cosine)
    store(tmp_path / "optimizer.pt", state["optimizer"])
    store(tmp_path / "scheduler.pt", state["lr_scheduler"])
    model = net()
    optimizer = SGD(model.parameters(), lr=0.1)
    record, _ = resumed(model, optimizer, str(tmp_path), cosine(optimizer))
    assert record.scheduler is not None
    assert record.scheduler.loaded
    assert record.changes[0].loaded == 0.5


def test_a_folder_as_accelerate_writes_it_for_two_optimizers(tmp_path: Path) -> None:
    for suffix, decay in (("", 0.5), ("_1", 0.25)):
        state = trained(lambda m, d=decay: SGD(m.parameters(), lr=0.1, weight_decay=d))
        store(tmp_path / f"optimizer{suffix}.bin", state["optimizer"])
    models = [net(), net()]
    optimizers = [SGD(m.parameters(), lr=0.1) for m in models]
    run = lrlint.check(models, optimizers, resume=str(tmp_path), graph=False, settings=Settings(select=("LR416",)))
    assert run.setup is not None
    assert run.setup.resume is not None
    assert [[change.loaded for change in record.changes] for record in run.setup.resume.optimizers] == [[0.5], [0.25]]


def test_the_old_length_of_a_schedule_comes_back(tmp_path: Path) -> None:
    path = store(tmp_path / "a.pt", trained(lambda m: AdamW(m.parameters(), lr=1e-3), cosine))
    model = net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    assert resumed(model, optimizer, path, s.CosineAnnealingLR(optimizer, 20))[1] == [
        "warning: loading a.pt replaces T_max 20 of CosineAnnealingLR by 10"
    ]


def test_the_old_milestones_of_a_nested_schedule_come_back(tmp_path: Path) -> None:
    def sequence(milestone: int) -> Any:
        def make(optimizer: Any) -> Any:
            parts = [s.LinearLR(optimizer, 0.1, total_iters=5), s.MultiStepLR(optimizer, [milestone, 30])]
            return s.SequentialLR(optimizer, parts, [5])

        return make

    path = store(tmp_path / "a.pt", trained(lambda m: AdamW(m.parameters(), lr=1e-3), sequence(10)))
    model = net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    assert resumed(model, optimizer, path, sequence(10)(optimizer))[1] == []
    optimizer = AdamW(model.parameters(), lr=1e-3)
    assert resumed(model, optimizer, path, sequence(20)(optimizer))[1] == [
        "warning: loading a.pt replaces milestones 20, 30 of MultiStepLR by 10, 30"
    ]


def test_the_state_of_another_scheduler_class(tmp_path: Path) -> None:
    path = store(tmp_path / "a.pt", trained(lambda m: AdamW(m.parameters(), lr=1e-3), lambda o: s.StepLR(o, 30)))
    model = net()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    assert resumed(model, optimizer, path, cosine(optimizer))[1] == [
        "warning: the scheduler state in a.pt was not saved by a CosineAnnealingLR: its arguments are not in it"
    ]


@pytest.mark.parametrize("beside", ["namespace", "numpy", "path"])
def test_plain_records_beside_the_states_do_not_matter(tmp_path: Path, beside: str) -> None:
    import argparse

    numpy = pytest.importorskip("numpy")
    extra = {
        "namespace": argparse.Namespace(lr=0.1, out=Path("runs")),
        "numpy": {"best": numpy.float64(0.3), "rng": numpy.random.get_state()},
        "path": Path("runs"),
    }[beside]
    state = trained(lambda m: SGD(m.parameters(), lr=0.1, weight_decay=0.5))
    model = net()
    record, _ = resumed(model, SGD(model.parameters(), lr=0.1), store(tmp_path / "a.pt", {**state, "args": extra}))
    assert record.changes[0].loaded == 0.5


def test_a_large_checkpoint_is_mapped_and_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    modes = []
    load = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: modes.append(k["mmap"]) or load(*a, **k))
    state = trained(lambda m: SGD(m.parameters(), lr=0.1))
    model = net()
    resumed(model, SGD(model.parameters(), lr=0.1), store(tmp_path / "a.pt", state))
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)  # this format cannot be mapped
    resumed(model, SGD(model.parameters(), lr=0.1), str(tmp_path / "old.pt"))
    assert modes == [True, False]


class Payload:
    def __reduce__(self) -> Any:
        return (exec, ("raise SystemExit('it ran')",))


def unreadable(path: Path, content: str) -> None:
    groups = {"param_groups": [{"lr": 1.0}], "state": {}}
    held: dict[str, Any] = {
        "pickle": {"optimizer": Payload()},
        "pickle beside": {**trained(lambda m: SGD(m.parameters(), lr=0.1)), "extra": Payload()},
        "object": {"optimizer": SGD(net().parameters(), lr=0.1)},
        "no optimizer": {"model": {}},
        "groups without parameters": {"optimizer": groups},
        "groups of numbers": {"optimizer": {"param_groups": [1, 2], "state": {}}},
        "state of a list": {"optimizer": {"param_groups": [], "state": []}},
    }
    if content in held:
        torch.save(held[content], path)
    elif content == "truncated":
        torch.save(trained(lambda m: SGD(m.parameters(), lr=0.1)), path)
        path.write_bytes(path.read_bytes()[:-300])
    elif content != "missing":
        path.write_text({"text": "not a checkpoint", "empty": ""}[content])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("pickle", r"it holds `exec`, which could run code when loaded; nothing was run"),
        ("pickle beside", r"it holds `exec`"),
        ("object", r"it holds `torch\.optim\.sgd\.SGD`"),
        ("text", "it is damaged, or was not written by torch.save"),
        ("truncated", "it is damaged, or was not written by torch.save"),
        ("empty", "it is empty"),
        ("missing", "No such file"),
        ("no optimizer", "no optimizer state"),
        ("groups without parameters", "no optimizer state"),
        ("groups of numbers", "no optimizer state"),
        ("state of a list", "no optimizer state"),
    ],
)
def test_what_cannot_be_read_is_said_and_nothing_is_run(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.pt"
    unreadable(path, content)
    model = net()
    with pytest.raises(UsageError, match=r"a\.pt") as caught:
        resumed(model, SGD(model.parameters(), lr=0.1), str(path))
    assert re.search(said, str(caught.value))
    assert "weights_only` set to `False`" not in str(caught.value)  # torch's own advice


@pytest.mark.parametrize(
    ("files", "hint"),
    [
        (["checkpoint-10/optimizer.pt", "checkpoint-5/optimizer.pt"], "it has checkpoint-10, checkpoint-5"),
        (["global_step5/zero_pp_rank_0_mp_rank_00_optim_states.pt"], "sharded"),
        ([], "expected optimizer.pt or optimizer.bin"),
    ],
)
def test_a_folder_without_a_state_says_where_to_look(tmp_path: Path, files: list[str], hint: str) -> None:
    for file in files:
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).touch()
    model = net()
    with pytest.raises(UsageError) as caught:
        resumed(model, SGD(model.parameters(), lr=0.1), str(tmp_path))
    assert hint in (caught.value.hint or "")
