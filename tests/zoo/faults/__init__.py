"""Mutation operators, by family of the rule that has to notice. Importing a module registers its operators."""

from zoo.faults import coverage, decay, graph, norms, numerics, rates, schedule

__all__ = ["coverage", "decay", "graph", "norms", "numerics", "rates", "schedule"]
