"""One rehearsal: installed before the script runs, begun at its first step, finished wherever it ends."""

from __future__ import annotations

import ast
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lrlint.facts import Span
from lrlint.facts.loop import AverageSeen, LoopFacts, Occurrence, Raised
from lrlint.inspection.model.parameters import Registry, register_tree
from lrlint.inspection.model.tree import walk
from lrlint.rehearsal import instrument
from lrlint.rehearsal.loops import Limits, Loops
from lrlint.rehearsal.material import Material
from lrlint.rehearsal.modules import Modules
from lrlint.rehearsal.observe import observe
from lrlint.rehearsal.patches import Patches
from lrlint.rehearsal.recorder import Recorder, rates_of
from lrlint.targets.live_target import LiveTarget
from lrlint.targets.provenance import literals as literal_marking
from lrlint.targets.provenance.project import Project

_STEP_CALL = re.compile(r"([\w.\[\]'\"]+)\.step\(")
_BINDING = re.compile(r"\s*([\w.,\s\[\]\"']+?)\s*(?::[^=]+)?=[^=]")


#: By the clock, a rehearsal may take so many times its seconds of CPU.
WALL = 3.0
#: Seconds between two looks at the clocks.
_LOOK = 0.25


@dataclass(frozen=True)
class Plan:
    """How far a rehearsal may go: steps in each of so many epochs, and seconds of CPU after the first step.

    A busy machine does not make them shorter: by the clock it may take `wall` seconds.
    """

    steps: int = 3
    epochs: int = 3
    seconds: float = 30.0
    network: bool = True
    asked: bool = False  # by the user, so that less than every file may be held back

    @property
    def limits(self) -> Limits:
        return Limits(self.steps, self.epochs)

    @property
    def wall(self) -> float:
        """Seconds by the clock after which it is over, whatever it has computed."""
        return WALL * self.seconds

    def over(self, cpu: float, wall: float) -> str:
        """Why it is over after so many seconds of CPU and by the clock; "" where it is not.

        The CPU time is that of the thread that trains, with child processes that have ended: about what an idle machine
        would take, however many threads torch computes with. What only waits is bound by the clock.
        """
        if cpu >= self.seconds:
            return f"{self.seconds:g} s were over"
        return f"{self.wall:g} s by the clock were over" if wall >= self.wall else ""


class Rehearsal:
    """Patches, recorder and limits of one rehearsal, from before the script runs until its facts are collected."""

    def __init__(self, plan: Plan, project: Project) -> None:
        self.plan, self.project = plan, project
        self.loops = Loops(plan.limits)
        self.recorder = Recorder(project, self.loops)
        self.modules = Modules(self.recorder)
        self._sources: list[str] = []
        self._names: dict[int, str] = {}
        self._built: LiveTarget | None = None
        self._began = 0.0
        self._lock = threading.Lock()
        self._facts: LoopFacts | None = None

    def install(self, stack: ExitStack) -> None:
        """Watch everything that the script does until the stack closes."""
        stack.enter_context(instrument.callable_from_sources(self.loops))
        literal_marking.rewriters.append(self._rewrite)
        stack.callback(literal_marking.rewriters.remove, self._rewrite)
        Patches(self.recorder, self.modules, stack).install()

    def _rewrite(self, tree: ast.Module, text: str, path: str) -> ast.Module:
        self._sources.append(text)
        return instrument.rewrite(tree, path, text.split("\n"), self.loops)

    def begin(self, built: LiveTarget, seen: Iterable[tuple[str, Any]]) -> None:
        """The first step is about to be taken: everything in sight gets the name that the setup has for it."""
        self._built, self._began = built, time.monotonic()
        with self.recorder.own():
            self._name(built, list(seen))
            for optimizer in built.optimizers.values():
                if hasattr(optimizer, "param_groups"):
                    self.recorder.optimizer(optimizer)

    def limit(self, over: Callable[[str], None]) -> None:
        """Call ``over`` with the reason, from a thread, when the time is up; and where another bound is reached."""
        self.recorder.over = over

        began, cpu = time.monotonic(), _cpu_clock()
        used = cpu()

        def wait() -> None:
            while not (why := self.plan.over(cpu() - used, time.monotonic() - began)):
                time.sleep(min(_LOOK, self.plan.seconds / 4))
            over(why)

        threading.Thread(target=wait, daemon=True, name="lrlint-rehearsal").start()

    def _name(self, built: LiveTarget, seen: list[tuple[str, Any]]) -> None:
        registry = Registry()
        register_tree(registry, walk(built.models), "model", built.models)
        extra = {n: m for n, m in built.extra_modules.items() if isinstance(m, nn.Module)}
        register_tree(registry, walk(extra), "extra", extra)
        for tensor, name in registry.names():
            self._names.setdefault(self.recorder.ledger.number(tensor), name)
        for tensor, name in _in_sight(seen):
            self._names.setdefault(self.recorder.ledger.number(tensor), name)

    # -- the end ---------------------------------------------------------------------------------------------------

    def finish(self, why: str, error: BaseException | None = None, *, ended: bool = False) -> LoopFacts:
        """The facts. ``ended``: the script came to its end, so that nothing of its loop is left to come."""
        with self._lock:
            if self._facts is None:
                self.recorder.off = True
                raised = None if error is None else self._raised(error)
                self._facts = observe(self._material(why, raised, ended))
            return self._facts

    def _raised(self, error: BaseException) -> Raised:
        trace, span = error.__traceback__, None
        while trace is not None:
            if self.project.owns(trace.tb_frame.f_code.co_filename):
                span = self.project.frame_span(trace.tb_frame, trace.tb_lasti, trace.tb_lineno)
            trace = trace.tb_next
        finite = self.recorder.non_finite is None and all(_finite(t) for _, t in self.recorder.ledger.alive())
        message = (str(error).splitlines() or [""])[0][:200]
        return Raised(type(error).__name__, message, span, self.recorder.steps, not finite)

    def _material(self, why: str, raised: Raised | None, ended: bool) -> Material:
        built, recorder = self._built, self.recorder
        assert built is not None  # it began
        mine = {id(o): index for index, o in enumerate(built.optimizers.values())}
        plans = {id(s): index for index, s in enumerate(built.schedulers)}
        created: dict[tuple[str, int], Span | None] = {}
        for kind, items in (("optimizer", recorder.optimizers), ("scheduler", recorder.schedulers)):
            created |= {(kind, number): built.recording.created(item) for number, item in enumerate(items)}
        inner = {id(part) for s in recorder.schedulers for part in getattr(s, "_schedulers", None) or ()}
        schedulers = list(enumerate(recorder.schedulers))
        loader = next((p for p in self._loaders()), None)
        return Material(
            events=recorder.events,
            tensors=recorder.ledger.tensors,
            names=self._names,
            optimizers={n: mine[id(o)] for n, o in enumerate(recorder.optimizers) if id(o) in mine},
            schedulers={n: plans[id(s)] for n, s in schedulers if id(s) in plans},
            created=created,
            bindings={n: self._binding(created["scheduler", n]) for n, _ in schedulers},
            sub_schedulers=frozenset(n for n, s in schedulers if id(s) in inner),
            sites=self.loops.sites,
            runs=[(r.site, r.serial, r.visited, r.length, r.iteration) for r in self.loops.visited.values()],
            open_runs=frozenset(run.serial for run in self.loops.stack) if not ended else frozenset(),
            step_calls=sorted({call for text in self._sources for call in _STEP_CALL.findall(text)}),
            averages=[AverageSeen(a.class_name, a.span, len(a.holders), a.moved()) for a in self.modules.averages],
            variables=list(self._unused_variables()),
            train_span=self.modules.train_span,
            endless=self.loops.endless,
            batch_size=loader,
            raised=raised,
            non_finite=recorder.non_finite,
            end=why,
            ended=ended,
            seconds=time.monotonic() - self._began,
        )

    def _loaders(self) -> Iterator[int]:
        """The batch size of the loader that steps were taken in, where there was one."""
        sizes = {size for size in self.loops.batch_sizes if size}
        if len(sizes) == 1:
            yield next(iter(sizes))

    def _binding(self, span: Span | None) -> str:
        """The name on the left of the line that builds something."""
        if span is None:
            return ""
        try:
            lines = Path(self.project.root, span.path).read_text(encoding="utf-8", errors="replace").split("\n")
            match = _BINDING.match(lines[span.line - 1])
        except (OSError, IndexError):
            return ""
        return match[1].split(",")[-1].strip() if match else ""

    def _unused_variables(self) -> Iterator[Occurrence]:
        for variable in self.modules.variables.values():
            rates = variable.rates
            last = variable.scope.get(variable.name) if isinstance(variable.scope, dict) else None
            values = [*variable.values, *([last] if isinstance(last, float) else [])]
            # What is written after the last step (at the end of an epoch) is written, too.
            same = all(rate == rates[0] for rate in [*rates, tuple(rates_of(variable.optimizer))])
            if same and len(rates) > 1 and rates[0] and set(rates[0]) == {values[0]} and len(set(values)) > 1:
                yield Occurrence("rate-variable", variable.span, len(rates), variable.name, (values[0], values[-1]))


def _cpu_clock() -> Callable[[], float]:
    """The CPU seconds of the calling thread and of child processes that have ended, readable from any thread."""
    import resource  # there is none on Windows, where nothing is rehearsed

    clock = time.pthread_getcpuclockid(threading.get_ident())

    def read() -> float:
        children = resource.getrusage(resource.RUSAGE_CHILDREN)
        return time.clock_gettime(clock) + children.ru_utime + children.ru_stime

    return read


def _finite(tensor: torch.Tensor) -> bool:
    if tensor.device.type == "meta" or tensor.layout != torch.strided or not tensor.is_floating_point():
        return True
    return bool(torch.isfinite(tensor.detach()).all())


def _in_sight(seen: list[tuple[str, Any]]) -> Iterator[tuple[torch.Tensor, str]]:
    """Leaves that want a gradient among the visible variables, and in what those hold, with a name for each."""
    for name, value in seen:
        yield from _leaves(value, name)
    for name, value in seen:
        if isinstance(value, (list, tuple)):
            for position, item in enumerate(value[:64]):
                yield from _leaves(item, f"{name}[{position}]")
        elif isinstance(value, dict):
            for key, item in list(value.items())[:64]:
                yield from _leaves(item, f"{name}[{key!r}]")
        elif type(value).__module__ in sys.modules and not isinstance(value, (type, nn.Module, torch.Tensor)):
            own = getattr(value, "__dict__", None)
            for key, item in list(own.items() if isinstance(own, Mapping) else ()):
                yield from _leaves(item, f"{name}.{key}")


def _leaves(value: Any, name: str) -> Iterator[tuple[torch.Tensor, str]]:
    if isinstance(value, nn.Module):
        yield from ((parameter, f"{name}.{path}") for path, parameter in value.named_parameters())
    elif isinstance(value, torch.Tensor) and value.requires_grad and value.is_leaf:
        yield value, name
