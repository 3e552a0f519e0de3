"""Configuration through its public door: layers, origins, errors with file and line, the shipped schema."""

import datetime
import json
import re
from pathlib import Path

import jsonschema
import pytest

from lrlint.config import json_schema, loader
from lrlint.config.settings import Target
from lrlint.errors import UsageError
from lrlint.facts import Span
from lrlint.reports.views import settings as settings_view

FULL = """\
[project]
name = "demo"

[tool.lrlint]
select = ["LR4"]
ignore = ["LR412"]
fail-on = "error"
extra-rules = ["house/rules"]
required-version = ">=0.1, <99"

[tool.lrlint.targets]
small = "train.py:build"

[tool.lrlint.targets.large]
model = "pkg.models:make"
optimizer = "pkg.optim:make"
args = {lr = 1e-3}
total-steps = 1000
ignore = ["LR401"]

[tool.lrlint.rules.lr-out-of-range]
severity = "info"
highest = 2.0

[[tool.lrlint.suppress]]
rules = ["LR301"]
parameters = ["h.*.ln_1.weight"]
reason = "as published"
until = 2027-01-31

[[tool.lrlint.policy]]
code = "ACME001"
roles = ["embedding"]
require = {lr = "<= 1e-4"}
"""


def read(folder: Path, text: str, name: str = "pyproject.toml") -> loader.Settings:
    (folder / name).write_text(text)
    return loader.load(folder)


def test_every_table_is_read(tmp_path: Path) -> None:
    settings = read(tmp_path, FULL)
    assert (settings.select, settings.ignored, settings.fail_on) == (("LR4",), ("LR412",), "error")
    assert settings.extra_rules == (str(tmp_path / "house" / "rules"),)
    assert settings.options == {"lr-out-of-range": {"highest": 2.0}}
    assert settings.severities == {"lr-out-of-range": "info"}
    assert settings.targets["small"].target == "train.py:build"
    large = settings.targets["large"]
    assert (large.model, large.optimizer, large.args) == ("pkg.models:make", "pkg.optim:make", {"lr": 1e-3})
    assert large.declared == {"total_steps": 1000}
    assert large.span == Span("pyproject.toml", 14)
    (entry,) = settings.suppress
    assert (entry.until, entry.span) == (datetime.date(2027, 1, 31), Span("pyproject.toml", 25))
    assert settings.policies[0].require == {"lr": "<= 1e-4"}


def test_every_value_knows_where_it_was_set(tmp_path: Path) -> None:
    settings = loader.layer(read(tmp_path, FULL), {"select": ("LR3",), "ignore": ()})
    assert settings.origins["select"] == "--select"
    assert settings.origins["ignore"] == "pyproject.toml:6"
    assert settings.origins["targets.large"] == "pyproject.toml:14"
    table = settings_view.render(settings)
    rows = {line.split()[0]: line.split()[-1] for line in table.splitlines() if line}
    assert rows["select"] == "--select"
    assert rows["fail-on"] == "pyproject.toml:7"
    assert rows["min-confidence"] == "default"
    assert rows["rules.lr-out-of-range"] == "pyproject.toml:21"


def test_flags_replace_lists_and_extend_adds(tmp_path: Path) -> None:
    settings = read(tmp_path, '[tool.lrlint]\nselect = ["LR4"]\nextend-select = ["LR1"]\n')
    settings = loader.layer(settings, {"select": ("LR3",), "extend_select": ("LR6",)})
    assert settings.select == ("LR3",)
    assert settings.extend_select == ("LR1", "LR6")


def test_a_targets_table_comes_last_but_an_ignore_flag_stays(tmp_path: Path) -> None:
    settings = loader.layer(read(tmp_path, FULL), {"ignore": ("LR2",)})
    mine = loader.for_target(settings, settings.targets["large"])
    assert mine.ignored == ("LR401", "LR2")
    assert mine.select == ("LR4",)
    assert loader.for_target(settings, settings.targets["small"]) is settings


def test_the_nearest_file_counts_and_a_foreign_pyproject_marks_the_root(tmp_path: Path) -> None:
    read(tmp_path, FULL)
    inner = tmp_path / "inner" / "deeper"
    inner.mkdir(parents=True)
    assert loader.load(inner).file == tmp_path / "pyproject.toml"
    (tmp_path / "inner" / "pyproject.toml").write_text('[project]\nname = "other"\n')
    settings = loader.load(inner)
    assert (settings.file, settings.root) == (None, tmp_path / "inner")
    own = read(inner, 'select = ["LR1"]\n', "lrlint.toml")
    assert own.select == ("LR1",)


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ('[tool.lrlint]\nselct = ["LR1"]\n', "pyproject.toml:2", "did you mean 'select'"),
        ("[tool.lrlint]\nselect = 'LR1'\n", "pyproject.toml:2", "is a string, expected a list"),
        ("[tool.lrlint]\nselect = [\n  1,\n]\n", "pyproject.toml:2", "select[0]: is an integer"),
        ('[tool.lrlint]\nfail-on = "warn"\n', "pyproject.toml:2", "did you mean 'warning'"),
        ("[tool.lrlint.targets]\na = 3\n", "pyproject.toml:2", "targets.a"),
        ('[tool.lrlint.targets.a]\ntarget = "x:y"\ntotal-step = 3\n', "pyproject.toml:3", "total-steps"),
        ('[tool.lrlint.targets.a]\nmodel = "x:y"\n', "pyproject.toml:1", "or `model` and `optimizer`"),
        ('[tool.lrlint]\n[[tool.lrlint.suppress]]\nrules = ["LR1"]\n', "pyproject.toml:2", "lacks 'reason'"),
        ('[[tool.lrlint.policy]]\ncode = "LR900"\nrequire = {lr = 1}\n', "pyproject.toml:2", "does not have the form"),
        ('[[tool.lrlint.policy]]\ncode = "A1"\nrequire = {lr = "< x"}\n', "pyproject.toml:3", "needs a number"),
        ('[tool.lrlint]\nrequired-version = ">=99"\n', "pyproject.toml:2", "requires >=99"),
        ('[tool.lrlint]\nrequired-version = "new"\n', "pyproject.toml:2", "'new' is not of the form"),
        ("[tool.lrlint]\nselect = [\n", "pyproject.toml", "not valid TOML"),
        ('[[tool.lrlint]]\nselect = ["A"]\n', "pyproject.toml:1", "[tool.lrlint] has to be a table"),
        ('[tool]\nlrlint = "x"\n', "pyproject.toml:2", "[tool.lrlint] has to be a table"),
        ('[[tool.lrlint.suppress]]\nrules = []\nreason = "r"\n', "pyproject.toml:2", "is empty"),
        (
            '[[tool.lrlint.policy]]\ncode = "A1"\nrequire = {lr = "=> 1"}\n',
            "pyproject.toml:3",
            "'=> 1' is no comparison",
        ),
        ('[[tool.lrlint.policy]]\ncode = "A1"\nrequire = {lr = "1 to 2"}\n', "pyproject.toml:3", "is no comparison"),
        ('[[tool.lrlint.policy]]\ncode = "A1"\nrequire = {lr = "< nan"}\n', "pyproject.toml:3", "nan"),
        (
            '[[tool.lrlint.policy]]\ncode = "A1"\nroles = ["embeding"]\nrequire = {lr = 1}\n',
            "pyproject.toml:3",
            "did you mean 'embedding'",
        ),
    ],
)
def test_errors_name_file_line_and_remedy(tmp_path: Path, text: str, place: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, text)
    assert caught.value.message.startswith(place)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "tool.lrlint.fail-on = 'error'\n",
        "[tool]\nlrlint = { fail-on = 'error' }\n",
        "[tool.'lrlint']\nfail-on = 'error'\n",
    ],
)
def test_every_way_to_write_the_table_is_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "pyproject.toml").write_text(text)
    assert loader.load(tmp_path).fail_on == "error"
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\ndependencies = ["lrlint"]\n')
    assert loader.load(tmp_path).file is None


def test_all_errors_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        read(tmp_path, "[tool.lrlint]\na = 1\nb = 2\n")
    assert [line.split(":")[1] for line in caught.value.message.splitlines()] == ["2", "3"]


def test_a_file_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "lrlint.toml").write_bytes(b'select = ["\xe9"]\n')
    with pytest.raises(UsageError, match="not UTF-8"):
        loader.load(tmp_path)


def test_the_shipped_schema_accepts_what_lrlint_accepts_and_rejects_what_it_rejects() -> None:
    schema = json_schema.load("config")
    jsonschema.Draft202012Validator.check_schema(schema)
    official = jsonschema.Draft202012Validator(schema)
    good = {
        "select": ["LR1"],
        "targets": {"a": "m:f", "b": {"target": "m:f", "args": {}}},
        "rules": {"x": {"severity": "info"}},
    }
    bad = [
        {"unknown": 1},
        {"select": "LR1"},
        {"fail-on": "never"},
        {"targets": {"a": {"timeout": 0}}},
        {"targets": {"a": {"total-steps": True}}},
        {"policy": [{"code": "x", "require": {"lr": 1}}]},
        {"policy": [{"code": "A1", "require": {}}]},
        {"suppress": [{"rules": [""], "reason": "r"}]},
        {"baseline": ""},
    ]
    assert not json_schema.problems(good, schema)
    official.validate(good)
    for data in bad:
        assert json_schema.problems(data, schema), data
        assert not official.is_valid(data), data


def test_every_setting_is_in_the_schema() -> None:
    keys = set(json_schema.load("config")["properties"])
    assert {
        name.replace("_", "-") for name in ("select", "extend_select", "ignore", "extend_ignore", "extra_rules")
    } <= keys
    targets = set(json_schema.load("config")["$defs"]["target"]["properties"])
    assert {"target", "model", "optimizer", "scheduler", "args", "timeout", "graph", "source-hook"} <= targets
    assert Target("x").timeout is None


def test_a_policy_may_name_every_role_there_is() -> None:
    from lrlint.facts import Parameter

    text = Parameter.__doc__.partition("``role`` is one of")[2].partition("``module_kind``")[0]
    roles = re.sub(r"\([^)]*\)", "", text).replace(".", "").replace(",", " ").split()
    assert sorted(json_schema.load("config")["$defs"]["policy"]["properties"]["roles"]["items"]["enum"]) == sorted(
        roles
    )


def test_the_setup_schema_is_the_one_of_the_facts() -> None:
    from lrlint.facts.snapshot_schema import setup_schema

    shipped = json_schema.load("setup")
    assert shipped == json.loads(json.dumps(setup_schema())), (
        "run `python -m lrlint.facts.snapshot_schema > lrlint/config/schemas/setup.json`"
    )
    jsonschema.Draft202012Validator.check_schema(shipped)
    from setups import decoder

    jsonschema.validate(decoder().to_dict(), shipped)
    assert not jsonschema.Draft202012Validator(shipped).is_valid({**decoder().to_dict(), "extra": 1})
