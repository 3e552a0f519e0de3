"""Parameters as facts: identity, names, roles, values, storage, and what their author asked for."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from itertools import chain, count
from typing import Any

import torch
from torch import nn

from lrlint.facts import Parameter, ParameterUse
from lrlint.facts.parameters import Gradient, Origin, ParameterRole, TensorKind
from lrlint.inspection.model import tree as trees
from lrlint.inspection.model.roles import module_kind, refined, role
from lrlint.inspection.model.values import sample_values
from lrlint.targets.safe_getattr import attribute, is_on

_NAME_OF_DTYPE = {dtype: str(dtype).removeprefix("torch.") for dtype in (torch.float32, torch.bfloat16, torch.float16)}


class Registry:
    """Every parameter met so far, by identity, named and numbered in the order of meeting.

    First all tensors are met (`add`). `complete` then makes the facts, when all that goes into them is known, and from
    there on `get` and `find` give them.
    """

    def __init__(self) -> None:
        self._tensors: dict[int, torch.Tensor] = {}  # held, so that no id is used again
        self._known: dict[int, dict[str, Any]] = {}  # fields of the facts to come
        self._facts: dict[int, Parameter] = {}
        self._taken: set[str] = set()

    def __contains__(self, tensor: torch.Tensor) -> bool:
        return id(tensor) in self._known

    def names(self) -> Iterator[tuple[torch.Tensor, str]]:
        """Every tensor with its canonical name."""
        return ((tensor, self._known[identity]["name"]) for identity, tensor in self._tensors.items())

    def add(self, tensor: torch.Tensor, name: str, origin: Origin, **known: Any) -> None:
        """Meet a tensor; the first call for it decides. ``known`` are further fields of its fact."""
        if id(tensor) in self._known:
            return
        if name in self._taken:  # two spellings with one canonical form: keep names unique
            choices = chain(known.get("names", ())[:1], (f"{name}~{n}" for n in count(2)))
            name = next(choice for choice in choices if choice not in self._taken)
        self._taken.add(name)
        kind = tensor_kind(tensor)
        shape = None if kind == "lazy" else tuple(int(size) for size in tensor.shape)
        self._tensors[id(tensor)] = tensor
        self._known[id(tensor)] = {
            "index": len(self._known),
            "name": name,
            "names": known.pop("names", (name,)),
            "origin": origin,
            "role": known.pop("role", None) or ("scalar" if shape in ((), (1,)) else "other"),
            "shape": shape,
            "dtype": _NAME_OF_DTYPE.get(tensor.dtype) or str(tensor.dtype).removeprefix("torch."),
            "device": str(tensor.device),
            "requires_grad": tensor.requires_grad,
            "kind": kind,
            "gradient": _gradient(tensor, kind),
            "free": not isinstance(tensor, nn.Parameter),
            **known,
        }

    def sample(self) -> None:
        """Note statistics of the values of all tensors met so far."""
        readable = [i for i, known in self._known.items() if known["kind"] in ("plain", "subclass")]
        for identity, values in zip(readable, sample_values([self._tensors[i] for i in readable]), strict=True):
            self._known[identity]["values"] = values

    def complete(self, uses: Mapping[str, ParameterUse]) -> tuple[Parameter, ...]:
        """The facts of all tensors met so far; ``uses`` is what a forward pass does with them."""
        for identity, known in self._known.items():
            role = refined(known["role"], uses.get(known["name"]))
            self._facts[identity] = Parameter(**{**known, "role": role})
        return tuple(self._facts.values())

    def get(self, tensor: torch.Tensor) -> Parameter | None:
        """The fact of a tensor, None where it was not met."""
        return self._facts.get(id(tensor))

    def find(self, tensor: torch.Tensor, fallback: str) -> Parameter:
        """The fact of a tensor that an optimizer holds; one that no phase met (of another rank) is called ``fallback``."""
        if id(tensor) not in self._facts:
            self.add(tensor, fallback, "optimizer")
            self._facts[id(tensor)] = Parameter(**self._known[id(tensor)])
        return self._facts[id(tensor)]

    def pairs(self) -> list[tuple[torch.Tensor, Parameter]]:
        """Every tensor with its fact."""
        return [(self._tensors[identity], fact) for identity, fact in self._facts.items()]


def register_tree(registry: Registry, tree: trees.Tree, origin: Origin, roots: Mapping[str, nn.Module]) -> None:
    """Add every parameter of a module tree, with roles, heads and its author's no-decay marks."""
    exempt = _author_marks(tree)
    heads = _heads(tree, roots)
    for identity, tensor in tree.objects.items():
        spellings = tree.spellings[identity]
        raw, leaf, owner = spellings[0]
        place = tree.place_of[id(owner)]
        name = trees.canonical(raw, place.root)
        lazy = is_lazy(tensor)
        shape = None if lazy else tuple(tensor.shape)
        wanted = tensor.__dict__.get("_optim")
        registry.add(
            tensor,
            name,
            origin,
            names=tuple(dict.fromkeys(spelling[0] for spelling in spellings)),
            role=_parametrized_role(leaf, owner) or role(name, leaf, type(owner), shape),
            leaf=leaf,
            module=place.path,
            module_class=type(owner).__name__,
            module_kind=module_kind(type(owner)),
            is_head=identity in heads,
            no_decay=_mark(tensor)
            or next((exempt[n] for n in (name, *(s[0] for s in spellings)) if n in exempt), None),
            wanted=dict(wanted) if isinstance(wanted, Mapping) else {},
            sparse_gradient=isinstance(owner, (nn.Embedding, nn.EmbeddingBag)) and bool(owner.sparse),
        )


def is_lazy(tensor: torch.Tensor) -> bool:
    """Whether a lazy module has yet to give it a shape."""
    return isinstance(tensor, nn.parameter.UninitializedTensorMixin)  # type: ignore[attr-defined]


def tensor_kind(tensor: torch.Tensor) -> TensorKind:
    """plain, lazy, meta, fake, quantized, sparse, dtensor or subclass."""
    kind = type(tensor)
    if kind is nn.Parameter or kind is torch.Tensor:
        if tensor.device.type == "meta":
            return "meta"
        if tensor.layout is not torch.strided:
            return "sparse"
        return "quantized" if tensor.is_quantized else "plain"
    if is_lazy(tensor):
        return "lazy"
    # Parameter(subclass) keeps the subclass, and type names are enough: importing these modules would cost.
    mro = {base.__name__ for base in kind.__mro__}
    if "DTensor" in mro:
        return "dtensor"
    if "FakeTensor" in mro:
        return "fake"
    if mro & {"Params4bit", "Int8Params", "AffineQuantizedTensor", "TorchAOBaseTensor"}:
        return "quantized"
    return "meta" if tensor.device.type == "meta" else "subclass"


def _gradient(tensor: torch.Tensor, kind: TensorKind) -> Gradient | None:
    """None without a gradient; for a frozen parameter whether it is zero, as only there the value matters."""
    gradient = tensor.grad if tensor.is_leaf else None
    if gradient is None:
        return None
    if (
        tensor.requires_grad
        or kind != "plain"
        or gradient.device.type == "meta"
        or gradient.layout is not torch.strided
    ):
        return "present"
    return "nonzero" if bool(gradient.detach().any()) else "zero"


def _parametrized_role(leaf: str, owner: nn.Module) -> ParameterRole | None:
    """Originals of a parametrization carry no leaf name of their own; the wrapped tensor's path names them."""
    if type(owner).__name__ != "ParametrizationList" or not leaf.startswith("original"):
        return None
    weight_norm = any(type(step).__name__ == "_WeightNorm" for step in owner._modules.values())
    if weight_norm:
        return "wn_g" if leaf == "original0" else "matrix"
    tensor = owner._parameters.get(leaf)
    return "matrix" if tensor is not None and tensor.ndim >= 2 else "vector"


def _mark(tensor: torch.Tensor) -> str | None:
    """The flag on the parameter itself by which its author exempts it from decay."""
    own = tensor.__dict__
    return next((flag for flag in ("_no_weight_decay", "_no_wd") if flag in own and is_on(own[flag])), None)


def _author_marks(tree: trees.Tree) -> dict[str, str]:
    """Canonical or raw name → which declaration exempts it, from `no_weight_decay()` of any submodule.

    A declared name that matches nothing is matched by likeness (a published model says ``level.0.pos_embed`` for
    ``levels.0.pos_embed``), and the mark says so.
    """
    found: dict[str, str] = {}
    for place in tree.places:
        cls = type(place.module)
        listed = _ask(place.module, "no_weight_decay") if hasattr(cls, "no_weight_decay") else ()
        keywords = _ask(place.module, "no_weight_decay_keywords") if hasattr(cls, "no_weight_decay_keywords") else ()
        if not listed and not keywords:
            continue
        lead = f"{place.raw}." if place.raw else ""
        own = [s[0] for spellings in tree.spellings.values() for s in spellings if s[0].startswith(lead)]
        for declared in listed:
            exact = [name for name in own if name == lead + declared or name.endswith("." + declared)]
            near = exact or difflib.get_close_matches(lead + declared, own, n=1, cutoff=0.85)
            label = f"{cls.__name__}.no_weight_decay()" + ("" if exact else f", which spells it {declared!r}")
            found.update((name, label) for name in near)
        for name in own:
            if any(keyword in name for keyword in keywords):
                found[name] = f"{cls.__name__}.no_weight_decay_keywords()"
    return found


def _ask(module: nn.Module, method: str) -> tuple[str, ...]:
    """The names a model's own method returns; a method that fails or needs arguments declares nothing."""
    try:
        return tuple(str(name) for name in getattr(module, method)())
    except Exception:
        return ()


_HEAD_NAMES = frozenset(
    (
        "head heads lm_head classifier classification_head score fc out_proj qa_outputs output_layer logits "
        "decoder_head proj_out cls_head fc_out embed_out output"
    ).split()
)


def _heads(tree: trees.Tree, roots: Mapping[str, nn.Module]) -> set[int]:
    """ids of output-head parameters: what the model says, else a last linear layer with a head's name near the root."""
    heads: set[int] = set()
    for key, model in roots.items():
        told = attribute(model, "get_output_embeddings")
        try:
            head = told() if callable(told) else None
        except Exception:
            head = None
        if not isinstance(head, nn.Module):
            linear = [p for p in tree.places if p.root == key and module_kind(type(p.module)) == "linear"]
            last = linear[-1] if linear else None
            segments = last.path[len(key) :].strip(".").split(".") if last else []
            head = last.module if last and len(segments) <= 3 and _HEAD_NAMES & set(segments) else None
        if head is not None:
            heads.update(id(p) for p in head._parameters.values() if p is not None)
    return heads
