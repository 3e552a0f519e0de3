"""The documentation is current: pages of the rules are those that `lrlint rule` writes, links lead somewhere, and every
command runs.
"""

from __future__ import annotations

import re
import shlex
import shutil
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from documented import Shell, blocks, commands, install

from lrlint.cli.main import cli
from lrlint.lint import registry
from lrlint.reports.links import DOCUMENTATION, rule_page
from lrlint.reports.rule_markdown import site
from lrlint.reports.views.rule import every

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
#: Commands that find something in the project: they exit with 1 until it is repaired or accepted.
FINDS = re.compile(r"lrlint (check|report|fix|scale .*--transfers)\b(?!.*(--apply|tagger))")


def test_the_pages_of_the_rules_are_current() -> None:
    pages = site(every(registry.load()))
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "rules").glob("*.md")}
    stale = sorted(name for name in pages.keys() | there.keys() if pages.get(name) != there.get(name))
    assert stale == [], "write them again: lrlint rule --all --format markdown --output docs/rules"


def test_what_links_to_a_rule_finds_its_page() -> None:
    for rule in every(registry.load()):
        address = rule_page(rule.code, rule.documentation)
        assert (DOCS / f"{address.removeprefix(DOCUMENTATION).strip('/')}.md").is_file(), address


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_relative_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)#\s]+)", path.read_text(encoding="utf-8")):
        if "://" not in link:
            assert (path.parent / link).exists(), link


def test_the_site_names_pages_that_are_there() -> None:
    for name in re.findall(r"^\s+- (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE):
        assert (DOCS / name).is_file(), name


def test_the_readme_is_two_screens() -> None:
    assert len((ROOT / "README.md").read_text().splitlines()) <= 110


def test_a_family_is_listed_and_all_rules_are_written(tmp_path: Path) -> None:
    shown = CliRunner().invoke(cli, ["rule", "LR3"]).output
    assert "LR301" in shown
    assert "LR101" not in shown
    assert CliRunner().invoke(cli, ["rule", "decay"]).output == shown
    done = CliRunner().invoke(cli, ["rule", "--all", "--format", "markdown", "-o", str(tmp_path / "out")])
    assert f"wrote {len(list((tmp_path / 'out').iterdir()))} pages" in done.output
    assert (
        "# LR301 inconsistent-norm-decay" in CliRunner().invoke(cli, ["rule", "LR301", "--format", "markdown"]).output
    )


@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda p: p.name)
def test_every_command_of_the_documentation_runs(page: Path, tmp_path: Path) -> None:
    """In order, in one project, whose findings are accepted or repaired where the page says so."""
    project = tmp_path / "project"
    shutil.copytree(ROOT / "tests" / "sample_project", project, ignore=shutil.ignore_patterns("__pycache__"))
    install(tmp_path)
    shell = Shell(project, tmp_path)
    accepted = False
    for command in commands(page):
        if command.unrun:
            continue
        done = shell(command.text)
        wanted = int(not accepted and FINDS.match(command.text) is not None)
        assert done.returncode == wanted, f"{page.name}:{command.line}: {command.text}\n{done.stdout}\n{done.stderr}"
        accepted |= command.text.startswith("lrlint baseline") or command.text.endswith("--apply")


def test_what_is_not_run_of_the_documentation_is_known() -> None:
    """A marker is no way around the test above: each one is here."""
    marked = {
        (command.page.name, command.text.split()[0]) for page in PAGES for command in commands(page) if command.unrun
    }
    assert marked == {
        ("adoption.md", "lrlint"),
        ("adoption.md", "torchrun"),
        ("discoveries.md", "python"),
        ("start.md", "pip"),
    }


@pytest.mark.parametrize("page", [*PAGES, DOCS / "rules" / "index.md", ROOT / "SECURITY.md"], ids=lambda p: p.name)
def test_commands_in_running_text_have_the_options_that_they_name(page: Path) -> None:
    outside = re.sub(r"^\s*```.*?^\s*```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for text in re.findall(r"`lrlint ([a-z][^`]*)`", outside):
        name, *arguments = shlex.split(text.replace("\n", " "))
        command = cli.get_command(click.Context(cli), name)
        assert command is not None, text
        command.make_context(name, arguments, parent=click.Context(cli), resilient_parsing=True)
        options = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)}
        for word in arguments[: arguments.index("--") if "--" in arguments else None]:
            assert not word.startswith("-") or word.partition("=")[0] in options, text


def test_blocks_of_commands_show_a_prompt() -> None:
    """What has none would be run by no test."""
    for page in PAGES:
        for language, _, lines in blocks(page):
            assert language not in ("sh", "bash", "shell"), f"{page.name}: write it as ```console, each command after $"
            if language == "console":
                assert any(line.startswith("$ ") for _, line in lines), page.name
