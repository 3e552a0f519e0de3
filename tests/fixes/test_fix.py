"""`lrlint fix`: what is offered is right, is written as a person would, and was proven; what is not proven is not offered."""

from __future__ import annotations

import json
import subprocess
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest

from lrlint.facts import Setup
from lrlint.fixes.edits import Edit, applied, changed_lines, diff
from lrlint.fixes.repair import Repair, Replacement, replacements, uncommitted
from lrlint.lint.finding import Finding
from lrlint.lint.run import Checked, Run
from lrlint.reports import sarif
from lrlint.runner import session
from lrlint.text.names import compress

HEAD = """
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.LayerNorm = nn.LayerNorm(8)
        self.proj = nn.Linear(8, 8)
        self.ln_2 = nn.LayerNorm(8)

    def forward(self, x):
        return self.ln_2(self.proj(self.LayerNorm(x)))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(*(Block() for _ in range(3)))
        self.head = nn.Linear(8, 2)

    def forward(self, x):
        return self.head(self.body(x))


"""


def fixed(folder: Path, body: str, select: str) -> Repair:
    (folder / "pyproject.toml").write_text("[tool.lrlint]\n")
    (folder / "train.py").write_text(HEAD.lstrip("\n") + textwrap.dedent(body).lstrip("\n"))
    options = {"jobs": 0, "no_graph": True, "select": (select,), "config_file": folder / "pyproject.toml"}
    asked = session.request([str(folder / "train.py") + ":build"], options)
    _, (found,) = session.repairs(asked)
    return found


def added(repair: Repair) -> list[str]:
    return [line[1:].strip() for line in repair.diff().splitlines() if line.startswith("+") and line[:3] != "+++"]


def test_a_misspelled_key(tmp_path: Path) -> None:
    found = fixed(
        tmp_path,
        """
        def build():
            model = Net()
            groups = [
                {"params": model.body.parameters()},
                {"params": model.head.parameters(), "learning_rate": 1e-2},  # new
            ]
            return model, AdamW(groups, lr=1e-4)
        """,
        "LR602",
    )
    assert added(found) == ['{"params": model.head.parameters(), "lr": 1e-2},  # new']
    assert [finding.rule for finding in found.fixed] == ["LR602"]


def test_sarif_carries_the_edit_as_a_fix(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("a = 1\nb = 2\nc = 3\n")
    finding = Finding(
        None, "m", rule="LR602", name="n", severity="error", confidence="high", target="t", parameters=("b",)
    )
    later = replace(finding, rule="LR101")
    one, two = "a = 1\nb = 20\nc = 3\n", "a = 1\nb = 20\nc = 30\n"
    repair = Repair(tmp_path, {"train.py": "a = 1\nb = 2\nc = 3\n"}, {"train.py": two})
    repair.steps = [
        (finding, "train.py", repair.before["train.py"], one),
        (later, "train.py", one, two),
        (replace(finding, rule="LR401"), "train.py", one, one.replace("20", "21")),
    ]
    found = replacements(repair)
    assert found[finding.fingerprint] == [Replacement("train.py", 2, 3, "b = 20\n")]
    assert found[later.fingerprint] == [Replacement("train.py", 3, 4, "c = 30\n")]
    assert len(found) == 2, "an edit of what another edit wrote is no fix of the file on disk"
    run = Run((finding,), (Checked(Setup(target="t"), (), (finding,), root=tmp_path),), root=tmp_path)
    (result,) = json.loads(sarif.render(run, found))["runs"][0]["results"]
    (change,) = result["fixes"][0]["artifactChanges"]
    assert change["artifactLocation"]["uri"] == "train.py"
    assert change["replacements"][0]["insertedContent"]["text"] == "b = 20\n"


def test_a_forgotten_head_joins_the_groups_that_walk_the_body(tmp_path: Path) -> None:
    found = fixed(
        tmp_path,
        """
        def build():
            model = Net()
            no_decay = ["bias", "LayerNorm.weight", "ln_2.weight"]
            return model, AdamW([
                {"params": [p for n, p in model.body.named_parameters() if not any(k in n for k in no_decay)]},
                {"params": [p for n, p in model.body.named_parameters() if any(k in n for k in no_decay)],
                 "weight_decay": 0.0},
            ], lr=1e-4)
        """,
        "LR101",
    )
    assert len(added(found)) == 2
    assert all("in model.named_parameters() if" in line for line in added(found))


def test_a_list_of_parameters_gets_what_is_lost(tmp_path: Path) -> None:
    found = fixed(
        tmp_path,
        """
        def build():
            model = Net()
            groups = [{"params": model.body[0].parameters()}, {"params": model.body[1].parameters(), "lr": 1e-4}]
            return model, SGD([*model.body.parameters()], lr=0.1)
        """,
        "LR101",
    )
    assert added(found) == ["return model, SGD([*model.parameters()], lr=0.1)"]


def test_a_filter_by_name_becomes_one_by_dimension(tmp_path: Path) -> None:
    found = fixed(
        tmp_path,
        """
        def build():
            model = Net()
            no_decay = ["bias", "LayerNorm.weight"]
            decayed = [p for n, p in model.named_parameters() if not any(k in n for k in no_decay)]
            spared = [p for n, p in model.named_parameters() if any(k in n for k in no_decay)]
            return model, AdamW([{"params": decayed}, {"params": spared, "weight_decay": 0.0}], lr=1e-4)
        """,
        "LR301",
    )
    assert added(found) == [
        "decayed = [p for n, p in model.named_parameters() if p.ndim > 1]",
        "spared = [p for n, p in model.named_parameters() if p.ndim <= 1]",
    ]


def test_a_scheduler_gets_a_rate_per_group(tmp_path: Path) -> None:
    found = fixed(
        tmp_path,
        """
        def build():
            model = Net()
            opt = AdamW([{"params": model.body.parameters(), "lr": 1e-5}, {"params": model.head.parameters(), "lr": 1e-3}])
            return model, opt, OneCycleLR(opt, max_lr=1e-3, total_steps=100)
        """,
        "LR401",
    )
    line = 'return model, opt, OneCycleLR(opt, max_lr=[group["lr"] for group in opt.param_groups], total_steps=100)'
    assert added(found) == [line]


@pytest.mark.parametrize("arguments", ["base_lr=1e-4, max_lr=1e-3", "1e-4, 1e-3"])
def test_a_cycle_gets_a_floor_and_a_peak_per_group(tmp_path: Path, arguments: str) -> None:
    """One floor for all would lie above the peak of the slower group."""
    body = f"""
        def build():
            model = Net()
            opt = AdamW([{{"params": model.body.parameters(), "lr": 1e-5}}, {{"params": model.head.parameters(), "lr": 1e-3}}])
            return model, opt, CyclicLR(opt, {arguments}, step_size_up=20, cycle_momentum=False)
        """
    (line,) = added(fixed(tmp_path, body, "LR401"))
    assert '[group["lr"] * 0.1 for group in opt.param_groups]' in line
    assert '[group["lr"] for group in opt.param_groups]' in line


def test_what_would_change_other_parameters_is_not_offered(tmp_path: Path) -> None:
    """By dimension the gate would lose its decay too, which nobody asked for; the rule is repaired in no other way."""
    found = fixed(
        tmp_path,
        """
        def build():
            model = Net()
            model.gate = nn.Parameter(torch.ones(8))
            no_decay = ["bias", "LayerNorm.weight"]
            decayed = [p for n, p in model.named_parameters() if not any(k in n for k in no_decay)]
            spared = [p for n, p in model.named_parameters() if any(k in n for k in no_decay)]
            return model, AdamW([{"params": decayed}, {"params": spared, "weight_decay": 0.0}], lr=1e-4)
        """,
        "LR301",
    )
    assert found.diff() == ""
    assert [finding.rule for finding in found.open] == ["LR301"]
    assert compress(found.open[0].parameters) == ["body.{0..2}.ln_2.weight"]


def test_nothing_is_written_and_nothing_stays_loaded(tmp_path: Path) -> None:
    body = """
        def build():
            model = Net()
            return model, AdamW(model.body.parameters(), lr=1e-4)
        """
    found = fixed(tmp_path, body, "LR101")
    assert added(found) == ["return model, AdamW(model.parameters(), lr=1e-4)"]
    assert "model.body.parameters()" in (tmp_path / "train.py").read_text()
    assert fixed(tmp_path, body, "LR101").diff() == found.diff()


def test_an_edit_is_not_made_over_uncommitted_changes(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    (tmp_path / "a.py").write_text("a = 1\nb = 2\nc = 3\n")
    assert uncommitted(tmp_path, "a.py", "a = 1\n", "a = 2\n") == [], "no repository"
    for arguments in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *arguments], check=True)
    edited = "a = 1\nb = 20\nc = 3\n"
    assert uncommitted(tmp_path, "a.py", edited, edited.replace("20", "21")) == [2]
    assert uncommitted(tmp_path, "a.py", edited, edited.replace("c = 3", "c = 4")) == []


@pytest.mark.parametrize("text", ["x = 1\ny = 2\n", "x = 1\ny = 2", "ä = 'ü'\ny = 2\n"])
def test_a_diff_is_one_that_git_applies(tmp_path: Path, text: str) -> None:
    after = applied(
        text, [Edit(text.index("y"), text.index("y") + 1, "z"), Edit(text.index("y"), text.index("y") + 1, "z")]
    )
    assert after == text.replace("y =", "z =")
    (tmp_path / "a.py").write_text(text, encoding="utf-8")
    subprocess.run(["git", "apply"], input=diff("a.py", text, after), text=True, check=True, cwd=tmp_path)
    assert (tmp_path / "a.py").read_text(encoding="utf-8") == after
    assert changed_lines(text, after) == [2]


def test_an_empty_group_that_should_hold_something_stays(tmp_path: Path) -> None:
    """Its pattern is wrong: without the group the fault would only be hidden."""
    body = """
        def build():
            model = Net()
            special = [p for n, p in model.named_parameters() if "classifier" in n]
            return model, AdamW([{"params": list(model.parameters())}, {"params": special, "lr": 1e-2}], lr=1e-4)
        """
    assert fixed(tmp_path, body, "LR108").diff() == ""


def test_findings_with_one_cause_are_repaired_by_one_edit(tmp_path: Path) -> None:
    found = fixed(
        tmp_path,
        """
        def build():
            model = Net()
            model.token = nn.Parameter(torch.ones(8))
            return model, AdamW(model.body.parameters(), lr=1e-4)
        """,
        "LR101",
    )
    assert added(found) == ["return model, AdamW(model.parameters(), lr=1e-4)"]
    assert (len(found.fixed), found.open) == (2, [])
