"""Rehearse public training scripts, unmodified, and say what became of each.

    python benchmarks/scripts/rehearse.py CACHE [--only NAME ...] [--no-rehearsal] [--results FILE]

The repositories of manifest.toml are cloned into CACHE (where they are already, they are used), the script's commit is
laid out in a folder of its own, with generated data, and `lrlint` runs on it in a process of its own. What scripts import
beside torch and what is installed comes from CACHE/packages (requests, scikit-learn, scipy and what they need: pip install
--target) and from standins/. The table tells for each script how far it got, what was found
(and how the manifest judges it) and the CPU time of the whole, which is the script's steps for the most part.

The exit code is 1 where a finding of severity warning or error is judged false or is not judged, or lrlint failed.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import pty
import resource
import shlex
import shutil
import struct
import subprocess
import sys
import termios
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import tomllib
from tabulate import tabulate

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
import data  # noqa: E402

HOME = HERE.parents[1]
#: Seconds of wall time for one script, imports and all.
LIMIT = 300


@dataclass
class Result:
    """What became of one script. ``reached``: "rehearsed", "first step" or the error; ``cpu`` in seconds."""

    name: str
    reached: str
    steps: int = 0
    end: str = ""
    held: int = 0
    cpu: float = 0.0
    wall: float = 0.0
    findings: list[dict[str, Any]] = field(default_factory=list)


def main() -> int:
    options = arguments()
    entries = tomllib.loads((HERE / "manifest.toml").read_text())["script"]
    chosen = [entry for entry in entries if not options.only or entry["name"] in options.only]
    results, judged = [], {entry["name"]: entry.get("judged", {}) for entry in entries}
    for entry in chosen:
        result = run(entry, Path(options.cache).absolute(), options.no_rehearsal)
        results.append(result)
        print(" ".join(describe(result, judged[result.name])), file=sys.stderr, flush=True)
        if options.results:
            with open(options.results, "a") as file:
                file.write(json.dumps(asdict(result)) + "\n")
    rows = [describe(result, judged[result.name]) for result in results]
    print(tabulate(rows, ["script", "reached", "steps", "held", "CPU s", "findings"]))
    return int(any(bad(result, judged[result.name]) for result in results))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cache", metavar="CACHE", help="folder for the repositories and their working copies")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--no-rehearsal", action="store_true", help="stop before the first step")
    parser.add_argument("--results", metavar="FILE", help="append each result as a line of JSON")
    return parser.parse_args()


def run(entry: dict[str, Any], cache: Path, first_step: bool) -> Result:
    """Lay the script out and check it; the facts come first, then, from those, the findings."""
    work = laid_out(entry, cache)
    script = work / entry["file"]
    start = work / entry["folder"] if "folder" in entry else script.parent
    for line in entry.get("data", ()):
        function, *places = line.split()
        getattr(data, function)(start, *places)
    standins = [str(HERE / "standins" / kind) for kind in ("base", entry.get("standins", "vision"))]
    path = [str(HOME), *standins, *([str(work / entry["path"])] if "path" in entry else []), str(cache / "packages")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(path),
        "OMP_NUM_THREADS": "1",
        **entry.get("variables", {}),
    }
    facts = work / "lrlint-facts.json"
    command = [sys.executable, "-m", "lrlint", "show", "--script", str(script), "--output", str(facts)]
    command += ["--no-rehearsal"] if first_step else []
    terminal = pty.openpty()  # some ask for its width
    fcntl.ioctl(terminal[1], termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    try:
        done = subprocess.run(
            [*command, "--", *shlex.split(entry.get("args", ""))],
            cwd=start, env=environment, capture_output=True, text=True, timeout=LIMIT, stdin=terminal[1],
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return Result(entry["name"], f"no end after {LIMIT} s")
    finally:
        for end in terminal:
            os.close(end)
    after, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic() - began
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    (work / "lrlint-output.txt").write_text(done.stdout + done.stderr)
    if not facts.exists():
        return Result(entry["name"], last_line(done.stderr), cpu=cpu, wall=wall)
    loop = json.loads(facts.read_text()).get("loop") or {}
    checked = subprocess.run(
        [sys.executable, "-m", "lrlint", "check", str(facts), "--format", "json"],
        cwd=start, env=environment, capture_output=True, text=True, timeout=LIMIT,
    )  # fmt: skip
    try:
        findings = json.loads(checked.stdout)["findings"]
    except ValueError:
        return Result(entry["name"], "check: " + last_line(checked.stderr), cpu=cpu, wall=wall)
    steps = loop.get("steps", 0)
    reached = "rehearsed" if steps else "first step"
    return Result(entry["name"], reached, steps, loop.get("end", ""), len(loop.get("held", ())), cpu, wall, findings)


def last_line(text: str) -> str:
    return next((line for line in text.splitlines() if line.startswith("lrlint:")), text.strip()[-200:])


def laid_out(entry: dict[str, Any], cache: Path) -> Path:
    """The script's commit in a new folder; the repository is cloned first where it is missing."""
    owner, _, name = entry["repository"].partition("/")
    repository = cache / f"{owner}--{name}.git"
    if not repository.exists():
        address = f"https://github.com/{entry['repository']}.git"
        subprocess.run(["git", "clone", "--quiet", "--bare", address, str(repository)], check=True)
    work = cache / "work" / entry["name"]
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    top = entry["file"].split("/")[0] if "/" in entry["file"] and "path" not in entry else "."
    parts = entry.get("parts") or [top]
    paths = tracked(repository, entry["commit"], parts)
    asked = "".join(f"{entry['commit']}:{path}\n" for path in paths).encode()
    batch = ["git", f"--git-dir={repository}", "cat-file", "--batch"]
    answer = subprocess.run(batch, input=asked, capture_output=True, check=True).stdout
    for path in paths:
        head, _, answer = answer.partition(b"\n")
        if head.endswith(b"missing"):  # a copy of the repository may lack large files
            continue
        size = int(head.split()[-1])
        (work / path).parent.mkdir(parents=True, exist_ok=True)
        (work / path).write_bytes(answer[:size])
        answer = answer[size + 1 :]
    return work


def tracked(repository: Path, commit: str, parts: list[str]) -> list[str]:
    """The files of each part."""
    listing = ["git", f"--git-dir={repository}", "ls-tree", "-r", "--name-only", commit, *parts]
    return subprocess.run(listing, capture_output=True, text=True, check=True).stdout.splitlines()


def describe(result: Result, judged: dict[str, str]) -> list[str]:
    """A row of the table."""
    found = [
        f"{item['rule']} {item['severity']} ({judged.get(item['rule'], 'not judged').partition(':')[0]})"
        for item in result.findings
    ]
    reached = f"{result.reached}: {result.end}" if result.end else result.reached
    return [result.name, reached[:90], str(result.steps), str(result.held), f"{result.cpu:.1f}", ", ".join(found)]


def bad(result: Result, judged: dict[str, str]) -> bool:
    """Whether lrlint failed, or said what is false or what nobody has looked at."""
    if result.reached not in ("rehearsed", "first step"):
        return True
    loud = [item["rule"] for item in result.findings if item["severity"] != "info"]
    return any(judged.get(code, "false").startswith("false") for code in loud)


if __name__ == "__main__":
    sys.exit(main())
