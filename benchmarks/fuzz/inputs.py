"""Fuzzed inputs: whatever a file or an argument says, lrlint answers with a result or with what is wrong about it.

    python -m benchmarks.fuzz.inputs [--count 2000 | --minutes N] [--seed 0] [--only KIND]

Fails where an input gives exit code 70, an exception that passes the command line, a hang, text that acts on a terminal or
commands a CI runner, or where a pickle ran. The inputs at fault stay in a folder that is named.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import unicodedata
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import nn

import lrlint
from benchmarks.fuzz import generate
from lrlint.cli import main as command_line
from lrlint.config.files import dump

#: Seconds that a single input may take.
_PATIENCE = 30
_CODES = frozenset((0, 1, 2, 3, 4))
_SOUND = """\
import torch
from torch import nn


def build():
    model = nn.Linear(4, 2)
    return model, torch.optim.Adam(model.parameters(), lr=0.1)
"""


class Hung(BaseException):
    """An input took too long."""


def known() -> dict[str, Any]:
    """Sound inputs to start from: a setup's facts, a baseline of it, and an optimizer's state."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Embedding(8, 6), nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 2))
    groups = [{"params": model[1:].parameters(), "lr": 1e-3, "name": "decay"}]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=20)
    ids = (torch.zeros(2, 3, dtype=torch.long),)
    setup = lrlint.inspect(model, optimizer, scheduler, example_inputs=ids, total_steps=20).to_dict()
    span = {"path": "job.py", "line": 3, "column": 1, "end_line": 4, "end_column": 5}
    setup["target"] = "setup"
    setup["optimizers"][0]["span"] = span
    entry = {
        "rule": "LR101",
        "name": "param-not-in-optimizer",
        "target": "setup",
        "subject": ["0.weight"],
        "fingerprint": "f",
    }
    sound = nn.Linear(4, 2)
    state = torch.optim.Adam(sound.parameters()).state_dict()
    return {
        "setup": json.loads(dump(setup)),
        "baseline": {
            "schema": "lrlint-baseline/1",
            "findings": [entry, {**entry, "measured": 0.5, "fingerprint": "g"}],
        },
        "state": state,
    }


def answer(arguments: list[str]) -> tuple[Any, str, str]:
    """(the exit code, or the exception that passed; standard output; standard error)."""
    out, err = io.StringIO(), io.StringIO()
    path, streams = list(sys.path), (sys.stdout, sys.stderr)
    signal.alarm(_PATIENCE)
    try:
        with redirect_stdout(out), redirect_stderr(err):
            command_line.main(arguments)
        code: Any = None
    except SystemExit as stop:
        code = stop.code
    except BaseException as error:  # also what a rule raises
        code = error
    finally:
        signal.alarm(0)
        sys.path[:] = path
        sys.stdout, sys.stderr = streams
    return code, "" if out.closed else out.getvalue(), "" if err.closed else err.getvalue()


def fault(kind: str, folder: Path, arguments: list[str]) -> tuple[Any, str]:
    """(exit code, what does not hold)."""
    code, out, err = answer(arguments)
    if code not in _CODES and not (code == 130 and kind == "rule"):  # whoever raises KeyboardInterrupt interrupts
        return code, f"exit {code!r}\n{err[-3000:]}"
    if "Traceback" in err and "your code only" not in err and code != 3:
        return code, f"a bare traceback\n{err[-3000:]}"
    if (folder / "ran").exists():
        return code, "a pickle ran"
    html = "html" in arguments or "--html" in arguments
    for line in (err + ("" if html or kind == "rule" or arguments[0] == "rule" else out)).split("\n"):
        if command := _acts(line, "github" in arguments):
            return code, f"{command} in {line[:200]!r}"
    return code, ""


def _acts(line: str, github: bool) -> str:
    """What a line would do, or hide, where it is shown."""
    if any(unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp") for c in line):
        return "a control character"
    if "##[" in line or (line.lstrip().startswith("::") and not github):
        return "a command"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=sorted(generate.KINDS))
    given = parser.parse_args()
    signal.signal(signal.SIGALRM, _hung)
    os.environ.pop("GITHUB_STEP_SUMMARY", None)
    start = known()
    started, seen, exits, at = time.monotonic(), Counter[str](), Counter[Any](), 0
    kept = Path(tempfile.mkdtemp(prefix="lrlint-fuzz-"))
    faults = 0
    while time.monotonic() < started + given.minutes * 60 if given.minutes else at < given.count:
        draw = random.Random(f"{given.seed}:{at}")
        kinds = list(generate.KINDS)
        kind = given.only or draw.choices(kinds, [generate.KINDS[k][1] for k in kinds])[0]
        folder = kept / str(at)
        arguments, code, said = _one(kind, draw, folder, start)
        seen[kind] += 1
        exits[code if isinstance(code, int) else type(code).__name__] += 1
        if said:
            faults += 1
            print(f"FAULT {kind} {folder}: {arguments}\n    {said}", flush=True)
        else:
            shutil.rmtree(folder)
        at += 1
    if not faults:
        shutil.rmtree(kept)
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(seen.items()))
    codes = ", ".join(f"{count} × {code}" for code, count in sorted(exits.items(), key=str))
    print(f"{at} inputs ({told}): exit codes {codes}; {faults} faults, {time.monotonic() - started:.0f} s")
    return 1 if faults else 0


def _one(kind: str, draw: random.Random, folder: Path, start: dict[str, Any]) -> tuple[list[str], Any, str]:
    folder.mkdir()
    (folder / ".git").mkdir()  # the root of a project
    (folder / "setup.json").write_text(json.dumps(start["setup"]))
    (folder / "sound.py").write_text(_SOUND)
    arguments = generate.KINDS[kind][0](draw, folder, start)
    before = os.getcwd()
    os.chdir(folder)
    try:
        return arguments, *fault(kind, folder, arguments)
    finally:
        os.chdir(before)


def _hung(number: int, frame: Any) -> None:
    raise Hung


if __name__ == "__main__":
    sys.exit(main())
