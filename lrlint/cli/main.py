"""The command line: arguments → run → output → exit code, nothing else."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lrlint._version import __version__
from lrlint.cli.options import COLOUR, CONFIG, EXPERIMENT, OUTPUT, PROBE, SELECTION, TARGET, Command, Group, option
from lrlint.cli.output import can_draw, complain, echo, guarded, report_failures, step_summary, style_for, write
from lrlint.errors import LrlintError, UsageError

if TYPE_CHECKING:
    from lrlint.facts import Setup
    from lrlint.runner.session import Found

INTERRUPTED = 130
DEFECT = 70


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit; every exit code is decided here (see README, "Exit codes")."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us: the exit code still counts
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
    code = _run(list(sys.argv[1:] if arguments is None else arguments))
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough; the interpreter must not complain while it exits
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    try:
        result = cli.main(arguments, prog_name="lrlint", standalone_mode=False, obj=arguments)
        return result if isinstance(result, int) else 0
    except LrlintError as error:
        complain(error.message, error.hint, getattr(error, "trace", ""))
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return UsageError.exit_code
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        return INTERRUPTED
    except BrokenPipeError:
        return 0
    except Exception as error:
        complain(
            f"{type(error).__name__}: {error}", "this is a defect in lrlint; please report it", traceback.format_exc()
        )
        return DEFECT


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="lrlint")
def cli() -> None:
    """The linter for PyTorch optimizer setups.

    TARGET is package.module:factory, path/file.py:factory, a name from [tool.lrlint.targets], or a saved snapshot
    (setup.json). A factory returns the model, its optimizer and, where there is one, the scheduler.
    """


@cli.command(cls=Command, short_help="Check targets; without one, every configured target.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@TARGET
@SELECTION
@CONFIG
@OUTPUT
@PROBE
def check(**options: Any) -> int:
    """Check targets; without one, every target of [tool.lrlint.targets].

    The exit code is 0 when nothing at or above --fail-on was found, 1 when something was, 2 for wrong usage, 3 when a
    target's own code failed, 4 when a required device is missing.
    """
    return _check(options)


@cli.command(cls=Command, short_help="Run the stability probe alone.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@TARGET
@SELECTION
@CONFIG
@OUTPUT
@EXPERIMENT
def probe(**options: Any) -> int:
    """Run a few real steps of each target at its peak rates and at lower ones, undo them, and judge the rates.

    Batches come from the target; without any they are made up after its inputs, and the evidence is weak.
    """
    return _check({**options, "with_probe": True, "only_probe": True})


def _check(options: Mapping[str, Any]) -> int:
    from lrlint import reports
    from lrlint.runner import session

    destinations = [reports.destination(text) for text in options["outputs"]]  # a typing error must not cost a run
    asked = session.request(options["targets"], options)
    run = guarded(options["format_"], lambda: session.check(session.with_progress(asked)))
    if "rank" in run.extras:  # rank 0 reports for all
        return _exit_code(run.extras["exit_code"], options)
    report_failures(run)
    for text in run.extras.get("ranks", ()):
        click.echo(f"lrlint: {text}", err=True)
    for name, path in destinations:
        write(path, reports.render(name, run))
    style = style_for(options["colour"])
    if options["format_"] == "full":
        for setup in run.setups:
            echo(_probe_picture(setup, style))
    echo(reports.render(options["format_"], run, style))
    if options["statistics"] and options["format_"] in ("full", "concise"):
        from lrlint.reports.summary import statistics

        echo(statistics(run))
    if options["format_"] == "github":
        step_summary(run)
    return _exit_code(run.exit_code, options)


def _exit_code(code: int, options: Mapping[str, Any]) -> int:
    """Findings alone are no failure with --exit-zero."""
    return 0 if code == 1 and options["exit_zero"] else code


def _probe_picture(setup: Setup, style: Any) -> str:
    """The course of the probe's run; "" where there was none."""
    if setup.probe is None:
        return ""
    from lrlint.reports.views import probe as probe_view

    return probe_view.render(setup.probe, style, ascii=not can_draw()) + "\n"


@cli.command(cls=Command, short_help="Print (or apply) edits that are proven to repair findings.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@option("--apply", "apply", is_flag=True, section="Output", help="Write the edits instead of printing them.")
@option("--output", "-o", "sarif", metavar="FILE", section="Output", help="Write SARIF with the edits as fixes, too.")
@TARGET
@SELECTION
@CONFIG
@COLOUR
def fix(**options: Any) -> int:
    """Print edits of the source that repair findings, as a diff.

    Each edit was run: its finding is gone, nothing new is found, and no other parameter is treated differently. What
    is not proven is not offered. The exit code is 1 when there is a diff, 0 when there is none or it was applied.
    """
    from lrlint.fixes.repair import uncommitted
    from lrlint.runner import session

    run, found = session.repairs(session.with_progress(session.request(options["targets"], options)))
    report_failures(run)
    texts: dict[Path, tuple[str, str]] = {}
    for repair in found:
        for path, text in repair.texts.items():
            before, known = texts.get(repair.root / path, (repair.before[path], text))
            if known != text:  # two targets edit one file: the second runs again on what the first wrote
                continue
            if options["apply"] and (lines := uncommitted(repair.root, path, before, text)):
                told = ", ".join(map(str, lines))
                raise UsageError(f"{path}: line {told} has uncommitted changes", "commit or stash them, then fix again")
            texts[repair.root / path] = (before, text)
    for repair in found:
        for finding in repair.fixed:
            complain(f"{finding.target}: {finding.rule} {finding.name} gone; nothing new, no other parameter changed")
        for finding in repair.open:
            complain(f"{finding.target}: {finding.rule} {finding.name}: no edit is proven")
    if options["sarif"]:
        from lrlint.fixes.repair import replacements
        from lrlint.reports import sarif

        write(Path(options["sarif"]), sarif.render(run, {k: v for r in found for k, v in replacements(r).items()}))
    if run.failures:
        return run.exit_code
    if options["apply"]:
        for file, (_, text) in texts.items():
            write(file, text)
            echo(f"wrote {file.name}\n")
        return 0
    shown = dict.fromkeys(repair.diff() for repair in found)
    echo("".join(shown))
    return 1 if texts else 0


@cli.command(cls=Command, short_help="Show what lrlint sees: groups and parameters as a table.")
@click.argument("targets", nargs=-1, metavar="[TARGET]")
@option(
    "--settings",
    "show_settings",
    is_flag=True,
    section="View",
    help="The configuration in force, and where each value comes from.",
)
@option("--graph", "show_graph", is_flag=True, section="View", help="What the forward pass does with each parameter.")
@option(
    "--loop", "show_loop", is_flag=True, section="View", help="The training loop of a script, as a rehearsal saw it."
)
@option("--schedule", "show_schedule", is_flag=True, section="View", help="The learning rates over the run.")
@TARGET
@CONFIG
@option(
    "--output",
    "-o",
    "outputs",
    metavar="FILE",
    multiple=True,
    section="Output",
    help="Save the setup as a snapshot (JSON). Repeatable.",
)
@COLOUR
def show(**options: Any) -> int:
    """Show what lrlint sees of a target: parameter groups with rates, decay and the parameters in them.

    `--output setup.json` saves the facts: `check`, `show` and `diff` read them again, also where there is no torch.
    """
    from lrlint.runner import session

    if options["show_settings"]:
        from lrlint.reports.views import settings as settings_view

        echo(settings_view.render(session.settings_from(options)))
        return 0
    found = session.one(session.with_progress(session.request(options["targets"], options)))
    for path in options["outputs"]:
        from lrlint.config.files import dump
        from lrlint.reports.views.setup import size

        write(Path(path), dump(found.setup.to_dict()))
        echo(f"wrote {path}: {found.target.name}, {size(found.setup)}\n")
    if not options["outputs"] or any(options[f"show_{view}"] for view in ("graph", "schedule", "loop")):
        echo(_view(found, options))
    return 0


def _view(found: Found, options: Mapping[str, Any]) -> str:
    style, setup = style_for(options["colour"]), found.setup
    if options["show_loop"]:
        if setup.loop is None:
            raise UsageError(f"no loop was seen: {setup.note('loop') or 'only scripts are rehearsed (--script FILE)'}")
        from lrlint.reports.views import loop as loop_view
        from lrlint.text.sources import Sources

        return loop_view.render(setup.loop, style, Sources(found.root))
    if options["show_graph"]:
        if setup.graph is None:
            reason = setup.note("graph") or "this snapshot was saved without it"
            raise UsageError(f"the forward pass was not observed: {reason}")
        from lrlint.reports.views.graph import render as graph

        return graph(setup, style)
    from lrlint.reports.views import setup as setup_view

    if options["show_schedule"]:
        return setup_view.schedules(setup, style)
    return setup_view.render(setup, style)


@cli.command(cls=Command, short_help="Write the audit report of targets, as HTML or Markdown.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@option(
    "--output",
    "-o",
    "outputs",
    metavar="FILE",
    multiple=True,
    required=True,
    section="Output",
    help="audit.html or audit.md. Repeatable.",
)
@option(
    "--against",
    metavar="SNAPSHOT",
    section="Output",
    help="Say what changed since this snapshot (`lrlint show TARGET -o setup.json`).",
)
@TARGET
@SELECTION
@CONFIG
@PROBE
def report(**options: Any) -> int:
    """Write the audit report of targets: verdict, setup, findings, what was set aside and what was not checked.

    The exit code is that of `lrlint check`. SOURCE_DATE_EPOCH fixes the date in the report.
    """
    from lrlint import reports
    from lrlint.reports import audit_markdown, html
    from lrlint.reports.summary import summary
    from lrlint.reports.views import audit, identity, verdict
    from lrlint.runner import session

    destinations = [reports.destination(text) for text in options["outputs"]]
    asked = session.request(options["targets"], options)
    before = session.snapshot(Path(options["against"])) if options["against"] else None
    run = session.check(session.with_progress(asked))
    if "rank" in run.extras:
        return _exit_code(run.extras["exit_code"], options)
    context = audit.Context(
        identity.current(asked.settings, _arguments()), audit.matched(before, run), options["against"] or ""
    )
    report_failures(run)
    for part in run.checked:
        found = [f for f in run.findings if f.target == part.target]
        echo(f"{part.target}: {verdict.verdict(found, part.setup).text}\n")
    writers = {"html": html.render, "markdown": audit_markdown.render}
    for name, path in destinations:
        text = writers[name](run, context) if name in writers else reports.render(name, run)
        write(path, text)
        echo(f"wrote {path} ({len(text.encode()):,} bytes)\n")
    echo(summary(run) + "\n")
    return _exit_code(run.exit_code, options)


def _arguments() -> list[str]:
    """The command line as it was typed, for the report's reader."""
    return list(click.get_current_context().obj or ())


@cli.command(cls=Command, short_help="Say what changed between two setups or snapshots.")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@TARGET
@CONFIG
@option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "markdown"]),
    default="text",
    section="Output",
    help="What standard output carries.",
)
@COLOUR
def diff(before: str, after: str, **options: Any) -> int:
    """Say what changed from A to B, per parameter pattern. Each is a target or a saved snapshot.

    The exit code is 1 when they differ. Order, group numbers and depth make no difference by themselves.
    """
    from lrlint.lint import setup_diff
    from lrlint.reports.views import diff as views
    from lrlint.runner import session

    setups = [session.one(session.with_progress(session.request([name], options))).setup for name in (before, after)]
    found = setup_diff.compare(*setups)
    echo(views.render(options["format_"], found, before, after, style_for(options["colour"])))
    return 0 if found.same else 1


@cli.command(cls=Command, short_help="Explain a rule; without one, list them all.")
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
    found = rule_view.find(known, name)
    echo(rule_view.rule_json(found) if options["as_json"] else rule_view.render(found, style))
    return 0


def _chosen(known: Any, name: str | None, every: bool) -> list[Any]:
    """The rules that a name, a code prefix or a family names. Raises UsageError for none, and for one of the engine's."""
    from lrlint.lint.rule import Rule
    from lrlint.reports.views import rule as rule_view

    if name is None and not every:
        raise UsageError("name a rule or a family, or say --all")
    found = known.rules if name is None else rule_view.family(known, name) or [rule_view.find(known, name)]
    rules = [rule for rule in found if isinstance(rule, Rule)]
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
    echo("\n".join(rule_markdown.page(found) if markdown else rule_view.render(found, style) for found in rules))
    return 0


@cli.command(cls=Command, short_help="Accept today's findings; --prune only removes what is fixed.")
@click.argument("targets", nargs=-1, metavar="[TARGET]...")
@option("--prune", is_flag=True, section="Baseline", help="Only remove entries whose finding is gone.")
@option(
    "--baseline",
    metavar="FILE",
    section="Baseline",
    help="File to write (default: the configured one, or lrlint-baseline.json).",
)
@TARGET
@CONFIG
def baseline(prune: bool, **options: Any) -> int:
    """Accept today's findings: `lrlint check` reports only new ones from then on. Entries of other targets stay."""
    from lrlint.cli import baseline as acceptance
    from lrlint.runner import session

    run, message = acceptance.update(session.with_progress(session.request(options["targets"], options)), prune)
    report_failures(run)
    if message:
        echo(message + "\n")
    return run.exit_code if run.failures else 0


if __name__ == "__main__":
    main()
