"""Which algorithm updates a group, whatever the class is called and however the key is spelled."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import lrlint
from lrlint.facts.algorithms import algorithm


class Hybrid(torch.optim.Optimizer):
    def __init__(self, groups: list[dict[str, Any]]) -> None:
        super().__init__(groups, {"lr": 0.02, "weight_decay": 0.0})


def families(kind: type[torch.optim.Optimizer], *options: dict[str, Any]) -> list[str]:
    model = nn.Sequential(*(nn.Linear(4, 4) for _ in options))
    groups = [{"params": list(layer.parameters()), **own} for layer, own in zip(model, options, strict=True)]
    setup = lrlint.inspect(model, kind(groups), graph=False)  # type: ignore[call-arg, arg-type]
    return [group.family for group in setup.optimizers[0].groups]


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("Hybrid", ({"kind": "muon"}, {"kind": "adamw"})),
        ("Hybrid", ({"algorithm": "dion"}, {"algorithm": "adamw"})),
        ("Hybrid", ({"optimizer_type": "Muon"}, {"optimizer_type": "AdamW"})),
        ("MuonWithAuxAdam", ({"use_muon": True}, {"use_muon": False})),
        ("Muon", ({"is_adamw": False}, {"is_adamw": True})),
        ("Muon", ({"use_fallback": False}, {"use_fallback": True, "betas": (0.9, 0.99)})),
        ("MuonLike", ({"momentum": 0.95, "ns_steps": 5}, {"betas": (0.9, 0.95), "eps": 1e-8})),
    ],
)
def test_the_group_says_which_algorithm_it_runs(name: str, options: tuple[dict[str, Any], ...]) -> None:
    assert families(type(name, (Hybrid,), {}), *options) == ["muon", "adam"]


def test_the_other_part_may_be_sgd() -> None:
    groups = ({"use_muon": True, "momentum": 0.9}, {"use_muon": False, "momentum": 0.9})
    assert families(type("MuSGD", (Hybrid,), {}), *groups) == ["muon", "sgd"]


def test_a_text_that_names_no_algorithm_changes_nothing() -> None:
    assert families(torch.optim.AdamW, {"kind": "weights"}, {"type": "bias"}) == ["adam", "adam"]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("AdamW8bit", "adam"),
        ("PagedAdamW32bit", "adam"),
        ("GaLoreAdamW", "adam"),
        ("APOLLOAdamW", "adam"),
        ("ADOPT", "adam"),
        ("AdamWScheduleFree", "adam"),
        ("SOAP", "adam"),
        ("LaProp", "adam"),
        ("CAME", "adafactor"),
        ("Prodigy", "lr-free"),
        ("DAdaptSGD", "lr-free"),
        ("Lion8bit", "sign"),
        ("LAMB8bit", "lamb"),
        ("PytorchLARS", "lars"),
        ("NorMuon", "muon"),
        ("SGDP", "sgd"),
        # Names that look like another family: measured, their steps are something else.
        ("PSGDKron", "other"),
        ("UnscaledAdamW", "other"),
        ("ApolloDQN", "other"),
        ("MADGRAD", "other"),
    ],
)
def test_classes_of_published_packages(name: str, family: str) -> None:
    assert algorithm(name).family == family
