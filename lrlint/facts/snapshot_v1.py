"""Snapshots of schema ``lrlint-setup/1`` in the form of schema 2.

Schema 1 kept what is known of a scheduler in one table, ``details``, and what a checkpoint changes among the training's
``options``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SCHEMA = "lrlint-setup/1"


def upgraded(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same facts as schema 2 writes them; data of any other schema as they are.

    Raises TypeError, KeyError or AttributeError where they are damaged.
    """
    if data.get("schema") != SCHEMA:
        return data
    found = {**data, "schema": "lrlint-setup/2", "schedules": [_schedule(item) for item in data.get("schedules", ())]}
    training = data.get("training", {})
    options = training.get("options", {})
    if options.get("resumed"):
        found["resume"] = _resume(options["resumed"])
        found["training"] = {**training, "options": {k: v for k, v in options.items() if k != "resumed"}}
    return found


def _schedule(old: Mapping[str, Any]) -> dict[str, Any]:
    rest = {key: value for key, value in old.items() if key != "details"}
    details = old.get("details", {})
    config = details.get("config", {})
    length, floor = details.get("length"), details.get("floor_name")
    given = {
        "horizon_from": details.get("horizon_from", ""),
        "capped": details.get("capped"),
        "error": details.get("error"),
        "non_finite": details.get("non_finite"),
        "kinds": details.get("shape", []),
        "per_step": details.get("per_step", False),
        "clock": {
            "source": details.get("clock_from", ""),
            "interval": details.get("interval", ""),
            "calls": details.get("calls_per_step", 1),
        },
        "length": length and {"steps": length, "name": details["length_name"], "final": details["final"]},
        "floor": floor and {"name": floor, "rate": details.get("floor", 0.0), "rates": details.get("floors")},
        "position": {
            "start": details.get("start", 0),
            "constructed_at": details.get("constructed_at"),
            "last_lrs": details.get("last_lrs", []),
            "curve": details.get("curve", []),
        },
        "wiring": {
            "together": details.get("together", []),
            "nested": details.get("nested", False),
            "yields_to": details.get("yields_to", ""),
            "dropped": details.get("dropped", False),
            "orphan": details.get("orphan", ""),
        },
        "config": config and {key: config[key] for key in _CONFIG if config.get(key) is not None},
        "root": _node(details) if "class_name" in details else None,
    }
    return {**rest, **{key: value for key, value in given.items() if value not in (None, {})}}


_CONFIG = ("framework", "interval", "frequency", "monitor", "written", "unknown", "stray")
_NODE = ("class_name", "qualified", "attributes", "lists", "base_lrs", "foreign", "lambdas", "begins")
_PLATEAU = ("mode", "factor", "patience", "threshold", "min_lrs", "default_min_lr")


def _node(details: Mapping[str, Any]) -> dict[str, Any]:
    found = {key: details[key] for key in _NODE if key in details}
    if "plateau" in details:
        found["plateau"] = {key: details["plateau"][key] for key in _PLATEAU if key in details["plateau"]}
    return {**found, "children": [_node(child) for child in details.get("children", ())]}


def _resume(old: Mapping[str, Any]) -> dict[str, Any]:
    records = []
    for record in old["optimizers"]:
        found = {key: value for key, value in record.items() if key != "optimizer"}
        if scheduler := record.get("scheduler"):
            found["scheduler"] = {**scheduler, "base_lrs": scheduler.get("base_lrs") or []}
        records.append({"index": record["optimizer"], **found})
    return {"checkpoint": old["checkpoint"], "optimizers": records}
