"""The command line: arguments → run → output → exit code, nothing else."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

import click

from lrlint._version import __version__
from lrlint.cli.commands import baseline, check, diff, fix, report, rule, scale, show
from lrlint.cli.options import Group
from lrlint.cli.output import complain
from lrlint.errors import LrlintError, UsageError
from lrlint.text.cleaning import clean_lines

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
        shown = io.StringIO()
        error.show(shown)
        click.echo(clean_lines(shown.getvalue().rstrip()), err=True)  # it repeats what was given
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


_COMMANDS = (
    *(check.check, check.probe, fix.fix, show.show, scale.scale),
    *(report.report, diff.diff, rule.rule, baseline.baseline),
)
for command in _COMMANDS:
    cli.add_command(command)


if __name__ == "__main__":
    main()
