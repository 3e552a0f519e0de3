"""Prove a rule by its fixture: run ``bad*`` and ``good*`` functions through the real check.

A fixture file holds zero-argument factories; of rules that need a loop, and where the name starts with ``bad_loop`` or
``good_loop``, functions that train, which are rehearsed. ``bad*`` must yield exactly the codes its body announces in
``# expect: LR301`` comments, on those lines; ``good*`` (the near misses) must yield nothing from the rule.

A comment may say more: ``# expect: LR301 warning norm.weight *.bias`` asks for that severity, and for findings about
exactly the parameters that these names and wildcards match. Several findings on a line are separated by commas.

``# option: limit = 0.5`` in a function sets an option of the rule for this case.

What cannot be built in a moment (a run on several processes, a loop seen for long) is handed over as facts: a function
whose name starts with ``bad_facts`` or ``good_facts`` returns a `lrlint.facts.Setup`, made with `lrlint.testing_facts`.
Of its findings the line does not count: it is called as it is, and nobody saw where its objects were built.
"""

from __future__ import annotations

import ast
import io
import re
import runpy
import tokenize
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrlint.facts import LoopFacts, Setup
from lrlint.lint.finding import SEVERITIES, Finding
from lrlint.lint.registry import Catalog, fixture_of, load
from lrlint.lint.rule import Rule

if TYPE_CHECKING:
    from lrlint.targets.live_target import LiveTarget

_ONE = rf"[A-Z]+\d{{3}}(?:[ \t]+(?:{'|'.join(SEVERITIES)})(?:[ \t]+[\w.*?\[\]]+)*)?"
#: How the names of functions begin that return facts.
FACTS = ("bad_facts", "good_facts")
_OPTION = re.compile(r"#\s*option:\s*([a-z][a-z0-9-]*)\s*=\s*(.+)")
_EXPECT = re.compile(rf"#\s*expect:\s*({_ONE}(?:\s*,\s*{_ONE})*)")


@dataclass(frozen=True, order=True)
class Expected:
    """A finding that a fixture announces. ``severity`` and ``parameters`` are empty where the comment leaves them open,
    and ``line`` is 0 where it does not count.

    ``parameters`` are names or wildcards: together they match every parameter of the finding, and each of them one.
    """

    line: int
    code: str
    severity: str = ""
    parameters: tuple[str, ...] = ()

    def fits(self, found: Finding) -> bool:
        """Whether a finding is as it was announced."""
        line = found.locations[0].line if found.locations else 0
        return self.line in (0, line) and found.rule == self.code and self.detail_fits(found)

    def detail_fits(self, found: Finding) -> bool:
        """Whether severity and parameters are as they were announced."""
        if self.severity and found.severity != self.severity:
            return False
        if not self.parameters:
            return True
        every = all(any(fnmatchcase(name, part) for part in self.parameters) for name in found.parameters)
        return every and all(any(fnmatchcase(name, part) for name in found.parameters) for part in self.parameters)

    def __str__(self) -> str:
        return " ".join(filter(None, (f"line {self.line}: {self.code}", self.severity, *self.parameters)))


@dataclass(frozen=True)
class Case:
    """One function of a rule's fixture. ``expected`` is empty for a near miss; ``options`` are the rule's for this case."""

    rule: Rule
    path: Path
    function: str
    expected: tuple[Expected, ...]
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether the function trains and is rehearsed, and builds no setup."""
        if self.function.startswith(FACTS):
            return False
        return "loop" in self.rule.needs or self.function.startswith(("bad_loop", "good_loop"))

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
    comments = [(token.start[0], token.string) for token in tokens if token.type == tokenize.COMMENT]
    announced = [(line, match[1]) for line, text in comments if (match := _EXPECT.search(text))]
    options = [(line, match[1], match[2]) for line, text in comments if (match := _OPTION.search(text))]
    expects = [_expected(line, one.split()) for line, text in announced for one in text.split(",")]
    blocks = {n.name: n for n in ast.parse(source).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    outside = [e for e in expects if not any(_holds(block, e.line) for block in blocks.values())]
    for name, block in blocks.items():
        if not isinstance(block, ast.FunctionDef) or not name.startswith(("bad", "good")):
            continue
        # An expectation on a class or helper belongs to each bad function that uses it.
        own = [e for e in expects if any(_holds(blocks[used], e.line) for used in _uses(name, blocks))]
        expected = tuple(sorted(own + outside)) if name.startswith("bad") else ()
        if name.startswith(FACTS):
            expected = tuple(replace(one, line=0) for one in expected)
        given = {option: ast.literal_eval(value) for line, option, value in options if _holds(block, line)}
        yield Case(declared, path, name, expected, given)


_Blocks = dict[str, "ast.FunctionDef | ast.ClassDef"]


def _holds(block: ast.FunctionDef | ast.ClassDef, line: int) -> bool:
    return block.lineno <= line <= (block.end_lineno or block.lineno)


def _uses(name: str, blocks: _Blocks) -> set[str]:
    """The block and those of the file that it names, and that these name in turn."""
    found, waiting = {name}, [name]
    while waiting:
        named = {node.id for node in ast.walk(blocks[waiting.pop()]) if isinstance(node, ast.Name)}
        waiting += (more := (named & set(blocks)) - found)
        found |= more
    return found


def _expected(line: int, words: list[str]) -> Expected:
    code, *rest = words
    severity = rest.pop(0) if rest and rest[0] in SEVERITIES else ""
    return Expected(line, code, severity, tuple(rest))


def run(case: Case) -> list[Finding]:
    """The findings of one case, with the rule (and what else it expects) selected.

    An info finding counts too. Raises AssertionError with a readable difference when they are not the expected ones.
    """
    return judge(case, setup_of(case))


def setup_of(case: Case) -> Setup:
    """The facts of one case: with the graph and the probe only where the case's rules read them."""
    if case.function.startswith(FACTS):
        facts = runpy.run_path(str(case.path))[case.function]()
        assert isinstance(facts, Setup), f"{case}: a function of this name returns a Setup"
        return facts
    if case.trains:
        return _rehearsed(case)
    from lrlint.inspection.build import build
    from lrlint.inspection.model.roles import UNDECIDED
    from lrlint.targets.load import load as load_target

    if "scale" in case.rule.needs:
        return _at_widths(case)
    built = load_target(f"{case.path}:{case.function}", root=case.path.parent)
    rules = [case.rule, *(found for found in _others(case) if found is not case.rule)]
    seen = any(map(_reads_graph, rules))
    setup = build(built, graph=seen)
    if not seen and any(parameter.role in UNDECIDED for parameter in setup.parameters):
        setup = build(built)  # the graph decides about roles
    if "probe" in case.rule.needs:
        from lrlint.probing.run import examine

        setup = replace(setup, probe=examine(built, setup))
    return setup


#: Widths at which the fixtures of rules about scaling are built, by their argument ``width``.
_WIDTHS = (64, 128, 256)


def _at_widths(case: Case) -> Setup:
    from lrlint.scaling.run import scale
    from lrlint.targets.load import load as load_target

    def build_at(width: object) -> LiveTarget:
        return load_target(f"{case.path}:{case.function}", root=case.path.parent, args={"width": width})

    return scale(build_at, "width", _WIDTHS)[1]


def judge(case: Case, setup: Setup) -> list[Finding]:
    """The findings on a case's facts. Raises AssertionError as `run` does."""
    from lrlint.config.loader import Settings
    from lrlint.lint.run import conclude, examine
    from lrlint.lint.selection import Selection

    rules = (case.rule, *_others(case))
    settings = Settings(select=tuple(rule.code for rule in rules))
    result = conclude([examine(setup, Selection(settings, rules, {case.rule.name: case.options}, {}))], settings)
    crashed = [found for found in result.findings if found.rule == "LR003"]
    assert not crashed, crashed[0].message
    skipped = [s.reason for s in result.skipped if s.rule == case.rule.code]
    assert_expected(case, result.findings, skipped)
    return list(result.findings)


def assert_expected(case: Case, findings: Sequence[Finding], skipped: Sequence[str] = ()) -> None:
    """Raises AssertionError with a readable difference when the findings are not those that the case announces."""
    if case.function.startswith("bad"):
        assert case.expected, f"{case}: a bad fixture announces what it expects (`# expect: {case.rule.code}`)"
    left = list(findings)
    missing = []
    for expected in sorted(case.expected, key=lambda e: (not e.parameters, not e.severity)):  # the strictest first
        fitting = next((found for found in left if expected.fits(found)), None)
        if fitting is None:
            missing.append(expected)
        else:
            left.remove(fitting)
    told = [
        f"{f.locations[0] if f.locations else '-'}: {f.rule} {f.severity} {' '.join(f.parameters)}: {f.message}"
        for f in findings
    ]
    difference = f"{case}: expected {[*map(str, case.expected)]}, found {told}; skipped: {list(skipped)}"
    assert not missing, difference
    assert not left, difference


def _others(case: Case) -> list[Rule]:
    wanted = {expected.code for expected in case.expected} - {case.rule.code}
    return [found for found in _known().rules if found.code in wanted] if wanted else []


@lru_cache(maxsize=1)
def _known() -> Catalog:
    return load()


def _reads_graph(declared: Rule) -> bool:
    return "graph" in declared.needs or _mentions_graph(declared.path)


@lru_cache(maxsize=1024)
def _mentions_graph(path: str) -> bool:
    """Whether a rule, or a module of lrlint that it imports, reads the facts of the graph."""
    source = Path(path).read_text(encoding="utf-8")
    modules = {
        node.module for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom) and not node.level
    }
    texts = [source]
    for module in sorted(name for name in modules if name and name.startswith("lrlint.")):
        found = find_spec(module)
        if found is not None and found.origin:
            texts.append(Path(found.origin).read_text(encoding="utf-8"))
    return any(".graph" in text for text in texts)


def _rehearsed(case: Case) -> Setup:
    """The setup of the first step of a function that trains, with what was seen of its loop."""
    from lrlint.rehearsal import process

    def load_it(runner: process.Runner) -> process.Message:
        from lrlint.targets.load import load as load_target

        load_target(f"{case.path}:{case.function}", root=case.path.parent, observer=runner)
        return {}

    def report(built: LiveTarget, loop: LoopFacts | None) -> process.Message:
        from lrlint.inspection.build import build

        return build(built, graph=False, loop=loop).to_dict()

    assert not process.possible(), f"{case}: no rehearsal on this system: {process.possible()}"
    return Setup.from_dict(process.supervise(load_it, report, process.Plan()))
