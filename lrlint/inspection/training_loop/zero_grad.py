"""Functions that train and never clear their gradients, as far as what was read shows."""

from __future__ import annotations

import ast
import re
import tokenize
from collections.abc import Iterable, Iterator, Sequence

from lrlint.facts.source import STEPS, SourceCall, trained
from lrlint.inspection.training_loop.call_kinds import is_hook_name, is_optimizer_name, is_scheduler_class
from lrlint.inspection.training_loop.calls import Reader
from lrlint.inspection.training_loop.code import File, Scope, last

#: Mentions of gradients that clear none; any other may.
_PLAIN = re.compile(
    r"clip_grad\w*|requires_grad\w*|no_grad|enable_grad|set_grad_enabled|grad_?scaler|(max_)?grad(ient)?_?(norm|clip|accum)\w*",
    re.I,
)
_GRADIENT = re.compile(r"grad|to_none|_zero_", re.I)
#: Functions that leave the gradients of what they are given alone.
_HARMLESS = frozenset(
    ("step", "unscale_", "isinstance", "len", "print", "id", "type", "repr", "str", "list", "summary")
)
_TRAINED = re.compile(r"^(model|net|network|module|self|agent|learner|trainer|cls)$")
_WORD = re.compile(r'^[rbufRBUF]*(["\'])\w+\1$')
_LOOPS = (ast.For, ast.AsyncFor, ast.While)


def uncleared(reader: Reader, files: Iterable[File], scopes: Sequence[Scope], alone: bool) -> Iterator[str]:
    """Labels of the functions among ``scopes`` whose gradients add up from step to step.

    Only of functions that are no methods, and step an optimizer by its plain name. Silent as soon as gradients are
    mentioned in another way than to clip or scale them, anywhere in the ``files`` (``alone``: where a function or what
    it calls stands), as a model or an optimizer is handed to code that was not read, as hooks are run, where the
    optimizer is built anew in the loop, and where the loop ends after a step.
    """
    if not alone and any(map(_mentions, (line for file in files for line in code_lines(file)))):
        return
    for scope in scopes:
        steps = list(_steps(reader.calls(scope)))
        if not steps or scope.owner is not None or _once(scope, {step.receiver for step in steps}):
            continue
        reached = [scope, *(inside for inside in reader.code.reached(scope) if inside.node is not scope.node)]
        if any(inside.owner is not None or any(_handed(reader, inside)) for inside in reached):
            continue
        if not any(map(_mentions, _lines(reader, scope))):
            yield scope.label


def _mentions(line: str) -> bool:
    return _GRADIENT.search(_PLAIN.sub("", line)) is not None


def _steps(calls: Sequence[SourceCall]) -> Iterator[SourceCall]:
    """Steps after a backward pass in a loop; none where hooks may run, or the optimizer is an attribute of something."""
    if any(call.kind == "unscale" and not call.receiver for call in calls):
        return
    own = [call for call in calls if call.kind in STEPS and call.loops and not call.managed]
    if all("." not in call.receiver and "." not in "".join(call.covers) for call in own):
        yield from (step for step in trained(calls) if not step.managed)


def _once(scope: Scope, optimizers: set[str]) -> bool:
    """Whether a loop builds one of these anew, or is left at its end."""
    for loop in (node for node in scope.nodes if isinstance(node, _LOOPS)):
        stored = {n.id for n in ast.walk(loop) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        if (
            isinstance(loop.body[-1], (ast.Break, ast.Return))
            or any(map(is_optimizer_name, stored))
            or stored & optimizers
        ):
            return True
    return False


def _handed(reader: Reader, scope: Scope) -> Iterator[ast.Call]:
    """Calls that give a model or an optimizer to code that was not read, or run hooks."""
    for call in (node for node in scope.nodes if isinstance(node, ast.Call)):
        name = last(call.func)
        if is_hook_name(name):
            yield call
        if name in _HARMLESS or is_scheduler_class(name) or reader.code.called(scope, call) is not None:
            continue
        arguments = [*call.args, *(word.value for word in call.keywords)]
        if any(is_optimizer_name(n) or _TRAINED.match(n) for value in arguments for n in _whole(value)):
            yield call


def _whole(value: ast.expr) -> Iterator[str]:
    """The names in an argument that stand for all of an object: by themselves, or in a container."""
    if isinstance(value, (ast.Name, ast.Attribute)):
        yield last(value)
    elif isinstance(value, (ast.Tuple, ast.List, ast.Dict, ast.Starred)):
        parts = value.values if isinstance(value, ast.Dict) else getattr(value, "elts", [getattr(value, "value", None)])
        for part in parts:
            if part is not None:
                yield from _whole(part)


def _lines(reader: Reader, scope: Scope) -> Iterator[str]:
    for file, node in reader.code.reach(scope):
        yield from code_lines(file)[node.lineno - 1 : node.end_lineno]


def code_lines(file: File) -> list[str]:
    """The file's lines without comments, docstrings and messages, which are no code.

    A string that is a plain word may be the name of an attribute (`getattr(p, "grad")`) and stays. A file that cannot be
    split into tokens comes back as it is.
    """
    lines = list(file.lines)
    try:
        tokens = list(tokenize.generate_tokens(iter([*lines, ""]).__next__))
    except (tokenize.TokenError, IndentationError, SyntaxError, StopIteration):
        return lines
    for token in reversed(tokens):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and not _WORD.match(token.string)):
            (first, start), (last_line, end) = token.start, token.end
            after = lines[last_line - 1][end:]
            lines[first - 1] = (
                lines[first - 1][:start]
                + ('""' if token.type == tokenize.STRING else "")
                + (after if first == last_line else "\n")
            )
            for row in range(first, last_line):
                lines[row] = after if row == last_line - 1 else "\n"
    return lines
