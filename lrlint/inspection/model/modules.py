"""Modules as facts: the tree, normalisation layers, expected ties, and where a class was written."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from lrlint.facts import ExpectedTie, Model, Module, NormLayer, Parameter, Span
from lrlint.facts.modules import NormKind
from lrlint.inspection.model.class_cache import per_class
from lrlint.inspection.model.parameters import Registry
from lrlint.inspection.model.roles import module_kind
from lrlint.inspection.model.tree import Tree
from lrlint.targets.safe_getattr import attribute


def module_facts(tree: Tree, root: Path | None) -> list[Module]:
    """Every module of the tree in registration order."""
    return [
        Module(
            index=index,
            path=place.path,
            class_name=type(place.module).__name__,
            qualified=_qualified(type(place.module)),
            kind=module_kind(type(place.module)),
            parent=place.parent.path if place.parent else None,
            training=bool(place.module.training),
            span=class_span(type(place.module), root),
        )
        for index, place in enumerate(tree.places)
    ]


def model_facts(models: Mapping[str, nn.Module]) -> list[Model]:
    """The root modules, with what rules ask about them."""
    return [
        Model(
            name=key or type(model).__name__,
            prefix=f"{key}." if key else "",
            class_name=type(model).__name__,
            qualified=_qualified(type(model)),
            library=_library(type(model)),
            attributes=_attributes(model),
        )
        for key, model in models.items()
    ]


@per_class
def _qualified(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def _library(cls: type) -> str:
    known = {"transformers", "lightning", "pytorch_lightning", "peft", "timm", "diffusers", "torchvision"}
    packages = (base.__module__.split(".", 1)[0] for base in cls.__mro__)
    return next((package for package in packages if package in known), "")


def _attributes(model: nn.Module) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if attribute(model, "peft_config") is not None:
        found["peft"] = True
    kind = attribute(attribute(model, "config"), "model_type")
    if isinstance(kind, str):
        found["model_type"] = kind
    return found


def _file(cls: type) -> str:
    """Where a class is written. A script's ``__main__`` is gone by now: there its methods tell."""
    if cls.__module__ != "__main__":
        return getattr(sys.modules.get(cls.__module__), "__file__", None) or ""
    codes = (getattr(value, "__code__", None) for value in vars(cls).values())
    return next((code.co_filename for code in codes if code is not None), "")


@per_class
def class_span(cls: type, root: Path | None) -> Span | None:
    """The class statement, for classes whose file lies under the project root (and not in an installed package)."""
    if root is None:
        return None
    path = Path(_file(cls))
    if not path.is_relative_to(root) or "site-packages" in path.parts or not path.is_file():
        return None
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return None
    for number, line in enumerate(lines, 1):
        text = line.lstrip()
        if text.startswith(f"class {cls.__name__}") and text[6 + len(cls.__name__) :][:1] in ("(", ":", "[", " "):
            column = len(line) - len(text) + 1
            return Span(path.relative_to(root).as_posix(), number, column, number, column + len(text.rstrip()))
    return None


def norm_facts(tree: Tree, registry: Registry, roots: Mapping[str, nn.Module]) -> list[NormLayer]:
    """Every normalisation layer, told by type or class name. ``roots`` are the models that `train` is still to be called
    on; where they are in their training modes already, none.
    """
    places = [(place, module_kind(type(place.module))) for place in tree.places]
    norms = [(place, kind.removeprefix("norm:")) for place, kind in places if kind.startswith("norm:")]
    after_train = _training_after_train(roots) if any(kind == "batch" for _, kind in norms) else {}
    facts = []
    for place, kind in norms:
        module = place.module
        weight, bias = (_own(module, registry, leaf) for leaf in ("weight", "bias"))
        training = bool(module.training)
        facts.append(
            NormLayer(
                path=place.path,
                class_name=type(module).__name__,
                kind=cast(NormKind, kind),
                weight=weight,
                bias=bias,
                features=_first_int(module, ("num_features", "num_channels")) or (weight.numel if weight else None),
                eps=_first_float(module, ("eps", "variance_epsilon")),
                momentum=_first_float(module, ("momentum",)),
                tracks_statistics=isinstance(attribute(module, "running_mean"), torch.Tensor)
                and attribute(module, "track_running_stats") is not False,
                training=training,
                trains_statistics=after_train.get(id(module), training),
            )
        )
    return facts


def train_changes(roots: Mapping[str, nn.Module], registry: Registry) -> list[Parameter]:
    """Parameters whose ``requires_grad`` is another one after ``model.train()``; everything is put back.

    Only for models with a module whose class overrides ``train``: elsewhere nothing can change.
    """
    found: list[Parameter] = []
    for model in roots.values():
        modules = list(model.modules())
        if all(type(module).train is nn.Module.train for module in modules):
            continue
        modes = [(module, module.training) for module in modules]
        before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        try:
            model.train()
            changed = [p for p, wanted in before if p.requires_grad is not wanted]
            found += [fact for p in changed if (fact := registry.get(p)) is not None]
        except Exception:  # whatever the user's own method raises
            continue
        finally:
            for module, training in modes:
                module.training = training
            for parameter, wanted in before:
                if parameter.requires_grad is not wanted:
                    parameter.requires_grad_(wanted)
    return found


def _own(module: nn.Module, registry: Registry, leaf: str) -> Parameter | None:
    tensor = module._parameters.get(leaf)
    return registry.get(tensor) if tensor is not None else None


def _first_int(module: nn.Module, attributes: tuple[str, ...]) -> int | None:
    return next((v for a in attributes if isinstance(v := attribute(module, a), int)), None)


def _first_float(module: nn.Module, attributes: tuple[str, ...]) -> float | None:
    return next((float(v) for a in attributes if isinstance(v := attribute(module, a), (int, float))), None)


def _training_after_train(roots: Mapping[str, nn.Module]) -> dict[int, bool]:
    """id(module) → its training flag after ``model.train()``, with every flag put back.

    A model may override ``train`` to keep frozen layers in evaluation mode, so only calling it tells.
    """
    flags: dict[int, bool] = {}
    for model in roots.values():
        modules = list(model.modules())
        before = [(module, module.training) for module in modules]
        frozen = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        if all(wanted for _, wanted in frozen):  # nothing frozen: no rule will ask
            continue
        try:
            model.train()
            flags.update((id(module), bool(module.training)) for module in modules)
        except Exception:
            flags.clear()
        finally:
            for module, training in before:
                module.training = training
            for parameter, wanted in frozen:
                if parameter.requires_grad is not wanted:
                    parameter.requires_grad_(wanted)
    return flags


def tie_facts(tree: Tree, registry: Registry, roots: Mapping[str, nn.Module]) -> list[ExpectedTie]:
    """Input embedding and output head: meant to be one parameter by the configuration, or equal in every value."""
    found = []
    for key, model in roots.items():
        first, second = _embeddings(model)
        if first is not None and second is not None:
            a, b = registry.get(first), registry.get(second)
            if a is not None and b is not None and a.shape == b.shape and _config_ties(model):
                found.append(ExpectedTie(a, b, "config.tie_word_embeddings is True", tied=a is b))
            continue
        found += _equal_twins(tree, registry, key)
    return found


def _embeddings(model: nn.Module) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    weights = []
    for method in ("get_input_embeddings", "get_output_embeddings"):
        try:
            module = getattr(model, method)()
        except Exception:
            module = None
        weight = attribute(module, "weight")
        weights.append(weight if isinstance(weight, torch.Tensor) else None)
    return weights[0], weights[1]


def _config_ties(model: nn.Module) -> bool:
    """The configuration asks for it, and the class can: its default is True for many classes that never tie."""
    if not attribute(model, "_tied_weights_keys"):
        return False
    config = attribute(model, "config")
    told = attribute(config, "tie_word_embeddings")
    if told is None:
        told = attribute(attribute(config, "text_config"), "tie_word_embeddings")
    return told is True


def _equal_twins(tree: Tree, registry: Registry, key: str) -> list[ExpectedTie]:
    """An embedding and the last linear layer with equal shape and equal values, yet two parameters."""
    own = [place.module for place in tree.places if place.root == key]
    tables = [w for m in own if module_kind(type(m)) == "embedding" and (w := m._parameters.get("weight")) is not None]
    linear = [w for m in own if module_kind(type(m)) == "linear" and (w := m._parameters.get("weight")) is not None]
    if not tables or not linear:
        return []
    last = linear[-1]
    for table in tables:
        a, b = registry.get(table), registry.get(last)
        if table is last or a is None or b is None or a.kind != "plain" or b.kind != "plain" or a.shape != b.shape:
            continue
        head, tail = table.detach().reshape(-1)[:64], last.detach().reshape(-1)[:64]
        if head.device == tail.device and bool(head.std() > 0) and torch.equal(head, tail) and torch.equal(table, last):
            return [ExpectedTie(a, b, "their values are equal", tied=False, certain=False)]
    return []
