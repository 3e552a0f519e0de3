"""Facts from the text of the training loop."""

from __future__ import annotations

from dataclasses import dataclass

from lrlint.facts.span import Span


@dataclass(frozen=True)
class SourceCall:
    """A call of a training loop, in the order of the source.

    ``kind``: ``backward``, ``scaled_backward`` (of a GradScaler's scaled loss), ``unscale``, ``clip``,
    ``optimizer_step``, ``scaler_step``, ``scheduler_step``, or ``iterator`` (a one-shot iterator that an earlier call
    has used up; ``receiver`` is its name, ``first`` that earlier use). ``loops`` are the lines of the enclosing loops,
    outermost first, ``guards`` the conditions within the innermost loop. ``arguments``: whether it has any. ``managed``:
    the function has a library (accelerate, fabric, DeepSpeed) take the steps.
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


@dataclass(frozen=True)
class SourceFacts:
    """What was read: ``paths``, and the ``calls`` in them."""

    paths: tuple[str, ...] = ()
    calls: tuple[SourceCall, ...] = ()

    def functions(self) -> list[list[SourceCall]]:
        """The calls of each function (and of the code outside any), in order."""
        found: dict[tuple[str, str], list[SourceCall]] = {}
        for call in self.calls:
            found.setdefault((call.span.path, call.function), []).append(call)
        return list(found.values())
