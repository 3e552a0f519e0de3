"""How much of a rule its own fixture holds: small faults are put into each rule, and the fixture has to notice them.

    python -m benchmarks.rule_mutations                     # the table: noticed of all, over all and for each rule
    python -m benchmarks.rule_mutations --rule LR301 --list  # one rule, with every mutation that goes unnoticed

The operators are fixed and each place of a rule's file is changed once by every operator that fits it: nothing is drawn
by chance. The facts of a fixture's cases are built once; a mutated rule runs on them as the engine runs any rule. What
changes only how a finding is worded (its message, data, help) is left out, as is what cannot be told apart from the
rule itself: `equivalent_mutations.txt` beside this file lists these, each with the reason. Confidence and related
subjects are left out as well: a fixture's comment does not speak of them.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import io
import logging
import signal
import sys
import types
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tabulate import tabulate

from lrlint import testing
from lrlint.facts import Setup
from lrlint.lint import engine, registry
from lrlint.lint.rule import Rule

HERE = Path(__file__).resolve().parent
EQUIVALENT = HERE / "equivalent_mutations.txt"
#: Shares noticed, over all and by the worst rule, below which the exit code is 1.
OVER_ALL, EACH = 0.85, 0.6
#: Seconds after which a mutated rule counts as noticed: it no longer ends.
_PATIENCE = 20

_FLIPPED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.GtE, ast.GtE: ast.Lt, ast.Gt: ast.LtE, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_SHIFTED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
}  # fmt: skip


@dataclass(frozen=True)
class Mutation:
    """One change of a rule's syntax tree: the node, the field of it that changes, and the new value."""

    operator: str
    node: ast.AST
    field: str
    value: Any
    where: str

    @property
    def text(self) -> str:
        """The change as source, the same wherever in the file it stands."""
        changed = copy.copy(self.node)
        setattr(changed, self.field, self.value)
        if isinstance(self.node, ast.If):  # without what stands below the condition
            before, after = (f"if {ast.unparse(node.test)}" for node in (self.node, changed))  # type: ignore[attr-defined]
        else:
            before, after = ast.unparse(self.node), ast.unparse(changed)
        return " ".join(f"{self.where}: {before} -> {after}".split())


def mutations(tree: ast.Module) -> list[Mutation]:
    """Every mutation of a rule's file, in the order of the source."""
    found: list[Mutation] = []
    words = _wording(tree)
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found += _of(node, node.name, words)
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            name = ast.unparse(_target(node))
            found += [m for inner in _outside(node.value, words) for m in _scaled(inner, name)]
    return found


def _outside(node: ast.AST, words: set[ast.AST]) -> Iterator[ast.AST]:
    return (inner for inner in ast.walk(node) if inner not in words)


#: Arguments of a finding that no fixture speaks of.
_UNSAID = frozenset(("message", "data", "help", "related", "confidence"))


def _wording(tree: ast.Module) -> set[ast.AST]:
    """The nodes that have no part in whether there is a finding, about what and how severe: they make its words.

    These are the arguments that are texts or numbers for the reader, texts elsewhere, and whatever is read by nothing
    but such nodes: the value of a variable, the body of a function.
    """
    words: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Finding":
            said = [*node.args[1:], *(word.value for word in node.keywords if word.arg in _UNSAID)]
            words.update(inner for part in said for inner in ast.walk(part))
        elif isinstance(node, ast.JoinedStr) or _makes_text(node):
            words.update(ast.walk(node))
    before = -1
    while before != len(words):
        before = len(words)
        _spread(tree, words)
        for scope in ast.walk(tree):
            if isinstance(scope, ast.FunctionDef):
                _spread(scope, words)
    return words


def _spread(scope: ast.Module | ast.FunctionDef, words: set[ast.AST]) -> None:
    """Add what only words read: functions and constants of a module, variables of a function."""
    reads: dict[str, list[ast.AST]] = defaultdict(list)
    for node in ast.walk(scope):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            reads[node.id].append(node)
    inner = scope.body if isinstance(scope, ast.Module) else ast.walk(scope)
    for node in inner:
        if isinstance(node, ast.FunctionDef) and isinstance(scope, ast.Module):
            own = set(ast.walk(node))
            users = [name for name in reads[node.name] if name not in own]
        elif isinstance(node, ast.Assign):
            users = [
                read for name in ast.walk(node.targets[0]) if isinstance(name, ast.Name) for read in reads[name.id]
            ]
        else:
            continue
        if users and words.issuperset(users):
            words.update(ast.walk(node))


def _target(node: ast.Assign | ast.AnnAssign) -> ast.expr:
    return node.targets[0] if isinstance(node, ast.Assign) else node.target


def _of(node: ast.AST, where: str, words: set[ast.AST]) -> Iterator[Mutation]:
    if node in words or isinstance(node, ast.Assert):
        return
    yield from _here(node, where)
    for name, value in ast.iter_fields(node):
        if name in ("decorator_list", "annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST):
                yield from _of(child, where, words)


def _here(node: ast.AST, where: str) -> Iterator[Mutation]:
    if isinstance(node, ast.Compare):
        for operator, table in (("flipped", _FLIPPED), ("boundary", _SHIFTED)):
            for index, op in enumerate(node.ops):
                if type(op) in table:
                    ops = [*node.ops[:index], table[type(op)](), *node.ops[index + 1 :]]
                    yield Mutation(operator, node, "ops", ops, where)
        for part in (node.left, *node.comparators):
            yield from _scaled(part, where)
    elif isinstance(node, ast.BoolOp) and not _is_default(node):
        for index in range(len(node.values)):
            rest = [*node.values[:index], *node.values[index + 1 :]]
            yield Mutation("dropped", node, "values", rest, where)
    elif isinstance(node, ast.comprehension):
        for index in range(len(node.ifs)):
            yield Mutation("dropped", node, "ifs", [*node.ifs[:index], *node.ifs[index + 1 :]], where)
    elif isinstance(node, ast.If):
        leaves = isinstance(node.body[-1], (ast.Continue, ast.Return, ast.Break))
        yield Mutation("dropped", node, "test", ast.Constant(not leaves), where)
    elif isinstance(node, ast.arguments):
        for default in (*node.kw_defaults, *node.defaults):
            if default is not None:
                yield from _scaled(default, where)


def _makes_text(node: ast.AST | None) -> bool:
    """Whether something makes words of its own: a choice between texts, or a function that returns nothing else."""
    if isinstance(node, ast.FunctionDef):
        returned = [inner.value for inner in ast.walk(node) if isinstance(inner, ast.Return)]
        return bool(returned) and all(map(_is_text, returned))
    return isinstance(node, ast.IfExp) and _is_text(node)


def _is_text(node: ast.AST | None) -> bool:
    if isinstance(node, ast.Tuple):
        return bool(node.elts) and all(map(_is_text, node.elts))
    if isinstance(node, ast.IfExp):
        return _is_text(node.body) and _is_text(node.orelse)
    if isinstance(node, ast.BinOp):
        return _is_text(node.left) or _is_text(node.right)
    return isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str))


def _is_default(node: ast.BoolOp) -> bool:
    """``value or ()`` is no condition."""
    last = node.values[-1]
    plain = isinstance(last, ast.Constant) or not getattr(last, "elts", getattr(last, "keys", [0]))
    return isinstance(node.op, ast.Or) and plain


def _scaled(node: ast.AST, where: str) -> Iterator[Mutation]:
    if isinstance(node, ast.UnaryOp):
        node = node.operand
    if isinstance(node, ast.Constant) and isinstance(node.value, (int, float)) and not isinstance(node.value, bool):
        for operator, factor in (("times ten", 10), ("a tenth", 0.1)):
            if node.value:
                yield Mutation(operator, node, "value", node.value * factor, where)


@dataclass(frozen=True)
class Proof:
    """A fixture's case, what it expects of its own rule, and its facts."""

    case: testing.Case
    setup: Setup

    def holds(self, rule: Rule) -> bool:
        """Whether a rule finds on these facts what the case announces."""
        outcome = engine.run_rules(self.setup, [rule], {rule.name: self.case.options})
        if any(found.rule == engine.CRASHED[0] for found in outcome.findings):
            return False
        try:
            testing.assert_expected(self.case, outcome.findings)
        except AssertionError:
            return False
        return True


def proofs(rule: Rule, cases: Sequence[testing.Case]) -> list[Proof]:
    """The cases that the rule passes by itself, with their facts."""
    found = []
    for case in cases:
        own = replace(case, expected=tuple(e for e in case.expected if e.code == rule.code))
        proof = Proof(own if own.expected else replace(own, function="good"), testing.setup_of(case))
        if proof.holds(rule):
            found.append(proof)
        else:  # something else than the rule has a part in it: a comment that sets a finding aside
            print(f"{case}: left out, it does not hold by the rule alone", file=sys.stderr)
    return found


def mutated(rule: Rule, tree: ast.Module, mutation: Mutation) -> Rule | None:
    """The rule with one mutation; None where the file no longer loads."""
    before = getattr(mutation.node, mutation.field)
    setattr(mutation.node, mutation.field, mutation.value)
    try:
        code = compile(ast.fix_missing_locations(_plain(tree)), rule.path, "exec")
    finally:
        setattr(mutation.node, mutation.field, before)
    module = types.ModuleType(rule.check.__module__)
    module.__file__ = rule.path
    known = sys.modules.get(module.__name__)
    sys.modules[module.__name__] = module  # dataclasses and `@rule` look the module up there
    try:
        exec(code, module.__dict__)
    except Exception:
        return None
    finally:
        if known is not None:
            sys.modules[module.__name__] = known
    return next(v.rule for v in vars(module).values() if getattr(getattr(v, "rule", None), "code", "") == rule.code)


def _plain(tree: ast.Module) -> ast.Module:
    """A copy in which a condition with a single part is that part."""

    class Single(ast.NodeTransformer):
        def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
            self.generic_visit(node)
            return node.values[0] if len(node.values) == 1 else node

    return Single().visit(copy.deepcopy(tree))  # type: ignore[no-any-return]


def is_noticed(rule: Rule | None, proven: Sequence[Proof]) -> bool:
    """Whether a case fails on a mutated rule."""
    if rule is None:
        return True
    with _within(_PATIENCE):
        return not all(proof.holds(rule) for proof in proven)
    return True


class _NoEnd(BaseException):
    """A mutated rule that runs on and on."""


@contextlib.contextmanager
def _within(seconds: int) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _NoEnd

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    except _NoEnd:
        pass
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def equivalent() -> dict[tuple[str, str], str]:
    """(code, mutation) → the reason why no fixture can tell it from the rule."""
    found, reason = {}, ""
    for line in EQUIVALENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            reason = line.removeprefix("# ")
        elif line.strip():
            code, _, text = line.partition(" ")
            found[code, text] = reason
    return found


@dataclass
class Score:
    """Mutations of one rule: noticed, unnoticed, and equivalent to the rule."""

    rule: Rule
    noticed: int = 0
    equal: int = 0
    missed: list[Mutation] | None = None

    @property
    def share(self) -> float:
        total = self.noticed + len(self.missed or ())
        return self.noticed / total if total else 1.0


def score(rule: Rule, proven: Sequence[Proof], known: dict[tuple[str, str], str]) -> Score:
    """Try every mutation of one rule."""
    tree = ast.parse(Path(rule.path).read_text(encoding="utf-8"))
    found = Score(rule, missed=[])
    for mutation in mutations(tree):
        if (rule.code, f"{mutation.operator} {mutation.text}") in known:
            found.equal += 1
        elif is_noticed(mutated(rule, tree, mutation), proven):
            found.noticed += 1
        else:
            found.missed.append(mutation)  # type: ignore[union-attr]
    return found


def _quietly(action: Callable[[], Any]) -> Any:
    logging.disable(logging.CRITICAL)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return action()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rule", nargs="*", default=[], help="codes, names, prefixes (LR3) or families; all without it"
    )
    parser.add_argument("--list", action="store_true", help="print every mutation that goes unnoticed")
    options = parser.parse_args()
    shipped = registry.load(entry_points=False)
    chosen = [rule for name in options.rule for rule in shipped.matching(name)] or list(shipped.rules)
    cases = defaultdict(list)
    for case in testing.cases(shipped):
        cases[case.rule.code].append(case)
    known = equivalent()
    scores = []
    for rule in chosen:
        if cases[rule.code]:
            proven = _quietly(lambda rule=rule: proofs(rule, cases[rule.code]))
            scores.append(_quietly(lambda rule=rule, proven=proven: score(rule, proven, known)))
            if options.list:
                for mutation in scores[-1].missed:
                    print(f"{rule.code} {mutation.operator} {mutation.text}", flush=True)
    noticed, missed = sum(s.noticed for s in scores), sum(len(s.missed) for s in scores)
    share = noticed / max(1, noticed + missed)
    rows = [
        [s.rule.code, s.rule.name, s.noticed, s.noticed + len(s.missed), f"{s.share:.0%}", s.equal or ""]
        for s in sorted(scores, key=lambda s: s.share)
    ]
    print(tabulate(rows, ["code", "rule", "noticed", "of", "share", "equivalent"]))
    print(f"{noticed} of {noticed + missed} mutations of {len(scores)} rules are noticed ({share:.1%}).")
    return 0 if share >= OVER_ALL and all(s.share >= EACH for s in scores) else 1


if __name__ == "__main__":
    sys.exit(main())
