"""The command line. What can be shown without torch runs without torch."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from commands import ROOT, lrlint, lrlint_process
from setups import HOUSE, SOURCE, decoder, write_rules

SELECT = ("--select", ",".join(HOUSE))

#: Makes `import torch` fail: a command that passes with it works where there is no torch.
NO_TORCH = "import sys\nsys.modules['torch'] = None\n"

FACTORY = """
import os, sys, time
import torch
from torch import nn
from torch.optim import SGD

def build(rate: float = 0.1):
    print("printed by the factory")
    model = nn.Linear(2, 2)
    return model, SGD(model.parameters(), lr=rate)

def raises():
    raise ValueError("no data")

def crashes():
    os.kill(os.getpid(), 11)

def leaves():
    os._exit(7)

def hangs():
    time.sleep(60)

def nothing():
    return None

def crashes_with_a_child():
    child = os.fork()
    if child == 0:
        time.sleep(300)
        os._exit(0)
    open("child.pid", "w").write(str(child))
    os.kill(os.getpid(), 11)

def leaves_like_the_watchdog():
    os._exit(3)

def stops():
    raise KeyboardInterrupt

def unspeakable():
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no words")
    raise Mute

def unfinished():
    return nn.Linear(2, 2), SGD.__new__(SGD)

def careless():
    sys.setrecursionlimit(90)
    sys.meta_path.clear()
    sys.path.clear()
    return build()

spare = SGD(nn.Linear(3, 3).parameters(), lr=1)

def strangers():
    # parameters of other modules, in the optimizer that is returned and in one that is not
    SGD([{"params": nn.Linear(3, 3).parameters()}], lr=1)
    return nn.Linear(2, 2), SGD(nn.Linear(5, 5).parameters(), lr=1)
"""


def without_torch(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, in which there is no torch."""
    (cwd / ".no_torch").mkdir(exist_ok=True)
    (cwd / ".no_torch" / "sitecustomize.py").write_text(NO_TORCH)
    path = os.pathsep.join(filter(None, (str(cwd / ".no_torch"), str(ROOT), os.environ.get("PYTHONPATH", ""))))
    return lrlint_process(*arguments, cwd=cwd, PYTHONPATH=path)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project with a saved snapshot, its source, and a folder of rules."""
    (tmp_path / "pyproject.toml").write_text('[tool.lrlint]\nextra-rules = ["rules"]\n')
    (tmp_path / "train.py").write_text(SOURCE)
    (tmp_path / "setup.json").write_text(json.dumps(decoder().to_dict()))
    (tmp_path / "clean.json").write_text(json.dumps(decoder(lr=0.1).to_dict()))
    write_rules(tmp_path)
    return tmp_path


def test_the_blocked_torch_is_really_blocked(project: Path) -> None:
    (project / "factory.py").write_text(FACTORY)
    done = without_torch("check", "factory.py:build", cwd=project)
    assert done.returncode != 0
    assert "torch" in done.stderr


def test_help_is_grouped_by_purpose(project: Path) -> None:
    done = lrlint("--help", cwd=project)
    assert done.returncode == 0
    order = [done.stdout.index(word) for word in ("Check:", "  check", "Understand:", "  show", "Adopt:", "  baseline")]
    assert order == sorted(order)
    detail = lrlint("check", "--help", cwd=project).stdout
    assert [detail.index(f"{word}:\n") for word in ("Target", "Rules", "Configuration", "Output", "Probe")]


def test_findings_of_a_snapshot_without_torch(project: Path) -> None:
    done = without_torch("check", "setup.json", *SELECT, cwd=project)
    assert done.returncode == 1
    assert "error[HOUSE001] fast-group" in done.stdout
    assert '8 |             {"params": decayed, "weight_decay": 0.1},' in done.stdout
    assert done.stdout.splitlines()[-1] == "1 error, 1 warning, 1 info · 3 rules, 1 skipped: no graph"
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["setup.json", *SELECT], 1),
        (["setup.json", *SELECT, "--ignore", "HOUSE001,HOUSE002"], 0),
        (["setup.json", *SELECT, "--ignore", "HOUSE001"], 1),
        (["setup.json", *SELECT, "--fail-on", "error", "--ignore", "HOUSE001"], 0),
        (["setup.json", *SELECT, "--fail-on", "info", "--ignore", "HOUSE001,HOUSE002"], 1),
        (["setup.json", *SELECT, "--min-confidence", "high", "--fail-on", "info", "--ignore", "HOUSE001"], 0),
        (["clean.json", "--select", "HOUSE001"], 0),
        (["setup.json", "--select", "fast-group"], 1),
        (["setup.json", "--select", "NOPE"], 2),
        (["setup.json", "--ignore", "NOPE"], 2),
        (["setup.json", "--fail-on", "often"], 2),
        (["setup.json", "--config", "gone.toml"], 2),
        (["setup.json", "--output", "report.bin"], 2),
        (["gone.json"], 2),
        (["setup.json", "setup.json"], 2),
        (["unknown"], 2),
        ([], 2),
    ],
)
def test_exit_codes(project: Path, arguments: list[str], code: int) -> None:
    done = lrlint("check", *arguments, cwd=project)
    assert done.returncode == code, done.stderr
    if code == 2:
        assert done.stdout == ""
        assert done.stderr.strip()
        assert "Traceback" not in done.stderr


def test_no_format_changes_the_exit_code(project: Path) -> None:
    for name in ("full", "concise", "json", "sarif", "github", "gitlab", "junit", "markdown", "html"):
        assert lrlint("check", "setup.json", *SELECT, "--format", name, cwd=project).returncode == 1, name


def test_one_run_serves_several_files_and_leaves_no_others(project: Path) -> None:
    before = {path.name for path in project.iterdir()} | {".no_torch", "__pycache__"}
    outputs = ["out.sarif", "out.md", "junit:out.xml", "gitlab:cq.json", "audit.html", "out.json"]
    done = lrlint("check", "setup.json", *SELECT, *(part for name in outputs for part in ("-o", name)), cwd=project)
    assert done.returncode == 1
    assert {path.name for path in project.iterdir()} - before == {
        "out.sarif",
        "out.md",
        "out.xml",
        "cq.json",
        "audit.html",
        "out.json",
    }
    assert json.loads((project / "out.json").read_text())["summary"]["error"] == 1
    assert json.loads((project / "out.sarif").read_text())["version"] == "2.1.0"


def test_a_folder_that_cannot_be_written(project: Path) -> None:
    done = lrlint("check", "setup.json", *SELECT, "-o", "gone/out.json", cwd=project)
    assert done.returncode == 2
    assert "out.json cannot be written" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not valid JSON"),
        ('{"schema": "x"}', "not a setup snapshot"),
        ('{"schema": "lrlint-setup/2", "extra": 1}', "extra"),
    ],
)
def test_an_unreadable_snapshot(project: Path, text: str, words: str) -> None:
    (project / "bad.json").write_text(text)
    for arguments in (["check", "bad.json"], ["show", "bad.json"], ["diff", "setup.json", "bad.json"]):
        done = lrlint(*arguments, cwd=project)
        assert done.returncode == 2
        assert words in done.stderr
        assert "Traceback" not in done.stderr


def test_colour_follows_the_flag_then_the_environment(project: Path) -> None:
    def painted(*flags: str, **environment: str) -> bool:
        return "\x1b[" in lrlint("check", "setup.json", *SELECT, *flags, cwd=project, **environment).stdout

    assert not painted()
    assert painted("--color")
    assert painted(FORCE_COLOR="1")
    assert not painted(FORCE_COLOR="1", NO_COLOR="1")
    assert not painted("--no-color", FORCE_COLOR="1")


def test_rule_explains_and_lists_without_torch(project: Path) -> None:
    done = lrlint("rule", "fast-group", cwd=project)
    assert done.returncode == 0
    assert "HOUSE001 fast-group" in done.stdout
    assert "limit = 1.0  # float" in done.stdout
    catalogue = without_torch("rule", cwd=project).stdout
    assert "HOUSE004" in catalogue
    assert "LR001" in catalogue
    data = json.loads(lrlint("rule", "--json", cwd=project).stdout)
    assert {"HOUSE001", "LR002"} <= {rule["code"] for rule in data}
    missing = lrlint("rule", "fast-grup", cwd=project)
    assert (missing.returncode, "did you mean fast-group" in missing.stderr) == (2, True)


def test_show_a_snapshot_and_the_settings(project: Path) -> None:
    table = without_torch("show", "setup.json", cwd=project)
    assert table.returncode == 0
    row = next(line for line in table.stdout.splitlines() if "attn" in line)
    assert row.split() == ["0", "3", "0.1", "2", "32", "4×4", "matrix", "h.{0,1}.attn.weight"]
    assert "1 (spared)" in table.stdout
    settings = lrlint("show", "--settings", cwd=project).stdout
    assert "pyproject.toml:2" in next(line for line in settings.splitlines() if line.startswith("extra-rules"))


def test_show_saves_what_it_read(project: Path) -> None:
    done = without_torch("show", "setup.json", "--output", "copy.json", cwd=project)
    assert done.returncode == 0
    assert done.stdout.startswith("wrote copy.json: setup.json, 5 parameter tensors")
    assert json.loads((project / "copy.json").read_text()) == json.loads((project / "setup.json").read_text())


def test_diff_of_snapshots(project: Path) -> None:
    same = lrlint("diff", "setup.json", "setup.json", cwd=project)
    assert (same.returncode, same.stdout) == (0, "no difference\n")
    changed = without_torch("diff", "setup.json", "clean.json", cwd=project)
    assert changed.returncode == 1
    assert "`h.*.attn.weight` (2): lr 3 → 0.1" in changed.stdout
    data = json.loads(lrlint("diff", "setup.json", "clean.json", "--format", "json", cwd=project).stdout)
    assert [change["key"] for change in data["changes"]] == ["lr"]


def test_baseline_accepts_and_prunes(project: Path) -> None:
    (project / "pyproject.toml").write_text(f'[tool.lrlint]\nextra-rules = ["rules"]\nselect = {json.dumps(HOUSE)}\n')
    assert lrlint("check", "setup.json", cwd=project).returncode == 1
    accepted = without_torch("baseline", "setup.json", cwd=project)
    assert accepted.returncode == 0
    assert "(3 new, 0 removed)" in accepted.stdout
    assert lrlint("check", "setup.json", cwd=project).returncode == 0
    assert lrlint("check", "setup.json", "--no-baseline", cwd=project).returncode == 1
    (project / "setup.json").write_text((project / "clean.json").read_text())
    assert "(0 new, 1 removed)" in lrlint("baseline", "setup.json", "--prune", cwd=project).stdout


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('select = ["HOUSE999"]\n', "pyproject.toml:3: no rule 'HOUSE999'"),
        ('extend-ignore = ["fast-grup"]\n', "pyproject.toml:3: no rule 'fast-grup'; did you mean fast-group"),
        ("[tool.lrlint.rules.fast-grup]\nlimit = 3\n", "pyproject.toml:3: rules.fast-grup: no rule"),
        ('select = ["L"]\n', "pyproject.toml:3: no rule 'L'"),
        (
            '[tool.lrlint.rules.fast-group]\nlimit = "fast"\n',
            "pyproject.toml:3: rules.fast-group: option 'limit' of rule fast-group is 'fast', expected a number",
        ),
        (
            "[tool.lrlint.rules.fast-group]\nlimt = 1\n",
            "pyproject.toml:3: rules.fast-group: rule fast-group has no option",
        ),
        ('[tool.lrlint.targets]\nslow = { target = "slow.py:f", select = ["X9"] }\n', "pyproject.toml:4: no rule 'X9'"),
    ],
)
def test_an_unknown_rule_is_told_with_its_line_before_anything_runs(project: Path, text: str, place: str) -> None:
    (project / "pyproject.toml").write_text(f'[tool.lrlint]\nextra-rules = ["rules"]\n{text}')
    done = lrlint("check", *([] if "targets" in text else ["slow.py:f"]), cwd=project)  # there is no slow.py
    assert (done.returncode, done.stdout) == (2, "")
    assert f"lrlint: {place}" in done.stderr
    assert "torch" not in done.stderr


def test_policies_and_suppressions_from_the_configuration(project: Path) -> None:
    (project / "pyproject.toml").write_text(
        """[tool.lrlint]
select = ["ALL"]
ignore = ["LR", "HOUSE003"]
extra-rules = ["rules"]

[[tool.lrlint.policy]]
code = "ACME001"
roles = ["norm"]
require = { lr = "<= 1e-5", weight_decay = "== 0" }
message = "norms train slowly here"

[[tool.lrlint.suppress]]
rules = ["HOUSE001", "HOUSE002"]
reason = "a demo"
"""
    )
    done = lrlint("check", "setup.json", "--format", "json", cwd=project)
    found = {f["rule"]: f for f in json.loads(done.stdout)["findings"]}
    assert found["HOUSE001"]["suppressed"]["reason"] == "a demo"
    assert (
        found["ACME001"]["message"]
        == "norms train slowly here: lr of `h.{0,1}.ln_1.weight` is 0.0001, required <= 1e-5"
    )
    assert found["ACME001"]["locations"][0] == {
        "path": "train.py",
        "line": 9,
        "column": 32,
        "end_line": 9,
        "end_column": 42,
    }
    assert done.returncode == 1
    assert lrlint("check", "setup.json", "--extend-ignore", "ACME001", cwd=project).returncode == 0


def test_github_writes_the_step_summary(project: Path) -> None:
    done = lrlint(
        "check",
        "setup.json",
        *SELECT,
        "--format",
        "github",
        cwd=project,
        GITHUB_STEP_SUMMARY=str(project / "summary.md"),
    )
    assert "::error file=train.py,line=8,endLine=8,col=13," in done.stdout
    assert (project / "summary.md").read_text().startswith("## lrlint")
    stop, start = done.stderr.splitlines()
    assert stop.removeprefix("::stop-commands::") == start.strip(":")


def test_a_new_rule_is_two_files_that_pass_the_harness(project: Path) -> None:
    done = lrlint("rule", "--new", "rate-too-high", "--code", "ACME007", "--folder", "own", cwd=project)
    assert done.stdout.split() == ["own/rules/house/rate_too_high.py", "own/fixtures/house/rate_too_high.py"]
    listed = lrlint("rule", "ACME007", "--extra-rules", "own/rules", cwd=project)
    assert "def bad():" in listed.stdout, "its fixture is the example"
    again = lrlint("rule", "--new", "rate-too-high", "--folder", "own", cwd=project)
    assert (again.returncode, "exists already" in again.stderr) == (2, True)
    assert lrlint("rule", "--new", "Bad Name", cwd=project).returncode == 2
    assert lrlint("rule", "--new", "other", "--code", "LR999", cwd=project).returncode == 2
    from lrlint import testing
    from lrlint.lint import registry

    known = registry.load([project / "own" / "rules"], entry_points=False)
    cases = [case for case in testing.cases(known) if case.rule.code == "ACME007"]
    assert [case.function for case in cases] == ["bad", "good_below_the_limit"]
    for case in cases:
        testing.run(case)


def test_a_rule_is_proven_by_its_fixture(project: Path) -> None:
    """A shipped one, and a team's own: as it was written, and after its fixture was changed."""
    shipped = lrlint("rule", "--test", "LR111", cwd=project)
    assert (shipped.returncode, "LR111 good_numbered: ok\n" in shipped.stdout) == (0, True)
    assert shipped.stdout.endswith("all as announced\n")
    lrlint("rule", "--new", "rate-too-high", "--code", "ACME007", "--folder", "own", cwd=project)
    prove = ("rule", "--test", "rate-too-high", "--extra-rules", "own/rules")
    done = lrlint(*prove, cwd=project)
    assert done.stdout == "ACME007 bad: ok\nACME007 good_below_the_limit: ok\n2 cases: all as announced\n"
    assert done.returncode == 0
    fixture = project / "own" / "fixtures" / "house" / "rate_too_high.py"
    fixture.write_text(fixture.read_text().replace("lr=0.01", "lr=0.2"))
    done = lrlint(*prove, cwd=project)
    assert done.returncode == 1
    assert "ACME007 good_below_the_limit: differs\n" in done.stdout
    assert "expected [], found ['rate_too_high.py:14:19: ACME007 warning weight bias" in done.stdout.replace(
        "house/", ""
    )
    fixture.unlink()
    done = lrlint(*prove, cwd=project)
    assert (done.returncode, "has no fixture" in done.stderr) == (2, True)
    assert lrlint("rule", "--test", "LR001", cwd=project).returncode == 2, "the engine's own"
    assert lrlint("rule", "--test", cwd=project).returncode == 2


def test_a_new_rule_in_a_checkout_goes_among_the_shipped_ones(tmp_path: Path) -> None:
    (tmp_path / "lrlint" / "lint").mkdir(parents=True)
    (tmp_path / "lrlint" / "lint" / "scaffold.py").touch()
    for number, family in ((107, "rates"), (203, "rates"), (209, "rates"), (301, "decay")):
        folder = tmp_path / "rules" / family
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"rule_{number}.py").write_text(f'@rule("LR{number}")\n')
    done = lrlint("rule", "--new", "rate-too-high", "--family", "rates", cwd=tmp_path)
    assert done.stdout.split() == [f"{tmp_path}/{kind}/rates/rate_too_high.py" for kind in ("rules", "fixtures")]
    assert '@rule("LR210"' in (tmp_path / "rules" / "rates" / "rate_too_high.py").read_text()
    missing = lrlint("rule", "--new", "other", cwd=tmp_path)
    assert (missing.returncode, "decay, rates" in missing.stderr) == (2, True)
    taken = lrlint("rule", "--new", "other", "--family", "rates", "--code", "LR301", cwd=tmp_path)
    assert (taken.returncode, "LR301 is taken" in taken.stderr) == (2, True)
    foreign = lrlint("rule", "--new", "other", "--family", "rates", "--code", "ACME001", cwd=tmp_path)
    assert foreign.returncode == 2


def test_live_targets_in_worker_processes(tmp_path: Path) -> None:
    """One run of everything that can go wrong: each loses one target only."""
    (tmp_path / "factory.py").write_text(FACTORY)
    names = ("raises", "crashes", "leaves", "hangs", "nothing", "gone")
    names += ("leaves_like_the_watchdog", "stops", "unspeakable", "unfinished")
    rows = [
        f'{name} = {{ target = "factory.py:{name}", graph = false, timeout = {2 if name == "hangs" else 60} }}'
        for name in (*names, "build", "careless")
    ]
    (tmp_path / "pyproject.toml").write_text("[tool.lrlint.targets]\n" + "\n".join(rows) + "\n")
    (tmp_path / "deep").mkdir()
    done = lrlint_process("check", "--format", "json", cwd=tmp_path / "deep")  # one of them lowers the recursion limit
    data = json.loads(done.stdout)
    errors = {error["target"]: error for error in data["errors"]}
    assert set(errors) == set(names)
    assert data["targets"][:2] == ["build", "careless"]
    assert {name: error["exit_code"] for name, error in errors.items()} == {
        **dict.fromkeys(names, 3), "gone": 2,
    }  # fmt: skip
    assert "ValueError" in errors["raises"]["message"]
    assert "SIGSEGV" in errors["crashes"]["message"]
    assert "exit code 7" in errors["leaves"]["message"]
    assert "within 2 s" in errors["hangs"]["message"]
    assert "exit code 3" in errors["leaves_like_the_watchdog"]["message"]
    assert "KeyboardInterrupt" in errors["stops"]["message"]
    assert "raised Mute" in errors["unspeakable"]["message"]
    assert "a SGD without param_groups" in errors["unfinished"]["message"]
    assert done.returncode == 3
    assert "printed by the factory" in done.stderr
    assert 'raise ValueError("no data")' in done.stderr
    assert "lrlint/runner/workers.py" not in done.stderr, "tracebacks show the user's frames only"


def test_a_process_that_the_target_forked_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "factory.py").write_text(FACTORY)
    done = lrlint("check", "factory.py:crashes_with_a_child", "--output", "out.json", cwd=tmp_path)
    with contextlib.suppress(ProcessLookupError):  # lrlint ends what its target started
        os.kill(int((tmp_path / "child.pid").read_text()), signal.SIGKILL)
    (error,) = json.loads((tmp_path / "out.json").read_text())["errors"]
    assert (done.returncode, "SIGSEGV" in error["message"]) == (3, True)


def test_one_live_target_from_flags(tmp_path: Path) -> None:
    (tmp_path / "factory.py").write_text(FACTORY)
    done = lrlint("show", "factory.py:build", "--arg", "rate=0.25", "--no-graph", "-o", "setup.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote setup.json"), "what the factory prints is no result"
    assert done.stdout.count("\n") == 1
    saved = json.loads((tmp_path / "setup.json").read_text())
    assert saved["optimizers"][0]["groups"][0]["options"]["lr"] == 0.25
    assert saved["target"] == "factory.py:build"
    assert str(tmp_path) not in json.dumps(saved), "a snapshot does not depend on the machine"
    failed = lrlint("show", "factory.py:raises", cwd=tmp_path)
    assert (failed.returncode, failed.stdout) == (3, "")
    assert "ValueError" in failed.stderr


def test_parameters_that_no_module_holds_have_names_of_their_own(tmp_path: Path) -> None:
    (tmp_path / "factory.py").write_text(FACTORY)
    done = lrlint("show", "factory.py:strangers", "--timeout", "60", "--no-graph", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "4 parameter tensors, 36 elements" in done.stdout, "without those of an optimizer that was not returned"
    assert "optimizer0.group0.{0,1}" in done.stdout
    assert "3×3" not in done.stdout


def test_what_was_typed_is_not_repeated_in_front_of_a_message(tmp_path: Path) -> None:
    (tmp_path / "factory.py").write_text(FACTORY)
    done = lrlint("check", "factory.py:bild", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("lrlint: factory.py has no 'bild'; did you mean build?")
    crashed = lrlint("check", "factory.py:crashes", cwd=tmp_path)
    assert "lrlint: factory.py:crashes: its process was killed by SIGSEGV" in crashed.stderr


def test_an_interruption(tmp_path: Path) -> None:
    (tmp_path / "factory.py").write_text(FACTORY.replace("time.sleep(60)", "print('here', flush=True); time.sleep(60)"))
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "lrlint", "check", "factory.py:hangs"]
    process = subprocess.Popen(
        command, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    assert "here" in process.stderr.readline()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (130, "")
    assert "interrupted" in err
    assert "Traceback" not in err


def test_a_reader_that_leaves_early(project: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = f"{sys.executable} -m lrlint rule --json | head -c 10"
    done = subprocess.run(["bash", "-c", command], cwd=project, env=env, capture_output=True, text=True, timeout=60)
    assert (len(done.stdout), done.stderr) == (10, "")


def test_streams_and_files_that_take_nothing(project: Path) -> None:
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "GITHUB_STEP_SUMMARY": str(project / "no" / "s"),
    }
    check = f"{sys.executable} -m lrlint check setup.json {' '.join(SELECT)}"

    def run(command: str) -> tuple[int, str]:
        done = subprocess.run(["bash", "-c", command], cwd=project, env=env, capture_output=True, text=True, timeout=60)
        assert "Traceback" not in done.stderr
        return done.returncode, done.stdout + done.stderr

    assert run(f"{check} >&-")[0] == 1
    assert run(f"{check} >&- 2>&-")[0] == 1
    assert run(f"{check} --format github")[0] == 1
    assert "the step summary" in run(f"{check} --format github")[1]
    code, text = run(f"{check} > /dev/full")
    assert (code, "standard output cannot be written: No space left" in text) == (2, True)
    os.mkfifo(project / "pipe")
    code, text = run(f"cat pipe & {check} --format concise --output json:pipe; code=$?; wait; exit $code")
    assert (code, '"schema": "lrlint/1"' in text) == (1, True)
    assert (project / "pipe").is_fifo(), "a device is written to, never replaced"


def test_a_crash_of_lrlint_is_no_finding(project: Path) -> None:
    (project / "rules" / "house" / "crash.py").write_text(
        '"""Crashes."""\nfrom lrlint import rule\n\n@rule("HOUSE009", severity="error", confidence="high")\n'
        "def crash(setup):\n    yield from setup.nothing\n"
    )
    done = lrlint("check", "setup.json", "--select", "HOUSE009", "--format", "json", cwd=project)
    (found,) = json.loads(done.stdout)["findings"]
    assert (found["rule"], found["data"]["rule"], done.returncode) == ("LR003", "HOUSE009", 1)
    (project / "rules" / "house" / "crash.py").write_text("syntax error here")
    broken = lrlint("check", "setup.json", cwd=project)
    assert broken.returncode == 2
    assert "crash.py does not load: SyntaxError" in broken.stderr


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("yield 'text'", "TypeError: it yields str and not Finding;"),
        ("yield Finding('h.0.weight', 'm')", "TypeError: str is no subject of a finding"),
        ("yield Finding(setup, 'm', severity='fatal')", "ValueError: a finding has severity 'fatal'"),
        ("print('noise')\n    raise SystemExit(5)", "SystemExit: 5 at wrong.py:6;"),
        ("print('noise')\n    return setup.nothing", "at wrong.py:6;"),
    ],
)
def test_a_rule_that_goes_wrong_is_told_with_its_own_line(project: Path, body: str, said: str) -> None:
    (project / "rules" / "house" / "wrong.py").write_text(
        '"""Wrong."""\nfrom lrlint import Finding, rule\n@rule("HOUSE009", severity="error", confidence="high")\n'
        f"def wrong(setup):\n    {body}\n"
    )
    done = lrlint("check", "setup.json", "--select", "HOUSE009", "--format", "json", cwd=project)
    (found,) = json.loads(done.stdout)["findings"]
    assert (found["rule"], done.returncode) == ("LR003", 1)
    assert said in found["message"]
    assert "engine.py" not in found["message"]


def test_a_rule_file_or_entry_point_that_does_not_load(project: Path) -> None:
    wrong = project / "rules" / "house" / "wrong.py"
    wrong.write_text("import sys\nsys.exit(5)\n")
    done = lrlint("check", "setup.json", cwd=project)
    assert (done.returncode, "wrong.py does not load: SystemExit: 5" in done.stderr) == (2, True)
    wrong.unlink()
    (project / "acme_rules.py").write_text(
        '"""Ours."""\nfrom lrlint import Finding, rule\n@rule("ACME001", severity="error", confidence="high")\n'
        "def ours(setup):\n    yield Finding(setup, 'found')\n"
    )
    info = project / "acme-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[lrlint.rules]\nacme = acme_rules\n")
    path = os.pathsep.join((str(project), str(ROOT)))
    done = lrlint_process("check", "setup.json", "--select", "ACME", "--format", "json", cwd=project, PYTHONPATH=path)
    assert [found["rule"] for found in json.loads(done.stdout)["findings"]] == ["ACME001"], "a prefix of one's own"
    (info / "entry_points.txt").write_text("[lrlint.rules]\nacme = acme_gone\n")
    done = lrlint_process("check", "setup.json", cwd=project, PYTHONPATH=path)
    assert done.returncode == 2
    assert "the rules of acme = 'acme_gone' do not load: ModuleNotFoundError" in done.stderr


def test_a_defect_in_lrlint_has_its_own_code(project: Path) -> None:
    (project / "sitecustomize.py").write_text("import lrlint.lint.engine\nlrlint.lint.engine.run_rules = None\n")
    path = os.pathsep.join((str(project), str(ROOT)))
    done = lrlint_process("check", "setup.json", cwd=project, PYTHONPATH=path)
    assert (done.returncode, done.stdout) == (70, "")
    assert "this is a defect in lrlint" in done.stderr


def test_the_audit_report(project: Path) -> None:
    done = without_torch("report", "setup.json", *SELECT, "-o", "audit.html", "-o", "audit.md", cwd=project)
    page = (project / "audit.html").read_text()
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "demo: 1 error and 1 warning: do not start",
        f"wrote audit.html ({len(page.encode()):,} bytes)",
        f"wrote audit.md ({(project / 'audit.md').stat().st_size:,} bytes)",
        "1 error, 1 warning, 1 info · 3 rules, 1 skipped: no graph",
    ]
    assert "HOUSE001" in page
    assert "h.{0,1}.attn.weight" in page, "the setup itself is part of the audit"
    assert "src=" not in page
    assert "lrlint report setup.json" in page
    assert (project / "audit.md").read_text().startswith("# Training setup audit")


def test_views_that_need_a_fact_say_which_is_missing(project: Path) -> None:
    done = lrlint("show", "setup.json", "--graph", cwd=project)
    assert (done.returncode, "was not observed" in done.stderr) == (2, True)
    assert lrlint("show", "setup.json", "--schedule", cwd=project).stdout == "no scheduler\n"
