"""Targets that do harm, each beside good ones: they lose themselves, and nobody else."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from lrlint.config import loader
from lrlint.config.settings import Target
from lrlint.lint.run import Run
from lrlint.runner import session

HEAD = """
    import os, stat, sys, signal, resource, time
    import torch
    from torch import nn

    def good():
        model = nn.Linear(4, 2)
        return model, torch.optim.SGD(model.parameters(), lr=0.1)

    def garbage(data):
        for number in range(3, 64):
            try:
                if stat.S_ISFIFO(os.fstat(number).st_mode):
                    os.write(number, data)
            except OSError:
                pass
"""

#: What the factory does, by name; what it says afterwards, if it says anything; and its exit code.
HOSTILE: dict[str, tuple[str, str, int | None]] = {
    "kills_its_group": ("os.killpg(os.getpgrp(), signal.SIGKILL)", "killed by SIGKILL", 3),
    "terminates_its_group": ("os.killpg(0, signal.SIGTERM)", "killed by SIGTERM", 3),
    "crashes": ("os.kill(os.getpid(), signal.SIGSEGV)", "killed by SIGSEGV", 3),
    "leaves": ("os._exit(0)", "ended the process with exit code 0", 3),
    "writes_garbage": ("garbage(b'garbage')", "", None),
    "writes_garbage_and_leaves": ("garbage(bytes(range(128, 160))); os._exit(0)", "ended the process", 3),
    "sends_a_pickle": ("import pickle; garbage(pickle.dumps({'setup': {}})); os._exit(0)", "ended the process", 3),
    "closes_everything": ("os.closerange(3, 256)", "ended the process|its process", 3),
    "leaves_a_process_behind": ("if os.fork() == 0: time.sleep(600)", "", None),
    "replaces_exit": ("os._exit = lambda code: None", "", None),
    "replaces_getcwd": ("os.getcwd = lambda: 1 / 0", "", None),
    "replaces_chdir": ("os.chdir = None", "", None),
    "ignores_termination": ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", "", None),
    "takes_all_files": ("resource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))", "", None),
    "raises_in_the_end": ("raise KeyboardInterrupt", "KeyboardInterrupt", 3),
}

CLASSES = {
    "modules": "def modules(self): raise ZeroDivisionError('mine')",
    "named_modules": "def named_modules(self, *a, **k): raise ZeroDivisionError('mine')",
    "parameters": "def parameters(self, recurse=True): raise ZeroDivisionError('mine')",
    "hash": "def __hash__(self): raise ZeroDivisionError('mine')",
    "eq": "def __eq__(self, other): raise ZeroDivisionError('mine')\n        __hash__ = nn.Module.__hash__",
    "getattribute": "def __getattr__(self, name): raise ZeroDivisionError('mine')",
    "str": "def __repr__(self): raise ZeroDivisionError('mine')",
    "train": "def train(self, mode=True): raise ZeroDivisionError('mine')",
    "length": "def __len__(self): raise ZeroDivisionError('mine')",
    "truth": "def __bool__(self): raise ZeroDivisionError('mine')",
}


def _write(folder: Path) -> Path:
    text = textwrap.dedent(HEAD)
    for name, (action, _, _) in HOSTILE.items():
        text += f"\ndef {name}():\n    {action}\n    return good()\n"
    for name, method in CLASSES.items():
        text += f"\nclass Class_{name}(nn.Linear):\n        {method}\n"
        text += f"\ndef class_{name}():\n    weight = nn.Parameter(torch.zeros(2))\n"
        text += f"    return Class_{name}(4, 2), torch.optim.SGD([weight], lr=0.1)\n"
    text += (
        "\ndef nested():\n    model = nn.Linear(2, 2)\n    for _ in range(2500):\n        model = nn.Sequential(model)\n"
        "    return model, torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)\n"
    )
    file = folder / "targets.py"
    file.write_text(text)
    return file


def _check(folder: Path, names: list[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Every target between two good ones."""
    monkeypatch.chdir(folder)
    file = _write(folder)
    targets = []
    for k, name in enumerate(names):
        targets += [Target(f"good-{k}", f"{file}:good"), Target(name, f"{file}:{name}", timeout=60.0)]
    targets.append(Target(f"good-{len(names)}", f"{file}:good"))
    settings = loader.load(folder)
    return session.check(session.Request(settings, tuple(targets), jobs=2))


def _reported(run: Run) -> set[str]:
    return {part.target for part in run.checked}


@pytest.mark.slow
def test_a_target_that_does_harm_is_the_only_one_that_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = _check(tmp_path, list(HOSTILE), monkeypatch)
    failures = {failure.target: failure for failure in run.failures}
    assert _reported(run) >= {f"good-{k}" for k in range(len(HOSTILE) + 1)}
    for name, (_, words, code) in HOSTILE.items():
        failure = failures.get(name)
        if code is None:
            assert failure is None or failure.exit_code == 3, failure
        else:
            assert failure is not None, name
            assert any(word in failure.message for word in words.split("|")), failure
            assert failure.exit_code == code


@pytest.mark.slow
def test_faults_of_a_targets_classes_are_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*(f"class_{name}" for name in CLASSES), "nested"]
    run = _check(tmp_path, names, monkeypatch)
    assert _reported(run) >= {f"good-{k}" for k in range(len(names) + 1)}
    for failure in run.failures:
        assert failure.exit_code == 3, failure
        assert failure.target == "nested" or "ZeroDivisionError" in failure.message, failure
