"""Assemble the Setup: live objects in, frozen facts out. Nothing of the user's is changed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from torch import nn

from lrlint.analysis.rate_course import peak_rate
from lrlint.facts import (
    GraphFacts,
    LoopFacts,
    Note,
    Optimizer,
    Parameter,
    Rejection,
    Schedule,
    Setup,
    SourceFacts,
    Training,
)
from lrlint.facts.parameters import Origin
from lrlint.facts.ranks import RankView, view_of
from lrlint.facts.resume import ResumeFacts
from lrlint.inspection.model.modules import model_facts, module_facts, norm_facts, tie_facts, train_changes
from lrlint.inspection.model.optimizers import held, optimizer_fact
from lrlint.inspection.model.parameters import Registry, register_tree
from lrlint.inspection.model.storage import aliases
from lrlint.inspection.model.tree import walk
from lrlint.inspection.model.unregistered import find_unregistered, unregistered_facts
from lrlint.inspection.training_loop.read import read
from lrlint.targets.frameworks.group_authors import author
from lrlint.targets.provenance.recorder import ConstructionRecorder
from lrlint.targets.sandbox import no_default_device

if TYPE_CHECKING:
    from lrlint.targets.load import LiveTarget


def build(built: LiveTarget, *, graph: bool = True, loop: LoopFacts | None = None) -> Setup:
    """The facts of a built target. ``graph=False`` leaves the forward pass unobserved.

    ``loop`` is what a rehearsal of its loop saw: what was not declared comes from there.
    """
    # Parts of the user's code run again: train(), no_weight_decay(), schedulers, the forward.
    with built.running(), built.untouched() as lasting:
        setup = _build(built, graph, loop)
    return replace(setup, notes=(*setup.notes, *(Note("state", text) for text in lasting)))


def _build(built: LiveTarget, graph: bool, loop: LoopFacts | None) -> Setup:
    root, training = built.recording.root, completed(_training(built), loop)
    extra = _extra_modules(built)

    # Every tensor gets its name and number: from the models first, then from whatever else holds one.
    registry, tree = Registry(), walk(built.models)
    register_tree(registry, tree, "model", built.models)
    register_tree(registry, walk(extra), "extra", extra)
    loose = find_unregistered(tree, registry, root)
    _register_held(registry, built.optimizers.values(), "optimizer")
    discarded = _not_returned(built, registry)
    _register_held(registry, discarded, "discarded", "discarded.")
    for *_, tensors, _ in built.rejections:
        for k, tensor in enumerate(tensors):
            registry.add(tensor, f"rejected.{k}", "optimizer")
    registry.sample()

    # What is read or run of the user's code: facts about parameters and groups depend on it.
    source, source_notes = read(built)
    schedules, schedule_notes = _schedules(built, training, source, loop)
    forward, graph_notes = _forward(built, registry, training) if graph else (None, [_LEFT_OUT])

    # Facts, each complete from the beginning.
    parameters = registry.complete(forward.parameters if forward is not None else {})
    setup = Setup(
        target=built.target,
        models=tuple(model_facts({**built.models, **extra})),
        modules=tuple(module_facts(tree, root)),
        parameters=parameters,
        norms=tuple(norm_facts(tree, registry, {} if built.in_training else built.models)),
        optimizers=tuple(_optimizers(built, registry, schedules, loop)),
        schedules=schedules,
        unregistered=tuple(unregistered_facts(loose, registry)),
        aliases=tuple(aliases(registry.pairs())),
        ties=tuple(tie_facts(tree, registry, built.models)),
        rejections=tuple(_rejections(built, registry)),
        train_changes=tuple(() if built.in_training else train_changes(built.models, registry)),
        discarded=tuple(
            optimizer_fact(o, index, "", registry.find, built.recording) for index, o in enumerate(discarded)
        ),
        training=training,
        resume=_resume(built, training),
        graph=forward,
        source=source,
        loop=loop,
        span=built.span,
        notes=(
            *(*built.notes, *_value_notes(parameters), *_loop_notes(loop)),
            *(*source_notes, *schedule_notes, *graph_notes),
        ),
    )
    return replace(setup, ranks=tuple(_ranks(built, setup, registry)))


_LEFT_OUT = Note("graph", "the forward pass was left out (--no-graph)")


def _extra_modules(built: LiveTarget) -> dict[str, nn.Module]:
    """Modules beside the model that may train: declared ones, and a loss that is a module with parameters."""
    extra = dict(built.extra_modules)
    known = {id(module) for model in built.models.values() for module in model.modules()}
    if isinstance(built.loss_fn, nn.Module):
        extra.setdefault("loss_fn", built.loss_fn)
    return {name: module for name, module in extra.items() if id(module) not in known}


def _register_held(registry: Registry, optimizers: Iterable[Any], origin: Origin, lead: str = "") -> None:
    """Tensors that no module holds are called by their place in the optimizer."""
    for index, optimizer in enumerate(optimizers):
        for tensor, name in held(optimizer, index):
            registry.add(tensor, f"{lead}{name}", origin)


def _not_returned(built: LiveTarget, registry: Registry) -> list[Any]:
    """Optimizers over the same parameters that the target built and did not return, unless a returned one steps them."""
    kept = {id(optimizer) for optimizer in built.optimizers.values()}
    kept |= {id(value) for optimizer in built.optimizers.values() for value in vars(optimizer).values()}
    kept |= {id(part) for o in built.optimizers.values() for part in vars(o).get("per_parameter", ())}
    left = [optimizer for optimizer, _ in built.recording.created_optimizers if id(optimizer) not in kept]
    return [o for o in left if any(p in registry for group in o.param_groups for p in group["params"])]


def _training(built: LiveTarget) -> Training:
    """What was declared, completed by what the model itself shows (a DDP or FSDP wrapper)."""
    training = built.training
    for model in built.models.values():
        name = type(model).__name__
        if name == "DistributedDataParallel" and training.distributed is None:
            find_unused = bool(getattr(model, "find_unused_parameters", False) or getattr(model, "static_graph", False))
            return replace(training, distributed="ddp", find_unused_parameters=find_unused)
        if name.startswith(("FullyShardedDataParallel", "FSDP")):
            return replace(training, distributed="fsdp")
    return training


def completed(training: Training, loop: LoopFacts | None) -> Training:
    """What was declared, and what the rehearsal saw of the rest."""
    if loop is None:
        return training
    names = ("total_steps", "steps_per_epoch", "accumulation", "batch_size", "clip_norm", "precision")
    seen = {name: getattr(loop, name) for name in names if getattr(training, name) is None}
    return replace(training, **{name: value for name, value in seen.items() if value is not None})


def _loop_notes(loop: LoopFacts | None) -> list[Note]:
    if loop is None or loop.total_steps is not None:
        return []
    if loop.endless is not None:
        return [Note("total_steps", f"the loop at {loop.endless.path}:{loop.endless.line} has no length (total_steps)")]
    return [Note("total_steps", "the rehearsal did not see how many steps the run has (total_steps)")]


def _schedules(
    built: LiveTarget, training: Training, source: SourceFacts | None, loop: LoopFacts | None
) -> tuple[tuple[Schedule, ...], list[Note]]:
    if not built.schedulers and built.owner is None:
        return (), []
    from lrlint.inspection.schedules.simulate import simulate

    interval = source.scheduler_interval() if source else None
    seen = {} if loop is None else {s.schedule: s for s in loop.schedulers if s.schedule is not None}
    return simulate(built, list(built.optimizers.values()), training, interval, seen)


def _resume(built: LiveTarget, training: Training) -> ResumeFacts | None:
    """What loading the declared checkpoint (``resume``) would change."""
    path = training.options.get("resume")
    if not isinstance(path, str) or not built.optimizers:
        return None
    from lrlint.inspection.schedules.resume import resume

    return resume(built, path)


def _forward(
    built: LiveTarget, registry: Registry, training: Training, own_inputs: bool = True
) -> tuple[GraphFacts | None, list[Note]]:
    """What one forward pass does with each parameter. ``own_inputs``: with the target's example inputs, if any."""
    from lrlint.inspection.graph.observe import observe

    with no_default_device():
        facts, notes = observe(
            built.models,
            {id(tensor): name for tensor, name in registry.names()},
            example_inputs=built.example_inputs if own_inputs else None,
            batches=built.batches,
            batch_size=training.batch_size,
        )
    if facts is None and built.in_training and built.example_inputs is not None and own_inputs:
        return _forward(built, registry, training, own_inputs=False)  # those of the script's own step do not do
    return facts, notes


def _optimizers(
    built: LiveTarget, registry: Registry, schedules: Sequence[Schedule], loop: LoopFacts | None
) -> Iterator[Optimizer]:
    for index, (name, optimizer) in enumerate(built.optimizers.items()):
        library = built.recording.library(optimizer) or author(optimizer, built.models.values(), built.owner)
        yield optimizer_fact(
            optimizer,
            index,
            name,
            registry.find,
            built.recording,
            wraps=built.wraps.get(name),
            outer=built.outer.get(name),
            groups_from=library,
            peak=partial(_peak, schedules, loop, index),
        )


def _peak(
    schedules: Sequence[Schedule], loop: LoopFacts | None, optimizer: int, group: int, declared: float | None
) -> float | None:
    """The highest rate a group will have: simulated; else declared, or seen in a rehearsal where that was higher.

    Seen are rates that the loop sets by hand, and those that follow a rate finder's.
    """
    simulated = peak_rate(schedules, optimizer, group)
    if simulated is not None:
        return simulated
    seen = None if loop is None else loop.seen(optimizer)
    if seen is None or declared is None or group >= len(seen.peaks):
        return declared
    return max(declared, seen.peaks[group])


def _rejections(built: LiveTarget, registry: Registry) -> list[Rejection]:
    return [
        Rejection(
            kind=kind,
            error=error,
            class_name=class_name,
            parameters=tuple(registry.find(tensor, f"rejected.{k}") for k, tensor in enumerate(tensors)),
            span=span,
        )
        for kind, error, class_name, tensors, span in built.rejections
    ]


def _ranks(built: LiveTarget, setup: Setup, registry: Registry) -> Iterator[RankView]:
    """The views of all processes, where the target gave their optimizers."""
    for rank, optimizer in enumerate(built.ranks):
        fact = optimizer_fact(optimizer, 0, "", registry.find, ConstructionRecorder.none())
        yield view_of(replace(setup, optimizers=(fact,)), rank)


def _value_notes(parameters: tuple[Parameter, ...]) -> list[Note]:
    unread = [p for p in parameters if p.kind == "meta"]
    if parameters and len(unread) == len(parameters):
        return [Note("values", "the model is on the meta device: it has no values yet")]
    return []
