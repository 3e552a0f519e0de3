"""Generators of fuzzed inputs: each writes files into a folder, and gives the arguments of `lrlint` that read them."""

from __future__ import annotations

import copy
import io
import json
import os
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Draw = random.Random
Generator = Callable[[Draw, Path, dict[str, Any]], list[str]]

_PIECES = (
    *("::", "##[", "\n", "\r", "\x1b[2J", "`", "|", "\\", "<img>", "::error::x", " ", "\t", "\u202e", "\U000e0041"),
    *(
        "\ufe0f",
        "\ud800",
        "\x00",
        "{",
        "%s",
        "${{",
        "]]>",
        "&amp;",
        "'",
        '"',
        "x" * 3000,
        "*",
        "**",
        "[",
        "é",
        "中",
        ":",
    ),
    *("..", "/", "weight", "0", "-1", "LR301", "ALL", "lrlint:", "ignore", "#", "$(id)", "\u2028", "\uffff", "."),
)
_NUMBERS = (0, -1, 1, 2**63, -(2**70), 0.0, -0.0, 1e308, 1e-320, float("nan"), float("inf"), True, 10**400)
FORMATS = ("full", "concise", "json", "sarif", "github", "gitlab", "junit", "markdown", "html")


def text(draw: Draw, most: int = 5) -> str:
    """Hostile text."""
    parts = (
        draw.choice(_PIECES) if draw.random() < 0.8 else chr(draw.randrange(0x3000))
        for _ in range(draw.randint(0, most))
    )
    return "".join(parts)


def value(draw: Draw, depth: int = 0) -> Any:
    """Any JSON value."""
    kind = draw.randrange(7 if depth < 3 else 4)
    if kind < 2:
        return text(draw)
    if kind == 2:
        return draw.choice(_NUMBERS)
    if kind == 3:
        return None
    if kind < 6:
        return {text(draw, 2): value(draw, depth + 1) for _ in range(draw.randint(0, 3))}
    return [value(draw, depth + 1) for _ in range(draw.randint(0, 3))]


def altered(draw: Draw, data: Any, times: int = 3) -> Any:
    """The data with some nodes replaced, removed, renamed or doubled."""
    data = copy.deepcopy(data)
    for _ in range(draw.randint(1, times)):
        places = list(_places(data))
        if not places:
            return value(draw)
        node, key = draw.choice(places)
        how = draw.randrange(6)
        if how < 3:
            node[key] = value(draw) if how else _similar(draw, node[key])
        elif how == 3:
            del node[key]
        elif how == 4 and isinstance(node, dict):
            node[text(draw, 2)] = node.pop(key)
        elif isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
    return data


def _similar(draw: Draw, old: Any) -> Any:
    """A value of the same type that means something else."""
    if isinstance(old, str):
        return old + text(draw) if draw.random() < 0.5 else text(draw)
    return draw.choice(_NUMBERS) if isinstance(old, (int, float)) else old


def _places(data: Any) -> Any:
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, inner in list(items):
        yield data, key
        yield from _places(inner)


def noise(draw: Draw, data: bytes) -> bytes:
    """Bytes with some flipped, cut, put in or doubled."""
    found = bytearray(data)
    for _ in range(draw.randint(1, 6)):
        at = draw.randrange(len(found) + 1)
        how = draw.randrange(4)
        if how == 0 and at < len(found):
            found[at] = draw.randrange(256)
        elif how == 1:
            found[at:at] = draw.choice((text(draw).encode("utf-8", "surrogatepass"), draw.randbytes(4)))
        elif how == 2:
            del found[at : at + draw.randint(1, 30)]
        else:
            found[at:at] = found[at : at + 40]
    return bytes(found)


_CONFIGURATION = """\
[tool.lrlint]
select = ["LR3", "coverage", "ALL"]
extend-ignore = ["LR302"]
fail-on = "warning"
min-confidence = "low"
baseline = "b.json"
required-version = ">=0.0.1, <99"
[tool.lrlint.targets]
one = "setup.json"
two = { target = "setup.json", ignore = ["LR1"], total-steps = 100 }
[tool.lrlint.rules.no-decay-exempt]
severity = "error"
[tool.lrlint.probe]
steps = 30
[[tool.lrlint.suppress]]
rules = ["LR302"]
parameters = ["**.norm.weight"]
groups = ["decay", 0]
reason = "ablation"
until = 2027-03-31
[[tool.lrlint.policy]]
code = "ACME001"
roles = ["embedding"]
require = { peak_lr = "<= 1e-4", weight_decay = "== 0" }
message = "slowly"
"""


def configuration(draw: Draw, folder: Path, known: dict[str, Any]) -> list[str]:
    lines = _CONFIGURATION.splitlines()
    for _ in range(draw.randint(1, 3)):
        at = draw.randrange(len(lines))
        key = lines[at].partition("=")[0]
        new = (
            json.dumps(value(draw))
            if draw.random() < 0.5
            else draw.choice(("[]", "{}", "3", "true", '""', "2027-13-01"))
        )
        lines[at] = draw.choice((f"{key}= {new}", text(draw), "", lines[draw.randrange(len(lines))]))
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    name = draw.choice(("pyproject.toml", "lrlint.toml"))
    (folder / name).write_bytes(noise(draw, content) if draw.random() < 0.4 else content)
    return draw.choice((["show", "--settings"], ["check"], ["check", "setup.json", "--config", name], ["baseline"]))


def baseline(draw: Draw, folder: Path, known: dict[str, Any]) -> list[str]:
    data = altered(draw, known["baseline"]) if draw.random() < 0.8 else value(draw)
    content = json.dumps(data).encode()
    (folder / "b.json").write_bytes(noise(draw, content) if draw.random() < 0.3 else content)
    command = draw.choice((["check"], ["baseline"], ["baseline", "--prune"]))
    return [*command, "setup.json", "--baseline", "b.json"]


def snapshot(draw: Draw, folder: Path, known: dict[str, Any]) -> list[str]:
    content = json.dumps(altered(draw, known["setup"])).encode()
    (folder / "fuzzed.json").write_bytes(noise(draw, content) if draw.random() < 0.1 else content)
    commands = (
        ["check", "fuzzed.json", "--format", draw.choice(FORMATS)],
        ["show", "fuzzed.json"],
        ["show", "fuzzed.json", draw.choice(("--graph", "--schedule", "--loop"))],
        ["diff", "setup.json", "fuzzed.json", "--format", draw.choice(("text", "json", "markdown"))],
        ["report", "fuzzed.json", "-o", draw.choice(("r.html", "r.md"))],
        ["fix", "fuzzed.json"],
    )
    return draw.choice(commands)


def names(draw: Draw, folder: Path, known: dict[str, Any]) -> list[str]:
    """Sound facts with hostile names, in every format."""
    data = copy.deepcopy(known["setup"])
    texts = [
        (n, k)
        for n, k in _places(data)
        if isinstance(n[k], str) and k in ("name", "target", "class_name", "path", "reason")
    ]
    for node, key in draw.sample(texts, min(len(texts), draw.randint(1, 8))):
        node[key] = text(draw) or "x"
    (folder / "fuzzed.json").write_text(json.dumps(data))
    if draw.random() < 0.2:
        return ["show", "fuzzed.json"]
    return ["check", "fuzzed.json", "--select", "ALL", "--format", draw.choice(FORMATS)]


def comment(draw: Draw, folder: Path, known: dict[str, Any]) -> list[str]:
    """Suppression comments, and sources of any content around them."""
    said = f"# lrlint: {draw.choice(('ignore', 'fixme', 'ignore[', 'ignore[LR3]', ''))}{text(draw)}".replace("\n", " ")
    lines = [f"{draw.choice(('', '    ', 'x = ('))}{draw.choice(('', 'f()', said))} {said}" for _ in range(12)]
    content = "\n".join(lines).encode("utf-8", "surrogatepass")
    (folder / "job.py").write_bytes(noise(draw, content) if draw.random() < 0.5 else content)
    return ["check", "setup.json", "--format", draw.choice(FORMATS)]


_RULE = '''"""R."""
import os, sys
from lrlint import Finding, rule

{before}

@rule("ACME001", severity="warning", confidence="high")
def mine(setup, *, limit=1.0):
    {body}
'''
_BODIES = (
    *("raise ValueError", "raise SystemExit(0)", "raise KeyboardInterrupt", "raise BaseException('x')", "print('x')"),
    *("sys.stdout.write('{}'); yield 3", "return 3", "yield Finding(setup, 3)", "setup.target = 'x'; yield", "pass"),
    *("object.__setattr__(setup, 'parameters', None); yield Finding(setup, 'x')", "os.write(1, b'x'); yield None"),
    *("setup.optimizers.clear()", "setup.optimizers[0].groups[0].options.clear(); yield Finding(setup, 'm')"),
    *("yield Finding([1], 'x')", "yield Finding(setup, 'x', severity='nonsense')", "yield from mine(setup)"),
    *("yield Finding(setup.parameters, '\\x1b[2J\\n::error::x')", "sys.exit('bye')", "raise GeneratorExit"),
    *("sys.stdout = None; yield Finding(setup, 'x')", "os.chdir('/'); yield Finding(setup, 'x')", "sys.stdout.close()"),
)


def rule(draw: Draw, folder: Path, known: dict[str, Any]) -> list[str]:
    rules = folder / "mine"
    rules.mkdir()
    before = draw.choice(
        ("", "", "", *(b for b in _BODIES if not b.startswith("yield") and "setup" not in b and b != "return 3"))
    )
    content = _RULE.format(before=before, body=draw.choice(_BODIES)).encode()
    (rules / "mine.py").write_bytes(noise(draw, content) if draw.random() < 0.3 else content)
    command = draw.choice(
        (["check", "setup.json"], ["check", "setup.json", "--format", "json"], ["rule", "ACME001"], ["rule"])
    )
    return [*command, "--extra-rules", "mine"]


def checkpoint(draw: Draw, folder: Path, known: dict[str, Any]) -> list[str]:
    """Bytes that are no checkpoint, that once were one, and pickles that would run something."""
    stream = io.BytesIO()
    kind = draw.randrange(4)
    if kind == 0:
        torch.save(altered(draw, {"optimizer": known["state"], "epoch": 3}), stream)
    elif kind == 1:
        torch.save({"optimizer": known["state"], "model": {"weight": torch.zeros(2, 4)}}, stream)
    elif kind == 2:
        pickle.dump(draw.choice((Malicious(str(folder / "ran")), value(draw))), stream)
    else:
        stream.write(draw.randbytes(draw.randint(0, 200)))
    content = stream.getvalue()
    path = folder / f"c.{draw.choice(('pt', 'ckpt', 'safetensors', 'bin'))}"
    path.write_bytes(noise(draw, content) if kind == 1 or draw.random() < 0.3 else content)
    return ["check", "sound.py:build", "--jobs", "0", "--no-graph", "--resume", path.name]


class Malicious:
    """Unpickled, it writes a file."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (self.path, "w")


def target(draw: Draw, folder: Path, known: dict[str, Any]) -> list[str]:
    """Target specifications and arguments, as a process can get them: bytes without a null."""
    spec = draw.choice(
        (
            text(draw),
            f"{text(draw)}:{text(draw)}",
            f"sound.py:{text(draw)}",
            f"{text(draw)}.json",
            "sound",
            "json:loads",
            "setup",
        )
    )
    options = (
        [], ["--arg", text(draw)], ["--model", text(draw), "--optimizer", text(draw)], ["--script", text(draw)],
        ["--select", text(draw)], ["--timeout", text(draw)], ["--memory-limit", text(draw)], ["--config", text(draw)],
        ["--baseline", text(draw)], ["--extra-rules", text(draw)], ["--output", text(draw)], ["--resume", text(draw)],
    )  # fmt: skip
    command = draw.choice(("check", "check", "show", "diff", "report", "rule", "fix", "baseline", "probe", text(draw)))
    given = [command, *draw.choice(options), "--", spec, *([text(draw)] if draw.random() < 0.2 else [])]
    if command in ("check", "show", "fix", "probe"):
        given[1:1] = ["--jobs", "0"]
    return [os.fsdecode(part.replace("\0", "").encode("utf-8", "surrogatepass")) for part in given]


KINDS: dict[str, tuple[Generator, int]] = {
    "configuration": (configuration, 18),
    "baseline": (baseline, 12),
    "snapshot": (snapshot, 25),
    "names": (names, 15),
    "comment": (comment, 8),
    "rule": (rule, 8),
    "checkpoint": (checkpoint, 4),
    "target": (target, 10),
}
