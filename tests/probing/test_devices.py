"""Where a probe runs: on a GPU where there is one, the same every time, and where the target is if it does not run there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import commands
import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.optim import SGD, AdamW

import lrlint
from lrlint.errors import LrlintError, TargetError
from lrlint.probing.training.determinism import repeatable

GPU = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")]
CPU = torch.device("cpu")
Batch = tuple[torch.Tensor, torch.Tensor]


def gpu(test: Any) -> Any:
    for mark in GPU:
        test = mark(test)
    return test


def task(classes: int = 4) -> list[Batch]:
    g = torch.Generator().manual_seed(0)
    return [(torch.randn(32, 12, generator=g), torch.randint(classes, (32,), generator=g)) for _ in range(20)]


def setup() -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 32), nn.ReLU(), nn.Linear(32, 4))
    return model, SGD(model.parameters(), lr=0.1, momentum=0.9)


def loss_fn(model: nn.Module, batch: Batch) -> torch.Tensor:
    return F.cross_entropy(model(batch[0]), batch[1])


def test_what_does_not_run_on_the_gpu_runs_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands in for a GPU on which the target's code fails: a device that no model can be moved to."""
    monkeypatch.setattr("lrlint.probing.examine.places", lambda *arguments: [torch.device("xpu"), CPU])
    model, optimizer = setup()
    weights = [p.detach().clone() for p in model.parameters()]
    found = lrlint.probe(model, optimizer, batches=task(), loss_fn=loss_fn, device="auto")
    assert (found.verdict, found.facts.device) == ("inconclusive", "cpu")  # labels at random: little is learnt
    assert found.facts.notes[0].startswith("run on cpu: on xpu, moving the model to xpu raised")
    assert found.facts.notes[0] in " ".join(str(found).split())
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), weights, strict=True))
    monkeypatch.undo()
    plain = lrlint.probe(model, optimizer, batches=task(), loss_fn=loss_fn)
    assert plain.facts.arms == found.facts.arms


def test_what_fails_everywhere_is_told_from_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrlint.probing.examine.places", lambda *arguments: [torch.device("xpu"), CPU])
    model, optimizer = setup()
    with pytest.raises(TargetError, match=r"Target \d is out of bounds"):
        lrlint.probe(model, optimizer, batches=task(8), loss_fn=loss_fn)


def refilled(items: list[Batch]) -> Iterator[Batch]:
    """As a loader that fills the same tensors again and again."""
    x, y = (part.clone() for part in items[0])
    for new_x, new_y in items:
        x.copy_(new_x)
        y.copy_(new_y)
        yield x, y


@pytest.mark.parametrize("batches", [iter, refilled])
def test_batches_that_can_be_read_once_serve_every_attempt(
    monkeypatch: pytest.MonkeyPatch, batches: Any, tmp_path: Path
) -> None:
    there = tmp_path / "tried"
    monkeypatch.setattr("lrlint.probing.examine.places", lambda *arguments: [torch.device("cpu", 0), CPU])
    model, optimizer = setup()

    def once(model: nn.Module, batch: Batch) -> torch.Tensor:
        if not there.exists():  # a file: what the function keeps in memory is put back between attempts
            there.touch()
            raise RuntimeError("it does not run there")
        return loss_fn(model, batch)

    found = lrlint.probe(model, optimizer, batches=batches(task()), loss_fn=once)
    plain = lrlint.probe(model, optimizer, batches=task(), loss_fn=once)
    assert found.facts.arms == plain.facts.arms


def test_without_memory_there_it_runs_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrlint.probing.examine.places", lambda *arguments: [torch.device("xpu"), CPU])

    def full(models: Any, optimizers: Any, loss_fn: Any, device: torch.device) -> bool:
        if device.type != "cpu":
            raise torch.OutOfMemoryError("out of memory")
        return False

    monkeypatch.setattr("lrlint.probing.examine.move", full)
    model, optimizer = setup()
    found = lrlint.probe(model, optimizer, batches=task(), loss_fn=loss_fn)
    assert found.verdict == "inconclusive"
    assert found.facts.notes == ("run on cpu: on xpu, a step needs more memory than there is",)


def test_what_cannot_be_repeated_is_run_all_the_same_and_told(tmp_path: Path) -> None:
    model, optimizer = setup()
    raised = tmp_path / "raised"  # a file: what the function keeps in memory is put back

    def once(model: nn.Module, batch: Batch) -> torch.Tensor:
        if not raised.exists():
            raised.touch()
            raise RuntimeError("avg_pool_cuda does not have a deterministic implementation, but you set it")
        return loss_fn(model, batch)

    found = lrlint.probe(model, optimizer, batches=task(), loss_fn=once)
    assert found.verdict == "inconclusive"
    assert found.facts.notes == ("avg_pool_cuda is not deterministic on cpu: figures vary from run to run",)


def test_a_failure_that_shows_late_is_the_targets(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kernel fails at is raised by any later operation on its device, also by those of the probe."""

    def fail(reading: Any) -> None:
        raise RuntimeError("CUDA error: device-side assert triggered\nSearch for it")

    monkeypatch.setattr("lrlint.probing.training.trace.Reading.read", fail)
    model, optimizer = setup()
    weights = [p.detach().clone() for p in model.parameters()]
    with pytest.raises(
        TargetError, match=r"a step raised RuntimeError: CUDA error: device-side assert triggered$"
    ) as told:
        lrlint.probe(model, optimizer, batches=task(), loss_fn=loss_fn)
    assert "--device cpu" in told.value.hint
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), weights, strict=True))


@pytest.fixture
def elsewhere() -> Iterator[None]:
    """A program that makes its tensors on another device; meta stands for it where there is no other."""
    torch.set_default_device("meta")
    yield
    torch.set_default_device(None)


def test_a_default_device_of_the_program_changes_nothing(elsewhere: None) -> None:
    with torch.device("cpu"):
        model, optimizer = setup()
        batches, inputs = task(), torch.randn(8, 12)
    for group in optimizer.param_groups:
        group["lr"] = 100.0
    found = lrlint.probe(model, optimizer, batches=batches, loss_fn=loss_fn)
    made_up = lrlint.probe(model, optimizer, batches=None, example_inputs=(inputs,))
    torch.set_default_device(None)
    assert found.to_dict() == lrlint.probe(model, optimizer, batches=batches, loss_fn=loss_fn).to_dict()
    assert made_up.to_dict() == lrlint.probe(model, optimizer, batches=None, example_inputs=(inputs,)).to_dict()
    assert found.verdict == made_up.verdict == "unstable"


def test_the_forward_pass_is_observed_without_it(elsewhere: None, tmp_path: Path) -> None:
    devices = tmp_path / "devices"

    class Asks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 2, device="cpu")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            devices.open("a").write(f"{torch.get_default_device().type}\n")
            return self.layer(x)

    model = Asks()
    lrlint.check(model, SGD(model.parameters(), lr=0.1), example_inputs=(torch.zeros(1, 4, device="cpu"),))
    assert set(devices.read_text().split()) == {"cpu"}
    assert torch.get_default_device().type == "meta"


IN_DOUBLE = """
import torch
from torch import nn

def setup():
    torch.set_default_dtype(torch.float64)
    model = nn.Linear(12, 4)
    loss = lambda model, batch: (model(torch.ones(8, 12)) - batch).square().mean()
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1), "batches": [torch.zeros(8, 4)] * 20,
            "loss_fn": loss}
"""


def test_steps_are_taken_with_the_settings_that_the_target_left(tmp_path: Path) -> None:
    (tmp_path / "job.py").write_text(IN_DOUBLE)
    done = commands.lrlint("probe", "job.py:setup", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "probe: stable" in done.stdout


# On a GPU


class Attention(nn.Module):
    """Embedding, attention and pooling; with ``irregular`` one that torch cannot repeat."""

    def __init__(self, irregular: bool) -> None:
        super().__init__()
        self.tokens, self.mix = nn.Embedding(40, 64), nn.TransformerEncoderLayer(64, 4, 128, batch_first=True)
        self.conv, self.pool = nn.Conv1d(64, 32, 3), nn.AdaptiveAvgPool2d((8, 3)) if irregular else nn.AvgPool2d(4, 10)
        self.head = nn.LazyLinear(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.pool(self.conv(self.mix(self.tokens(x)).transpose(1, 2))[:, None]).flatten(1))


@gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
@pytest.mark.parametrize("irregular", [False, True])
def test_the_same_seed_gives_the_same_bytes_on_a_gpu(irregular: bool, precision: str) -> None:
    g = torch.Generator().manual_seed(0)
    batches = [(torch.randint(40, (32, 128), generator=g), torch.randint(4, (32,), generator=g)) for _ in range(20)]
    torch.manual_seed(0)
    model = Attention(irregular)
    model(batches[0][0])
    model.cuda()
    optimizer = AdamW(model.parameters(), lr=1e-3)
    options: dict[str, Any] = {"batches": batches, "loss_fn": loss_fn, "precision": precision}
    first = lrlint.probe(model, optimizer, **options)
    if irregular:
        assert "adaptive_avg_pool2d_backward_cuda is not deterministic" in first.facts.notes[0]
    else:
        assert lrlint.probe(model, optimizer, **options).to_dict() == first.to_dict()
        assert not first.facts.notes


def test_settings_that_make_steps_repeatable_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)

    def settings() -> tuple[Any, ...]:
        return (
            torch.are_deterministic_algorithms_enabled(),
            torch.is_deterministic_algorithms_warn_only_enabled(),
            torch.backends.cudnn.benchmark,
            torch.backends.cudnn.deterministic,
            os.environ.get("CUBLAS_WORKSPACE_CONFIG"),
        )

    before = settings()
    with repeatable(torch.device("cuda")):
        assert settings()[:4] == (True, False, False, True)
        assert settings()[4] == before[4]  # read at every matrix product while it is set
    assert settings() == before


@gpu
@pytest.mark.parametrize("set_before", [None, ":16:8"])
def test_matrix_products_are_repeatable_without_a_variable_that_slows_them(set_before: str | None) -> None:
    """In a process of its own: torch asks for the variable at the first product alone."""
    code = (
        "import os, torch\n"
        "from lrlint.probing.training.determinism import repeatable\n"
        "before = os.environ.get('CUBLAS_WORKSPACE_CONFIG')\n"
        "x = torch.ones(8, 8, device='cuda')\n"
        "for _ in range(2):\n"
        "    with repeatable(x.device):\n"
        "        assert os.environ.get('CUBLAS_WORKSPACE_CONFIG') == before\n"
        "        x @ x, torch.bmm(x[None], x[None])\n"
    )
    environment = {key: value for key, value in os.environ.items() if key != "CUBLAS_WORKSPACE_CONFIG"}
    if set_before is not None:
        environment["CUBLAS_WORKSPACE_CONFIG"] = set_before
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@gpu
def test_a_model_on_the_cpu_is_probed_on_the_gpu_and_comes_back() -> None:
    model, optimizer = setup()
    F.mse_loss(model(task()[0][0]), torch.zeros(32, 4)).backward()
    optimizer.step()  # momentum to move
    state = [p.detach().clone() for p in model.parameters()]
    criterion = nn.CrossEntropyLoss(weight=torch.ones(4))
    found = lrlint.probe(model, optimizer, batches=task(), loss_fn=criterion, device="auto")
    assert (found.verdict, found.facts.device, found.facts.notes) == ("stable", "cuda:0", ())
    assert not criterion.weight.is_cuda
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), state, strict=True))
    assert not any(s["momentum_buffer"].is_cuda for s in optimizer.state.values())


@gpu
def test_a_loss_that_stays_on_the_cpu_is_told_and_needs_no_gpu() -> None:
    model, optimizer = setup()
    weight = torch.ones(4)
    loss = lambda model, batch: F.cross_entropy(model(batch[0]), batch[1], weight)  # noqa: E731
    found = lrlint.probe(model, optimizer, batches=task(), loss_fn=loss, device="auto")
    assert (found.facts.device, found.verdict) == ("cpu", "stable")
    assert "Expected all tensors to be on the same device" in found.facts.notes[0]
    with pytest.raises(LrlintError, match="Expected all tensors to be on the same device"):
        lrlint.probe(model, optimizer, batches=task(), loss_fn=loss, device="cuda")


OUT_OF_RANGE = """
import torch
from torch import nn

def setup():
    model = nn.Linear(12, 4)
    batches = [(torch.randn(8, 12), torch.randint(4, 9, (8,))) for _ in range(20)]
    return {"model": model, "optimizer": torch.optim.SGD(model.parameters(), 0.1), "batches": batches,
            "loss_fn": nn.CrossEntropyLoss()}
"""


@gpu
@pytest.mark.parametrize(
    ("device", "told"), [("cuda", "device-side assert triggered"), ("auto", "is out of bounds"), ("cpu", "is out of")]
)
def test_a_device_that_fails_for_good_is_told(tmp_path: Path, device: str, told: str) -> None:
    (tmp_path / "job.py").write_text(OUT_OF_RANGE)
    command = [sys.executable, "-m", "lrlint", "probe", "job.py:setup", "--device", device]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 3, done.stderr
    assert told in done.stderr
    assert ("with --device cpu the error names" in done.stderr) == (device == "cuda")
