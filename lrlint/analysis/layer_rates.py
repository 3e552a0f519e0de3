"""Layer-wise learning rates: the stacks of repeated blocks in a model and the rate of each block."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lrlint.analysis.param_groups import exceeds, peak, trainable

if TYPE_CHECKING:  # a rule's documentation is shown without loading the facts
    from lrlint.facts import GraphFacts, Member, Members, Optimizer

_ROLES = ("matrix", "embedding", "position", "token")
_NUMBERED = re.compile(r"^(?:(?:layers?|stages?|blocks?|denseblock|h)_?)?(\d+)$")
_STEM = re.compile(r"embed|stem|patch|(^|\.)(conv_?1|wte|wpe|word|pos\w*)(\.|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a stack. ``rate`` is that of most of its parameters; ``deviating`` are the others."""

    path: str
    numbers: tuple[int, ...]
    members: Members
    rate: float
    deviating: Members


@dataclass(frozen=True, slots=True)
class Stack:
    """Repeated blocks under one path, from input to output, and what lies before and after them in the same part."""

    path: str
    blocks: tuple[Block, ...]
    before: Members
    after: Members

    @property
    def rates(self) -> tuple[float, ...]:
        return tuple(block.rate for block in self.blocks)

    def out_of_order(self) -> list[Block]:
        """The fewest blocks without which no rate is lower than one before it."""
        ends: list[int] = []  # per length, the block with the lowest rate that ends a rising run of that length
        lowest: list[float] = []
        before: list[int] = []
        for position, rate in enumerate(self.rates):
            length = bisect_right(lowest, rate * (1 + 1e-9))
            before.append(ends[length - 1] if length else -1)
            ends[length : length + 1] = [position]
            lowest[length : length + 1] = [rate]
        kept: set[int] = set()
        position = ends[-1]
        while position >= 0:
            kept.add(position)
            position = before[position]
        return [block for position, block in enumerate(self.blocks) if position not in kept]

    def strays(self) -> list[Member]:
        """Members whose rate deviates from their block's and lies outside those of the neighbouring blocks."""
        members = []
        for position, block in enumerate(self.blocks):
            around = self.rates[max(position - 1, 0)], self.rates[min(position + 1, len(self.rates) - 1)]
            rates = ((member, peak(member.group)) for member in block.deviating)
            members += [member for member, rate in rates if exceeds(rate, max(around)) or exceeds(min(around), rate)]
        return members


def stacks(optimizer: Optimizer, graph: GraphFacts | None = None, *, rates: int = 3) -> list[Stack]:
    """The optimizer's stacks of at least four blocks with at least that many distinct rates.

    Order is that of execution where the graph knows it for every block, else that of the numbers in the names. A stack
    in which a quarter of the blocks have several rates inside is left out: rates by kind of parameter, not by layer.
    """
    judged = trainable(optimizer, *_ROLES).where(lambda member: peak(member.group))
    order = {name: use.order for name, use in graph.parameters.items() if use.order is not None} if graph else {}
    cells: dict[str, dict[str, list[Member]]] = {}
    loose: list[Member] = []
    for member in judged:
        block = _block_path(member.parameter.module)
        if block:
            cells.setdefault(_family(block), {}).setdefault(block, []).append(member)
        else:
            loose.append(member)
    ladders = {family: members_of for family, members_of in cells.items() if _is_ladder(members_of, rates)}
    loose += [
        m for family, members_of in cells.items() if family not in ladders for ms in members_of.values() for m in ms
    ]
    towers = _towers([next(iter(members_of)) for members_of in ladders.values()])
    return [
        _stack(members_of, [m for m in loose if _within(m.parameter.module, tower)], order)
        for members_of, tower in zip(ladders.values(), towers, strict=True)
    ]


def _block_path(module: str) -> str:
    """The module path up to its last numbered segment; "" without one."""
    segments = module.split(".")
    for end in range(len(segments), 0, -1):
        if _NUMBERED.match(segments[end - 1]):
            return ".".join(segments[:end])
    return ""


def _numbers(path: str) -> tuple[int, ...]:
    matches = (_NUMBERED.match(segment) for segment in path.split("."))
    return tuple(int(match[1]) for match in matches if match)


def _family(path: str) -> str:
    return ".".join("*" if _NUMBERED.match(segment) else segment for segment in path.split("."))


def _is_ladder(cells: Mapping[str, list[Member]], rates: int) -> bool:
    if len(cells) < 4:
        return False
    rates_of_cells = [{peak(member.group) for member in members} for members in cells.values()]
    mixed = sum(len(inside) > 1 for inside in rates_of_cells)
    return len(frozenset().union(*rates_of_cells)) >= rates and mixed <= len(cells) / 4


def _towers(first_blocks: list[str]) -> list[str]:
    """For each ladder the widest enclosing path that holds no ladder beside it; its own path where none does."""
    roots = [_root(path) for path in first_blocks]
    towers = []
    for root in roots:
        others = {other for other in roots if other != root}
        widest, path = root, root
        while not any(_within(other, path) for other in others):
            widest = path
            if not path:
                break
            path = path.rpartition(".")[0]
        towers.append(widest)
    return towers


def _root(path: str) -> str:
    """The part of a block's path before its first numbered segment."""
    segments = path.split(".")
    return ".".join(segments[: next(position for position, segment in enumerate(segments) if _NUMBERED.match(segment))])


def _within(path: str, tower: str) -> bool:
    return not tower or path == tower or path.startswith(tower + ".")


def _stack(cells: Mapping[str, list[Member]], loose: list[Member], order: Mapping[str, int]) -> Stack:
    blocks = []
    for path, members in cells.items():
        rate = Counter(peak(member.group) for member in members).most_common(1)[0][0]
        deviating = [member for member in members if peak(member.group) != rate]
        blocks.append(Block(path, _numbers(path), _members(members), rate, _members(deviating)))
    ranks = [min((order[m.name] for m in block.members if m.name in order), default=None) for block in blocks]
    known = all(rank is not None for rank in ranks)
    keys = {block.path: (rank,) if known else block.numbers for block, rank in zip(blocks, ranks, strict=True)}
    blocks.sort(key=lambda block: keys[block.path])
    before, after = _around(blocks, loose, order if known else {})
    return Stack(_root(blocks[0].path), tuple(blocks), _members(before), _members(after))


def _around(blocks: list[Block], loose: list[Member], order: Mapping[str, int]) -> tuple[list[Member], list[Member]]:
    """What runs before the first and after the last block; without a graph what its names and roles say."""
    if order:
        ranks = [order[m.name] for block in (blocks[0], blocks[-1]) for m in block.members if m.name in order]
        placed = [m for m in loose if m.name in order and not m.parameter.is_head]
        before = [m for m in placed if order[m.name] < min(ranks)]
        return before, [m for m in placed if order[m.name] > max(ranks)] + _heads(loose)
    start = min(member.parameter.index for member in blocks[0].members)
    before = [m for m in loose if m.parameter.index < start and not m.parameter.is_head and _is_stem(m)]
    return before, _heads(loose)


def _heads(loose: list[Member]) -> list[Member]:
    return [member for member in loose if member.parameter.is_head and len(member.parameter.names) == 1]


def _is_stem(member: Member) -> bool:
    tied = len(member.parameter.names) > 1
    return not tied and (member.parameter.role != "matrix" or _STEM.search(member.parameter.module) is not None)


def _members(items: Sequence[Member]) -> Members:
    from lrlint.facts import Members

    return Members(items)
