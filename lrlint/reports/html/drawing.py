"""Coordinates of the pictures: the templates only write them down."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from lrlint.reports.views.chart import Chart, Line
from lrlint.reports.views.group_map import FROZEN, NO_RATE, UNCOVERED, GroupMap
from lrlint.text.wording import rate

Text = tuple[float, float, str, str]  # x, y, anchor, what it says

#: Width of a digit or letter of the labels, with some room.
_LETTER = 6.4
#: Height of the bar of each treatment, so that no treatment is told by its colour alone.
_BARS = (8.0, 3.0, 5.5, 1.6, 6.8, 2.2)
#: Colours, and dashes, before they are used again.
KINDS = 6


@dataclass(frozen=True)
class MapDrawing:
    """``paths`` are (kind, path data) of the treatments, ``bands`` (state's key, x, width) of what does not train."""

    width: int
    height: int
    left: float
    right: float
    top: float
    base: float
    grid: list[tuple[float, str]]
    paths: list[tuple[int, str]]
    bands: list[tuple[str, float, float]]
    labels: list[Text]
    legend: list[tuple[str, str, float]]
    told: str
    name: str


_KEYS = {UNCOVERED: "lost", FROZEN: "frozen", NO_RATE: "still"}


def group_map(picture: GroupMap) -> MapDrawing:
    """Where everything of the group map stands, in a picture 900 wide."""
    width, height, left, right, top, base = 900, 212, 62.0, 890.0, 8.0, 162.0
    scale = (right - left) / max(picture.columns, 1)
    paths: dict[int, list[str]] = {}
    bands = []
    for run in picture.runs():
        x, wide = left + run.first * scale, (run.last - run.first) * scale
        if run.rate is None:
            bands.append((_KEYS[run.state], round(x, 1), round(max(wide, 0.8), 1)))
            continue
        bar = _BARS[run.treatment % len(_BARS)]
        y = top + (base - top) * (1 - picture.height(run.rate)) - bar / 2
        paths.setdefault(run.treatment, []).append(
            f"M{x:.1f} {y:.1f}h{max(wide, 0.8):.1f}v{bar:g}h-{max(wide, 0.8):.1f}z"
        )
    low, high = picture.decades
    every = max(1, round((high - low) / 6))
    grid = [
        (round(top + (base - top) * (1 - (k - low) / (high - low)), 1), rate(10.0**k))
        for k in range(low, high + 1, every)
    ]
    legend = [(f"k{index % KINDS}", name, _BARS[index % len(_BARS)]) for index, name in enumerate(picture.treatments)]
    legend += [(_KEYS[state], state, 0.0) for state in picture.states]
    labels = _spread(picture, left, right, base + 16)
    order = "input → output, in the order of the forward pass" if picture.executed else "in the order of registration"
    return MapDrawing(
        width, height, left, right, top, base, grid,
        [(kind, "".join(parts)) for kind, parts in sorted(paths.items())], bands, labels, legend, picture.told(),
        f"{order} ({len(picture.slots):,} tensors, numbers are blocks)",
    )  # fmt: skip


def _spread(picture: GroupMap, left: float, right: float, y: float) -> list[Text]:
    """As many labels as fit beside one another; the last one stays within the picture."""
    scale = (right - left) / max(len(picture.slots), 1)
    positions = [(left + position * scale, text[:24]) for position, text in picture.labels()]
    placed: list[Text] = []
    ends = left - 1
    last = positions[-1] if len(positions) > 1 else None
    limit = right - len(last[1]) * _LETTER - 4 if last else right
    for x, text in positions[:-1] if last else positions:
        if x >= ends and x + len(text) * _LETTER <= limit:
            placed.append((round(x, 1), y, "start", text))
            ends = x + len(text) * _LETTER + 4
    if last:
        placed.append((right, y, "end", last[1]))
    return placed


@dataclass(frozen=True)
class ChartDrawing:
    """``lines`` are (kind, points, stroke opacity)."""

    width: int
    height: int
    left: float
    right: float
    top: float
    base: float
    xticks: list[tuple[float, str]]
    yticks: list[tuple[float, str]]
    lines: list[tuple[int, str, float]]
    labels: list[tuple[float, float, str]]


def chart(data: Chart) -> ChartDrawing:
    """Where everything of a chart stands, in a picture 720 wide with room for labels at the lines' ends."""
    width, height, left, top, base = 720, 220, 62.0, 22.0, 180.0
    longest = max((len(line.label) for line in data.lines), default=0)
    right = width - min(max(longest, 4), 30) * _LETTER - 12

    def point(x: float, y: float) -> tuple[float, float]:
        return left + (right - left) * x, top + (base - top) * (1 - y)

    ramp = len(data.lines) > KINDS
    lines = [
        (
            0 if ramp else index % KINDS,
            " ".join(f"{x:.1f},{y:.1f}" for x, y in (point(*p) for p in _thinned(line))),
            round(0.55 + 0.45 * line.shade, 2) if ramp else 1.0,
        )
        for index, line in enumerate(data.lines)
    ]
    ends = [(point(*line.points[-1])[1], line.label) for line in data.lines if line.label]
    labels = [(right + 8, y, text if len(text) <= 30 else text[:29] + "…") for y, text in _apart(ends, top, base)]
    xticks = [(round(point(at, 0)[0], 1), text) for at, text in data.x.ticks]
    yticks = [(round(point(0, at)[1], 1), text) for at, text in data.y.ticks]
    return ChartDrawing(width, height, left, right, top, base, xticks, yticks, lines, labels)


def _thinned(line: Line, most: int = 200) -> Sequence[tuple[float, float]]:
    if len(line.points) <= most:
        return line.points
    every = -(-len(line.points) // most)
    return [*line.points[::every], line.points[-1]]


def _apart(ends: list[tuple[float, str]], top: float, base: float, gap: float = 13.0) -> list[tuple[float, str]]:
    """The labels at their heights, moved apart where they would touch."""
    placed: list[tuple[float, str]] = []
    for y, text in sorted(ends):
        placed.append((max(y + 4, placed[-1][0] + gap if placed else top + 4), text))
    over = placed[-1][0] - (base + 4) if placed else 0.0
    if over > 0:  # push up from the bottom
        floor = base + 4
        for index in range(len(placed) - 1, -1, -1):
            y = min(placed[index][0], floor)
            placed[index] = (y, placed[index][1])
            floor = y - gap
    return [(round(y, 1), text) for y, text in placed]
