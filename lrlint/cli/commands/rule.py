"""`lrlint rule`: explain rules, and make new ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from lrlint.cli.options import COLOUR, CONFIG, Command, option
from lrlint.cli.output import echo, style_for, write
from lrlint.errors import UsageError


@click.command(cls=Command, short_help="Explain a rule; without one, list them all.")
@click.argument("name", required=False, metavar="[CODE|NAME|FAMILY]")
@option(
    "--new",
    "new",
    metavar="NAME",
    section="Authoring",
    help="Write the two files of a new rule: its check and its fixture.",
)
@option("--code", metavar="CODE", section="Authoring", help="Code of the new rule, such as ACME001.")
@option("--test", is_flag=True, section="Authoring", help="Prove the rule, or those of the family, by the fixture.")
@option(
    "--folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    section="Authoring",
    help="Where the new rule goes (default: lrlint_rules; in a checkout of lrlint, among its own).",
)
@option(
    "--family", metavar="FAMILY", section="Authoring", help="Family of the new rule (in a checkout: has to be said)."
)
@option("--json", "as_json", is_flag=True, section="Output", help="As JSON.")
@option("--all", "all_rules", is_flag=True, section="Output", help="The pages of all rules.")
@option(
    "--format",
    "format_",
    type=click.Choice(["text", "markdown"]),
    default="text",
    section="Output",
    help="How the pages are written.",
)
@option(
    "--output",
    "-o",
    "folder_out",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    section="Output",
    help="With --all and markdown: write a page per rule into this folder.",
)
@CONFIG
@COLOUR
def rule(name: str | None, new: str | None, **options: Any) -> int:
    """Explain a rule: what it checks, what to do, its options, sources and a tested example. Never imports torch.

    A prefix (LR3) or a family lists its rules.
    """
    if new is not None:
        from lrlint.lint.scaffold import new_rule

        for path in new_rule(new, options["code"], options["folder"], options["family"]):
            echo(f"{path}\n")
        return 0
    from lrlint.config import loader
    from lrlint.lint import registry
    from lrlint.reports.views import rule as rule_view

    settings = loader.load(file=options["config_file"])
    known = registry.load((*settings.extra_rules, *options["extra_rules"]))
    style = style_for(options["colour"])
    if options["test"]:
        from lrlint.cli.prove import prove

        return prove(_chosen(known, name, options["all_rules"]), style)
    if options["format_"] == "markdown" or options["all_rules"]:
        return _rule_pages(known, name, style, options)
    listed = rule_view.every(known) if name is None else rule_view.family(known, name)
    if name is None or listed:
        echo(rule_view.catalogue_json(listed) if options["as_json"] else rule_view.catalogue(listed, style))
        return 0
    shown = rule_view.find(known, name)
    echo(rule_view.rule_json(shown) if options["as_json"] else rule_view.render(shown, style))
    return 0


def _chosen(known: Any, name: str | None, every: bool) -> list[Any]:
    """The rules that a name, a code prefix or a family names. Raises UsageError for none, and for one of the engine's."""
    from lrlint.lint.rule import Rule
    from lrlint.reports.views import rule as rule_view

    if name is None and not every:
        raise UsageError("name a rule or a family, or say --all")
    chosen = known.rules if name is None else rule_view.family(known, name) or [rule_view.find(known, name)]
    rules = [rule for rule in chosen if isinstance(rule, Rule)]
    if not rules:
        raise UsageError(f"{name} is the engine's own and has no fixture")
    return rules


def _rule_pages(known: Any, name: str | None, style: Any, options: Mapping[str, Any]) -> int:
    """Pages of one rule, of a family or of all, as text or Markdown; into a folder where one is given."""
    from lrlint.reports import rule_markdown
    from lrlint.reports.views import rule as rule_view

    if name is None and not options["all_rules"]:
        raise UsageError("name a rule or a family, or say --all")
    rules = rule_view.every(known) if name is None else rule_view.family(known, name) or [rule_view.find(known, name)]
    if options["folder_out"] is not None:
        options["folder_out"].mkdir(parents=True, exist_ok=True)
        pages = rule_markdown.site(rules)
        for file, text in pages.items():
            write(options["folder_out"] / file, text)
        echo(f"wrote {len(pages)} pages into {options['folder_out']}\n")
        return 0
    markdown = options["format_"] == "markdown"
    echo("\n".join(rule_markdown.page(shown) if markdown else rule_view.render(shown, style) for shown in rules))
    return 0
