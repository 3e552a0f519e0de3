"""However a script ends, what was seen by then is told, and nothing of it stays."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from lrlint.lint.run import Failure
from lrlint.rehearsal.sandbox import scratch
from tests.rehearsal.running import inspected, write

START = """
import os, torch
from torch import nn
torch.manual_seed(0)
model = nn.Linear(4, 1); optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
def step():
    optimizer.zero_grad(); loss = model(torch.randn(8, 4)).square().mean(); loss.backward(); optimizer.step()
    return loss.item()
"""


def script(folder: Path, text: str) -> Path:
    return write(folder, START + textwrap.dedent(text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("for _ in range(10): step()\nos._exit(7)", "os._exit(7)"),
        (
            "step(); step()\nimport multiprocessing; multiprocessing.Process(target=print).start()",
            "processes of its own",
        ),
        ("for _ in range(10): step()\nraise SystemExit(3)", "the script ended"),
    ],
)
def test_a_script_that_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str) -> None:
    loop = inspected(script(tmp_path, text), monkeypatch).loop
    assert loop.steps >= 2
    assert said in loop.end


def test_a_script_that_trains_on_whatever_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    while True:
        try:
            while True:
                step()
        except: pass
        open("left", "w").close()
    """
    loop = inspected(script(tmp_path, text), monkeypatch, seconds=2.0).loop
    assert loop.steps >= 6
    assert not (tmp_path / "left").exists()


def test_an_exception_after_the_first_step_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = inspected(script(tmp_path, "step(); step()\nraise ValueError('no data left')"), monkeypatch).loop
    assert (loop.raised.type, loop.raised.message, loop.raised.steps) == ("ValueError", "no data left", 2)
    assert not loop.raised.non_finite


def test_an_exception_before_the_first_step_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failure = inspected(script(tmp_path, "raise ValueError('no data')\nstep()"), monkeypatch)
    assert isinstance(failure, Failure)
    assert failure.exit_code == 3
    assert "no data" in failure.message


def test_the_files_of_a_rehearsal_are_named_and_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    os.makedirs("runs"); open("runs/log.txt", "w").write("begun")
    try:
        for _ in range(10): step()
    finally:
        torch.save(model.state_dict(), "last.pt")
    """
    loop = inspected(script(tmp_path, text), monkeypatch).loop
    assert set(loop.held) >= {"last.pt", "runs/log.txt"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["train.py"]


def test_losses_are_those_of_the_script_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = script(tmp_path, "losses = [step() for _ in range(6)]\nif __name__ == '__main__': print(losses)")
    alone: dict[str, object] = {"__name__": "alone"}
    exec(compile(path.read_text(), str(path), "exec"), alone)
    assert list(inspected(path, monkeypatch).loop.losses) == alone["losses"]


def test_lengths_are_asked_and_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
    for epoch in range(50):
        for k, batch in enumerate(range(200)):
            step()
    """
    setup = inspected(script(tmp_path, text), monkeypatch)
    assert (setup.training.total_steps, setup.training.steps_per_epoch) == (10_000, 200)
    assert setup.loop.epochs == (0, 1, 49)
    assert setup.loop.steps == 9


def test_a_loop_without_a_length_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    setup = inspected(script(tmp_path, "while True:\n    step()"), monkeypatch)
    assert setup.training.total_steps is None
    assert setup.note("total_steps") == "the loop at train.py:9 has no length (total_steps)"


def test_a_script_that_fills_what_holds_its_writes_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "memory_bytes", lambda: 4 << 20)
    text = "step(); step()\nopen('large', 'wb').write(bytes(8 << 20))"
    setup = inspected(script(tmp_path, text), monkeypatch)
    assert setup.loop.raised.type == "OSError"
    assert any("filled the memory" in note.reason for note in setup.notes)
