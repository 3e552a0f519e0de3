"""From the few iterations that were run to the whole run: how often something happens, by the lengths of the loops."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import pairwise

from lrlint.facts.loop import Total
from lrlint.facts.schedule import Interval
from lrlint.rehearsal.loops import Position
from lrlint.rehearsal.recorder import Event


class Counting:
    """What each run of a loop visited, over all events. ``open_runs`` are those that were not at their end when the
    rehearsal was cut: what their last iteration would still have come to is not known.
    """

    def __init__(self, events: Sequence[Event], open_runs: Collection[int] = ()) -> None:
        self._visited: dict[int, int] = {}
        self._open = frozenset(open_runs)
        for event in events:
            for position in event.loops:
                self.note(position.run, position.visited)

    def note(self, run: int, visited: int) -> None:
        """A run whose last iterations may have no event of their own."""
        self._visited[run] = max(self._visited.get(run, 0), visited)

    def total(self, events: Sequence[Event], skip: int = 0, *, sure: bool = True) -> Total:
        """How many such events the whole run has; None where a loop's length is not known.

        ``skip`` outer loops are left out (an object that is built anew in each of their iterations). Not ``sure``: the
        events stand under a condition that may end, so that iterations that were not visited may have none.
        """
        chain = _chain(events, skip)
        if chain is None:
            return (len(events), len(events)) if events and all(len(e.loops) <= skip for e in events) else None
        inside = [event for event in events if _sites(event, skip) == chain]
        if len(inside) < 0.9 * len(events):
            return None
        positions = [event.loops[skip:] for event in inside]
        if any(position.length is None for position in positions[0]):
            return None
        low, high = self.innermost([p[-1] for p in positions])
        for level in range(len(chain) - 1):
            at = [p[level] for p in positions]
            length = at[0].length or 0
            having = len({(position.run, position.iteration) for position in at})
            without = sum(self._whole(run, at) for run in {p.run for p in at}) - having
            runs = len({position.run for position in at})
            if runs > 1:  # the loop was entered anew: judge by what an entry has
                having, without = math.ceil(having / runs), math.ceil(without / runs)
            low *= length if without <= 0 else max(1, having)
            high *= length if without <= 0 else max(1, length - without)
        return (low, high) if sure else (len(events), high)

    def innermost(self, positions: Sequence[Position]) -> tuple[int, int]:
        """Events in one full pass of the loop they are directly in; not exact where a last window is incomplete."""
        passes = Counter(position.run for position in positions)
        run, seen = max(passes.items(), key=lambda item: item[1])
        length = positions[0].length or 0
        own = [position for position in positions if position.run == run]
        having, visited = sorted({position.iteration for position in own}), self._whole(run, own)
        often = seen / len(having)
        if visited >= length or len(having) >= visited:
            exact = seen / max(1, visited) * length
        elif (gap := _regular(having)) and having[-1] < visited <= having[-1] + gap:
            exact = often * ((length - 1 - having[0]) // gap + 1)
        elif len(having) == 1 and having[0] + 1 == visited:
            exact = often * length / visited
        else:  # as many at least, and none in those that were visited and have none
            return max(1, seen), max(1, math.ceil(often * (length - visited + len(having))))
        return max(1, math.floor(exact + 1e-6)), max(1, math.ceil(exact - 1e-6))

    def _whole(self, run: int, positions: Sequence[Position]) -> int:
        """Iterations of the run that were visited; not one that was cut before it came to such an event."""
        visited = self._visited[run]
        last = max(position.visited for position in positions if position.run == run)
        return visited - 1 if run in self._open and last < visited else visited


def _regular(iterations: Sequence[int]) -> int:
    """The distance between each of them and the next, where it is the same throughout; else 0."""
    gaps = {b - a for a, b in pairwise(iterations)}
    return gaps.pop() if len(gaps) == 1 else 0


def depth(event: Event | None) -> int:
    """Loops around an event."""
    return 0 if event is None else len(event.loops)


def _sites(event: Event, skip: int) -> tuple[int, ...]:
    return tuple(position.site for position in event.loops[skip:])


def _chain(events: Sequence[Event], skip: int) -> tuple[int, ...] | None:
    """The loops that most of the events are in."""
    chains = Counter(sites for event in events if (sites := _sites(event, skip)))
    return chains.most_common(1)[0][0] if chains else None


def interval(calls: Sequence[Event], steps: Sequence[Event], skip: int, ended: bool) -> Interval:
    """How often a scheduler is stepped: ``step``, ``epoch`` (once per iteration of the outermost loop), or ``""``.

    ``ended``: the loop came to its end; else its last iteration may not have come to the call.
    """
    if not calls or not steps:
        return ""
    times = sorted([(event.time, "call") for event in calls] + [(event.time, "step") for event in steps])
    kinds = "".join(kind[0] for _, kind in times)
    if kinds.replace("sc", "") in ("", "s") or kinds.replace("cs", "") in ("", "c"):
        return "step"
    chain = _chain(steps, skip)
    if chain is None or len(chain) < 2:
        return ""
    outer = [event.loops[skip] for event in calls if len(event.loops) > skip]
    once = Counter((position.run, position.iteration) for position in outer)
    iterations = {(e.loops[skip].run, e.loops[skip].iteration) for e in steps if len(e.loops) > skip}
    missing = iterations - set(once)
    if not ended and len(missing) == 1 and max(iterations) in missing:
        missing = set()
    regular = len(outer) == len(calls) and max(once.values(), default=0) == 1
    return "epoch" if regular and not missing else ""
