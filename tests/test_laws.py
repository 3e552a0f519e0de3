"""The laws of the house: torch behind two doors, rules over facts alone, a proof beside every rule."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from commands import lrlint

from lrlint.lint import registry
from lrlint.lint.rule import HEADINGS, Rule, sections

ROOT = Path(__file__).resolve().parent.parent
RULES = registry.load(entry_points=False).rules

#: Frameworks that load torch, or are as heavy as it is.
HEAVY = ("torch", "numpy", "transformers", "lightning", "pytorch_lightning", "peft", "accelerate")

#: A program that refuses these imports instead of looking for them afterwards: a guarded import would leave no trace.
GUARD = f"""\
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise AssertionError(f"{{name}} was imported")

sys.meta_path.insert(0, Refuse())
"""


def without_torch(program: str, *argv: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a fresh interpreter in which importing torch is an error."""
    command = [sys.executable, "-c", GUARD + program, *argv]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=60, check=False)


#: Everything that must start in milliseconds and run where torch is not installed.
LIGHT = {
    "package": "import lrlint; lrlint.rule, lrlint.Finding, lrlint.Setup, lrlint.Run, lrlint.check, lrlint.diff",
    "rules": "from lrlint.lint import registry; assert len(registry.load(entry_points=False).rules) > 40",
    "engine": "import pkgutil, importlib, lrlint.lint as f\n"
    "for m in pkgutil.iter_modules(f.__path__, 'lrlint.lint.'): importlib.import_module(m.name)",
    "configuration": "import lrlint.config.loader, lrlint.config.settings",
    "formats": "import pkgutil, importlib, lrlint.reports as f\n"
    "for m in pkgutil.walk_packages(f.__path__, 'lrlint.reports.'): importlib.import_module(m.name)",
    "command line": "import lrlint.cli.main, lrlint.runner.session, lrlint.runner.workers",
    "lint": "from lrlint.facts import Setup; from lrlint.lint.run import lint; from lrlint.config.settings import Settings\n"
    "assert lint(Setup(), Settings()).ok",
}


@pytest.mark.parametrize("program", LIGHT.values(), ids=LIGHT)
def test_torch_stays_out(program: str) -> None:
    done = without_torch(program)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "argv", [["--help"], ["--version"], ["rule"], ["rule", "LR301"], ["check", "--help"]], ids=" ".join
)
def test_torch_stays_out_of_commands(argv: list[str]) -> None:
    done = without_torch("from lrlint.cli.main import main; main()", *argv)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_a_snapshot_is_checked_without_torch(tmp_path: Path) -> None:
    made = tmp_path / "setup.json"
    built = "m = torch.nn.Linear(2, 2)\n    return m, torch.optim.Adam(m.parameters(), weight_decay=0.1)\n"
    factory = f"import torch\ndef build():\n    {built}"
    (tmp_path / "train.py").write_text(factory)
    assert lrlint("show", f"{tmp_path / 'train.py'}:build", "--output", made, cwd=ROOT).returncode == 0
    done = without_torch("from lrlint.cli.main import main; main()", "check", str(made), "--format", "concise")
    assert done.returncode == 1, done.stderr
    assert "LR310" in done.stdout


@pytest.mark.parametrize("room", ["lrlint.inspection.build", "lrlint.targets.load"])
def test_the_guard_can_fail(room: str) -> None:
    """The tests above prove something: behind the doors the same guard does stop torch."""
    done = without_torch(f"import {room}")
    assert done.returncode != 0
    assert "torch was imported" in done.stderr


def _imported(path: Path) -> set[str]:
    """Top-level packages that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.partition(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_reads_facts_alone(rule: Rule) -> None:
    assert _imported(Path(rule.path)) <= {"lrlint", *sys.stdlib_module_names}
    assert not _imported(Path(rule.path)) & {"os", "subprocess", "socket", "pathlib", "io", "sys"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_has_its_proof_beside_it(rule: Rule) -> None:
    fixture = registry.fixture_of(rule)
    assert fixture is not None, f"{rule.name} has no fixture"
    own = {node.name for node in ast.parse(fixture.read_text()).body if isinstance(node, ast.FunctionDef)}
    assert any(name.startswith("bad") for name in own)
    assert sum(name.startswith("good") for name in own) >= 2, "fewer than two near misses"
    assert Path(rule.path).stem == fixture.stem == rule.name.replace("-", "_")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_read_at_a_glance(rule: Rule) -> None:
    assert len(Path(rule.path).read_text(encoding="utf-8").splitlines()) <= 80


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_a_rule_is_documented(rule: Rule) -> None:
    assert rule.summary.endswith("."), "the first line of the documentation is a sentence"
    assert tuple(heading for heading, _ in sections(rule.documentation)) == HEADINGS


def test_every_fixture_has_its_rule() -> None:
    homes = {registry.fixture_of(rule) for rule in RULES}
    strays = [path for path in registry.shipped("fixtures").rglob("[!_]*.py") if path not in homes]
    assert not strays


def test_codes_and_names_are_unique_and_in_their_band() -> None:
    assert len({rule.code for rule in RULES}) == len({rule.name for rule in RULES}) == len(RULES)
    bands = {"coverage": "1", "rates": "2", "decay": "3", "schedule": "4", "graph": "5", "norms": "5", "numerics": "6",
             "source": "7", "loop": "7", "probe": "9"}  # fmt: skip
    # The scheduler rules that judge rates of groups stand in the band of rates.
    assert not [rule.code for rule in RULES if rule.code[2] != bands.get(rule.family)]


def test_importing_the_package_is_lazy() -> None:
    done = without_torch("import lrlint; print(*sorted(m for m in sys.modules if m.startswith('lrlint.')))")
    assert done.stdout.split() == ["lrlint._version"]
