"""How often each scheduler stepped, and beside which optimizer steps."""

from __future__ import annotations

import re
from collections import defaultdict

from lrlint.facts.loop import SchedulerSeen
from lrlint.rehearsal.material import Material, same_loops
from lrlint.rehearsal.recorder import Event
from lrlint.rehearsal.replay import Replay
from lrlint.rehearsal.totals import Counting, depth, interval


class SchedulerObserver:
    """Turns the recorded events of a rehearsal into `SchedulerSeen` facts."""

    def __init__(self, material: Material, replay: Replay, counting: Counting) -> None:
        self.material, self.replay, self.counting = material, replay, counting
        self.events = material.events

    def facts(self) -> tuple[list[SchedulerSeen], list[tuple[int, int]]]:
        """Every scheduler, and the pairs (by index in the setup) that never stepped in the same iteration."""
        schedulers, iterations = [], {}
        calls: dict[int, list[Event]] = defaultdict(list)
        nested = set(self.material.sub_schedulers)
        for event in self.events:
            if event.kind == "scheduler_step":
                nested |= {event["scheduler"]} if event["nested"] else set()
                calls[event["scheduler"]].append(event)
        for built in (event for event in self.events if event.kind == "scheduler"):
            number = built["scheduler"]
            own = [] if number in nested else calls[number]
            schedulers.append(self._scheduler(built, own, number in nested))
            index = self.material.schedulers.get(number)
            if index is not None and number not in nested:  # one that was not seen stepping shares no iteration
                iterations[index] = {e.loops[0].iteration for e in own if e.loops}
        pairs = [(a, b) for a in iterations for b in iterations if a < b and not iterations[a] & iterations[b]]
        return schedulers, pairs

    def _scheduler(self, built: Event, calls: list[Event], nested: bool) -> SchedulerSeen:
        number, driven = built["scheduler"], built["optimizer"]
        mine = [s.event for s in self.replay.steps if s.optimizer == driven]
        steps = mine or [s.event for s in self.replay.steps if not s.event.inside]
        after = [event for event in steps if event.time > built.time]
        skip = depth(built) if after and same_loops(built, after[0]) else 0
        apart = [x for s in self.replay.steps for x in s.event["scheduled"] if x[0] == number and s.optimizer != driven]
        guarded = self._guarded(calls, after)
        return SchedulerSeen(
            class_name=built["label"],
            schedule=self.material.schedulers.get(number),
            optimizer=self.material.optimizers.get(driven) if driven is not None else None,
            span=self.material.created.get(("scheduler", number)) or built.span,
            step_span=calls[0].span if calls else None,
            calls=len(calls),
            steps=len(after),
            total=self.counting.total(calls, skip, sure=not guarded) if calls else None,
            interval="" if guarded else interval(calls, after, skip, self.material.ended),
            guarded=guarded,
            outer=len({(e.loops[skip].run, e.loops[skip].iteration) for e in after if len(e.loops) > skip}),
            ended=self.material.ended,
            mentioned=not calls and not nested and self._mentioned(number),
            early=bool(calls and after) and calls[0].time < after[0].time and bool(calls[0].loops),
            nested=nested,
            unreached=(apart[0][1], apart[0][2], len(apart)) if apart else None,
        )

    @staticmethod
    def _guarded(calls: list[Event], steps: list[Event]) -> bool:
        """Whether some condition that may end, or begin, stands over every call and not over the optimizer's steps."""
        over = frozenset.intersection(*(event["guards"] for event in calls)) if calls else frozenset()
        return bool(over - frozenset().union(*(event["guards"] for event in steps)))

    def _mentioned(self, number: int) -> bool:
        """Whether the source has a `.step()` that was not reached and may be this scheduler's."""
        stepped = {
            _tail(self.material.bindings.get(event["scheduler"], ""))
            for event in self.events
            if event.kind == "scheduler_step"
        }
        bound = _tail(self.material.bindings.get(number, ""))
        free = [call for call in self.material.step_calls if not any(s and call.endswith(s) for s in stepped)]
        named = any(bound and call.endswith(bound) for call in free)
        return named or any(re.search("sched|warm|anneal|plateau", call, re.IGNORECASE) for call in free)


def _tail(name: str) -> str:
    """The last part of a dotted or indexed name."""
    return re.split(r"[.\[]", name.strip())[-1]
