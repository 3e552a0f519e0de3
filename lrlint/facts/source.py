"""Facts from the text of the training loop and of the code that builds the parameter groups."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lrlint.facts.schedule import Interval
from lrlint.facts.span import Span

#: Kinds of calls that take an optimizer's step.
STEPS = ("optimizer_step", "scaler_step")
#: Methods that a framework calls while it trains, after it has put the model into training mode.
HOOK = re.compile(r"on_train_|on_before_|training_step$|train_step$|compute_loss$")


@dataclass(frozen=True)
class SourceCall:
    """A call of a training loop, in the order in which it is made.

    ``kind``: ``backward``, ``scaled_backward`` (of a GradScaler's scaled loss), ``unscale`` (or an unknown call that
    may do so), ``clip``, ``zero_grad``, ``optimizer_step``, ``scaler_step``, ``scheduler_step``; ``train`` and ``eval``
    (the mode of the module ``receiver`` is set); ``optimizer`` (one is built and bound to ``receiver``); ``iterator`` (a
    one-shot iterator that an earlier call has used up; ``receiver`` is its name, ``first`` that earlier use);
    ``average`` (of parameters, without buffers; ``receiver`` is its name).

    ``function`` is the one that was read; a call of a function that it calls stands in its place. ``loops`` are the
    lines of the enclosing loops, outermost first, ``guards`` the conditions within the innermost loop. ``arguments``:
    whether it has any. ``managed``: a library (accelerate, fabric, DeepSpeed) takes the steps of the function.
    ``covers``: of a clip or an optimizer, the expressions of the modules (or parameter groups) all of whose parameters
    it is given; of a scaler's step, the optimizer; empty where that cannot be told. ``scaled``: the loss of a backward
    pass was multiplied or divided, or comes from code that may do so; of a clip, its threshold is.
    """

    kind: str
    receiver: str
    span: Span
    function: str = ""
    loops: tuple[int, ...] = ()
    guards: tuple[str, ...] = ()
    arguments: bool = False
    managed: bool = False
    first: Span | None = None
    covers: tuple[str, ...] = ()
    scaled: bool = False

    @property
    def function_name(self) -> str:
        """The name of ``function``, which is labelled ``path:name:line``."""
        return self.function.rsplit(":", 2)[-2] if self.function.count(":") > 1 else self.function

    @property
    def turns(self) -> bool:
        """Whether it makes, uses up or clears gradients: a backward pass, a step or ``zero_grad``."""
        return self.kind == "zero_grad" or self.kind in STEPS or "backward" in self.kind

    def excludes(self, other: SourceCall) -> bool:
        """Whether the two stand under conditions that are never true together."""
        return any(_opposed(mine, theirs) for mine in self.guards for theirs in other.guards)


def trained(calls: Sequence[SourceCall]) -> Iterator[SourceCall]:
    """The steps that a loop takes after its backward pass, or several in a loop of theirs; of the calls of one function."""
    for place, step in enumerate(calls):
        inside = (call for call in calls[:place] if call.loops[: len(step.loops)] == step.loops)
        if step.kind in STEPS and step.loops and any("backward" in call.kind for call in inside):
            yield step


def _opposed(one: str, other: str) -> bool:
    if one == f"not ({other})" or other == f"not ({one})":
        return True
    for positive, negative in ((" == ", " != "), (" is ", " is not "), (" < ", " >= "), (" > ", " <= ")):
        for first, second in ((one, other), (other, one)):
            if second.count(negative) == 1 and first == second.replace(negative, positive):
                return True
    return False


@dataclass(frozen=True)
class NamePattern:
    """A literal that parameter names are compared with, in a loop over ``named_parameters()`` that was seen to run.

    ``kind`` says how: ``contains``, ``prefix``, ``suffix``, ``equal``, ``segment k`` (the k-th dotted part), ``match``,
    ``search``, ``fullmatch`` (a regular expression), ``glob``. Literals of one condition share ``condition``, those of
    one loop ``walk``. ``names`` is how many names the loop saw, ``matched`` how many of them the literal matched; where
    that is none, ``missed`` is how many would have matched without ``lead``, the beginning that hides them, and
    ``nearest`` the spelling in the names that it misses by a slip.
    """

    kind: str
    text: str
    span: Span
    walk: Span
    condition: int
    names: int
    matched: int
    missed: int = 0
    lead: str = ""
    nearest: str = ""


@dataclass(frozen=True)
class SourceFacts:
    """What was read: ``paths``, the ``calls`` in them, and the name ``patterns`` of the loops over parameters.

    ``uncleared`` are the labels of the functions that take steps and in which nothing clears the gradients.
    ``sets_rates``: somewhere in it the rates of an optimizer's groups are set by hand.
    """

    paths: tuple[str, ...] = ()
    calls: tuple[SourceCall, ...] = ()
    patterns: tuple[NamePattern, ...] = ()
    uncleared: tuple[str, ...] = ()
    sets_rates: bool = False

    def functions(self) -> list[list[SourceCall]]:
        """The calls of each function (and of the code outside any), in order."""
        found: dict[str, list[SourceCall]] = {}
        for call in self.calls:
            found.setdefault(call.function, []).append(call)
        return list(found.values())

    def put_back(self) -> Iterator[SourceCall]:
        """Calls that take parts of a model out of the training mode that it was put into before."""
        for calls in self.functions():
            hooked = HOOK.match(calls[0].function_name) is not None
            trained: set[str] = set()
            for call in calls:
                if call.kind == "train":
                    trained.add(call.receiver)
                elif call.kind == "eval" and (trained or hooked) and call.receiver not in trained:
                    yield call

    def of_kind(self, kind: str) -> Iterator[SourceCall]:
        return (call for call in self.calls if call.kind == kind)

    def scheduler_interval(self) -> Interval | None:
        """Whether the schedulers are stepped once per optimizer step (``step``) or once per many, after a loop of such
        steps (``epoch``). None where no loop shows it, where a scheduler has a condition of its own, and where they differ.
        """
        found = {
            _interval(call, [step for step in calls if step.kind in STEPS])
            for calls in self.functions()
            for call in calls
            if call.kind == "scheduler_step" and not call.arguments
        }
        return found.pop() if len(found) == 1 else None


def _interval(call: SourceCall, steps: list[SourceCall]) -> Interval | None:
    depth = len(call.loops)
    if any(step.loops == call.loops and set(call.guards) <= set(step.guards) for step in steps):
        return "step"
    nested = bool(steps) and all(len(step.loops) > depth > 0 and step.loops[:depth] == call.loops for step in steps)
    return "epoch" if nested and not call.guards else None
