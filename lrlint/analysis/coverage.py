"""Which parameters train: what the optimizers hold, compared with what the models have, by identity.

Several rules divide one question among themselves: a trainable parameter that no optimizer holds may have been left
out, replaced after the optimizer was built, belong to a loss, or to a copy that is not meant to train. The division is
made here, once, so that each fault is reported by one rule.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lrlint.text import names
from lrlint.text.module_names import is_copy, is_loss

if TYPE_CHECKING:
    from lrlint.facts.optimizers import Member
    from lrlint.facts.parameters import Parameter
    from lrlint.facts.setup import Setup

#: Fewer tensors than this outside the model, of shapes that the model does not have, are inputs or multipliers.
_FEW = 4


@dataclass(frozen=True)
class Coverage:
    """The trainable parameters that no optimizer holds (``missing``), divided by why.

    ``orphaned_members`` are members that no module holds; ``replacements`` match each with the missing parameter that took its place,
    by shape. ``replaced`` are the missing parameters of the modules in which there is such a pair; ``loss`` those of
    loss modules; ``copies`` those of teachers, target networks and other copies; ``unused`` those that the observed
    forward pass does not touch; ``unexplained`` is the rest. ``disjoint``: the optimizers hold nothing of the models at all.
    """

    trainable: tuple[Parameter, ...] = ()
    missing: tuple[Parameter, ...] = ()
    orphaned_members: tuple[Member, ...] = ()
    replacements: tuple[tuple[Member, Parameter], ...] = ()
    replaced: tuple[Parameter, ...] = ()
    loss: tuple[Parameter, ...] = ()
    copies: tuple[Parameter, ...] = ()
    unused: tuple[Parameter, ...] = ()
    unexplained: tuple[Parameter, ...] = ()
    disjoint: bool = False
    uncovered_modules: frozenset[str] = frozenset()  # module paths without any trainable parameter in an optimizer

    def subtree(self, parameter: Parameter) -> str | None:
        """The largest module around a missing parameter that is missing as a whole, or None; never the model itself."""
        return _top(parameter.module, self.uncovered_modules)


def _top(module: str, gone: frozenset[str]) -> str | None:
    return next((path for path in ancestors(module) if path in gone), None)


def ancestors(path: str) -> Iterator[str]:
    """Paths of the modules that contain this one, from the outermost child of the root to itself."""
    parts = path.split(".") if path else []
    for depth in range(1, len(parts) + 1):
        yield ".".join(parts[:depth])


def coverage(setup: Setup) -> Coverage:
    """The coverage of a setup's models by its optimizers. Linear in the number of parameters."""
    held = setup.membership
    trainable = tuple(p for p in setup.parameters if p.origin == "model" and p.requires_grad)
    missing = tuple(p for p in trainable if p.index not in held)
    ghosts = tuple(m for o in setup.optimizers for m in o.members if m.parameter.origin == "optimizer")
    if missing and _are_masters(ghosts, missing):
        ghosts = missing = ()
    if not missing:
        return Coverage(trainable, orphaned_members=ghosts)
    disjoint = bool(ghosts) and not any(p.origin != "optimizer" for p in setup.parameters if p.index in held)
    gone = _gone(setup, trainable, missing)
    copies = _copies(setup, missing, gone)
    open_ = [p for p in missing if p.index not in copies]
    former = _former(ghosts, open_)
    pairs = _pairs(former, open_)
    replaced = set() if not pairs else _replaced([p for _, p in pairs], open_, gone)
    if disjoint and (pairs or len(former) >= _FEW or _is_sharded(setup)):
        replaced = {p.index for p in open_}
    else:
        disjoint = False
    loss = {p.index for p in open_ if p.index not in replaced and _is_loss(p, gone)}
    unused = _unused(setup, open_)
    rest = [p for p in open_ if p.index not in replaced | loss | unused]
    # A block that is left out as a whole is named as a whole, with what this pass did not happen to use.
    tops = {_top(p.module, gone) for p in rest} - {None}
    unused -= {p.index for p in open_ if _top(p.module, gone) in tops}
    rest = [p for p in open_ if p.index not in replaced | loss | unused]
    return Coverage(
        trainable,
        missing,
        ghosts,
        tuple(pairs),
        _of(missing, replaced),
        _of(missing, loss - unused),
        _of(missing, copies),
        _of(missing, unused - replaced),
        tuple(rest),
        disjoint,
        gone,
    )


def _of(parameters: Iterable[Parameter], indices: set[int]) -> tuple[Parameter, ...]:
    return tuple(p for p in parameters if p.index in indices)


def _gone(setup: Setup, trainable: Sequence[Parameter], missing: Sequence[Parameter]) -> frozenset[str]:
    """Paths of modules below a model whose trainable parameters are all missing."""
    everything = Counter(path for p in trainable for path in ancestors(p.module))
    lost = Counter(path for p in missing for path in ancestors(p.module))
    return frozenset(path for path, count in lost.items() if count == everything[path])


def _copies(setup: Setup, missing: Sequence[Parameter], gone: frozenset[str]) -> set[int]:
    """Missing parameters of modules that are copies by name, or by being equal to a module that trains."""
    verdict: dict[str, bool] = {}
    twins = _twins(setup, gone)
    copies = set()
    for parameter in missing:
        around = [path for path in ancestors(parameter.module) if path in gone]
        for path in around:
            if path not in verdict:
                verdict[path] = is_copy(path.rsplit(".", 1)[-1]) or path in twins
        if any(verdict[path] for path in around):
            copies.add(parameter.index)
    return copies


def _twins(setup: Setup, gone: frozenset[str]) -> set[str]:
    """Missing modules whose parameters have the shapes and values of another module that is covered.

    Target networks of reinforcement learning start as exact copies. Values (where they can be read) tell them from a
    second tower that was forgotten, and blocks of one list are never each other's copy.
    """
    tops = {path for path in gone if not any(above in gone for above in list(ancestors(path))[:-1])}
    candidates = {path for path in tops if not path.rsplit(".", 1)[-1].isdigit()}
    if not candidates:
        return set()
    prints: dict[str, list[tuple[Any, ...]]] = defaultdict(list)
    siblings = {path.rpartition(".")[0] for path in candidates}
    for parameter in setup.parameters:
        if parameter.origin == "model":
            for path in ancestors(parameter.module):
                if path.rpartition(".")[0] in siblings:
                    prints[path].append(_print(parameter, path))
    known: dict[tuple[str, tuple[tuple[Any, ...], ...]], bool] = {}
    for path, marks in prints.items():
        if path not in gone:
            known[path.rpartition(".")[0], tuple(marks)] = True
    return {
        path
        for path in candidates
        if known.get((path.rpartition(".")[0], tuple(prints[path]))) and _tells(mark[2] for mark in prints[path])
    }


def _print(parameter: Parameter, path: str) -> tuple[Any, ...]:
    return parameter.name[len(path) :], parameter.shape, _spread(parameter)


def _tells(values: Iterable[tuple[float, float] | None]) -> bool:
    """Whether equal values mean a copy: not all are constant (every norm scale is 1), or none could be read."""
    read = [pair for pair in values if pair is not None]
    return not read or any(abs(rms - largest) > 1e-6 * largest for rms, largest in read)


def is_copied(setup: Setup, parameters: Iterable[Parameter]) -> bool:
    """Whether parameters beside the models have the shapes and values of parameters that train: an average, a target."""
    marks = {(p.leaf, p.shape, _spread(p)) for p in setup.parameters if p.origin == "model" and p.requires_grad}
    copy_marks = {(p.leaf, p.shape, _spread(p)) for p in parameters}
    spreads = [spread for *_, spread in copy_marks]
    return None not in spreads and copy_marks <= marks and _tells(spreads)


def _spread(parameter: Parameter) -> tuple[float, float] | None:
    values = parameter.values
    return (values.rms, values.absmax) if values else None


def _are_masters(ghosts: Sequence[Member], missing: Sequence[Parameter]) -> bool:
    """Whether the ghosts are float32 copies of parameters in lower precision, one for each or flattened.

    The loop copies gradients to them, and their values back.
    """
    low = any(p.dtype in ("bfloat16", "float16") for p in missing)
    if not ghosts or not low or any(member.parameter.dtype != "float32" for member in ghosts):
        return False
    if len(ghosts) < len(missing):
        return sum(member.parameter.numel for member in ghosts) == sum(p.numel for p in missing)
    waiting: dict[object, list[Parameter]] = defaultdict(list)
    for p in missing:
        waiting[p.shape].append(p)
    for member in ghosts:
        alike = [p for p in waiting[member.parameter.shape] if _alike(_spread(member.parameter), _spread(p))]
        if not alike:
            return False
        waiting[member.parameter.shape].remove(alike[0])
    return len(ghosts) == len(missing)


def _alike(first: tuple[float, float] | None, second: tuple[float, float] | None) -> bool:
    """Equal but for the rounding to 8 bits."""
    if first is None or second is None:
        return first is second
    return all(abs(a - b) <= 2**-7 * abs(a) for a, b in zip(first, second, strict=True))


def _former(ghosts: Sequence[Member], missing: Sequence[Parameter]) -> list[Member]:
    """The ghosts that may once have been parameters of a module.

    A tensor that is no `nn.Parameter` and requires a gradient is optimised for its own sake (a latent, noise maps, an
    input), whatever its shape; all of them together may still be a copy of all that is missing.
    """
    shapes = Counter(member.parameter.shape for member in ghosts)
    if len(ghosts) >= _FEW and shapes == Counter(parameter.shape for parameter in missing):
        return list(ghosts)
    return [member for member in ghosts if not (member.parameter.free and member.parameter.requires_grad)]


def _pairs(ghosts: Sequence[Member], missing: Sequence[Parameter]) -> list[tuple[Member, Parameter]]:
    """Each ghost with the missing parameter that probably took its place: of equal shape, else resized at the front."""
    left = list(missing)
    pairs: list[tuple[Member, Parameter]] = []
    for same in (_same_shape, _resized):
        waiting: dict[object, list[Parameter]] = defaultdict(list)
        for parameter in reversed(left):
            if parameter.shape is not None:
                waiting[same(parameter)].append(parameter)
        taken = {id(member) for member, _ in pairs}
        for member in ghosts:
            shape = member.parameter.shape
            key = same(member.parameter) if shape is not None else None
            if id(member) not in taken and key is not None and waiting.get(key):
                pairs.append((member, waiting[key].pop()))
        done = {parameter.index for _, parameter in pairs}
        left = [parameter for parameter in left if parameter.index not in done]
    return [*pairs, *_biases(pairs, ghosts, left)]


def _biases(
    pairs: Sequence[tuple[Member, Parameter]], ghosts: Sequence[Member], left: Sequence[Parameter]
) -> Iterator[tuple[Member, Parameter]]:
    """The biases of resized layers: as long as the one matrix and as the other, the next ghost after the first."""
    taken = {id(member) for member, _ in pairs}
    after = {id(member): bias for member, bias in itertools.pairwise(ghosts) if id(bias) not in taken}
    for member, matrix in pairs:
        bias = after.get(id(member))
        if bias is None or not matrix.shape or bias.parameter.shape != (member.parameter.shape or ())[:1]:
            continue
        yield from ((bias, p) for p in left if p.module == matrix.module and p.shape == matrix.shape[:1])


def _same_shape(parameter: Parameter) -> object:
    # Scalars and the like match anything; they take no one's place.
    return parameter.shape if parameter.numel > 1 else None


def _resized(parameter: Parameter) -> object:
    shape = parameter.shape
    return ("resized", shape[1:]) if shape is not None and len(shape) >= 2 and parameter.numel > 1 else None


def _replaced(paired: Sequence[Parameter], missing: Sequence[Parameter], gone: frozenset[str]) -> set[int]:
    """The paired parameters, with what is missing of the same modules: one replacement, one fault."""
    modules = {p.module for p in paired}
    tops = {path for p in paired for path in ancestors(p.module) if path in gone}
    replaced = {p.index for p in paired}
    for parameter in missing:
        if parameter.module in modules or any(path in tops for path in ancestors(parameter.module)):
            replaced.add(parameter.index)
    return replaced


def _is_sharded(setup: Setup) -> bool:
    sharded = (p.kind == "dtensor" or "_flat_param" in p.name for p in setup.parameters)
    return setup.training.distributed == "fsdp" or any(sharded)


def _is_loss(parameter: Parameter, gone: frozenset[str]) -> bool:
    if is_loss(parameter.module_class) and parameter.module:
        return True
    return any(path in gone and is_loss(path.rsplit(".", 1)[-1]) for path in ancestors(parameter.module))


def _unused(setup: Setup, parameters: Sequence[Parameter]) -> set[int]:
    graph = setup.graph
    if graph is None or not graph.complete:
        return set()
    uses = ((p, graph.parameters.get(p.name)) for p in parameters)
    return {p.index for p, use in uses if use is not None and use.used is False and not use.guessed}


@dataclass(frozen=True)
class Bundle:
    """Lost parameters with one probable cause.

    ``cause``: ``module`` (all of the modules at ``place``), ``class`` (every module of the class ``place``),
    ``vectors`` (everything 1-D), ``direct`` (a parameter on a module of the user's, neither weight nor bias),
    ``filter`` (others of the same modules are held), ``adapter`` (low-rank factors), ``most`` (too many places).
    """

    cause: str
    place: str
    parameters: tuple[Parameter, ...]


def bundles(cover: Coverage, limit: int = 6) -> list[Bundle]:
    """The lost parameters, bundled by cause and place; one bundle when there would be more than ``limit``."""
    lost = {p.index for p in cover.unexplained}
    vectors = [p for p in cover.trainable if p.ndim is not None and p.ndim <= 1]
    all_vectors = len(vectors) >= _FEW and all(p.index in lost for p in vectors)
    held = {p.module_class for p in cover.trainable if p.index not in lost}
    modules = Counter(cls for _, cls in {(p.module, p.module_class) for p in cover.unexplained})
    by_cause: dict[tuple[str, str], list[Parameter]] = defaultdict(list)
    for p in cover.unexplained:
        by_cause[_cause(p, cover, all_vectors, p.module_class not in held and modules[p.module_class] > 1)].append(p)
    if len(by_cause) > limit:
        return [Bundle("most", "", cover.unexplained)]
    return [Bundle(cause, location, tuple(parameters)) for (cause, location), parameters in by_cause.items()]


def _cause(p: Parameter, cover: Coverage, all_vectors: bool, whole_class: bool) -> tuple[str, str]:
    if p.role in ("lora_A", "lora_B"):
        return "adapter", ""
    top = cover.subtree(p)
    if all_vectors and p.ndim is not None and p.ndim <= 1 and (top is None or top == p.module):
        return "vectors", ""
    if top is not None and top != p.module:
        return "module", names.star(top)
    if top is not None:
        return ("class", p.module_class) if whole_class else ("module", names.star(top))
    if p.leaf not in ("weight", "bias") and p.module_kind == "other":
        return "direct", names.star(p.name)
    return "filter", f"{p.module_kind} {p.leaf}"
