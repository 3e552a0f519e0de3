"""The training loop as it was seen: nested loops with their lengths, what happens where, and how often."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lrlint.facts.loop import Happening, Loop, LoopFacts
from lrlint.reports.style import Style, clean, shorten
from lrlint.text.wording import count

if TYPE_CHECKING:
    from lrlint.text.sources import Sources

_SAID = {"zero_grad": "zero_grad", "scheduler_step": "scheduler step", "clear": "gradients cleared", "clip": "clip"}


def line(loop: LoopFacts) -> str:
    """``rehearsed: 9 steps in epochs 1, 2, 14 of 14 (3 of 16 batches each), 8 s; 3 files held back``."""
    text = f"rehearsed: {count(loop.steps, 'step')}"
    inner = _inner(loop)
    if loop.epochs and inner is not None:
        shown = ", ".join(str(epoch + 1) for epoch in loop.epochs)
        total = f" of {loop.epochs_total}" if loop.epochs_total else ""
        text += f" in {'epoch' if len(loop.epochs) == 1 else 'epochs'} {shown}{total}"
        if inner.length:
            text += f" ({inner.visited} of {inner.length} iterations each)"
    elif loop.epochs_total:
        text += f" of {loop.epochs_total}"
    text += f", {loop.seconds:.0f} s"
    if loop.raised is not None:
        where = f" at {loop.raised.span}" if loop.raised.span is not None else ""
        text += f"; then the script raised {loop.raised.type}{where}: {loop.raised.message}"
    elif not loop.end.startswith("the script ended"):
        text += f"; ended because {loop.end}"
    if loop.held:
        text += f"; {count(len(loop.held), 'file')} held back"
    if loop.mode == "redirected":
        text += " (Python's writes only)"
    return clean(text)


def _inner(loop: LoopFacts) -> Loop | None:
    """The loop that steps are directly in, where it stands inside another."""
    step = next((item for item in loop.happenings if item.kind == "step"), None)
    inner = None if step is None or step.loop is None else loop.loops[step.loop]
    return inner if inner is not None and inner.parent is not None else None


def render(loop: LoopFacts, style: Style, sources: Sources | None = None) -> str:
    """The summary line, then a line for each loop and each place inside it."""
    lines: list[tuple[str, str, str]] = []
    _inside(loop, None, 0, sources, lines)
    left = min(max((len(text) for text, _, _ in lines), default=0), max(style.width - 50, 40))
    middle = max((len(where) for _, where, _ in lines), default=0)
    rows = [
        f"{shorten(text, left):{left}}  {style.paint(f'{where:{middle}}', 'dim')}  {often}"
        for text, where, often in lines
    ]
    totals = []
    if loop.total_steps:
        per = f", {loop.steps_per_epoch} per epoch" if loop.steps_per_epoch else ""
        totals.append(f"the whole run: {loop.total_steps} steps{per}")
    return "\n".join([style.paint(line(loop), "bold"), "", *rows, *([""] if totals else []), *totals]) + "\n"


def _inside(
    loop: LoopFacts, parent: int | None, depth: int, sources: Sources | None, lines: list[tuple[str, str, str]]
) -> None:
    """What is directly inside a loop, in order of lines where it is one file."""
    entries: list[tuple[int, Loop | Happening]] = [
        *((item.span.line, item) for item in loop.loops if item.parent == parent),
        *((item.span.line, item) for item in loop.happenings if item.loop == parent),
    ]
    paths = {item.span.path for _, item in entries}
    for _, item in sorted(entries, key=lambda entry: entry[0]) if len(paths) == 1 else entries:
        where = f"{item.span.path}:{item.span.line}"
        if isinstance(item, Loop):
            header = _header(item, sources)
            lines.append((f"{'  ' * depth}{header}", where, _length(item)))
            _inside(loop, item.index, depth + 1, sources, lines)
        elif item.kind != "clear" or not _explained(loop, item):
            text = f"{_SAID.get(item.kind, item.kind)} {item.what}".rstrip()
            around = None if parent is None else loop.loops[parent]
            lines.append((f"{'  ' * depth}{clean(text)}", where, _often(item, around)))


def _explained(loop: LoopFacts, item: Happening) -> bool:
    """Whether the line that clears is a `zero_grad()`, which has a line of its own."""
    same = (item.span.path, item.span.line)
    return any(o.kind == "zero_grad" and (o.span.path, o.span.line) == same for o in loop.happenings)


def _header(item: Loop, sources: Sources | None) -> str:
    source = sources.get(item.span.path) if sources is not None else None
    if source is None or item.span.line > len(source.lines):
        return "loop"
    text = source.lines[item.span.line - 1].strip()
    return clean(text.partition(":")[0] if "lambda" not in text else text)


def _length(item: Loop) -> str:
    seen = f"{item.visited} seen" + (f" in each of {item.runs} entries" if item.runs > 1 else "")
    return f"{count(item.length, 'iteration')} ({seen})" if item.length is not None else f"length unknown ({seen})"


def _often(item: Happening, around: Loop | None) -> str:
    """How often, in words: per iteration of the loop around it."""
    if around is None or not around.iterations:
        return "once" if item.times == 1 else f"{item.times} times"
    per = item.times / around.iterations
    if per == 1:
        return "every iteration"
    if per > 1 and per == int(per):
        return f"{int(per)} times per iteration"
    if per < 1 and (1 / per) == int(1 / per) and item.times > 1:
        return f"every {int(1 / per)} iterations"
    return f"{item.times} times in {around.iterations} iterations"
