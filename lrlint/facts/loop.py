"""What was seen when the training loop ran a few compressed steps: the facts of a rehearsal.

A rehearsal lets the script go on from its first step, in a process of its own, for a few steps in each of a few epochs.
Loops that are cut count as their lengths say, so that totals hold for the whole run; where iterations that were left
out may differ from those seen, a total is an interval ``(least, most)``, and None where a loop's length is not known.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from lrlint.facts.schedule import Interval
from lrlint.facts.span import Span

Total = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Loop:
    """A loop of the user's that was entered, or the passes over a loader that no such loop makes.

    ``length`` is how many iterations it has in full (None: unknown), ``visited`` how many were run at most,
    ``runs`` how often it was entered, ``iterations`` how many were run in all of them. ``parent`` is the loop
    around it. ``last``: its last iteration was among those visited.
    """

    index: int
    span: Span
    parent: int | None = None
    length: int | None = None
    visited: int = 0
    iterations: int = 0
    runs: int = 0
    last: bool = False


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that happened at one place: ``kind`` (backward, step, zero_grad, clip, ...) of ``what``, ``times``
    times, directly inside ``loop`` (None: outside every loop).
    """

    kind: str
    what: str
    span: Span
    loop: int | None = None
    times: int = 0


@dataclass(frozen=True, slots=True)
class OptimizerSeen:
    """How one optimizer stepped. ``optimizer`` is its index in the setup; None where it is none of the setup's.

    Of its ``steps``, ``stale`` were taken where at least half of the parameters held gradients that it had used before
    beside new ones, ``repeated`` where all they held had been used, ``empty`` with no gradient at all. ``window`` is the
    number of backward passes from one place that a step usually adds up, ``divided`` whether their losses carried a
    constant factor (None: they are no plain means). ``inside``: it steps inside another's step, or in the backward pass.
    ``shared`` steps use gradients of a backward pass that another optimizer has stepped on, too.
    ``rebuilt`` counts how often the same line built it anew over parameters that it had stepped on.
    ``modules_on`` and ``modules_off`` count the modules of its parameters in training and in evaluation mode, at its
    first and at its last step. ``rates`` are its groups' rates when built, at its first and at its last step; ``peaks`` the
    highest that each group had, also in an optimizer that took over its parameters (after a rate finder).
    ``leftover`` are the micro-batches that an epoch's incomplete last window loses.
    """

    label: str
    optimizer: int | None = None
    span: Span | None = None  # where it was built
    step_span: Span | None = None
    steps: int = 0
    total: Total = None
    per_epoch: Total = None
    inside: bool = False
    stateful: bool = True
    stale: int = 0
    repeated: int = 0
    shared: int = 0
    empty: int = 0
    stale_span: Span | None = None
    repeated_span: Span | None = None
    parameters: tuple[str, ...] = ()  # those with stale gradients
    window: int = 1
    divided: bool | None = None
    rebuilt: int = 0
    built_in_loop: bool = False
    modules_on: tuple[int, int] = (0, 0)
    modules_off: tuple[int, int] = (0, 0)
    rates: tuple[tuple[float, ...], ...] = ()
    peaks: tuple[float, ...] = ()
    leftover: int = 0
    leftover_span: Span | None = None


@dataclass(frozen=True, slots=True)
class LostBackward:
    """Backward passes from ``span`` whose gradients were cleared, at ``cleared``, before any optimizer used them.

    ``lost`` of ``passes`` were, ``used`` not; ``share`` of the intervals between steps have one. ``explained`` tells
    why that may be meant: ``inputs`` (the gradient of an input was wanted), ``assigned`` (gradients were put in place by
    hand), ``moved`` (weights were written outside a step, as SAM does); ``""`` otherwise.
    """

    span: Span
    cleared: Span | None
    optimizer: int | None = None
    label: str = ""
    lost: int = 0
    passes: int = 0
    used: int = 0
    share: float = 0.0
    explained: str = ""


@dataclass(frozen=True, slots=True)
class ClipSeen:
    """Clipping at one place, ``times`` times: each falls under ``empty`` (there was no gradient yet), ``used`` (an
    optimizer had stepped on what was clipped), ``partial`` (another backward pass was added before the step), or none.

    ``scaled`` counts those of a scaled loss's gradient that was not unscaled before. ``foreign``: nothing that is
    clipped is in an optimizer that stepped. ``per_step`` of its calls fall between two steps at most.
    """

    span: Span
    times: int = 0
    empty: int = 0
    used: int = 0
    partial: int = 0
    scaled: int = 0
    foreign: bool = False
    limit: float | None = None
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Leak:
    """Steps of an optimizer at ``span`` that use, beside the gradients of the backward pass at ``own``, those of
    ``other``, which belong to another optimizer (``owner``).

    ``how``: ``stepped`` (that optimizer had stepped on them already) or ``cleared`` (its own parameters were cleared
    just before, these were not).
    """

    span: Span
    own: Span | None
    other: Span | None
    label: str
    owner: str
    how: str
    times: int = 0
    optimizer: int | None = None
    parameters: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Uncovered:
    """Parameters that got a gradient in a backward pass at ``span``, are in no optimizer and never moved.

    ``evaluation``: they belong to modules in evaluation mode. ``elements`` is their size together.
    """

    span: Span | None
    parameters: tuple[str, ...] = ()
    elements: int = 0
    evaluation: bool = False


@dataclass(frozen=True, slots=True)
class SchedulerSeen:
    """How a scheduler was stepped. ``schedule`` is its index in the setup (None where it is none of the setup's).

    ``calls`` is how often it was stepped itself (not by another scheduler), in ``steps`` steps of its optimizer;
    ``total`` the calls of the whole run. ``interval``: ``step``, ``epoch`` or ``""`` where neither holds throughout.
    ``outer``: iterations of the outermost loop that were seen; ``ended``: the loop came to its own end.
    ``mentioned``: some ``.step()`` in the source that was not reached may be its. ``early``: it was stepped before its
    optimizer's first step. ``guarded``: its calls stand under a condition like ``epoch <= warm``, which may hold for a part
    of the run only, and its optimizer's steps do not: what was seen says nothing of the rest, so there is no interval.
    ``unreached``: (rate that it wrote, rate that the optimizer stepped with, steps) where they differ.
    """

    class_name: str
    schedule: int | None = None
    optimizer: int | None = None
    span: Span | None = None
    step_span: Span | None = None
    calls: int = 0
    steps: int = 0
    total: Total = None
    interval: Interval = ""
    outer: int = 0
    ended: bool = False
    mentioned: bool = False
    early: bool = False
    guarded: bool = False
    nested: bool = False
    unreached: tuple[float, float, int] | None = None


@dataclass(frozen=True, slots=True)
class AverageSeen:
    """Something that is named like an average of the weights: whether any of its ``tensors`` changed, or it was called."""

    class_name: str
    span: Span | None
    tensors: int = 0
    moved: bool = False


@dataclass(frozen=True, slots=True)
class Occurrence:
    """A fault of the rest, seen ``times`` times at ``span``; ``kind`` says which.

    ``free-save``: a checkpoint is saved while a schedule-free optimizer is in train mode. ``update-skipped``: a
    GradScaler unscales or steps twice without `update()`. ``unfrozen-norms``: norm layers that were put into
    evaluation mode one by one train again. ``rate-variable``: a variable that the rate came from changes, and the rate
    of no group follows.
    """

    kind: str
    span: Span | None
    times: int = 0
    what: str = ""
    values: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Raised:
    """What the script raised after its first step. ``non_finite``: loss or weights had gone non-finite before."""

    type: str
    message: str
    span: Span | None
    steps: int = 0
    non_finite: bool = False


@dataclass(frozen=True, slots=True)
class LoopLocation:
    """A place of the loop as the subject of a finding, with the parameters and the optimizer that it is about."""

    span: Span | None
    parameters: tuple[str, ...] = ()
    optimizer: int | None = None


@dataclass(frozen=True)
class LoopFacts:
    """One rehearsal. ``end`` tells why it ended; ``mode`` how writes were held (``held``, ``redirected``, ``""``).

    ``epochs`` are the iterations of the outermost loop that were run, ``epochs_total`` how many it has. ``total_steps``,
    ``steps_per_epoch`` and so on are the run's, where they could be told exactly. ``endless`` is the loop of unknown
    length that leaves the total open. ``non_finite``: the first step after which loss or weights were not finite.
    """

    loops: tuple[Loop, ...] = ()
    happenings: tuple[Happening, ...] = ()
    optimizers: tuple[OptimizerSeen, ...] = ()
    lost: tuple[LostBackward, ...] = ()
    clips: tuple[ClipSeen, ...] = ()
    leaks: tuple[Leak, ...] = ()
    uncovered: tuple[Uncovered, ...] = ()
    schedulers: tuple[SchedulerSeen, ...] = ()
    averages: tuple[AverageSeen, ...] = ()
    occurrences: tuple[Occurrence, ...] = ()
    alternating: tuple[tuple[int, int], ...] = ()  # pairs of schedulers (by index) that never step in one iteration
    raised: Raised | None = None
    end: str = ""
    mode: str = ""
    steps: int = 0
    epochs: tuple[int, ...] = ()
    epochs_total: int | None = None
    seconds: float = 0.0
    held: tuple[str, ...] = ()
    endless: Span | None = None
    total_steps: int | None = None
    steps_per_epoch: int | None = None
    accumulation: int | None = None
    batch_size: int | None = None
    clip_norm: float | None = None
    precision: str | None = None
    losses: tuple[float, ...] = field(default=())
    non_finite: int | None = None

    def seen(self, optimizer: int) -> OptimizerSeen | None:
        """The optimizer of that index, where it stepped."""
        return next((item for item in self.optimizers if item.optimizer == optimizer and item.steps), None)

    def scheduler(self, schedule: int) -> SchedulerSeen | None:
        """The schedule of that index, where it was seen."""
        return next((item for item in self.schedulers if item.schedule == schedule), None)

    def of_kind(self, kind: str) -> list[Occurrence]:
        return [item for item in self.occurrences if item.kind == kind]

    def reached(self, span: Span | None) -> bool:
        """Whether something happened on the line: then what was seen replaces what its source says."""
        lines = {(item.span.path, item.span.line) for item in self.happenings}
        return span is not None and self.judged and (span.path, span.line) in lines

    @property
    def whole(self) -> bool:
        """Whether the outermost loop was followed to its last iteration, so that nothing begins later."""
        outer = [loop for loop in self.loops if loop.parent is None and loop.visited]
        return self.end.startswith("the script ended") and self.endless is None and any(loop.last for loop in outer)

    @property
    def judged(self) -> bool:
        """Whether enough was seen that the order of things is known: at least two steps."""
        return self.steps >= 2
