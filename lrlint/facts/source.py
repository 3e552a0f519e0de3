"""Facts from the text of the training loop and of the code that builds the parameter groups."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from lrlint.facts.span import Span


@dataclass(frozen=True)
class SourceCall:
    """A call of a training loop, in the order in which it is made.

    ``kind``: ``backward``, ``scaled_backward`` (of a GradScaler's scaled loss), ``unscale`` (or an unknown call that
    may do so), ``clip``, ``zero_grad``, ``optimizer_step``, ``scaler_step``, ``scheduler_step``; ``optimizer`` (one is
    built and bound to ``receiver``); ``iterator`` (a one-shot iterator that an earlier call has used up; ``receiver`` is
    its name, ``first`` that earlier use); ``average`` (of parameters, without buffers; ``receiver`` is its name).

    ``function`` is the one that was read; a call of a function that it calls stands in its place. ``loops`` are the
    lines of the enclosing loops, outermost first, ``guards`` the conditions within the innermost loop. ``arguments``:
    whether it has any. ``managed``: a library (accelerate, fabric, DeepSpeed) takes the steps of the function.
    ``covers``: of a clip or an optimizer, the expressions of the modules (or parameter groups) all of whose parameters
    it is given; empty where that cannot be told. ``scaled``: the loss of a backward pass was multiplied or divided, or
    comes from code that may do so; of a clip, its threshold is.
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

    def excludes(self, other: SourceCall) -> bool:
        """Whether the two stand under conditions that are never true together."""
        return any(_opposed(mine, theirs) for mine in self.guards for theirs in other.guards)


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
    """What was read: ``paths``, the ``calls`` in them, and the name ``patterns`` of the loops over parameters."""

    paths: tuple[str, ...] = ()
    calls: tuple[SourceCall, ...] = ()
    patterns: tuple[NamePattern, ...] = ()

    def functions(self) -> list[list[SourceCall]]:
        """The calls of each function (and of the code outside any), in order."""
        found: dict[str, list[SourceCall]] = {}
        for call in self.calls:
            found.setdefault(call.function, []).append(call)
        return list(found.values())

    def of_kind(self, kind: str) -> Iterator[SourceCall]:
        return (call for call in self.calls if call.kind == kind)
