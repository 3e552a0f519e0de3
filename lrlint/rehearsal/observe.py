"""Turn the recorded events of a rehearsal into `LoopFacts`."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise

from lrlint.facts import Span
from lrlint.facts.loop import (
    Happening,
    Loop,
    LoopFacts,
    Occurrence,
    OptimizerSeen,
    Total,
    Uncovered,
)
from lrlint.rehearsal.crossings import clips, leaks, lost_backwards
from lrlint.rehearsal.material import Material, same_loops
from lrlint.rehearsal.recorder import Event
from lrlint.rehearsal.replay import Replay, Step, replay, window_of
from lrlint.rehearsal.schedulers import SchedulerObserver
from lrlint.rehearsal.totals import Counting, depth


def observe(material: Material) -> LoopFacts:
    """Everything the rules ask, counted over the run."""
    return _Observer(material).facts()


class _Observer:
    def __init__(self, material: Material) -> None:
        self.material = material
        self.events = material.events
        self.replay: Replay = replay(material.events)
        self.shared = self.replay.shared()
        self.counting = Counting(material.events, material.open_runs)
        for _, run, visited, _, _ in material.runs:
            self.counting.note(run, visited)

    def facts(self) -> LoopFacts:
        material, steps = self.material, self.replay.steps
        optimizers = [self._optimizer(number) for number in self.replay.optimizers]
        main = self._main(optimizers)
        schedulers, alternating = SchedulerObserver(material, self.replay, self.counting).facts()
        outer = self._outermost([step.event for step in steps])
        all_clips = clips(self.replay, self._name)
        limits = {clip.limit for clip in all_clips if clip.limit and not clip.foreign}
        return LoopFacts(
            loops=tuple(self._loops()),
            happenings=tuple(self._happenings()),
            optimizers=tuple(optimizers),
            lost=tuple(lost_backwards(self.replay, self._label, self.material.optimizers)),
            clips=tuple(all_clips),
            leaks=tuple(leaks(self.replay, self._label, self._name, self.material.optimizers)),
            uncovered=tuple(self._uncovered()),
            schedulers=tuple(schedulers),
            averages=tuple(material.averages),
            occurrences=(*self._occurrences(), *material.variables),
            alternating=tuple(alternating),
            raised=material.raised,
            end=material.end,
            steps=sum(not step.event.inside for step in steps) or max((o.steps for o in optimizers), default=0),
            epochs=tuple(sorted({position.iteration for position in outer})),
            epochs_total=outer[0].length if outer else None,
            seconds=round(material.seconds, 1),
            endless=self._endless(),
            total_steps=_exact({o.total for o in main}),
            steps_per_epoch=_exact({o.per_epoch for o in main}),
            accumulation=_only({o.window for o in main}, above=1) if not any(o.stale for o in main) else None,
            clip_norm=limits.pop() if len(limits) == 1 else None,
            batch_size=material.batch_size,
            losses=tuple(e["value"] for e in self.replay.backward.values() if e["value"] is not None)[:32],
            non_finite=material.non_finite,
        )

    # -- names -----------------------------------------------------------------------------------------------------

    def _name(self, number: int) -> str:
        known = self.material.names.get(number)
        return known or f"a tensor of shape {list(self.material.tensors[number].shape)}"

    def _label(self, optimizer: int) -> str:
        return str(self.replay.optimizers[optimizer]["label"]) if optimizer in self.replay.optimizers else "optimizer"

    # -- loops -----------------------------------------------------------------------------------------------------

    def _outermost(self, events: Sequence[Event]) -> list:  # type: ignore[type-arg]
        """Positions in the outermost loop that most steps are in."""
        first = [event.loops[0] for event in events if event.loops]
        sites = Counter(position.site for position in first)
        site = sites.most_common(1)[0][0] if sites else None
        return [position for position in first if position.site == site and len({p.site for p in first}) >= 1]

    def _site(self, site: int) -> Span | None:
        return self.material.sites[site] if 0 <= site < len(self.material.sites) else None

    def _endless(self) -> Span | None:
        """The loop of unknown length around the steps; a loop whose length is known has one."""
        chain = next((s.event.loops for s in self.replay.steps if s.event.loops), ())
        unknown = next((position.site for position in chain if position.length is None), None)
        return self._site(unknown) if unknown is not None else None

    def _loops(self) -> list[Loop]:
        loops: dict[int, Loop] = {}
        parents: dict[int, int | None] = {}
        for event in self.events:
            above: int | None = None
            for position in event.loops:
                if self._site(position.site) is not None:
                    parents.setdefault(position.site, above)
                    above = position.site
        order = {site: index for index, site in enumerate(parents)}
        runs: dict[int, dict[int, tuple[int, int, int | None]]] = defaultdict(dict)
        for event in self.events:
            for p in event.loops:
                runs[p.site][p.run] = (max(p.visited, runs[p.site].get(p.run, (0, 0, None))[0]), p.iteration, p.length)
        for site, parent in parents.items():
            seen, span = runs[site], self._site(site)
            assert span is not None  # only those were entered above
            length = next((length for _, _, length in seen.values() if length is not None), None)
            loops[site] = Loop(
                index=order[site],
                span=span,
                parent=None if parent is None else order[parent],
                length=length,
                visited=max(visited for visited, _, _ in seen.values()),
                iterations=sum(visited for visited, _, _ in seen.values()),
                runs=len(seen),
                last=length is not None and any(iteration == length - 1 for _, iteration, _ in seen.values()),
            )
        self._order = order
        return list(loops.values())

    def _happenings(self) -> list[Happening]:
        kinds = {"backward", "step", "zero_grad", "clip", "scheduler_step", "train", "eval", "save", "clear"}
        counts: Counter[tuple[str, str, Span, int | None]] = Counter()
        times: dict[tuple[str, str, Span, int | None], int] = {}
        for event in self.events:
            if (event.kind in kinds or event.kind.startswith("scaler.")) and event.span is not None:
                loop = next((self._order[p.site] for p in reversed(event.loops) if p.site in self._order), None)
                key = (event.kind, self._what(event), event.span, loop)
                counts[key] += 1
                times.setdefault(key, event.time)
        ordered = sorted(counts, key=lambda key: times[key])
        return [Happening(kind, what, span, loop, counts[kind, what, span, loop]) for kind, what, span, loop in ordered]

    def _what(self, event: Event) -> str:
        if event.get("optimizer") is not None:
            return self._label(event["optimizer"])
        if event.kind == "scheduler_step":
            known = [e for e in self.events if e.kind == "scheduler" and e["scheduler"] == event["scheduler"]]
            return str(known[0]["label"]) if known else ""
        return str(event.get("what", ""))

    # -- optimizers ------------------------------------------------------------------------------------------------

    def _optimizer(self, number: int) -> OptimizerSeen:
        built, steps = self.replay.optimizers[number], self.replay.of(number)
        own = [step.event for step in steps]
        common = {
            "label": self._label(number),
            "optimizer": self.material.optimizers.get(number),
            "span": self.material.created.get(("optimizer", number)) or built.span,
            "stateful": built["stateful"],
            "rebuilt": self._rebuilt(number),
            "built_in_loop": bool(built.loops),
        }
        if not steps:
            return OptimizerSeen(**common)
        skip = depth(built) if same_loops(built, own[0]) else 0
        total = None if common["rebuilt"] else self.counting.total(own, skip)
        outer = own[0].loops[skip].length if len(own[0].loops) > skip + 1 else None
        per_epoch = (total[0] // outer, -(-total[1] // outer)) if total and outer else None
        window, passes = window_of(self.replay, steps)
        judged = [] if number in self.replay.wrappers or self.replay.inside(number) else steps
        stale = [(step, names) for step in judged if (names := _stale(step) - self.replay.edited)]
        repeated = [step for step in judged if _repeated(step)]
        scaled = [event["factor"] for event in passes if event["mean"]]
        leftover, where = self._leftover(own, window)
        return OptimizerSeen(
            **common,
            step_span=own[0].span,
            steps=len(steps),
            total=total,
            per_epoch=per_epoch,
            inside=number in self.replay.wrappers or self.replay.inside(number),
            stale=len(stale),
            repeated=len(repeated),
            shared=self.shared.get(number, 0),
            empty=sum(not any(step.held.values()) for step in judged),
            stale_span=stale[0][0].event.span if stale else None,
            repeated_span=repeated[0].event.span if repeated else None,
            parameters=tuple(sorted({self._name(n) for _, names in stale for n in names}))[:64],
            window=window,
            divided=any(abs(f - 1) > 1e-6 for f in scaled) if scaled and len(scaled) == len(passes) else None,
            modules_on=(own[0]["modes"][0], own[-1]["modes"][0]),
            modules_off=(own[0]["modes"][1], own[-1]["modes"][1]),
            rates=tuple(tuple(rates) for rates in (built["rates"], own[0]["rates"], own[-1]["rates"])),
            peaks=self._peaks(number),
            leftover=leftover,
            leftover_span=where,
        )

    def _successors(self, number: int) -> list[int]:
        """Optimizers that step on its parameters after its own last step: those of the training after a rate finder."""
        mine, own = _members(self.replay.optimizers[number]), self.replay.of(number)
        if not own:
            return []
        last = own[-1].event.time
        return [
            other
            for other, built in self.replay.optimizers.items()
            if other != number and mine & _members(built)
            if any(step.event.time > last for step in self.replay.of(other))
            and not any(step.event.time < last for step in self.replay.of(other))
        ]

    def _main(self, optimizers: list[OptimizerSeen]) -> list[OptimizerSeen]:
        """Those whose steps are the run's: the setup's, or what took over from them or steps inside them."""
        seen = dict(zip(self.replay.optimizers, optimizers, strict=True))
        succeeded = {number: self._successors(number) for number in seen}
        final = [n for n, o in seen.items() if o.steps and n not in self.replay.wrappers and not succeeded[n]]
        of_setup = [n for n in final if seen[n].optimizer is not None]
        behind = {s for n, o in seen.items() if o.optimizer is not None for s in succeeded[n]}
        return [seen[n] for n in (of_setup or [n for n in final if n in behind] or final)]

    def _peaks(self, number: int) -> tuple[float, ...]:
        rates = [list(self.replay.optimizers[number]["rates"])]
        for other in (number, *self._successors(number)):
            built = self.replay.optimizers[other]
            if [len(group) for group in built["groups"]] == [len(g) for g in self.replay.optimizers[number]["groups"]]:
                rates += [step.event["rates"] for step in self.replay.of(other)]
        width = max(map(len, rates))
        return tuple(max(row[k] for row in rates if k < len(row)) for k in range(width))

    def _rebuilt(self, number: int) -> int:
        """How often the line of this optimizer built the same anew over parameters that the one before had stepped on.

        Not counted: other rates or parameters (a next phase of training), and weights that were put back between.
        """
        mine = self.replay.optimizers[number]
        alike = [
            (other, event)
            for other, event in self.replay.optimizers.items()
            if event.span == mine.span and event["label"] == mine["label"] and event.span is not None
        ]
        count = 0
        for (before, old), (_, new) in pairwise(alike):
            stepped = [step.event.time for step in self.replay.of(before) if step.event.time < new.time]
            same = _members(old) == _members(new) and old["rates"] == new["rates"]
            written = any(e.kind == "moved" and stepped and stepped[-1] < e.time < new.time for e in self.events)
            count += bool(stepped and same and not written and new["stateful"] and new.loops)
        return count

    def _leftover(self, steps: list[Event], window: int) -> tuple[int, Span | None]:
        """Micro-batches of an epoch's incomplete last window, where they are cleared at the start of the next."""
        loops = steps[0].loops
        if window < 2 or len(loops) < 2 or not loops[-1].length or loops[-1].length < window:
            return 0, None
        rest = loops[-1].length % window
        cleared = [
            event
            for event in self.events
            if event.kind == "zero_grad" and event.time > steps[0].time and len(event.loops) == len(loops) - 1
        ]
        return (rest, cleared[0].span) if rest and cleared else (0, None)

    # -- parameters ------------------------------------------------------------------------------------------------

    def _uncovered(self) -> list[Uncovered]:
        """Parameters that got gradients, never moved and are in no optimizer; by module, where a name tells it."""
        if len(self.replay.steps) < 2:
            return []
        got: dict[int, Event] = {}
        for event in self.replay.backward.values():
            for number in event["got"]:
                got.setdefault(number, event)
        evaluated = {number for event in self.replay.backward.values() for number in event["evaluated"]}
        tensors = self.material.tensors
        alone = [
            number
            for number in got
            if tensors[number].is_parameter and tensors[number].requires_grad
            if not self.replay.owners[number] and number not in self.replay.moved
        ]
        groups: dict[tuple[Span | None, str, bool], list[int]] = defaultdict(list)
        for number in alone:
            root = self.material.names.get(number, "").partition(".")[0]
            groups[got[number].span, root, number in evaluated].append(number)
        return [
            Uncovered(
                span=span,
                parameters=tuple(self._name(number) for number in numbers),
                elements=sum(tensors[number].elements for number in numbers),
                evaluation=evaluation,
            )
            for (span, _, evaluation), numbers in groups.items()
        ]

    # -- the rest --------------------------------------------------------------------------------------------------

    def _occurrences(self) -> list[Occurrence]:
        occurrences = []
        steps = self.replay.steps
        saves = [e for e in self.events if e.kind == "save" and e["free"] and steps and e.time > steps[0].event.time]
        if saves:
            occurrences.append(Occurrence("free-save", saves[0].span, len(saves)))
        if missed := _updates_missed(self.events):
            occurrences.append(Occurrence("update-skipped", missed[0].span, len(missed)))
        if steps and steps[-1].event["unfrozen"]:
            count = sum(bool(step.event["unfrozen"]) for step in steps)
            number = steps[-1].event["unfrozen"]
            occurrences.append(Occurrence("unfrozen-norms", self.material.train_span, count, values=(float(number),)))
        return occurrences


def _members(built: Event) -> set[int]:
    return {number for group in built["groups"] for number in group}


def _stale(step: Step) -> set[int]:
    """Tensors with gradients that the optimizer has used before beside new ones, where at least half have such."""
    old = {
        tensor
        for tensor, passes in step.held.items()
        if step.before[tensor] & set(passes) and set(passes) - step.before[tensor]
    }
    return old if old and 2 * len(old) >= len(step.held) else set()


def _repeated(step: Step) -> bool:
    holding = {tensor for tensor, passes in step.held.items() if passes}
    again = {tensor for tensor in holding if set(step.held[tensor]) <= step.before[tensor]}
    return bool(again) and again == holding and 2 * len(again) > len(step.held)


def _updates_missed(events: Sequence[Event]) -> list[Event]:
    """Where a scaler unscales or steps an optimizer twice without `update()`."""
    pending: set[tuple[str, int | None]] = set()
    missed = []
    for event in events:
        if event.kind == "scaler.update":
            pending.clear()
        elif event.kind in ("scaler.unscale_", "scaler.step"):
            key = event.kind, event["optimizer"]
            if key in pending:
                missed.append(event)
            pending.add(key)
    return missed


def _exact(totals: set[Total]) -> int | None:
    """The one number that all agree on."""
    if len(totals) != 1:
        return None
    total = next(iter(totals))
    return total[0] if total is not None and total[0] == total[1] and total[0] > 0 else None


def _only(values: set[int], above: int = 0) -> int | None:
    return next(iter(values)) if len(values) == 1 and next(iter(values)) > above else None
