"""What a call in a training loop does, by its name and by what its receiver was bound to."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from lrlint.inspection.training_loop.code import File, Scope, last

_SCHEDULERS = re.compile(r"(LR|LRScheduler|Scheduler|Restarts|OnPlateau)$|^get_(\w+_)?(schedule\w*|scheduler)$")
_OPTIMIZERS = re.compile(
    r"^(SGD|ASGD|Adam\w*|NAdam|RAdam|RMSprop|Adagrad|Adadelta|Adafactor|Lion|LBFGS|Muon|LAMB|LARS)$"
)
_OPTIMIZER = re.compile(r"optim|(^|_)[a-z]{0,2}opt(_|\d|[A-Z]|s?$)|Opt(_|\d|[A-Z]|s?$)")
#: Schedulers of something else than the learning rate step whenever their owner likes.
_OF_OTHERS = re.compile(
    r"noise|beta|kl|temp|tau|sampl|teacher|forcing|curric|mask|entrop|eps|decay|(^|_)wd|moment|task|job|drop|prun|spars|"
    r"quant|data|batch|bn|norm|loss|alpha|gamma|ema|weight|explor|difficult|resol|diffusion|ddpm|ddim",
    re.IGNORECASE,
)
_CLIPS = frozenset(("clip_grad_norm_", "clip_grad_value_", "clip_grad_norm"))
_EVENTS = frozenset(("step", "unscale_", "zero_grad", "backward", "manual_backward")) | _CLIPS
#: Calls on a module that set its mode.
_MODES = frozenset(("train", "eval"))
_CLIPPERS = frozenset(("", "utils", "nn.utils", "torch.nn.utils", "clip_grad", "torch.nn.utils.clip_grad"))
_HOOKS = re.compile(r"hook|callback|^fire|^trigger|^emit|dispatch|^on_|^notify|unscale", re.IGNORECASE)
_FRACTIONS = (ast.Div, ast.FloorDiv, ast.Mult)


def is_clip_name(name: str) -> bool:
    """Whether a function of this name clips gradients."""
    return name in _CLIPS


def is_optimizer_name(name: str) -> bool:
    """Whether something of this name is an optimizer, to judge by it."""
    return _OPTIMIZER.search(name) is not None


def is_hook_name(name: str) -> bool:
    """Whether a function of this name runs code that others have registered."""
    return _HOOKS.search(name) is not None


def is_scheduler_class(name: str) -> bool:
    """Whether a class or function of this name makes a scheduler."""
    return _SCHEDULERS.search(name) is not None


def is_optimizer_class(name: str) -> bool:
    """Whether a class of this name is an optimizer."""
    return _OPTIMIZERS.match(name) is not None


Bound = Mapping[str, Sequence[ast.AST | None]]


@dataclass(frozen=True)
class Kind:
    """See `lrlint.facts.source.SourceCall`."""

    kind: str
    receiver: str
    covers: tuple[str, ...] = ()
    scaled: bool = False
    conditions: tuple[str, ...] = ()


class Kinds:
    """Tells the calls of one file apart."""

    def __init__(self, file: File) -> None:
        self._made: dict[str, str] = {}  # name → scheduler, optimizer, other, by what is assigned to it anywhere
        self._own_clips = {name for name in _CLIPS if name in file.functions}
        self._clips = {
            alias: name
            for alias, (module, name) in file.imports.items()
            if name in _CLIPS and module.startswith("torch.nn")
        }
        self._utils = {
            alias
            for alias, (module, name) in file.imports.items()
            if f"{module}.{name}".strip(".") in ("torch.nn.utils", "torch.nn.utils.clip_grad")
        }
        foreign = {
            alias for alias, (module, name) in file.imports.items() if name in _CLIPS and not module.startswith("torch")
        }
        self._own_clips |= foreign
        custom = {name for name, node in file.classes.items() if not any(_is_rate_class(last(b)) for b in node.bases)}
        self._disabled: set[str] = set()
        stores = (n for n in ast.walk(file.tree) if isinstance(n, ast.Attribute) and isinstance(n.ctx, ast.Store))
        self._placed = {last(node.value) for node in stores if node.attr == "last_epoch"}
        for node in ast.walk(file.tree):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call):
                made = last(node.value.func)
                for target in node.targets:
                    kind = _made(made, custom, node.value, last(target))
                    if kind:
                        self._made[last(target)] = kind
                if made == "GradScaler" and any(
                    word.arg == "enabled" and isinstance(word.value, ast.Constant) and not word.value.value
                    for word in node.value.keywords
                ):
                    self._disabled.update(last(target) for target in node.targets)

    def may_concern(self, call: ast.Call) -> bool:
        """Whether a call can be one of those that make a training step, before anything else is known of it."""
        name = last(call.func)
        return name in _EVENTS or name in self._clips or _sets_mode(call) or _may_unscale(call)

    def of(self, call: ast.Call, bound: Bound) -> Kind | None:
        """What the call does, or None where that is nothing of a training step."""
        name = last(call.func)
        owner = call.func.value if isinstance(call.func, ast.Attribute) else None
        receiver = "" if owner is None else ast.unparse(owner)
        if self._is_clip(name, owner, receiver):
            argument = (
                call.args[0] if call.args else next((w.value for w in call.keywords if w.arg == "parameters"), None)
            )
            limits = [*call.args[1:], *(word.value for word in call.keywords)]
            scaled = any("scale" in ast.unparse(limit) for limit in limits)
            return Kind("clip", "" if argument is None else ast.unparse(argument), covered(argument, bound), scaled)
        if owner is None:
            return Kind("unscale", "") if _may_unscale(call) else None
        if name == "step":
            kind = self._step(last(owner))
            placed = ("its last_epoch is set",) if kind == "scheduler_step" and last(owner) in self._placed else ()
            stepped = tuple(map(ast.unparse, call.args[:1])) if kind == "scaler_step" else ()
            return Kind(kind, receiver, stepped, conditions=placed) if kind else None
        if _sets_mode(call):
            return Kind(name, receiver)
        if name == "unscale_":
            return Kind("unscale", receiver)
        if name == "zero_grad":
            return Kind("zero_grad", receiver)
        if name in ("backward", "manual_backward"):
            return self._backward(call, owner, receiver, bound)
        return Kind("unscale", "") if _may_unscale(call) else None

    def _is_clip(self, name: str, owner: ast.AST | None, receiver: str) -> bool:
        if owner is None:
            return (name in _CLIPS and name not in self._own_clips) or name in self._clips
        return name in _CLIPS and (receiver in _CLIPPERS or receiver in self._utils)

    def _step(self, holder: str) -> str:
        low, made = holder.lower(), self._made.get(holder, "")
        if made == "other":
            return ""
        if made == "scheduler" or (not made and "sched" in low and not _OF_OTHERS.search(holder)):
            return "scheduler_step"
        if "scaler" in low:
            return "" if holder in self._disabled else "scaler_step"
        return "optimizer_step" if made == "optimizer" or _OPTIMIZER.search(holder) else ""

    def _backward(self, call: ast.Call, owner: ast.expr, receiver: str, bound: Bound) -> Kind:
        value: ast.AST = call.args[0] if call.args and last(call.func) == "manual_backward" else owner
        scaler, inner = _scaler(value, bound)
        scaled = scaler is not None and last(scaler) not in self._disabled
        return Kind("scaled_backward" if scaled else "backward", receiver, scaled=_is_fraction(inner, bound))


def built(scope: Scope) -> Iterator[tuple[ast.Call, str, tuple[str, ...]]]:
    """Each optimizer that a function builds and binds: the call, the name, and whose parameters it was given."""
    for node in scope.nodes:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and len(node.targets) == 1:
            call = node.value
            if _made(last(call.func), set(), call) == "optimizer":
                named = [word.value for word in call.keywords if word.arg == "params"]
                yield call, ast.unparse(node.targets[0]), covered([*call.args, *named, None][0], scope.visible)


def _may_unscale(call: ast.Call) -> bool:
    """An unknown function that is given the scaler, or that runs hooks: it may unscale the gradients."""
    arguments = [*call.args, *(word.value for word in call.keywords)]
    if isinstance(call.func, ast.Attribute) and "scaler" in last(call.func.value).lower():
        return False
    if any("scaler" in last(argument).lower() for argument in arguments):
        return True
    of_self = isinstance(call.func, ast.Attribute) and last(call.func.value) in ("self", "callbacks", "hooks")
    hooked = _HOOKS.search(last(call.func)) is not None
    return (of_self and hooked) or "unscale" in last(call.func) or (last(call.func) == "self" and bool(arguments))


def _sets_mode(call: ast.Call) -> bool:
    """``module.eval()``, ``module.train()`` or ``module.train(True)``."""
    arguments = [*call.args, *(word.value for word in call.keywords)]
    plain = all(isinstance(value, ast.Constant) and value.value is True for value in arguments)
    return isinstance(call.func, ast.Attribute) and call.func.attr in _MODES and plain


def _is_rate_class(base: str) -> bool:
    return _SCHEDULERS.search(base) is not None or _OPTIMIZERS.match(base) is not None or base == "Optimizer"


def _made(name: str, custom: set[str], call: ast.Call, bound_to: str = "") -> str:
    """What a constructor makes, by its name: a scheduler or optimizer of torch's kind; other where it is someone's own."""
    of_optim = isinstance(call.func, ast.Attribute) and last(call.func.value) == "optim"
    if name not in custom and (_OPTIMIZERS.match(name) or of_optim):
        return "optimizer"
    if name not in custom and _SCHEDULERS.search(name):
        rest = re.sub("LR|Lambda|Cosine", "", name)
        return "other" if _OF_OTHERS.search(rest) else "scheduler"
    return "other" if "sched" in bound_to.lower() and name[:1].isupper() else ""


def _scaler(value: ast.AST, bound: Bound) -> tuple[ast.AST | None, ast.AST]:
    """The scaler that scaled a loss (None where none did), and what was scaled."""
    candidates: list[ast.AST | None] = [value]
    if isinstance(value, (ast.Name, ast.Attribute)):
        candidates += bound.get(ast.unparse(value), ())
    for candidate in candidates:
        if (
            isinstance(candidate, ast.Call)
            and isinstance(candidate.func, ast.Attribute)
            and candidate.func.attr == "scale"
        ):
            return candidate.func.value, candidate.args[0] if candidate.args else value
    return None, value


def _is_fraction(value: ast.AST, bound: Bound, depth: int = 3) -> bool:
    """Whether a loss was multiplied or divided on its way, or made by something that cannot be seen into."""
    if isinstance(value, ast.BinOp):
        if isinstance(value.op, _FRACTIONS):
            return True
        return any(_is_fraction(part, bound, depth) for part in (value.left, value.right))
    if isinstance(value, (ast.Name, ast.Attribute)) and depth:
        values = bound.get(ast.unparse(value), ())
        return not values or any(item is None or _is_fraction(item, bound, depth - 1) for item in values)
    if isinstance(value, ast.Call):
        name = last(value.func)
        arguments = [*value.args, *(word.value for word in value.keywords)]
        plain = re.search(r"criterion|loss|cross_entropy|nll|mse|bce", name, re.IGNORECASE) is not None
        about = any(isinstance(n, ast.Constant) and n.value == "sum" for g in arguments for n in ast.walk(g))
        return about or not plain or (isinstance(value.func, ast.Attribute) and last(value.func.value) == "self")
    return not isinstance(value, ast.Attribute)


def covered(expression: ast.AST | None, bound: Bound, depth: int = 3) -> tuple[str, ...]:
    """Of which modules (or parameter groups) an expression lists all parameters; () where that cannot be told."""
    if expression is None or depth == 0:
        return ()
    if isinstance(expression, (ast.Name, ast.Attribute)):
        values = bound.get(ast.unparse(expression), ())
        return covered(values[0], bound, depth - 1) if len(values) == 1 else ()
    if isinstance(expression, ast.Call):
        name = last(expression.func)
        if name == "parameters" and isinstance(expression.func, ast.Attribute) and not expression.args:
            return (ast.unparse(expression.func.value),)
        if name in ("list", "tuple", "iter", "chain"):
            return _together(expression.args, bound, depth)
        if name == "filter" and len(expression.args) == 2:
            return covered(expression.args[1], bound, depth)
        return ()
    if isinstance(expression, ast.BinOp) and isinstance(expression.op, ast.Add):
        return _together([expression.left, expression.right], bound, depth)
    if isinstance(expression, (ast.List, ast.Tuple)):
        inner = [part.value if isinstance(part, ast.Starred) else part for part in expression.elts]
        return _together([_of_group(part) for part in inner], bound, depth)
    if isinstance(expression, (ast.ListComp, ast.GeneratorExp)) and len(expression.generators) == 1:
        only = expression.generators[0]
        trainable = all(
            "requires_grad" in ast.unparse(test) or "grad is not None" in ast.unparse(test) for test in only.ifs
        )
        same = (
            isinstance(expression.elt, ast.Name)
            and isinstance(only.target, ast.Name)
            and expression.elt.id == only.target.id
        )
        return covered(only.iter, bound, depth - 1) if trainable and same else ()
    if (
        isinstance(expression, ast.Subscript)
        and isinstance(expression.slice, ast.Constant)
        and expression.slice.value == "params"
    ):
        return (ast.unparse(expression),)
    return ()


def _of_group(node: ast.expr) -> ast.AST | None:
    """What stands under ``params`` of a written group; the node itself where it is none."""
    if isinstance(node, ast.Dict):
        pairs = zip(node.keys, node.values, strict=True)
        return next((v for k, v in pairs if isinstance(k, ast.Constant) and k.value == "params"), None)
    return node


def _together(parts: Sequence[ast.AST | None], bound: Bound, depth: int) -> tuple[str, ...]:
    names_of_parts = [covered(part, bound, depth) for part in parts]
    return tuple(name for names in names_of_parts for name in names) if all(names_of_parts) else ()
