"""Whether lrlint still says the same, to the byte: for changes that move code and may change no output.

    python -m benchmarks.same_output --write DIR     # before the change
    python -m benchmarks.same_output --compare DIR   # after it: names every output that differs

Targets are every fixture of the schedule rules, one pair of every other rule, and recipes of the zoo. For each: findings
in all formats, `show` with its views, and the audit report; then `diff` of neighbours, and the page of every rule. Each
set of facts also goes through a snapshot and back.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import sys
from collections.abc import Iterator
from pathlib import Path

from lrlint import testing
from lrlint.config.settings import Settings
from lrlint.facts import Setup
from lrlint.inspection.build import build
from lrlint.lint.registry import load as load_rules
from lrlint.lint.run import Run, lint
from lrlint.lint.setup_diff import compare
from lrlint.reports import FORMATS, audit_markdown, render
from lrlint.reports.rule_markdown import page
from lrlint.reports.style import Style
from lrlint.reports.views import diff as diff_view
from lrlint.reports.views import graph, setup
from lrlint.targets.load import load

ROOT = Path(__file__).resolve().parent.parent
#: Files of recipes with small models.
RECIPES = ("agents", "generative")
PLAIN = Style(colour=False, width=100)


def targets() -> Iterator[tuple[str, Path, str]]:
    """(name, file, function) of each target, in a fixed order."""
    met: set[tuple[str, bool]] = set()
    for case in testing.cases():
        kind = (case.rule.code, case.function.startswith("bad"))
        if not case.trains and "probe" not in case.rule.needs and (case.rule.family == "schedule" or kind not in met):
            met.add(kind)
            yield f"{case.rule.name}.{case.function}", case.path, case.function
    for stem in RECIPES:
        path = ROOT / "tests" / "zoo" / "recipes" / f"{stem}.py"
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
                yield f"{stem}.{node.name}", path, node.name


def outputs(facts: Setup) -> Iterator[tuple[str, str]]:
    """(kind, text) of everything that lrlint says about one setup."""
    run = lint(facts, Settings())
    for name in FORMATS:
        if name != "html":  # its pictures repeat the others' content
            yield name, render(name, run)
    yield "report", audit_markdown.render(run)
    yield "show", setup.render(facts, PLAIN)
    yield "schedule", setup.schedules(facts, PLAIN)
    if facts.graph is not None:
        yield "graph", graph.render(facts, PLAIN)


def everything() -> Iterator[tuple[str, str]]:
    """(name, text) of all outputs."""
    before: Setup | None = None
    for name, path, function in targets():
        facts = build(load(f"{path}:{function}", root=path.parent))
        restored = Setup.from_dict(facts.to_dict())
        assert _json(lint(restored, Settings())) == _json(lint(facts, Settings())), f"{name}: the snapshot lost a fact"
        for kind, text in outputs(facts):
            yield f"{name}.{kind}", text
        if before is not None:
            yield f"{name}.diff", diff_view.render("text", compare(before, facts), "before", "after", PLAIN)
        before = facts
    for declared in load_rules().rules:
        yield f"rule.{declared.code}", page(declared)


def _json(run: Run) -> str:
    return render("json", run)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--write", metavar="DIR", type=Path)
    way.add_argument("--compare", metavar="DIR", type=Path)
    asked = parser.parse_args()
    folder: Path = asked.write or asked.compare
    folder.mkdir(parents=True, exist_ok=True)
    sys.path.insert(0, str(ROOT / "tests"))  # recipes import the zoo's models
    count, differing = 0, []
    for name, text in everything():
        count += 1
        file = folder / name
        if asked.write:
            file.write_text(text)
        elif not file.is_file() or file.read_text() != text:
            old = file.read_text() if file.is_file() else ""
            differing.append(name)
            sys.stdout.writelines(difflib.unified_diff(old.splitlines(True), text.splitlines(True), name, name, n=1))
    print(f"{count} outputs, {len(differing)} differ" if asked.compare else f"{count} outputs written")
    return 1 if differing else 0


if __name__ == "__main__":
    raise SystemExit(main())
