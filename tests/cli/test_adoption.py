"""A team adopts lrlint: first run, baseline, clean run, a new fault fails, fix, prune. And what CI runs."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from documented import Shell, install

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "sample_project"


@pytest.fixture(scope="module")
def bin_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the `lrlint` command, as an installation would have it on the path."""
    folder = tmp_path_factory.mktemp("bin")
    install(folder)
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    shutil.copytree(SAMPLE, tmp_path / "shop", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path / "shop"


@pytest.fixture
def shell(project: Path, bin_folder: Path) -> Shell:
    return Shell(project, bin_folder)


def rules(done: subprocess.CompletedProcess[str]) -> set[tuple[str, str]]:
    return {(f["target"], f["rule"]) for f in json.loads(done.stdout)["findings"] if "suppressed" not in f}


def edit(project: Path, old: str, new: str) -> None:
    file = project / "shop" / "train.py"
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_from_the_first_run_to_a_pruned_baseline(project: Path, shell: Shell) -> None:
    first = shell("lrlint check --format json")
    assert first.returncode == 1
    assert ("ranker", "LR401") in rules(first)
    assert ("tagger", "LR401") not in rules(first)
    assert "loading the ranker" in first.stderr

    accepted = shell("lrlint baseline")
    assert accepted.returncode == 0
    baseline = (project / "lrlint-baseline.json").read_text()
    assert str(project) not in baseline

    clean = shell("lrlint check --format json")
    assert (clean.returncode, rules(clean)) == (0, set())
    assert json.loads(clean.stdout)["summary"]["baselined"] > 0

    edit(project, "max_lr=[rate / 10, rate]", "max_lr=rate")
    faulty = shell("lrlint check --format json")
    assert faulty.returncode == 1
    assert ("tagger", "LR401") in rules(faulty)
    assert ("ranker", "LR401") not in rules(faulty), "the accepted finding stays quiet"
    (location, *_) = next(
        f for f in json.loads(faulty.stdout)["findings"] if f["target"] == "tagger" and f["rule"] == "LR401"
    )["locations"]
    assert location["path"] == "shop/train.py"
    assert (
        "OneCycleLR(optimizer, max_lr=rate"
        in (project / "shop" / "train.py").read_text().splitlines()[location["line"] - 1]
    )

    edit(project, "max_lr=rate", "max_lr=[rate / 10, rate]")
    edit(project, "max_lr=1e-3", "max_lr=[1e-4, 1e-3]")
    fixed = shell("lrlint check --format json")
    assert fixed.returncode == 0
    pruned = shell("lrlint baseline --prune")
    assert pruned.returncode == 0
    assert int(re.search(r"(\d+) removed", pruned.stdout)[1]) >= 1
    left = json.loads((project / "lrlint-baseline.json").read_text())["findings"]
    assert "LR401" not in {entry["rule"] for entry in left}
    assert shell("lrlint baseline --prune").stdout.endswith("(0 new, 0 removed)\n")


def test_the_setup_lock(project: Path, shell: Shell) -> None:
    assert shell("lrlint show tagger --output setup.json").returncode == 0
    assert shell("lrlint diff setup.json tagger").returncode == 0
    edit(project, '"lr": rate / 10}', '"lr": rate / 10, "weight_decay": 0.0}')
    changed = shell("lrlint diff setup.json tagger --format markdown")
    assert changed.returncode == 1
    assert "- `body.0.weight`" in changed.stdout or "- `body.*.weight` (2)" in changed.stdout
    assert "weight decay 0.01 → 0" in changed.stdout


def test_what_gitlab_runs(project: Path, shell: Shell) -> None:
    text = (project / ".gitlab-ci.yml").read_text()
    (command,) = re.findall(r"- (lrlint check .*)", text)
    done = shell(command)
    assert done.returncode == 1
    for name in re.findall(r"(?:codequality|junit): (\S+)", text):
        assert (project / name).stat().st_size > 100


def test_what_the_pre_commit_hooks_run(project: Path, shell: Shell) -> None:
    published = (ROOT / ".pre-commit-hooks.yaml").read_text()
    assert "language: system" in published
    assert "pass_filenames: false" in published
    (entry,) = re.findall(r"entry: (.+)", published)
    assert entry in (project / ".pre-commit-config.yaml").read_text()
    done = shell(entry)
    assert done.returncode == 1
    assert re.search(r"^shop/train\.py:\d+:\d+: LR401 \[", done.stdout, re.MULTILINE)


def test_what_the_github_action_runs(project: Path, shell: Shell) -> None:
    text = (ROOT / ".github" / "actions" / "lrlint" / "action.yml").read_text()
    block = re.search(r"      run: \|\n((?:        .*\n)+)", text)[1]
    script = "\n".join(line[8:] for line in block.splitlines())
    assert "${{" not in script, "an input must not become code"
    outputs = {"GITHUB_OUTPUT": str(project / "out.txt"), "GITHUB_STEP_SUMMARY": str(project / "summary.md")}
    inputs = {"LRLINT_TARGETS": "ranker", "LRLINT_ARGUMENTS": "--fail-on error", "LRLINT_SARIF": "lrlint.sarif"}
    passing = shell(script, **outputs, **inputs)
    assert "::warning file=shop/train.py,line=" in passing.stdout
    assert (project / "out.txt").read_text() == f"exit-code={passing.returncode}\nsarif=written\n"
    broken = shell(script, **outputs, **{**inputs, "LRLINT_ARGUMENTS": "--fail-on nothing"})
    assert broken.returncode == 2
    assert (project / "out.txt").read_text().endswith("exit-code=2\n"), "nothing to upload"
    assert not (project / "lrlint.sarif").exists()
    failing = shell(script, **outputs, **{**inputs, "LRLINT_TARGETS": "", "LRLINT_ARGUMENTS": ""})
    assert failing.returncode == 1
    assert json.loads((project / "lrlint.sarif").read_text())["runs"][0]["results"]
    assert (project / "summary.md").read_text().count("## lrlint") == 2


def test_every_configuration_of_the_documentation_is_valid(project: Path, shell: Shell) -> None:
    text = (ROOT / "docs" / "adoption.md").read_text()
    blocks = re.findall(r"```toml\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    (project / "pyproject.toml").write_text("\n".join(blocks))
    done = shell("lrlint show --settings")
    assert done.returncode == 0, done.stderr
    assert "ACME001: peak_lr <= 1e-4, weight_decay == 0" in done.stdout


def test_the_files_of_the_repository_say_what_the_documentation_says() -> None:
    text = (ROOT / "docs" / "adoption.md").read_text()
    (gitlab,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if block.startswith("lrlint:")]
    assert gitlab == (SAMPLE / ".gitlab-ci.yml").read_text()
    (hook,) = [block for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL) if block.startswith("- repo:")]
    assert "".join(f"  {line}\n" for line in hook.splitlines()) in (SAMPLE / ".pre-commit-config.yaml").read_text()
