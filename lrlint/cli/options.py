"""Options shared by the commands, and help grouped by purpose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

COMMANDS = {
    "Check": ("check", "probe", "fix"),
    "Understand": ("show", "scale", "diff", "rule"),
    "Adopt": ("baseline", "report"),
}

Decorator = Callable[[Any], Any]


class Group(click.Group):
    """Commands in the order, and under the headings, of `COMMANDS`."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for names in COMMANDS.values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        for heading, names in COMMANDS.items():
            with formatter.section(heading):
                formatter.write_dl([(name, self.commands[name].get_short_help_str(90)) for name in names])


class Option(click.Option):
    """An option that belongs to a section of the help."""

    def __init__(self, *args: Any, section: str = "Options", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.section = section

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return None if record is None else (record[0], record[1].partition("  [")[0])  # a range is said by its error


class Command(click.Command):
    """Options under headings, in order of declaration."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                sections.setdefault(getattr(parameter, "section", "Options"), []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)


def option(*names: str, section: str = "Options", **kwargs: Any) -> Decorator:
    return click.option(*names, cls=Option, section=section, **kwargs)


def together(*decorators: Decorator) -> Decorator:
    """Several decorators as one, the first outermost."""

    def decorate(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _many(context: click.Context, parameter: click.Parameter, value: Sequence[str]) -> tuple[str, ...]:
    """``--select A,B --select C`` as one list."""
    return tuple(part.strip() for text in value for part in text.split(",") if part.strip())


def _times(context: click.Context, parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """``3x3`` as (3, 3)."""
    if value is None:
        return None
    steps, _, epochs = value.lower().partition("x")
    if not (steps.isdigit() and epochs.isdigit() and int(steps) and int(epochs)):
        raise click.BadParameter(f"{value!r} is not of the form STEPSxEPOCHS, such as 3x3")
    return int(steps), int(epochs)


def _bytes(context: click.Context, parameter: click.Parameter, value: str | None) -> int | None:
    """``512M``, ``8G``."""
    if value is None:
        return None
    from lrlint.runner.memory import parse

    try:
        return parse(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


_EXISTING = click.Path(path_type=Path)

TARGET = together(
    option("--model", metavar="F", section="Target", help="Factory of the model, with --optimizer."),
    option(
        "--optimizer",
        metavar="G",
        section="Target",
        help="Factory of the optimizer, called as G(model). With --script: the optimizer to stop at, by name.",
    ),
    option("--scheduler", metavar="H", section="Target", help="Factory of the scheduler, called as H(optimizer)."),
    option(
        "--script",
        metavar="FILE",
        section="Target",
        help="Training script (or its module, as for python -m), run to its first optimizer.step(); its arguments follow `--`.",
    ),
    option(
        "--at-step",
        metavar="N",
        type=click.IntRange(min=1),
        section="Target",
        help="With --script: stop at an optimizer's Nth step, instead of its first.",
    ),
    option(
        "--arg",
        "args",
        metavar="NAME=VALUE",
        multiple=True,
        section="Target",
        help="Argument of the factory. Repeatable.",
    ),
    option(
        "--timeout",
        metavar="SECONDS",
        type=click.FloatRange(min=0, min_open=True),
        section="Target",
        help="Limit for the target's own code.",
    ),
    option(
        "--memory-limit",
        metavar="SIZE",
        callback=_bytes,
        section="Target",
        help="Limit for the memory of a target's process, such as 8G (Linux).",
    ),
    option(
        "--total-steps", metavar="N", type=click.IntRange(min=1), section="Target", help="Optimizer steps of the run."
    ),
    option(
        "--rehearse",
        metavar="STEPSxEPOCHS",
        callback=_times,
        section="Target",
        help="Let a script take so many steps in each of so many epochs (default: 3x3), all its writes held back.",
    ),
    option("--no-rehearsal", is_flag=True, section="Target", help="Stop a script before its first step."),
    option(
        "--resume",
        metavar="FILE",
        section="Target",
        help="Checkpoint: what loading it changes, and where a probe starts.",
    ),
    option("--no-graph", is_flag=True, section="Target", help="Do not observe the forward pass."),
    option("--no-source-hook", is_flag=True, section="Target", help="Do not mark where parameter groups are written."),
    option(
        "--nproc",
        metavar="N",
        type=click.IntRange(min=1),
        section="Target",
        help="Run the target in N processes, as torchrun on one machine does, and compare them.",
    ),
    option(
        "--jobs",
        metavar="N",
        type=click.IntRange(min=0),
        section="Target",
        help="Targets inspected at the same time; 0: in this process.",
    ),
)

CONFIG = together(
    option(
        "--config",
        "config_file",
        metavar="FILE",
        type=_EXISTING,
        section="Configuration",
        help="Configuration instead of the nearest pyproject.toml or lrlint.toml.",
    ),
    option(
        "--extra-rules",
        metavar="FOLDER",
        multiple=True,
        section="Configuration",
        help="Folder of further rules. Repeatable.",
    ),
)

SELECTION = together(
    option(
        "--select",
        metavar="RULES",
        multiple=True,
        callback=_many,
        section="Rules",
        help="Codes, prefixes (LR3), names, families or ALL, separated by commas.",
    ),
    option(
        "--extend-select",
        metavar="RULES",
        multiple=True,
        callback=_many,
        section="Rules",
        help="Rules in addition to those selected.",
    ),
    option(
        "--ignore",
        metavar="RULES",
        multiple=True,
        callback=_many,
        section="Rules",
        help="Rules to leave out; wins over any selection.",
    ),
    option(
        "--extend-ignore",
        metavar="RULES",
        multiple=True,
        callback=_many,
        section="Rules",
        help="Rules to leave out in addition.",
    ),
    option(
        "--fail-on",
        type=click.Choice(["info", "warning", "error"]),
        section="Rules",
        help="Least severity that makes the exit code 1 (default: warning).",
    ),
    option(
        "--min-confidence",
        type=click.Choice(["low", "medium", "high"]),
        section="Rules",
        help="Least confidence that is reported (default: low).",
    ),
    option("--exit-zero", is_flag=True, section="Rules", help="Exit with 0 where there are findings."),
    option(
        "--baseline",
        metavar="FILE",
        section="Rules",
        help="File of accepted findings (default: lrlint-baseline.json, where it exists).",
    ),
    option("--no-baseline", is_flag=True, section="Rules", help="Report accepted findings too."),
)

COLOUR = option(
    "--color/--no-color",
    "colour",
    default=None,
    section="Output",
    help="Colour on or off (default: on a terminal, unless NO_COLOR is set).",
)

OUTPUT = together(
    option(
        "--format",
        "format_",
        type=click.Choice(["full", "concise", "json", "sarif", "github", "gitlab", "junit", "markdown", "html"]),
        default="full",
        section="Output",
        help="What standard output carries.",
    ),
    option(
        "--output",
        "-o",
        "outputs",
        metavar="[FORMAT:]FILE",
        multiple=True,
        section="Output",
        help="Write a file too, its format from the ending or in front. Repeatable.",
    ),
    option("--statistics", is_flag=True, section="Output", help="Count the findings of each rule."),
    COLOUR,
)


def _seconds(context: click.Context, parameter: click.Parameter, value: str | None) -> float | None:
    """``30s``, ``2m`` or ``30``."""
    if value is None:
        return None
    number, unit = (value[:-1], value[-1]) if value[-1:] in ("s", "m") else (value, "s")
    try:
        seconds = float(number) * (60 if unit == "m" else 1)
    except ValueError:
        seconds = 0.0
    if seconds <= 0:
        raise click.BadParameter(f"{value!r} is no time such as 30s or 2m")
    return seconds


EXPERIMENT = together(
    option(
        "--steps", metavar="N", type=click.IntRange(min=10), section="Probe", help="Steps of one run (default: 27)."
    ),
    option(
        "--budget", metavar="TIME", callback=_seconds, section="Probe", help="Stop with what is known after 30s, 2m."
    ),
    option("--device", metavar="DEVICE", section="Probe", help="Where to run (default: auto, a GPU if there is one)."),
    option(
        "--require-device",
        metavar="DEVICE",
        section="Probe",
        help="Fail with exit code 4 where this device is missing.",
    ),
    option(
        "--thorough",
        is_flag=True,
        default=None,
        section="Probe",
        help="Longer runs where nothing fails early, and more seeds.",
    ),
    option(
        "--headroom/--no-headroom",
        default=None,
        section="Probe",
        help="How far each group's rate could rise (default: yes; 55 steps a group at most).",
    ),
    option("--seed", metavar="N", type=int, section="Probe", help="Decides all random numbers (default: 0)."),
)

PROBE = together(
    option(
        "--probe",
        "with_probe",
        is_flag=True,
        section="Probe",
        help="Run a few real steps, undo them, and judge the rates.",
    ),
    EXPERIMENT,
)
