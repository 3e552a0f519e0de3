"""Frozen, torch-free facts: the language between inspection and rules.

The names load lazily: showing a rule's documentation needs none of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lrlint.facts.graph import GraphFacts, NormUse, ParameterUse
    from lrlint.facts.loop import LoopFacts
    from lrlint.facts.modules import ExpectedTie, Model, Module, NormLayer, Unregistered
    from lrlint.facts.optimizers import Group, Member, Members, Optimizer, Rejection, StateMisfit
    from lrlint.facts.parameters import Parameter, Values
    from lrlint.facts.probe import ProbeFacts
    from lrlint.facts.ranks import RankGroup, RankView
    from lrlint.facts.scale import ScaleFacts
    from lrlint.facts.schedule import GroupSchedule, Schedule, Trace
    from lrlint.facts.setup import Note, Setup, Training
    from lrlint.facts.source import NamePattern, SourceCall, SourceFacts
    from lrlint.facts.span import Span

_HOMES = {
    "modules": "ExpectedTie Model Module NormLayer Unregistered",
    "optimizers": "Group Member Members Optimizer Rejection StateMisfit",
    "parameters": "Parameter Values",
    "setup": "Note Setup Training",
    "graph": "GraphFacts NormUse ParameterUse",
    "loop": "LoopFacts",
    "probe": "ProbeFacts",
    "ranks": "RankGroup RankView",
    "scale": "ScaleFacts",
    "schedule": "GroupSchedule Schedule Trace",
    "source": "NamePattern SourceCall SourceFacts",
    "span": "Span",
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names.split()}

__all__ = [
    "ExpectedTie",
    "GraphFacts",
    "Group",
    "GroupSchedule",
    "LoopFacts",
    "Member",
    "Members",
    "Model",
    "Module",
    "NamePattern",
    "NormLayer",
    "NormUse",
    "Note",
    "Optimizer",
    "Parameter",
    "ParameterUse",
    "ProbeFacts",
    "RankGroup",
    "RankView",
    "Rejection",
    "ScaleFacts",
    "Schedule",
    "Setup",
    "SourceCall",
    "SourceFacts",
    "Span",
    "StateMisfit",
    "Trace",
    "Training",
    "Unregistered",
    "Values",
]


def __getattr__(name: str) -> Any:
    if name not in _HOME_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOME_OF[name]}"), name)
    globals()[name] = value
    return value
