"""Observe one training pass of a model: run its own Python on stand-ins, record operators, ask autograd what it reaches."""

from __future__ import annotations

import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import fx, nn

from lrlint.inspection.graph.inputs import Inputs
from lrlint.inspection.graph.meta_parameters import provenance, stand_ins
from lrlint.inspection.graph.recorder import Recorder
from lrlint.inspection.model.roles import module_kind
from lrlint.text import names

#: Elements up to which a model is run with values where the observation without them guesses or fails.
_SMALL_MODEL = 20_000_000
_LABELS = 16
#: Of the passes that are made again where the first drew random numbers.
_SEEDS = (1, 2, 3)


@dataclass(frozen=True)
class ModuleRecord:
    """A module as it was during the pass."""

    kind: str
    class_name: str
    training: bool


@dataclass
class Capture:
    """One observed pass.

    ``graph`` has one node per aten operator in execution order; it is an observation, not executable code. ``method``
    is ``meta`` or ``cpu``. ``complete``: it ran to its end and no value that decides what runs was guessed
    (``answered``: one was). ``reached``: parameter → labels of the outputs whose gradient arrives at it; of the loss
    alone, where the model computes one. Frozen parameters are treated as if they were trained. ``guessed`` are
    parameters used in some of several runs only (layer drop). ``draws``: the pass drew random numbers on the CPU.
    """

    graph: fx.Graph
    method: str
    inputs: str
    complete: bool
    parameters: dict[str, fx.Node]
    buffers: dict[str, fx.Node]
    trainable: dict[str, bool]
    reached: dict[str, frozenset[str]] | None
    outputs: dict[str, fx.Node]
    modules: dict[str, ModuleRecord]
    gradient: dict[str, bool] = field(default_factory=dict)
    guessed: frozenset[str] = frozenset()
    draws: bool = False
    answered: bool = False


def capture(model: nn.Module, prefix: str, name_of: Mapping[int, str], inputs: Inputs, lines: bool = False) -> Capture:
    """The observed pass on these inputs. Raises what the model raises where no method works."""
    paths = _paths(model, prefix)
    failure: Exception | None = None
    observed: Capture | None = None
    try:
        observed = _observe(model, paths, name_of, inputs, lines, real=False)
        if observed.complete:
            return _with_chance(model, paths, name_of, inputs, observed)
    except Exception as error:
        failure = error
    if _has_values(model):
        try:
            observed = _observe(model, paths, name_of, inputs, lines, real=True)
            return _with_chance(model, paths, name_of, inputs, observed)
        except Exception as error:
            failure = failure or error
    if observed is None:
        assert failure is not None
        raise failure
    if not observed.answered:  # all rows were taken to be selected: what is not used then is not used at all
        return replace(observed, complete=True)
    return replace(observed, guessed=frozenset(observed.trainable))


def _has_values(model: nn.Module) -> bool:
    tensors = [*model.parameters(), *model.buffers()]
    small = sum(t.numel() for t in tensors) <= _SMALL_MODEL
    return small and all(t.device.type == "cpu" and t.layout is torch.strided and not t.is_quantized for t in tensors)


def _with_chance(
    model: nn.Module, paths: dict[int, str], name_of: Mapping[int, str], inputs: Inputs, observed: Capture
) -> Capture:
    """What random numbers or the inputs' values decide (dropped layers, routed experts) is guessed: it differs by pass.

    Asked only where numbers were drawn, or values were needed to run at all, and a parameter got no gradient: what gets
    one in some pass is not dead. With values, of several like layers those that this pass left out are guessed as well.
    """
    first, by_values = observed.reached or {}, observed.method == "cpu"
    if observed.reached is None or len(first) == len(observed.trainable) or not (observed.draws or by_values):
        return observed
    differing: set[str] = set()
    for seed in _SEEDS:
        try:
            again = _observe(model, paths, name_of, inputs, False, real=by_values, seed=seed)
        except Exception:
            continue  # shuffled values need not be valid
        differing |= set(observed.parameters) ^ set(again.parameters)
        differing |= set(first) ^ set(again.reached or {})
    if by_values:
        used = {names.star(name) for name in first}
        differing |= {name for name in observed.trainable if name not in first and names.star(name) in used}
    return replace(observed, guessed=frozenset(differing))


def _paths(model: nn.Module, prefix: str) -> dict[int, str]:
    lead = f"{prefix}." if prefix else ""
    return {
        id(module): (lead + names.canonical(path + ".")).rstrip(".") if path else prefix
        for path, module in model.named_modules()
    }


def _observe(
    model: nn.Module,
    paths: dict[int, str],
    name_of: Mapping[int, str],
    inputs: Inputs,
    lines: bool,
    real: bool,
    seed: int = 0,
) -> Capture:
    modules = list(model.modules())
    buffer_names = {id(b): paths[id(m)] + "." + n for m in modules for n, b in m._buffers.items() if b is not None}
    with _quiet(seed) as drawn, stand_ins(modules, real) as originals:

        def name(tensor: torch.Tensor) -> tuple[str, str] | None:
            original = originals.get(id(tensor))
            if original is None:
                return None
            if id(original) in name_of:
                return "parameter", name_of[id(original)]
            return "buffer", buffer_names.get(id(original), "buffer").lstrip(".")

        recorder = Recorder(name, lines)
        args, kwargs = inputs.prepared(real, shuffled=real and seed > 0)
        for label, tensor in _named_tensors("", {**{str(k): v for k, v in enumerate(args)}, **kwargs}):
            recorder.placeholder(f"input_{label}", tensor)

        def entered(path: str) -> None:
            recorder.module = path

        with torch.enable_grad(), provenance(paths, entered):
            with recorder:
                result = _run(model, args, kwargs)
            draws = drawn()
            outputs = _outputs(result)
            read = _read(model, paths, name_of, originals, recorder, outputs, inputs, "cpu" if real else "meta")
            return replace(read, draws=draws)


def _run(model: nn.Module, args: Any, kwargs: Any) -> Any:
    try:
        return model(*args, **kwargs)
    except (SystemExit, GeneratorExit) as error:  # a pass that ends the program is one that fails
        raise RuntimeError(f"forward raised {type(error).__name__}") from error


@contextmanager
def _quiet(seed: int) -> Iterator[Callable[[], bool]]:
    """What the pass draws from random generators, and what it warns of, concerns nobody; yields whether it drew any.

    The pass starts from the seed, so that what chance decides is the same in every check. Generators of accelerators are
    left alone: nothing is drawn from them on stand-ins.
    """
    generators: list[tuple[Callable[[], Any], Callable[[Any], Any], Callable[[int], Any]]] = [
        (random.getstate, random.setstate, random.seed),
        (torch.default_generator.get_state, torch.default_generator.set_state, torch.default_generator.manual_seed),
    ]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        generators.append((numpy.get_state, numpy.set_state, numpy.seed))
    before = [get() for get, _, _ in generators]
    try:
        for _, _, start in generators:
            start(seed)
        fresh = [_digest(get()) for get, _, _ in generators]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield lambda: fresh != [_digest(get()) for get, _, _ in generators]
    finally:
        for (_, put, _), state in zip(generators, before, strict=True):
            put(state)


def _digest(state: Any) -> Any:
    """The state of a generator as something to compare."""
    if isinstance(state, torch.Tensor):
        return state.numpy().tobytes()
    return tuple(item.tobytes() if hasattr(item, "tobytes") else item for item in state)


def _read(
    model: nn.Module,
    paths: dict[int, str],
    name_of: Mapping[int, str],
    originals: dict[int, torch.Tensor],
    recorder: Recorder,
    outputs: dict[str, torch.Tensor],
    inputs: Inputs,
    method: str,
) -> Capture:
    twins = {key: name_of[id(tensor)] for key, tensor in originals.items() if id(tensor) in name_of}
    roots = {"loss": outputs["loss"]} if "loss" in outputs else outputs
    roots = {label: tensor for label, tensor in roots.items() if tensor.requires_grad}
    reached, opaque = _reached(roots, twins)
    gradient = _gradients(model, twins, roots)
    if gradient is not None:  # a gradient may come by ways that the walk does not see (reentrant checkpoints)
        reached = {name: reached.get(name) or frozenset(roots) for name, arrives in gradient.items() if arrives}
    nodes = {label: recorder.nodes[id(tensor)] for label, tensor in outputs.items() if id(tensor) in recorder.nodes}
    recorder.graph.output(tuple(nodes.values()))
    return Capture(
        graph=recorder.graph,
        method=method,
        inputs=inputs.source,
        complete=not recorder.guessed and (gradient is not None or not opaque),
        parameters=recorder.named["parameter"],
        buffers=recorder.named["buffer"],
        trainable={twins[key]: originals[key].requires_grad for key in twins},
        reached=reached if roots else None,
        outputs=nodes,
        modules={
            paths[id(m)]: ModuleRecord(module_kind(type(m)), type(m).__name__, m.training)
            for m in model.modules()
            if id(m) in paths  # the pass may have made others
        },
        gradient=gradient or {},
        answered=recorder.answered or (gradient is None and opaque),
    )


def _outputs(result: Any) -> dict[str, torch.Tensor]:
    """Floating point results by label: ``loss``, ``logits``, ``0``, ``1.0``."""
    if isinstance(result, torch.Tensor):
        return {"0": result}
    if isinstance(result, tuple) and hasattr(result, "_asdict"):  # a named tuple
        result = result._asdict()
    if isinstance(result, Mapping):
        result = dict(result)
    elif hasattr(result, "__dataclass_fields__"):
        result = {name: getattr(result, name) for name in result.__dataclass_fields__}
    elif not isinstance(result, (tuple, list)):
        result = vars(result) if hasattr(result, "__dict__") else {}
    return {label: t for label, t in _named_tensors("", result) if t.is_floating_point() or t.is_complex()}


def _named_tensors(label: str, value: Any, depth: int = 6) -> Iterator[tuple[str, torch.Tensor]]:
    lead = f"{label}." if label else ""
    if isinstance(value, torch.Tensor):
        yield label, value
    elif depth and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _named_tensors(f"{lead}{key}", item, depth - 1)
    elif depth and isinstance(value, (tuple, list)):
        for index, item in enumerate(value):
            yield from _named_tensors(f"{lead}{index}", item, depth - 1)


def _reached(roots: dict[str, torch.Tensor], twins: dict[int, str]) -> tuple[dict[str, frozenset[str]], bool]:
    """Parameter → labels of the outputs whose autograd graph leads to it; many outputs share one walk.

    Also whether the walk met a function written in Python, whose backward alone says what it passes on to whom.
    """
    labels_of: dict[str, set[str]] = {}
    opaque = False
    labelled = list(roots.items())
    walks = [([tensor], [label]) for label, tensor in labelled[:_LABELS]]
    if len(labelled) > _LABELS:
        walks.append(([t for _, t in labelled[_LABELS:]], ["other outputs"]))
    for tensors, labels in walks:
        stack = [t.grad_fn for t in tensors if t.grad_fn is not None]
        for tensor in tensors:
            if tensor.grad_fn is None and id(tensor) in twins:
                labels_of.setdefault(twins[id(tensor)], set()).update(labels)
        seen = set(stack)
        while stack:
            node = stack.pop()
            opaque = opaque or isinstance(node, torch.autograd.function.BackwardCFunction)
            leaf = getattr(node, "variable", None)
            if leaf is not None and id(leaf) in twins:
                labels_of.setdefault(twins[id(leaf)], set()).update(labels)
            for parent, _ in node.next_functions:
                if parent is not None and parent not in seen:
                    seen.add(parent)
                    stack.append(parent)
    return {name: frozenset(labels) for name, labels in labels_of.items()}, opaque


def _gradients(model: nn.Module, twins: dict[int, str], roots: dict[str, torch.Tensor]) -> dict[str, bool] | None:
    """Whether a gradient arrives, by a backward pass on the stand-ins; None where that pass cannot be run on them."""
    if not roots:
        return None
    try:
        torch.autograd.backward(list(roots.values()), [torch.ones_like(tensor) for tensor in roots.values()])
    except Exception:
        return None
    parameters = {id(p): p for m in model.modules() for p in m._parameters.values() if p is not None}
    return {name: parameters[key].grad is not None for key, name in twins.items() if key in parameters}
