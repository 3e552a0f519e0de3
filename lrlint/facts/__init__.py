"""Frozen, torch-free facts: the language between inspection and rules."""

from lrlint.facts.core import (
    MULTIPLIER_KEYS,
    ExpectedTie,
    Group,
    Member,
    Members,
    Model,
    Module,
    NormLayer,
    Note,
    Optimizer,
    Parameter,
    Rejection,
    Setup,
    StateMisfit,
    Training,
    Unregistered,
    Values,
)
from lrlint.facts.graph import GraphFacts, NormUse, ParameterUse
from lrlint.facts.probe import ProbeFacts
from lrlint.facts.schedule import GroupSchedule, Schedule, Trace
from lrlint.facts.span import Span

__all__ = [
    "MULTIPLIER_KEYS",
    "ExpectedTie",
    "GraphFacts",
    "Group",
    "GroupSchedule",
    "Member",
    "Members",
    "Model",
    "Module",
    "NormLayer",
    "NormUse",
    "Note",
    "Optimizer",
    "Parameter",
    "ParameterUse",
    "ProbeFacts",
    "Rejection",
    "Schedule",
    "Setup",
    "Span",
    "StateMisfit",
    "Trace",
    "Training",
    "Unregistered",
    "Values",
]
