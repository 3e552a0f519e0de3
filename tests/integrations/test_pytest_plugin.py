"""The pytest plugin in a pytest of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, forked

PLUGIN = "lrlint.integrations.pytest_plugin"

TESTS = """
import pytest
from torch import nn
from torch.optim import SGD
from torch.optim.lr_scheduler import StepLR
from lrlint.integrations.pytest_plugin import assert_optimizer_ok as ok

def setup(right):
    model = nn.Linear(4, 4)
    optimizer, other = SGD(model.parameters(), lr=0.1), SGD(model.parameters(), lr=0.1)
    return model, optimizer, StepLR(optimizer if right else other, 10)

def test_good(assert_optimizer_ok):
    run = assert_optimizer_ok(*setup(True), select=["LR405"], graph=False)
    assert run.ok

def test_bad(assert_optimizer_ok):
    assert_optimizer_ok(*setup(False), select=["LR405"], graph=False)

def test_ignored():
    ok(*setup(False), select=["LR404", "LR405"], ignore=["LR405"], graph=False)

def test_the_report_is_the_message():
    with pytest.raises(AssertionError, match="LR405"):
        ok(*setup(False), select=["LR405"], fail_on="error", graph=False)
"""

FACTORY = """
from torch import nn
from torch.optim import SGD

def good():
    model = nn.Linear(2, 2)
    return model, SGD(model.parameters(), lr=0.1)

def broken():
    raise ValueError("no data")
"""

CONFIG = """
[tool.lrlint]
select = ["LR4"]
[tool.lrlint.targets]
good = { target = "factory.py:good", graph = false }
broken = { target = "factory.py:broken", graph = false }
"""


def run_pytest(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A session of its own, in a fork that has imported torch."""

    def run() -> int:
        sys.path.insert(0, str(folder))
        for name in [name for name in os.environ if name.startswith(("PYTEST_XDIST", "PYTEST_ADDOPTS"))]:
            del os.environ[name]
        return int(pytest.main(["-p", PLUGIN, "-p", "no:cacheprovider", "-rA", *arguments]))

    return forked(run, folder, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "pyproject.toml").write_text(CONFIG)
    (tmp_path / "factory.py").write_text(FACTORY)
    return tmp_path


def test_fixture_and_function(project: Path) -> None:
    (project / "test_setup.py").write_text(TESTS)
    done = run_pytest(project)
    assert "3 passed, 1 failed" in done.stdout.replace("1 failed, 3 passed", "3 passed, 1 failed"), done.stdout
    assert "FAILED test_setup.py::test_bad" in done.stdout
    assert "error[LR405] scheduler-wrong-optimizer" in done.stdout
    assert "pytest_plugin.py" not in done.stdout, "the traceback ends in the user's test"


def test_objects_are_judged_by_the_configuration(project: Path) -> None:
    (project / "pyproject.toml").write_text(CONFIG.replace('select = ["LR4"]', 'select = ["LR405"]\nfail-on = "error"'))
    head = TESTS.partition("def test_good")[0]
    test = "def test_configured(assert_optimizer_ok):\n    assert_optimizer_ok(*setup(False), graph=False)\n"
    (project / "test_setup.py").write_text(head + test)
    assert "error[LR405]" in run_pytest(project).stdout
    (project / "pyproject.toml").write_text(CONFIG.replace('["LR4"]', '["LR4"]\nignore = ["LR404", "LR405"]'))
    done = run_pytest(project)
    assert done.returncode == 0, done.stdout


def test_configured_targets_are_items(project: Path) -> None:
    (project / "test_other.py").write_text("def test_other(): pass\n")
    done = run_pytest(project, "--lrlint")
    assert done.returncode == 1
    assert "PASSED lrlint::good" in done.stdout
    assert "FAILED lrlint::broken" in done.stdout
    assert "ValueError" in done.stdout
    assert "2 passed" in done.stdout
    chosen = run_pytest(project, "--lrlint", "-k", "good")
    assert chosen.returncode == 0, chosen.stdout


def test_without_the_flag_nothing_is_collected_and_torch_stays_away(project: Path) -> None:
    (project / "test_other.py").write_text("import sys\ndef test_other():\n    assert 'torch' not in sys.modules\n")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
    command = [sys.executable, "-m", "pytest", "-p", PLUGIN, "-p", "no:cacheprovider", "-q"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, "1 passed" in done.stdout) == (0, True), done.stdout


def test_a_bad_configuration_is_a_usage_error(project: Path) -> None:
    (project / "pyproject.toml").write_text("[tool.lrlint]\nselct = []\n")
    (project / "test_other.py").write_text("def test_other(): pass\n")
    done = run_pytest(project, "--lrlint")
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert "pyproject.toml:2" in done.stderr + done.stdout
