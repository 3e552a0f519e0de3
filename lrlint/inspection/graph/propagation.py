"""Follow what a change of one value does downstream, until it is cancelled or seen to matter.

Used twice: for scaling a parameter (`homogeneity`) and for adding a constant to one (`shifts`). A verdict on a value
that alone carries the change holds for every parameter whose change comes down to that value: asked for the last
parameters first, each walk ends where an earlier one began.
"""

from __future__ import annotations

import heapq
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from lrlint.inspection.graph.operators import Flow, Op, is_shape_only

S = TypeVar("S")

_LIMIT = 1500


class NotCancelled(Exception):
    """The change is not cancelled."""


class Unknown(Exception):
    """An operator of unknown effect was met, or the walk became too long."""


class ChangePropagation(ABC, Generic[S]):
    """``states`` describe how a changed value differs; an operator whose output does not change has none."""

    def __init__(self, flow: Flow, live: frozenset[int]) -> None:
        self._flow = flow
        self._live = live
        self._outputs = frozenset(op.index for op in flow.outputs)
        self._verdicts: dict[tuple[int, S], bool | None] = {}

    @abstractmethod
    def start(self, parameter: Op) -> S:
        """The state of the changed parameter itself."""

    @abstractmethod
    def transfer(self, op: Op, changed: dict[int, S]) -> S | None:
        """The state of an operator's output, None where it is unchanged. Raises Matters or Unknown."""

    @abstractmethod
    def key(self, state: S) -> S:
        """States with the same key have the same future."""

    def cancelled(self, parameter: Op) -> bool | None:
        """Whether the change of a parameter reaches no output; None where that could not be established."""
        if not self._outputs or not self._users(parameter):
            return None
        trail: list[tuple[int, S]] = []
        verdict: bool | None
        try:
            verdict = self._run(parameter, trail)
        except NotCancelled:
            verdict = False
        except Unknown:
            verdict = None
        for visited in trail:
            self._verdicts[visited] = verdict
        return verdict

    def _users(self, op: Op) -> list[Op]:
        return [user for user in op.users if user.index in self._live]

    def _run(self, parameter: Op, trail: list[tuple[int, S]]) -> bool:
        ops, changed = self._flow.ops, {parameter.index: self.start(parameter)}
        waiting = {parameter.index: len(self._users(parameter))}  # changed values that somebody has yet to read
        heap = sorted({user.index for user in self._users(parameter)})
        queued = set(heap)
        for _ in range(_LIMIT):
            if not heap:
                return True
            op = ops[heapq.heappop(heap)]
            inputs = {i.index: changed[i.index] for i in op.inputs if i.index in changed}
            state = None if is_shape_only(op) else self.transfer(op, inputs)
            for index in inputs:
                waiting[index] -= 1
                if not waiting[index]:
                    del waiting[index]
            if state is None:
                continue
            if op.index in self._outputs:
                raise NotCancelled
            changed[op.index] = state
            users = self._users(op)
            if not users:
                continue
            waiting[op.index] = len(users)
            for user in users:
                if user.index not in queued:
                    queued.add(user.index)
                    heapq.heappush(heap, user.index)
            if len(waiting) == 1:
                visited = (op.index, self.key(state))
                if visited in self._verdicts:
                    return self._known(visited)
                trail.append(visited)
        raise Unknown

    def _known(self, visited: tuple[int, S]) -> bool:
        verdict = self._verdicts[visited]
        if verdict is None:
            raise Unknown
        return verdict
