"""Assemble the Setup: live objects in, frozen facts out. Nothing of the user's is changed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lrlint.analysis.rate_course import peak_rate
from lrlint.facts import Group, LoopFacts, Note, Optimizer, Parameter, Rejection, Setup, Training
from lrlint.facts.ranks import RankView, view_of
from lrlint.inspection.model.modules import model_facts, module_facts, norm_facts, tie_facts, train_changes
from lrlint.inspection.model.optimizers import optimizer_fact
from lrlint.inspection.model.parameters import Registry, register_tree, with_values
from lrlint.inspection.model.storage import aliases
from lrlint.inspection.model.tree import walk
from lrlint.inspection.model.unregistered import unregistered_facts
from lrlint.targets.frameworks.group_authors import author
from lrlint.targets.provenance.recorder import Recording
from lrlint.targets.sandbox import no_default_device

if TYPE_CHECKING:
    from lrlint.targets.load import Built


def build(built: Built, *, graph: bool = True, loop: LoopFacts | None = None) -> Setup:
    """The facts of a built target. ``graph=False`` leaves the forward pass unobserved.

    ``loop`` is what a rehearsal of its loop saw: what was not declared comes from there.
    """
    # Parts of the user's code run again: train(), no_weight_decay(), schedulers, the forward.
    with built.running(), built.untouched() as lasting:
        setup = _build(built, graph, loop)
    return replace(setup, notes=(*setup.notes, *(Note("state", text) for text in lasting)))


def _build(built: Built, graph: bool, loop: LoopFacts | None) -> Setup:
    root = built.recording.root
    registry = Registry()
    tree = walk(built.models)
    register_tree(registry, tree, "model", built.models)
    extra = _extra_modules(built)
    beside = walk(extra)
    register_tree(registry, beside, "extra", extra)
    loose = unregistered_facts(tree, registry, root)
    optimizers = tuple(_by_author(fact, built) for fact in _optimizers(built, registry))
    discarded = tuple(_discarded(built, registry))
    rejections = tuple(_rejections(built, registry))
    norms = norm_facts(tree, registry, {} if built.in_training else built.models)
    ties = tie_facts(tree, registry, built.models)
    parameters = tuple(with_values(registry))
    setup = Setup(
        target=built.target,
        models=tuple(model_facts({**built.models, **extra})),
        modules=tuple(module_facts(tree, root)),
        parameters=parameters,
        norms=tuple(norms),
        optimizers=optimizers,
        unregistered=tuple(loose),
        aliases=tuple(aliases(registry.pairs)),
        ties=tuple(ties),
        rejections=rejections,
        train_changes=tuple(() if built.in_training else train_changes(built.models, registry)),
        discarded=discarded,
        training=completed(_training(built), loop),
        loop=loop,
        span=built.span,
        notes=(*built.notes, *_value_notes(parameters), *_loop_notes(loop)),
    )
    setup = replace(setup, ranks=tuple(_ranks(built, setup, registry)))
    setup = _with_checkpoint(_with_schedules(_with_source(setup, built), built), built)
    if not graph:
        return replace(setup, notes=(*setup.notes, Note("graph", "the forward pass was left out (--no-graph)")))
    return _with_graph(setup, built, registry)


def _extra_modules(built: Built) -> dict[str, nn.Module]:
    """Modules beside the model that may train: declared ones, and a loss that is a module with parameters."""
    extra = dict(built.extra_modules)
    known = {id(module) for model in built.models.values() for module in model.modules()}
    if isinstance(built.loss_fn, nn.Module):
        extra.setdefault("loss_fn", built.loss_fn)
    return {name: module for name, module in extra.items() if id(module) not in known}


def _optimizers(built: Built, registry: Registry) -> list[Optimizer]:
    return [
        optimizer_fact(
            optimizer, index, name, registry.find, built.recording, built.wraps.get(name), built.outer.get(name)
        )
        for index, (name, optimizer) in enumerate(built.optimizers.items())
    ]


def _by_author(fact: Optimizer, built: Built) -> Optimizer:
    optimizer = list(built.optimizers.values())[fact.index]
    library = built.recording.library(optimizer) or author(optimizer, built.models.values(), built.owner)
    return replace(fact, groups_from=library) if library else fact


def _ranks(built: Built, setup: Setup, registry: Registry) -> Iterator[RankView]:
    """The views of all processes, where the target gave their optimizers."""
    for rank, optimizer in enumerate(built.ranks):
        fact = optimizer_fact(optimizer, 0, "", registry.find, Recording.none(), None)
        yield view_of(replace(setup, optimizers=(fact,)), rank)


def _discarded(built: Built, registry: Registry) -> list[Optimizer]:
    """Optimizers over the same parameters that the target built and did not return, unless a returned one steps them."""
    kept = {id(optimizer) for optimizer in built.optimizers.values()}
    kept |= {id(value) for optimizer in built.optimizers.values() for value in vars(optimizer).values()}
    kept |= {id(part) for o in built.optimizers.values() for part in vars(o).get("per_parameter", ())}
    left = [optimizer for optimizer, _ in built.recording.created_optimizers if id(optimizer) not in kept]
    related = [o for o in left if any(p in registry for group in o.param_groups for p in group["params"])]

    def find(tensor: torch.Tensor, fallback: str) -> Parameter:
        return registry.get(tensor) or registry.add(tensor, f"discarded.{fallback}", "discarded")

    return [optimizer_fact(o, index, "", find, built.recording, None) for index, o in enumerate(related)]


def _rejections(built: Built, registry: Registry) -> list[Rejection]:
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


def _training(built: Built) -> Training:
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


def _value_notes(parameters: tuple[Parameter, ...]) -> list[Note]:
    unread = [p for p in parameters if p.kind == "meta"]
    if parameters and len(unread) == len(parameters):
        return [Note("values", "the model is on the meta device: it has no values yet")]
    return []


def _with_schedules(setup: Setup, built: Built) -> Setup:
    _set_seen_peaks(setup)
    if not built.schedulers and built.owner is None:
        return setup
    from lrlint.inspection.schedules.simulate import simulate

    loop = setup.source.scheduler_interval() if setup.source else None
    seen = {} if setup.loop is None else {s.schedule: s for s in setup.loop.schedulers if s.schedule is not None}
    schedules, notes = simulate(built, list(built.optimizers.values()), setup.training, loop, seen)
    for optimizer in setup.optimizers:
        for group in optimizer.groups:
            _set_peak(group, peak_rate(schedules, optimizer.index, group.index))
    return replace(setup, schedules=schedules, notes=(*setup.notes, *notes))


def _with_checkpoint(setup: Setup, built: Built) -> Setup:
    """What loading the declared checkpoint (``resume``) would change."""
    path = setup.training.options.get("resume")
    if not isinstance(path, str) or not setup.optimizers:
        return setup
    from lrlint.inspection.schedules.resume import resume

    return replace(setup, resume=resume(built, path))


def _with_source(setup: Setup, built: Built) -> Setup:
    """The calls of the training loop, as its source has them."""
    from lrlint.inspection.training_loop.read import read

    facts, notes = read(built)
    return replace(setup, source=facts, notes=(*setup.notes, *notes))


def _set_seen_peaks(setup: Setup) -> None:
    """The highest rates that a rehearsal saw: those that the loop sets by hand, or that follow a rate finder's."""
    for optimizer in setup.optimizers:
        seen = None if setup.loop is None else setup.loop.seen(optimizer.index)
        peaks = () if seen is None else seen.peaks
        for group, peak in zip(optimizer.groups, peaks, strict=False):
            known = group.lr if group.peak_lr is None else group.peak_lr
            if known is not None and peak > known:
                _set_peak(group, peak)


def _set_peak(group: Group, simulated: float | None) -> None:
    if simulated is not None:
        object.__setattr__(group, "peak_lr", simulated)  # nothing else holds the group yet


def _with_graph(setup: Setup, built: Built, registry: Registry) -> Setup:
    from lrlint.inspection.graph.observe import observe

    with no_default_device():
        facts, notes = observe(
            built.models,
            {id(tensor): fact.name for tensor, fact in registry.pairs},
            example_inputs=built.example_inputs,
            batches=built.batches,
            batch_size=setup.training.batch_size,
        )
        if facts is None and built.in_training and built.example_inputs is not None:
            return _with_graph(setup, replace(built, example_inputs=None), registry)  # the script's own do not do
    setup = replace(setup, graph=facts, notes=(*setup.notes, *notes))
    if facts is not None:
        _refine_roles(setup.parameters, facts.parameters)
    return setup


#: Roles of the graph that decide where type and name could not.
_FROM_GRAPH = {
    "norm_scale": "norm",
    "norm_shift": "bias",
    "bias": "bias",
    "layer_scale": "scale",
    "temperature": "scalar",
}
#: Roles about which the graph has the last word.
UNDECIDED = frozenset({"vector", "other", "scale"})


def _refine_roles(parameters: tuple[Parameter, ...], uses: Mapping[str, Any]) -> None:
    """Hand-written norms, scales and gates are classified by what they compute."""
    for parameter in parameters:
        use = uses.get(parameter.name)
        if use is not None and parameter.role in UNDECIDED and use.role in _FROM_GRAPH:
            object.__setattr__(parameter, "role", _FROM_GRAPH[use.role])
