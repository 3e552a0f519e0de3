"""What a check costs beside what it needs anyway: importing torch and building the model.

    python benchmarks/speed.py            # the whole table
    python benchmarks/speed.py --smoke    # the small cases; what passes a limit is named

Every number is the least of several fresh processes. Limits are set on processor time: wall-clock time on a shared
machine says more about its other guests.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tabulate import tabulate

HERE = Path(__file__).resolve().parent
LRLINT = (sys.executable, "-m", "lrlint")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}

#: Factories of targets.py, and whether the smoke run includes them.
TARGETS = {
    "llama_60m": True,
    "llama_1b_on_meta": True,
    "llama_70b_on_meta": False,
    "tensors_1k": True,
    "tensors_10k": True,
    "tensors_100k": False,
    "million_steps": True,
    "groups_500": True,
}
#: Commands that load no torch.
COMMANDS = {"--help": ("--help",), "rule": ("rule",), "rule LR301": ("rule", "LR301")}

#: A static check of a model of ordinary size costs at most this much, as a share of importing torch and building it.
STATIC = 1.0
#: Processor seconds per thousand parameter tensors.
PER_THOUSAND = 0.3
#: Processor seconds of a command without torch, above an empty Python.
LIGHT = 0.2


@dataclass(frozen=True)
class Cost:
    """Seconds of one process: on the clock and on the processor (user and system)."""

    wall: float
    processor: float


def cost(command: tuple[str, ...], runs: int) -> Cost:
    """The least of several runs. Exits with the command's own words where it fails."""
    found = []
    for _ in range(runs):
        started = time.perf_counter()
        process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, cwd=HERE, env=ENVIRONMENT
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            sys.exit(f"{' '.join(command)}: exit code {process.returncode}\n{said.decode(errors='replace')}")
        found.append(Cost(time.perf_counter() - started, used.ru_utime + used.ru_stime))
    return Cost(min(c.wall for c in found), min(c.processor for c in found))


def targets(names: list[str], runs: int) -> tuple[list[list[object]], list[str]]:
    """A row per target, and what passed its limit."""
    rows: list[list[object]] = []
    slow = []
    for name in names:
        bare = cost((sys.executable, "-c", f"import targets; targets.{name}()"), runs)
        check = (*LRLINT, "check", f"targets.py:{name}")
        static, full = cost((*check, "--no-graph"), runs), cost(check, runs)
        tensors = _tensors(name)
        added = static.processor - bare.processor
        rows.append([name, tensors, bare.wall, static.wall, full.wall, static.wall / bare.wall, full.wall / bare.wall,
                     1e3 * added, 1e6 * added / tensors])  # fmt: skip
        if added > STATIC * bare.processor + PER_THOUSAND * tensors / 1000:
            slow.append(f"{name}: a static check adds {added:.2f} s of processor time")
    return rows, slow


def _tensors(name: str) -> int:
    program = f"import targets; print(len(list(targets.{name}()['model'].parameters())))"
    done = subprocess.run((sys.executable, "-c", program), capture_output=True, text=True, cwd=HERE, check=True)
    return int(done.stdout)


def commands(runs: int) -> tuple[list[list[object]], list[str]]:
    """A row per command without torch, and what passed its limit."""
    empty = cost((sys.executable, "-c", "pass"), runs)
    rows: list[list[object]] = [["python -c pass", 1e3 * empty.wall, 1e3 * empty.processor]]
    slow = []
    for name, arguments in COMMANDS.items():
        taken = cost((*LRLINT, *arguments), runs)
        rows.append([f"lrlint {name}", 1e3 * taken.wall, 1e3 * taken.processor])
        if taken.processor - empty.processor > LIGHT:
            slow.append(f"lrlint {name}: {1e3 * taken.processor:.0f} ms of processor time")
    return rows, slow


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--smoke", action="store_true", help="small cases only")
    parser.add_argument("--runs", type=int, default=0, help="processes per number (default: 5, smoke: 1)")
    options = parser.parse_args()
    runs = options.runs or (1 if options.smoke else 5)
    cheap, slow = commands(3 * runs)
    print(tabulate(cheap, headers=["command", "wall ms", "processor ms"], floatfmt=".0f"), end="\n\n")
    rows, too_slow = targets([name for name, small in TARGETS.items() if small or not options.smoke], runs)
    headers = ["target", "tensors", "bare s", "static s", "full s", "static ×", "full ×", "added ms", "µs per tensor"]
    formats = ("", "d", ".2f", ".2f", ".2f", ".2f", ".2f", ".0f", ".0f")
    print(tabulate(rows, headers=headers, floatfmt=formats))
    for line in (*slow, *too_slow):
        print(f"too slow: {line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
