"""From a captured graph to facts about every parameter and normalisation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

from lrlint.facts.graph import GraphFacts, NormUse, ParameterUse
from lrlint.inspection.graph.depth import Depths
from lrlint.inspection.graph.norms import Norm, Norms
from lrlint.inspection.graph.operators import Flow, Op, flow
from lrlint.inspection.graph.propagation import ChangePropagation
from lrlint.inspection.graph.roles import LAYERS, Roles, Site
from lrlint.inspection.graph.scale_invariance import ScaleInvariance
from lrlint.inspection.graph.shift_invariance import ShiftInvariance

if TYPE_CHECKING:
    from lrlint.inspection.graph.capture import Capture

#: Roles that scaling or shifting is worth asking about.
_SCALED = frozenset("linear_weight conv_weight expert_weight embedding rnn lora_A lora_B norm_scale token".split())
_SHIFTED = frozenset(("bias", "norm_shift"))


def analyse(capture: Capture) -> GraphFacts:
    """What one observed pass says. Linear in the number of operators.

    A parameter that the pass did not use has a record too. A fact that could not be established is None.
    """
    flow_ = flow(capture)
    kinds = {path: record.kind for path, record in capture.modules.items()}
    norms = Norms(flow_.ops)
    roles = Roles(flow_, norms, kinds)
    names = _Names(capture, roles.sites)
    places = Depths(flow_, norms, roles.sites, kinds, names.of)
    live = frozenset(op.index for op in flow_.ops if places.live(op))
    facts = _Facts(
        capture, flow_, roles, places, ScaleInvariance(flow_, live, norms), ShiftInvariance(flow_, live, norms)
    )
    return GraphFacts(
        method=capture.method,
        inputs=capture.inputs,
        complete=capture.complete,
        parameters={name: facts.of(name) for name in capture.trainable},
        norms=_norm_uses(flow_, norms.found, roles, kinds),
        operators=len(flow_.ops),
    )


class _Facts:
    """The record of each parameter, from the analyses."""

    def __init__(
        self,
        capture: Capture,
        graph: Flow,
        roles: Roles,
        places: Depths,
        scaling: ScaleInvariance,
        shift: ShiftInvariance,
    ) -> None:
        self._capture = capture
        self._flow = graph
        self._roles = roles
        self._places = places
        first = {  # of one operator's parameters the weight comes first
            name: min(((s.op.index, s.role not in LAYERS) for s in sites), default=(graph.parameters[name].index, True))
            for name, sites in roles.sites.items()
        }
        self._order = {name: rank for rank, name in enumerate(sorted(first, key=lambda n: (first[n], n)))}
        last_first = sorted(first, key=lambda n: self._order[n], reverse=True)
        self._scaled = self._ask(scaling, last_first, _SCALED)
        self._shifted = self._ask(shift, last_first, _SHIFTED)

    def _ask(self, walk: ChangePropagation[Any], names: Sequence[str], roles: frozenset[str]) -> dict[str, bool | None]:
        chosen = (name for name in names if self._roles.roles[name] in roles)
        return {name: walk.cancelled(self._flow.parameters[name]) for name in chosen}

    def of(self, name: str) -> ParameterUse:
        guessed = name in self._capture.guessed
        reached = None if self._capture.reached is None else self._capture.reached.get(name, frozenset())
        if name not in self._flow.parameters:
            if reached:  # by autograd, where no operator was seen: in another thread
                return ParameterUse(used=True, reaches_output=True, detached=False, guessed=guessed)
            known = False if self._capture.complete else None
            return ParameterUse(used=known, reaches_output=known, guessed=guessed)
        sites = self._roles.sites[name]
        reaches = None if reached is None else bool(reached)
        return ParameterUse(
            reaches_output=reaches,
            used=True,
            detached=None if reaches is None else not reaches,
            guessed=guessed,
            role=self._roles.roles[name],
            order=self._order[name],
            depth_from_input=self._places.from_input(sites),
            depth_from_output=self._places.from_output(sites),
            followed_by=self._places.followed_by(sites),
            preceded_by=self._places.preceded_by(sites),
            uses=tuple(dict.fromkeys(site.op.module for site in sites)),
            count=len({site.op.index for site in sites}),
            outputs=tuple(sorted(reached or ())),
            scale_invariant=self._scaled.get(name),
            bias_cancelled=self._shifted.get(name),
        )


class _Names:
    """How a normalisation or activation is called: its module where it has one of its own, else its operator."""

    def __init__(self, capture: Capture, sites: Mapping[str, Sequence[Site]]) -> None:
        self._kinds = {path: record.kind for path, record in capture.modules.items()}
        self._parents = {path.rpartition(".")[0] for path in capture.modules if path}
        self._owners = Counter(name.rpartition(".")[0] for name in capture.trainable)

    def of(self, op: Op) -> str:
        kind = self._kinds.get(op.module, "other")
        plain = kind.startswith("norm") or kind == "prelu" or (kind == "other" and not self._owners[op.module])
        return op.module if plain and op.module and op.module not in self._parents else op.name


def _norm_uses(graph: Flow, norms: Sequence[Norm], roles: Roles, kinds: Mapping[str, str]) -> dict[str, NormUse]:
    """Normalisations by module path; of one that ran several times, the run with the fewest values per statistic."""
    batch = next((op.shape[0] for op in graph.ops if op.name == "input" and op.shape), None)
    applied = _applied(roles)
    scaled = {index for index, _ in applied}
    uses: dict[str, NormUse] = {}
    for norm in norms:
        if not norm.native and norm.kind in ("l2", "response") and norm.result.index not in scaled:
            continue  # cosine similarity and the like: no layer
        scale, shift = (applied.get((norm.result.index, role)) for role in ("norm_scale", "norm_shift"))
        path = next((name.rpartition(".")[0] for name in (scale, shift) if name), norm.result.module)
        use = _norm_use(path, norm, batch, kinds.get(path, ""), scale, shift)
        known = uses.get(path)
        if known is not None and (known.scale, known.shift) != (scale, shift):
            if scale is None and shift is None:
                continue  # a normalisation without parameters beside one with them
            if known.scale or known.shift:
                path = scale or shift or path  # a module with several: each by the name of its parameter
                known = uses.get(path)
        if known is None or known.scale is None or (known.elements or 0) > (use.elements or 0):
            uses[path] = use
    return uses


def _applied(roles: Roles) -> dict[tuple[int, str], str]:
    """(index of a normalisation's result, role) → the parameter that scales or shifts it."""
    names: dict[tuple[int, str], str] = {}
    for name, sites in roles.sites.items():
        for site in sites:
            if site.role in ("norm_scale", "norm_shift") and (norm := roles.norm_at(site)) is not None:
                names.setdefault((norm.result.index, site.role), name)
    return names


def _norm_use(path: str, norm: Norm, batch: int | None, kind: str, scale: str | None, shift: str | None) -> NormUse:
    shape = norm.value.shape or ()
    axes = norm.axes if all(axis < len(shape) for axis in norm.axes) else ()
    elements = prod(shape[axis] for axis in axes) if axes else None
    declared = kind.removeprefix("norm:") if kind.startswith("norm:") and kind != "norm:other" else norm.kind
    samples = batch if 0 in axes and norm.kind == "batch" else 1
    per_sample = elements // samples if elements and samples and elements % samples == 0 else None
    return NormUse(
        path=path,
        kind=declared,
        axes=axes,
        uses_batch_statistics=norm.batch_statistics,
        updates_statistics=norm.updates,
        elements=elements,
        elements_per_sample=per_sample,
        scale=scale,
        shift=shift,
    )
