"""The documentation is current: pages of the rules are those that `lrlint rule` writes, and links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from lrlint.cli.main import cli
from lrlint.lint import registry
from lrlint.reports.links import DOCUMENTATION, rule_page
from lrlint.reports.rule_markdown import site
from lrlint.reports.views.rule import every

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def test_the_pages_of_the_rules_are_current() -> None:
    pages = site(every(registry.load()))
    there = {path.name: path.read_text(encoding="utf-8") for path in (DOCS / "rules").glob("*.md")}
    stale = sorted(name for name in pages.keys() | there.keys() if pages.get(name) != there.get(name))
    assert stale == [], "write them again: lrlint rule --all --format markdown --output docs/rules"


def test_what_links_to_a_rule_finds_its_page() -> None:
    for rule in every(registry.load()):
        address = rule_page(rule.code, rule.documentation)
        assert (DOCS / f"{address.removeprefix(DOCUMENTATION).strip('/')}.md").is_file(), address


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.glob("*.md")], ids=lambda p: p.name
)
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
