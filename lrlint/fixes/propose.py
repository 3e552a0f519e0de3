"""What could repair a finding, as edits of the source: the likeliest first. None of them is known to be right yet."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterator
from contextlib import suppress

from lrlint.fixes.edits import Edit, Source
from lrlint.lint.finding import Finding

Candidates = Iterator[list[Edit]]

_WALKS = ("parameters", "named_parameters")


def candidates(finding: Finding, source: Source) -> Candidates:
    """Sets of edits, each of which may repair the finding."""
    propose = _PROPOSALS.get(finding.rule)
    if propose is not None and finding.locations:
        yield from propose(finding, source)


def _option_name(finding: Finding, source: Source) -> Candidates:
    """LR602: the key that means nothing is written as the option that it stands for."""
    key, option = finding.data.get("key"), finding.data.get("option")
    edits = []
    for span in finding.locations:
        start = source.position(span)
        found = re.match(rf"(?P<quote>[\"']?){re.escape(str(key))}(?P=quote)", source.text[start:])
        if found is None:
            return
        inner = start + len(found["quote"])
        edits.append(Edit(inner, inner + len(str(key)), str(option)))
    yield edits


def _whole_model(finding: Finding, source: Source) -> Candidates:
    """LR101: walk the whole model where a part of it is walked; or add what is lost to the list of parameters."""
    call = source.call(finding.locations[0])
    if call is None:
        return
    parts = _roots(call, source)
    walks = [
        node
        for root in parts
        for node in ast.walk(root)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in _WALKS
        and not node.args
        and not node.keywords
    ]
    owners = [node.func.value for node in walks if isinstance(node.func, ast.Attribute)]
    inner = [owner for owner in owners if isinstance(owner, ast.Attribute)]
    for depth in (1, 2):
        edits = [source.replace(owner, source.segment(_outer(owner, depth))) for owner in inner]
        if edits and len(inner) == len(owners):
            yield edits
    modules = list(dict.fromkeys(name.partition(".")[0] for name in finding.parameters))
    bases = list(dict.fromkeys(source.segment(_outer(owner, 9)) for owner in owners))
    for base in bases:
        for root in parts:
            yield from _added(root, base, modules, finding, source)


def _outer(owner: ast.expr, depth: int) -> ast.expr:
    """The expression without its last ``depth`` attributes: ``model.bert`` is ``model``."""
    while depth and isinstance(owner, ast.Attribute) and not _is_self(owner):
        owner, depth = owner.value, depth - 1
    return owner


def _is_self(owner: ast.Attribute) -> bool:
    return isinstance(owner.value, ast.Name) and owner.value.id == "self"


def _added(root: ast.expr, base: str, modules: list[str], finding: Finding, source: Source) -> Candidates:
    """A list of groups gets a group, a list of parameters gets the parameters that are lost."""
    last = root.elts[-1] if isinstance(root, ast.List) and root.elts else None
    whole = [f"{base}.{module}.parameters()" for module in modules if f"{module}.weight" in finding.parameters]
    loose = [f"{base}.{name}" for name in finding.parameters if "." not in name]
    if isinstance(last, ast.Dict):
        texts = [f'{{"params": {walk}}}' for walk in whole] + ([f'{{"params": [{", ".join(loose)}]}}'] if loose else [])
    else:
        texts = [f"*{walk}" for walk in whole] + loose
    if last is None:
        if texts and isinstance(root, (ast.Name, ast.Call)):
            yield [source.replace(root, f"[*{source.segment(root)}, {', '.join(texts)}]")]
        return
    start = source.region(last)[1]
    lead = ", "
    if (last.lineno, root.lineno) != (root.lineno, root.end_lineno):  # one element a line
        lead = ",\n" + " " * last.col_offset
    if texts:
        yield [Edit(start, start, "".join(lead + text for text in texts))]


def _roots(call: ast.Call, source: Source) -> list[ast.expr]:
    """The expression that an optimizer is given, and those of the variables in it, as they are assigned before it."""
    given = call.args[0] if call.args else next((k.value for k in call.keywords if k.arg == "params"), None)
    if given is None:
        return []
    assigned: dict[str, ast.expr] = {}
    line = call.lineno
    for node in ast.walk(source.function(*source.region(call))):
        if isinstance(node, ast.Assign) and node.lineno <= line and len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, ast.Name):
                assigned[target.id] = node.value
    roots, seen, waiting = [], set(), [given]
    while waiting:
        root = waiting.pop(0)
        roots.append(root)
        for node in ast.walk(root):
            if isinstance(node, ast.Name) and node.id in assigned and node.id not in seen:
                seen.add(node.id)
                value = assigned[node.id]
                if not isinstance(value, ast.Call) or isinstance(value.func, ast.Attribute):
                    waiting.append(value)
    return roots


def _by_dimension(finding: Finding, source: Source) -> Candidates:
    """LR301, LR303, LR304: a filter by name becomes one by the number of dimensions."""
    start = source.position(finding.locations[0])
    for part in (source.function(start, start), source.tree):
        yield _dimensions(part, source)


def _dimensions(part: ast.AST, source: Source) -> list[Edit]:
    edits = []
    for node in ast.walk(part):
        for target, tests in _filters(node):
            for test in tests:
                edits += [
                    Edit(*region, f"{target}.ndim {sign} 1")
                    for region, sign in _name_tests(test, source, negated=False)
                ]
    return edits


def _filters(node: ast.AST) -> Iterator[tuple[str, list[ast.expr]]]:
    """(variable of the parameter, conditions) of comprehensions and loops over ``named_parameters()``."""
    if isinstance(node, ast.comprehension):
        name = _parameter(node.target, node.iter)
        if name:
            yield name, node.ifs
    elif isinstance(node, ast.For):
        name = _parameter(node.target, node.iter)
        if name:
            inner = (child for statement in node.body for child in ast.walk(statement))
            yield name, [child.test for child in inner if isinstance(child, (ast.If, ast.IfExp))]


def _parameter(target: ast.expr, walked: ast.expr) -> str:
    """The second variable of a walk over names and parameters, also where they were put into a list before."""
    named = isinstance(walked, ast.Call) and isinstance(walked.func, ast.Attribute) and walked.func.attr == _WALKS[1]
    if (
        (named or isinstance(walked, ast.Name))
        and isinstance(target, ast.Tuple)
        and len(target.elts) == 2
        and isinstance(target.elts[1], ast.Name)
    ):
        return target.elts[1].id
    return ""


def _name_tests(test: ast.expr, source: Source, *, negated: bool) -> Iterator[tuple[tuple[int, int], str]]:
    """(region, sign) of the parts of a condition that ask for a name: ``any(k in n for k in no_decay)``, ``"norm" in n``."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        found = list(_name_tests(test.operand, source, negated=not negated))
        # `not any(...)` is replaced as a whole
        yield from (
            (source.region(test) if region == source.region(test.operand) else region, sign) for region, sign in found
        )
    elif isinstance(test, ast.BoolOp) and not _about_names(test):
        for value in test.values:
            yield from _name_tests(value, source, negated=negated)
    elif _about_names(test):
        yield source.region(test), ">" if negated else "<="


def _about_names(test: ast.expr) -> bool:
    """Whether a condition does nothing but look for text in a name."""
    if isinstance(test, ast.BoolOp):
        return isinstance(test.op, ast.Or) and all(map(_about_names, test.values))
    if isinstance(test, ast.Call):
        if isinstance(test.func, ast.Name) and test.func.id == "any" and len(test.args) == 1:
            inner = test.args[0]
            return isinstance(inner, (ast.GeneratorExp, ast.ListComp)) and _about_names(inner.elt)
        return isinstance(test.func, ast.Attribute) and test.func.attr in ("endswith", "startswith")
    return isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.In)


def _rate_per_group(finding: Finding, source: Source) -> Candidates:
    """LR401: a scheduler that is given one rate is given that of each group."""
    for span in finding.locations:
        call = source.call(span)
        optimizer = call.args[0] if call is not None and call.args else None
        if call is None or optimizer is None:
            continue
        name = source.segment(optimizer)
        own = f'[group["lr"] for group in {name}.param_groups]'
        cyclic = source.segment(call.func).endswith("CyclicLR")
        peak = _argument(
            call, "max_lr", 2 if cyclic else 1 if source.segment(call.func).endswith("OneCycleLR") else None
        )
        floor = _argument(call, "base_lr", 1) if cyclic else None
        if peak is None:
            continue
        edits = [source.replace(peak, own)]
        if floor is not None:  # one floor for all would lie above the peaks of some
            edits.append(source.replace(floor, own.replace('["lr"]', f'["lr"] * {_ratio(floor, peak, source)}', 1)))
        yield edits


def _argument(call: ast.Call, name: str, position: int | None) -> ast.expr | None:
    """An argument of a call, by keyword or by position."""
    found = next((keyword.value for keyword in call.keywords if keyword.arg == name), None)
    if found is None and position is not None and len(call.args) > position:
        found = call.args[position]
    return None if isinstance(found, ast.Starred) else found


def _ratio(floor: ast.expr, peak: ast.expr, source: Source) -> str:
    """One rate over the other, as a number where both are, or as the expression that says so."""
    if isinstance(floor, ast.Constant) and isinstance(peak, ast.Constant):
        with suppress(TypeError, ZeroDivisionError):
            return f"{floor.value / peak.value:g}"  # type: ignore[operator]
    return f"({source.segment(floor)}) / ({source.segment(peak)})"


def _without(finding: Finding, source: Source) -> Candidates:
    """LR103, LR108: an element that is there twice, or a group that holds nothing, goes."""
    starts = {source.position(span) for span in finding.locations}
    for node in ast.walk(source.tree):
        if not isinstance(node, (ast.List, ast.Tuple)) or len(node.elts) < 2:
            continue
        texts = [source.segment(element) for element in node.elts]
        for index, element in enumerate(node.elts):
            first, last = source.region(element)
            # A group that should hold something is no clutter: only where nothing is lost does it go.
            nothing = finding.rule == "LR108" and finding.severity == "info"
            empty = nothing and any(first <= start < last for start in starts)
            repeated = finding.rule == "LR103" and texts[index] in texts[:index]
            if empty or repeated:
                if index:
                    yield [Edit(source.region(node.elts[index - 1])[1], last, "")]
                else:
                    yield [Edit(first, source.region(node.elts[1])[0], "")]


_PROPOSALS: dict[str, Callable[[Finding, Source], Candidates]] = {
    "LR101": _whole_model,
    "LR103": _without,
    "LR108": _without,
    "LR301": _by_dimension,
    "LR303": _by_dimension,
    "LR304": _by_dimension,
    "LR401": _rate_per_group,
    "LR602": _option_name,
}
#: Rules whose findings may be repaired.
RULES = frozenset(_PROPOSALS)
