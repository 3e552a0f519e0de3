"""Hand-made setups for tests that need no torch: a GPT-like decoder with two parameter groups, and its source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from lrlint.facts import Group, Optimizer, Parameter, Setup, Span

#: The file that the spans of `decoder` point into.
SOURCE = '''"""A training script."""


def build():
    model = Decoder()
    return model, AdamW(
        [
            {"params": decayed, "weight_decay": 0.1},
            {"params": spared, "lr": 1e-4, "weight_decay": 0.0},
        ],
        lr=3.0,
    )
'''

#: A rule for each thing a format has to show. It needs no torch, and no facts but rates and names.
RULES = {
    "fast_group.py": '''"""A group's rate is above 1.

Rates above 1 make most optimizers diverge. Sources: https://example.org/rates (a page), and more.
"""

from lrlint import Finding, rule


@rule("HOUSE001", severity="error", confidence="high", needs=("optimizer",))
def fast_group(setup, *, limit: float = 1.0):
    groups = setup.optimizers[0].groups
    for group in groups:
        if group.lr > limit:
            slow = [other for other in groups if other.lr <= limit]
            yield Finding(group, f"{group.label} has a rate of {group.lr:g}", related={"slower": slow}, key="lr",
                          data={"lr": group.lr, "measured": group.lr}, help="lower it")
''',
    "head_spared.py": '''"""The head is spared from weight decay."""

from lrlint import Finding, rule


@rule("HOUSE002", severity="warning", confidence="medium", needs=("optimizer",))
def head_spared(setup):
    spared = setup.optimizers[0].members.where(lambda m: m.name.startswith("head") and not m.weight_decay)
    if spared:
        yield Finding(spared, "the head is spared from decay", key="weight_decay")
''',
    "remark.py": '''"""Something worth knowing."""

from lrlint import Finding, rule


@rule("HOUSE003", severity="info", confidence="low", needs=("optimizer",))
def remark(setup):
    yield Finding(setup, f"{len(setup.parameters)} parameters")
''',
    "needs_graph.py": '''"""Needs a graph."""

from lrlint import Finding, rule


@rule("HOUSE004", severity="error", confidence="high", needs=("graph",))
def needs_graph(setup):
    yield Finding(setup, "seen")
''',
}
HOUSE = ("HOUSE001", "HOUSE002", "HOUSE003", "HOUSE004")


def decoder(layers: int = 2, *, lr: float = 3.0, target: str = "demo", head: str = "head.weight") -> Setup:
    """Matrices in group 0, norms and the head in group 1 (named ``spared``)."""
    names = [f"h.{k}.{part}.weight" for k in range(layers) for part in ("attn", "ln_1")] + [head]
    parameters = tuple(
        Parameter(i, name, (name,), "model", "norm" if "ln" in name else "matrix", (4,) if "ln" in name else (4, 4),
                  "float32", "cpu")
        for i, name in enumerate(names)
    )  # fmt: skip
    decayed = tuple(p for p in parameters if "attn" in p.name)
    spared = tuple(p for p in parameters if "attn" not in p.name)
    groups = (
        Group(0, 0, {"lr": lr, "weight_decay": 0.1, "betas": [0.9, 0.999]}, decayed, "adam", True,
              span=Span("train.py", 8, 13, 8, 53), key_spans={"weight_decay": Span("train.py", 8, 33, 8, 52)}),
        Group(0, 1, {"lr": 1e-4, "weight_decay": 0.0, "betas": [0.9, 0.999], "name": "spared"}, spared, "adam", True,
              span=Span("train.py", 9, 13, 9, 64),
              key_spans={"lr": Span("train.py", 9, 32, 9, 42), "weight_decay": Span("train.py", 9, 44, 9, 63)}),
    )  # fmt: skip
    optimizer = Optimizer(0, "", "AdamW", "torch.optim", "adam", groups, span=Span("train.py", 6, 19, 12, 6))
    return Setup(target=target, parameters=parameters, optimizers=(optimizer,), span=Span("train.py", 4, 5, 4, 10))


def single(setup: Setup, **options: object) -> Setup:
    """The same parameters, all in one group of another optimizer."""
    old = setup.optimizers[0]
    group = replace(old.groups[0], options={**old.groups[0].options, **options}, parameters=setup.parameters)
    return replace(setup, optimizers=(replace(old, groups=(group,)),))


def write_rules(folder: Path) -> Path:
    """The rules of `RULES` as files; returns their folder."""
    home = folder / "rules" / "house"
    home.mkdir(parents=True)
    for name, text in RULES.items():
        (home / name).write_text(text)
    return folder / "rules"
