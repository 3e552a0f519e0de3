"""Prove a rule by its fixture: run ``bad*`` and ``good*`` functions through the real check.

A fixture file holds zero-argument factories. ``bad*`` must yield exactly the codes its body announces in
``# expect: LR301`` comments, on those lines; ``good*`` (the near misses) must yield nothing from the rule.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lrlint.lint.finding import Finding
from lrlint.lint.registry import Catalog, fixture_of, load, shipped
from lrlint.lint.rule import Rule

_EXPECT = re.compile(r"#\s*expect:\s*((?:[A-Z]+\d{3})(?:\s*,\s*[A-Z]+\d{3})*)")


@dataclass(frozen=True)
class Case:
    """One function of a rule's fixture. ``expected`` are (line, code) pairs, empty for a near miss."""

    rule: Rule
    path: Path
    function: str
    expected: tuple[tuple[int, str], ...]

    def __str__(self) -> str:
        return f"{self.rule.family}/{self.rule.name}:{self.function}"


def cases(catalog: Catalog | None = None, folders: Sequence[str | Path] = ()) -> Iterator[Case]:
    """Every fixture function of every rule that has a fixture."""
    for declared in (catalog or load(folders)).rules:
        path = fixture_of(declared)
        if path is not None:
            yield from _functions(declared, path)


def _functions(declared: Rule, path: Path) -> Iterator[Case]:
    source = path.read_text(encoding="utf-8")
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    announced = [(t.start[0], m[1]) for t in tokens if t.type == tokenize.COMMENT and (m := _EXPECT.search(t.string))]
    expects = [(line, code) for line, codes in announced for code in re.split(r"\s*,\s*", codes)]
    tree = ast.parse(source)
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith(("bad", "good"))]
    spans = {n.name: (n.lineno, n.end_lineno or n.lineno) for n in functions}
    outside = [e for e in expects if not any(a <= e[0] <= b for a, b in spans.values())]
    for name, (first, last) in spans.items():
        own = [e for e in expects if first <= e[0] <= last]
        # An expectation on a class or helper outside every function belongs to each bad function.
        yield Case(declared, path, name, tuple(sorted(own + outside)) if name.startswith("bad") else ())


def run(case: Case) -> list[Finding]:
    """The findings of one case, with the rule (and what else it expects) selected.

    An info finding counts too. Raises AssertionError with a readable difference when they are not the expected ones.
    """
    from lrlint.config.loader import Settings
    from lrlint.inspection.build import build
    from lrlint.lint.run import lint
    from lrlint.targets.load import load as load_target

    codes = tuple(dict.fromkeys([case.rule.code, *(code for _, code in case.expected)]))
    built = load_target(f"{case.path}:{case.function}", root=case.path.parent)
    folder = Path(case.rule.path).parent.parent
    own = () if folder == shipped("rules") else (str(folder),)
    setup = build(built)
    if "probe" in case.rule.needs:
        from lrlint.probing.run import examine

        setup = replace(setup, probe=examine(built, setup))
    result = lint(setup, Settings(select=codes, extra_rules=own))
    crashed = [found for found in result.findings if found.rule == "LR003"]
    assert not crashed, crashed[0].message
    found = sorted((f.locations[0].line if f.locations else 0, f.rule) for f in result.findings)
    if case.function.startswith("bad"):
        assert case.expected, f"{case}: a bad fixture announces what it expects (`# expect: {case.rule.code}`)"
    skipped = [s.reason for s in result.skipped if s.rule == case.rule.code]
    messages = [f"{f.locations[0] if f.locations else '-'}: {f.rule} {f.message}" for f in result.findings]
    difference = f"{case}: expected {list(case.expected)}, found {messages}; skipped: {skipped}"
    assert found == sorted(case.expected), difference
    return list(result.findings)
