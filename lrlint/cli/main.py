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
from lrlint.cli.output import complain, echo, guarded, report_failures, step_summary, style_for, write
from lrlint.errors import LrlintError, UsageError

if TYPE_CHECKING:
    from lrlint.facts import Setup

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
        result = cli.main(arguments, prog_name="lrlint", standalone_mode=False)
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
    report_failures(run)
    for name, path in destinations:
        write(path, reports.render(name, run))
    style = style_for(options["colour"])
    if options["format_"] == "full":
        for setup in run.setups:
            echo(_probe_picture(setup, style))
    echo(reports.render(options["format_"], run, style))
    if options["format_"] == "github":
        step_summary(run)
    return run.exit_code


def _probe_picture(setup: Setup, style: Any) -> str:
    """The course of the probe's run; "" where there was none."""
    if setup.probe is None:
        return ""
    from lrlint.reports.views import probe as probe_view

    return probe_view.render(setup.probe, style, ascii="NO_COLOR" in os.environ) + "\n"


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

        write(Path(path), dump(found.setup.to_dict()))
    if not options["outputs"] or options["show_graph"] or options["show_schedule"]:
        echo(_view(found.setup, options))
    return 0


def _view(setup: Setup, options: Mapping[str, Any]) -> str:
    style = style_for(options["colour"])
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
@TARGET
@SELECTION
@CONFIG
@PROBE
def report(**options: Any) -> int:
    """Write the audit report of targets: findings, what was not checked, and the whole setup.

    The exit code is that of `lrlint check`.
    """
    from lrlint import reports
    from lrlint.runner import session

    destinations = [reports.destination(text) for text in options["outputs"]]
    run = session.check(session.with_progress(session.request(options["targets"], options)))
    for name, path in destinations:
        write(path, reports.render(name, run))
    report_failures(run)
    return run.exit_code


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
@click.argument("name", required=False, metavar="[CODE|NAME]")
@option(
    "--new",
    "new",
    metavar="NAME",
    section="Authoring",
    help="Write the two files of a new rule: its check and its fixture.",
)
@option("--code", metavar="CODE", section="Authoring", help="Code of the new rule, such as ACME001.")
@option(
    "--folder",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    default=Path("lrlint_rules"),
    section="Authoring",
    help="Where the new rule goes (default: lrlint_rules).",
)
@option("--json", "as_json", is_flag=True, section="Output", help="As JSON.")
@CONFIG
@COLOUR
def rule(name: str | None, new: str | None, **options: Any) -> int:
    """Explain a rule: what it checks, what to do, its options, sources and a tested example. Never imports torch."""
    if new is not None:
        from lrlint.lint.scaffold import new_rule

        for path in new_rule(new, options["code"], options["folder"]):
            echo(f"{path}\n")
        return 0
    from lrlint.config import loader
    from lrlint.lint import registry
    from lrlint.reports.views import rule as rule_view

    settings = loader.load(file=options["config_file"])
    known = registry.load((*settings.extra_rules, *options["extra_rules"]))
    style = style_for(options["colour"])
    if name is None:
        echo(rule_view.catalogue_json(known) if options["as_json"] else rule_view.catalogue(known, style))
        return 0
    found = rule_view.find(known, name)
    echo(rule_view.rule_json(found) if options["as_json"] else rule_view.render(found, style))
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
