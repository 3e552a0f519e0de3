"""What the forward pass does with each parameter: inputs → capture → facts. See `observe` and `trace`."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import fx, nn

from lrlint.errors import TargetError
from lrlint.facts import GraphFacts, Note
from lrlint.inspection.graph.capture import Capture, capture
from lrlint.inspection.graph.inputs import candidates
from lrlint.inspection.model.parameters import tensor_kind
from lrlint.targets.frameworks.sharding import sharded_by

#: Processor seconds after which no further inputs are tried: what is found must not depend on other programs.
_PATIENCE = 4.0


class NotObserved(Exception):
    """No inputs led through the model; the message says why in words for users."""


def observe(
    models: Mapping[str, nn.Module],
    name_of: Mapping[int, str],
    *,
    example_inputs: Any = None,
    batches: Any = None,
    batch_size: int | None = None,
) -> tuple[GraphFacts | None, list[Note]]:
    """The facts of one observed pass per model, and a note where facts are missing. Nothing of the models is changed.

    ``name_of`` gives the canonical name of a parameter by its id.
    """
    from lrlint.inspection.graph.facts import analyse

    graphs: list[GraphFacts] = []
    for key, model in models.items():
        given = example_inputs.get(key) if len(models) > 1 and isinstance(example_inputs, Mapping) else example_inputs
        try:
            graphs.append(analyse(_capture(model, key, name_of, given, batches)))
        except NotObserved as error:
            return None, [Note("graph", f"{f'{key}: ' if key else ''}{error}")]
        except Exception as error:  # an analysis that fails must not cost the run its other facts
            return None, [Note("graph", f"the forward pass could not be read ({type(error).__name__}: {error})")]
    return (_merged(graphs), []) if graphs else (None, [Note("graph", "there is no model")])


def trace(model: nn.Module, inputs: Any = None) -> fx.Graph:
    """One observed training pass as a graph: a node per operator, with ``module`` and ``line`` in its ``meta``.

    ``inputs`` is a tuple of positional arguments, a dict of keyword arguments or the pair of both; without them they are
    looked for. Raises TargetError where the model cannot be run; warns of what the pass changed and could not be undone.
    """
    from lrlint.inspection.model.parameters import Registry, register_tree
    from lrlint.inspection.model.tree import walk
    from lrlint.targets.preservation.snapshot import preserved
    from lrlint.targets.sandbox import preserved as process_preserved

    registry, tree = Registry(), walk({"": model})
    register_tree(registry, tree, "model", {"": model})
    with process_preserved(), preserved([model], [], [inputs], lazily=True) as kept:
        try:
            name_of = {id(tensor): name for tensor, name in registry.names()}
            graph = _capture(model, "", name_of, inputs, None, lines=True).graph
        except NotObserved as error:
            raise TargetError(
                str(error), "pass inputs: lrlint.graph(model, (x,)) or lrlint.graph(model, {...})"
            ) from None
    for note in kept.notes:
        warnings.warn(note, stacklevel=3)
    return graph


def _capture(
    model: nn.Module, key: str, name_of: Mapping[int, str], example: Any, batches: Any, lines: bool = False
) -> Capture:
    if any(isinstance(p, nn.parameter.UninitializedTensorMixin) for p in model.parameters()):  # type: ignore[attr-defined]
        raise NotObserved("lazy modules have no shapes before their first pass")
    own = getattr(type(model), "forward", None)  # scripted modules have none on their class
    if own is nn.Module.forward and "forward" not in vars(model):
        raise NotObserved(f"{type(model).__name__} has no forward()")
    if by := sharded_by([model]):
        raise NotObserved(
            f"the model is sharded by {by}: a pass that is not followed by its backward would leave it gathered"
        )
    if any(tensor_kind(p) == "dtensor" for p in model.parameters()):
        raise NotObserved("its parameters are sharded: the pass computes with others, which are gathered for it")
    started, first = time.thread_time(), ""
    for inputs in candidates(model, example, batches):
        try:
            return capture(model, key, name_of, inputs, lines)
        except Exception as error:
            first = first or f"{type(error).__name__}: {str(error).splitlines()[0][:160] if str(error) else ''}"
            if isinstance(error, torch.cuda.OutOfMemoryError) or time.thread_time() - started > _PATIENCE:
                break
    if example is not None:
        raise NotObserved(f"the forward pass fails on the given example_inputs ({first})")
    why = f" ({first})" if first else ""
    raise NotObserved(f"no inputs were given and none that were tried fit; pass `example_inputs`{why}")


def _merged(graphs: list[GraphFacts]) -> GraphFacts:
    """Facts of several models as one; parameters that several use keep their first record."""
    first = graphs[0]
    if len(graphs) == 1:
        return first
    parameters: dict[str, Any] = {}
    norms: dict[str, Any] = {}
    for facts in graphs:
        for name, use in facts.parameters.items():
            if name not in parameters or (use.used and not parameters[name].used):
                parameters[name] = use
        norms.update(facts.norms)
    return replace(
        first,
        method=", ".join(dict.fromkeys(facts.method for facts in graphs)),
        inputs=", ".join(dict.fromkeys(facts.inputs for facts in graphs)),
        complete=all(facts.complete for facts in graphs),
        parameters=parameters,
        norms=norms,
        operators=sum(facts.operators for facts in graphs),
    )
