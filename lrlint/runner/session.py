"""From command-line arguments to a Run: which targets, inspected how, judged by which settings."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from lrlint.config import files, json_schema, loader
from lrlint.config.json_schema import suggestion
from lrlint.config.settings import Settings, Target
from lrlint.errors import LrlintError, UsageError
from lrlint.facts import Setup
from lrlint.lint.run import Checked, Failure, Run, conclude, examine, verify

#: Options of the command line that fill the settings, by field name.
FLAGS = ("select", "extend_select", "ignore", "extend_ignore", "fail_on", "min_confidence", "baseline", "extra_rules")
_FACTORIES = ("model", "optimizer", "scheduler")


@dataclass(frozen=True)
class Request:
    """What the user asked for: settings with the flags on top, and the targets in order.

    ``complete``: these are all configured targets. ``probe``: arguments of the probe, None for no probe.
    """

    settings: Settings
    targets: tuple[Target, ...]
    complete: bool = False
    jobs: int | None = None
    probe: dict[str, Any] | None = None
    only_probe: bool = False
    progress: Callable[[str], None] = field(default=lambda text: None)


@dataclass(frozen=True)
class Found:
    """A target's facts, and the folder that its spans are relative to."""

    target: Target
    setup: Setup
    root: Path | None


def settings_from(options: Mapping[str, Any]) -> Settings:
    """The configuration with the command line on top. Raises UsageError."""
    settings = loader.load(file=options.get("config_file"))
    flags: dict[str, Any] = {key: options.get(key) for key in FLAGS}
    if flags.get("baseline"):
        flags["baseline"] = str(Path(flags["baseline"]).absolute())
    if options.get("no_baseline"):
        flags["baseline"] = ""
    if flags.get("extra_rules"):
        flags["extra_rules"] = (
            *settings.extra_rules,
            *(str(Path(folder).absolute()) for folder in flags["extra_rules"]),
        )
    return loader.layer(settings, flags)


def request(names: Sequence[str], options: Mapping[str, Any]) -> Request:
    """Settings and targets of a command. No name: every configured target. Raises UsageError."""
    settings = settings_from(options)
    parts = {key: options[key] for key in _FACTORIES if options.get(key)}
    if options.get("script"):
        if parts:
            raise UsageError("give --script, or --model and --optimizer, not both")
        targets = [Target(_label(options["script"], settings), script=options["script"], script_args=tuple(names))]
    elif parts:
        if names:
            raise UsageError("give targets, or --model and --optimizer, not both")
        targets = [Target(" ".join(parts.values()), **parts)]
    elif names:
        targets = [_target(name, settings) for name in names]
    else:
        targets = list(settings.targets.values())
        if not targets:
            raise UsageError(
                "no target given, and none is configured",
                "name one (lrlint check train.py:build), or add a [tool.lrlint.targets] table to pyproject.toml",
            )
    targets = [_with_flags(target, options) for target in targets]
    _unique(targets)
    complete = {target.name for target in targets} >= set(settings.targets)
    probe = dict(settings.probe) if options.get("with_probe") else None
    if probe is not None:
        given = ("steps", "budget", "device", "require_device", "seed", "thorough", "headroom", "resume")
        probe.update({key: options[key] for key in given if options.get(key) is not None})
        if "resume" in probe:
            probe["resume"] = str(Path(probe["resume"]).absolute())
    return Request(settings, tuple(targets), complete, options.get("jobs"), probe, bool(options.get("only_probe")))


def check(asked: Request) -> Run:
    """Inspect every target, run the rules, set aside what is accepted."""
    parts: list[Checked] = []
    failures: list[Failure] = []
    settings = asked.settings
    if asked.only_probe and not settings.select:
        settings = replace(settings, select=("probe",))
    with redirect_stdout(sys.stderr):  # a rule may print; standard output carries results only
        verify(settings, asked.targets)
        for found in inspect(asked):
            if isinstance(found, Failure):
                failures.append(found)
            else:
                parts.append(examine(found.setup, settings, found.target, found.root))
    return conclude(parts, settings, failures, asked.complete)


def inspect(asked: Request) -> list[Found | Failure]:
    """The facts of every target, in order: snapshots are read, the others run."""
    live = [target for target in asked.targets if not target.is_snapshot]
    results: dict[str, Found | Failure] = {}
    if live:
        asked.progress(f"inspecting {live[0].name if len(live) == 1 else f'{len(live)} targets'} …")
        from lrlint.runner import workers

        jobs = [workers.Job(target, asked.settings.folder, asked.probe) for target in live]
        count = asked.jobs if asked.jobs is not None else min(len(live), workers.cores())
        for target, result in zip(live, workers.inspect_all(jobs, count), strict=True):
            failed = isinstance(result, Failure)
            results[target.name] = result if isinstance(result, Failure) else Found(target, result.setup, result.root)
            if failed:
                asked.progress(f"{target.name} failed")
    for target in asked.targets:
        if target.is_snapshot:
            results[target.name] = Found(target, snapshot(_snapshot_path(target, asked.settings), target.name), None)
    return [results[target.name] for target in asked.targets]


def snapshot(path: Path, name: str = "") -> Setup:
    """A saved setup; it keeps the name of the target it was taken from. Raises UsageError. Needs no torch."""
    data = files.read_json(path, "snapshot", "save one with `lrlint show TARGET --output setup.json`")
    again = "save it again with `lrlint show TARGET --output`"
    try:
        setup = Setup.from_dict(data)
    except ValueError as error:
        raise UsageError(f"snapshot {path}: {error}", again) from None
    if found := json_schema.problems(data, json_schema.load("setup")):
        place = json_schema.place(found[0].at)
        raise UsageError(f"snapshot {path}: damaged: {place} {found[0].message}", again)
    return setup if setup.target else replace(setup, target=name)


def one(asked: Request) -> Found:
    """The facts of a single target. Raises UsageError, or the target's error."""
    if len(asked.targets) != 1:
        names = ", ".join(target.name for target in asked.targets)
        raise UsageError(f"this command takes one target; there are {names}")
    found = inspect(asked)[0]
    if isinstance(found, Failure):
        raise Failed(found)
    return found


class Failed(LrlintError):
    """A target could not be inspected; the exit code is the failure's."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message, failure.hint)
        self.exit_code = failure.exit_code
        self.trace = failure.trace


def _target(name: str, settings: Settings) -> Target:
    if name in settings.targets:
        return settings.targets[name]
    if ":" not in name and not name.endswith((".json", ".py", ".ipynb")) and "/" not in name and "." not in name:
        known = list(settings.targets)
        hint = "write package.module:factory or path/file.py:factory, or a name from [tool.lrlint.targets]"
        raise UsageError(f"no target {name!r} is configured{suggestion(name, known)}", hint)
    return Target(_label(name, settings), name)


def _label(name: str, settings: Settings) -> str:
    """The target as findings call it: a file relative to the project, so that reports do not depend on the machine."""
    place, colon, attribute = name.rpartition(":") if not name.endswith((".py", ".json")) else (name, "", "")
    path = Path(place).absolute()
    if not place.endswith((".py", ".json")) or not path.is_relative_to(settings.folder):
        return name
    return path.relative_to(settings.folder).as_posix() + colon + attribute


def _with_flags(target: Target, options: Mapping[str, Any]) -> Target:
    """What the command line says about targets, on top of what the configuration does."""
    changes: dict[str, Any] = {}
    if options.get("args"):
        from lrlint.config.loader import split_arguments

        changes["args"] = {**target.args, **split_arguments(options["args"])}
    if options.get("timeout"):
        changes["timeout"] = options["timeout"]
    said = {key: options[key] for key in ("total_steps", "resume") if options.get(key)}
    if said:
        changes["declared"] = {**target.declared, **said}
    if options.get("no_graph"):
        changes["graph"] = False
    if options.get("no_source_hook"):
        changes["source_hook"] = False
    return replace(target, **changes) if changes else target


def _unique(targets: Sequence[Target]) -> None:
    seen: set[str] = set()
    for target in targets:
        if target.name in seen:
            raise UsageError(f"target {target.name!r} is given twice")
        seen.add(target.name)


def _snapshot_path(target: Target, settings: Settings) -> Path:
    return settings.folder / target.target if target.configured else Path(target.target)


def progress_on_terminal(text: str) -> None:
    """Tell what takes long, where somebody is looking."""
    if sys.stderr.isatty():
        print(f"lrlint: {text}", file=sys.stderr, flush=True)


def with_progress(asked: Request) -> Request:
    """The request, with its progress told on a terminal."""
    return replace(asked, progress=progress_on_terminal)
