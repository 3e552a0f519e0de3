"""A model that is sharded over processes is looked at, and never run: its training goes on as if nobody had looked."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import lrlint

fsdp = pytest.importorskip("torch.distributed.fsdp")
pytestmark = pytest.mark.skipif(
    not (hasattr(fsdp, "fully_shard") and torch.distributed.is_gloo_available()), reason="needs fully_shard and gloo"
)


@pytest.fixture
def process_group(tmp_path: Path) -> Iterator[None]:
    """This process alone, as a group."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'group'}", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def _sharded() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 1))
    fsdp.fully_shard(model[0], mesh=mesh)
    fsdp.fully_shard(model, mesh=mesh)
    return model, torch.optim.AdamW(model.parameters(), lr=0.01)


X, Y = torch.ones(4, 6), torch.zeros(4, 1)


def _step(model: nn.Module, optimizer: torch.optim.Optimizer) -> float:
    optimizer.zero_grad()
    loss = (model(X) - Y).square().mean()
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("stepped", [False, True])
def test_a_fully_sharded_model_trains_on(process_group: None, stepped: bool) -> None:
    losses: list[list[float]] = []
    for looked in (False, True):
        model, optimizer = _sharded()
        if stepped:
            _step(model, optimizer)
        if looked:
            setup = lrlint.inspect(model, optimizer, example_inputs=(X,))
            (note,) = [note.reason for note in setup.notes if note.fact == "graph"]
            assert "the model is sharded by fully_shard" in note
            result = lrlint.probe(model, optimizer, batches=[(X, Y)], loss_fn=nn.MSELoss(), steps=10)
            assert result.verdict == "inconclusive"
            assert "sharded by fully_shard" in result.facts.reason
        losses.append([_step(model, optimizer) for _ in range(3)])
    assert losses[0] == losses[1]


def test_gathered_parameters_are_no_reason_to_run_it(process_group: None) -> None:
    """After a forward pass alone the parameters are plain ones: it is still sharded."""
    model, optimizer = _sharded()
    model(X)
    setup = lrlint.inspect(model, optimizer, example_inputs=(X,))
    assert any("sharded by fully_shard" in note.reason for note in setup.notes)
    with pytest.raises(lrlint.errors.TargetError, match="sharded by fully_shard"):
        lrlint.graph(model, (X,))


SCRIPT = """
    import torch, lrlint, sys
    from torch import nn
    from torch.distributed.fsdp import fully_shard
    torch.distributed.init_process_group("gloo")
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (2,))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 1))
    fully_shard(model[0], mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    x, y = torch.ones(4, 6), torch.zeros(4, 1)

    def step():
        optimizer.zero_grad()
        loss = (model(x) - y).square().mean()
        loss.backward()
        optimizer.step()
        return loss.item()

    losses = [step()]
    if sys.argv[1] == "looked":
        lrlint.check(model, optimizer, example_inputs=(x,))
        assert lrlint.probe(model, optimizer, batches=[(x, y)], loss_fn=nn.MSELoss(), steps=10).verdict == "inconclusive"
    losses += [step(), step()]
    if torch.distributed.get_rank() == 0:
        print("losses", losses)
    torch.distributed.destroy_process_group()
"""


@pytest.mark.slow
@pytest.mark.long
def test_two_processes_that_share_a_model_train_on(tmp_path: Path) -> None:
    script = tmp_path / "train.py"
    script.write_text(textwrap.dedent(SCRIPT))
    plain, looked = (_run_on_two(script, word) for word in ("plain", "looked"))
    assert plain == looked


def _run_on_two(script: Path, word: str) -> Any:
    environment = {**os.environ, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port()), "WORLD_SIZE": "2"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), word],
            env={**environment, "RANK": str(rank), "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=120)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return [line for line in outputs[0].splitlines() if line.startswith("losses")]


def _free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])
