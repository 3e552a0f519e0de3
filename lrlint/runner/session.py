"""From command-line arguments to a Run: which targets, inspected how, judged by which settings."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lrlint.config import files, json_schema, loader
from lrlint.config.json_schema import suggestion
from lrlint.config.settings import Settings, Target
from lrlint.errors import LrlintError, UsageError
from lrlint.facts import Setup
from lrlint.facts.snapshot_v1 import upgraded
from lrlint.fixes.repair import Repair
from lrlint.lint.rule import apart
from lrlint.lint.run import Checked, Failure, Run, conclude, examine
from lrlint.lint.selection import select
from lrlint.runner import ranks

if TYPE_CHECKING:
    from lrlint.runner.job import Job

#: The rule that judges a comparison of widths; it is off where there is none.
SCALING = "LR218"
#: Options of the command line that fill the settings, by field name.
FLAGS = ("select", "extend_select", "ignore", "extend_ignore", "fail_on", "min_confidence", "baseline", "extra_rules")
_FACTORIES = ("model", "optimizer", "scheduler")


@dataclass(frozen=True)
class Request:
    """What the user asked for: settings with the flags on top, and the targets in order.

    ``complete``: these are all configured targets. ``probe``: arguments of the probe, None for no probe;
    ``rehearsal``: those of the rehearsal of scripts, ``scale`` those of a comparison
    of widths, None for none. ``nproc``: processes that each target runs in, as
    the ranks of one run.
    """

    settings: Settings
    targets: tuple[Target, ...]
    complete: bool = False
    jobs: int | None = None
    probe: dict[str, Any] | None = None
    rehearsal: dict[str, Any] | None = None
    only_probe: bool = False
    nproc: int = 1
    scale: dict[str, Any] | None = None
    progress: Callable[[str], None] = field(default=lambda text: None)


@dataclass(frozen=True)
class Found:
    """A target's facts, and the folder that its spans are relative to. ``others``: the facts of ranks 1 and above."""

    target: Target
    setup: Setup
    root: Path | None
    others: tuple[Setup, ...] = ()


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
    if options.get("at_step") and not options.get("script"):
        raise UsageError("--at-step is about a script", "give --script too")
    if options.get("script"):
        if parts.keys() - {"optimizer"}:
            raise UsageError("give --script, or --model and --optimizer, not both")
        script = Target(_label(options["script"], settings), script=options["script"], script_args=tuple(names))
        targets = [replace(script, at_step=options.get("at_step") or 1, steps_of=parts.get("optimizer", ""))]
    elif parts:
        if names:
            raise UsageError("give targets, or --model and --optimizer, not both")
        targets = [Target(" ".join(_label(part, settings) for part in parts.values()), **parts)]
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
        options_of_probe = ("steps", "budget", "device", "require_device", "seed", "thorough", "headroom", "resume")
        probe.update({key: options[key] for key in options_of_probe if options.get(key) is not None})
        if "resume" in probe:
            probe["resume"] = str(Path(probe["resume"]).absolute())
    only_probe = bool(options.get("only_probe"))
    nproc = options.get("nproc") or 1
    if nproc > 1 and options.get("jobs") == 0:
        raise UsageError("--nproc starts processes, and --jobs 0 forbids them", "give one of them")
    if options.get("memory_limit") and options.get("jobs") == 0:
        raise UsageError("--memory-limit bounds processes, and --jobs 0 starts none", "give one of them")
    # Several ranks wait for each other: each stops before its first step.
    several = nproc > 1 or ranks.peers() is not None
    rehearsal = None if only_probe or several else _rehearsal(settings, options)
    return Request(settings, tuple(targets), complete, options.get("jobs"), probe, rehearsal, only_probe, nproc)


def _rehearsal(settings: Settings, options: Mapping[str, Any]) -> dict[str, Any] | None:
    """How far scripts are rehearsed: the configuration's table with the command line on top; None where they are not."""
    table = dict(settings.rehearsal)
    mode = table.pop("mode", "auto")
    if options.get("no_rehearsal"):
        return None
    if limits := options.get("rehearse"):
        return {**table, "steps": limits[0], "epochs": limits[1], "asked": True}
    return None if mode == "off" else {**table, "asked": mode == "redirected"}


def check(asked: Request) -> Run:
    """Inspect every target, run the rules, set aside what is accepted.

    Under torchrun, rank 0 does so for all ranks; the run of any other has only ``extras``: its rank, and the exit code.
    """
    parts: list[Checked] = []
    failures: list[Failure] = []
    settings = asked.settings
    if asked.only_probe and not settings.select:
        settings = replace(settings, select=("probe",))
    if asked.scale is not None:
        settings = replace(settings, select=(SCALING,), extend_select=())
    with apart():
        selections = {target.name: select(settings, target) for target in asked.targets}
        peers = ranks.peers()
        all_inspected = inspect(asked)
        if peers is not None and peers.rank:
            return _of_rank_zero(peers, all_inspected)
        try:
            for inspected in _gathered(peers, all_inspected):
                if isinstance(inspected, Failure):
                    failures.append(inspected)
                    continue
                first, *others = (
                    examine(setup, selections[inspected.target.name], inspected.root)
                    for setup in (inspected.setup, *inspected.others)
                )
                parts.append(ranks.with_others(first, others))
            run = conclude(parts, settings, failures, asked.complete)
            agreed = [text for part in parts if (text := ranks.agreement(part.setup))]
            run = replace(run, extras={**run.extras, "ranks": agreed}) if agreed else run
        except BaseException:
            if peers is not None:
                peers.conclude(DEFECT)
            raise
        if peers is not None:
            peers.conclude(run.exit_code)
    return run


#: The exit code of ranks whose rank 0 could not finish.
DEFECT = 70


def _of_rank_zero(peers: ranks.Peers, inspected: Sequence[Found | Failure]) -> Run:
    """Hand over what this rank found, and wait for the verdict."""
    answer = {
        (item.target if isinstance(item, Failure) else item.target.name): (
            {"failure": asdict(item)} if isinstance(item, Failure) else {"setup": item.setup.to_dict()}
        )
        for item in inspected
    }
    peers.tell(answer)
    code = peers.code()
    own = max((item.exit_code for item in inspected if isinstance(item, Failure)), default=0)
    return Run(extras={"rank": peers.rank, "exit_code": own if code is None else code})


def _gathered(peers: ranks.Peers | None, inspected: Sequence[Found | Failure]) -> list[Found | Failure]:
    """The targets with what the other ranks that torchrun started have found of them."""
    if peers is None:
        return list(inspected)
    answers = peers.results()
    return [_with_answers(item, answers) for item in inspected]


def _with_answers(item: Found | Failure, answers: Sequence[Mapping[str, Any] | None]) -> Found | Failure:
    if isinstance(item, Failure):
        return item
    name, others = item.target.name, []
    for rank, answer in enumerate(answers, 1):
        theirs = None if answer is None else answer.get(name)
        if theirs is None:
            return Failure(name, f"rank {rank} did not answer within {ranks.PATIENCE:g} s", 3)
        if "failure" in theirs:
            failure = Failure(**theirs["failure"])
            return replace(failure, message=f"on rank {rank}: {failure.message}")
        others.append(Setup.from_dict(theirs["setup"]))
    return replace(item, setup=ranks.with_views([item.setup, *others]), others=tuple(others))


def inspect(asked: Request) -> list[Found | Failure]:
    """The facts of every target, in order: snapshots are read, the others run."""
    live = [target for target in asked.targets if not target.is_snapshot]
    results: dict[str, Found | Failure] = {}
    if live:
        asked.progress(f"inspecting {live[0].name if len(live) == 1 else f'{len(live)} targets'} …")
        from lrlint.runner import workers

        jobs = [
            workers.Job(target, asked.settings.folder, asked.probe, asked.rehearsal, asked.scale) for target in live
        ]
        if asked.nproc > 1:
            results = {job.target.name: _in_ranks(job, asked.nproc) for job in jobs}
        else:
            count = asked.jobs if asked.jobs is not None else min(len(live), workers.cores())
            for target, result in zip(live, workers.inspect_all(jobs, count), strict=True):
                failed = isinstance(result, Failure)
                results[target.name] = (
                    result if isinstance(result, Failure) else Found(target, result.setup, result.root)
                )
                if failed:
                    asked.progress(f"{target.name} failed")
    for target in asked.targets:
        if target.is_snapshot:
            results[target.name] = Found(target, snapshot(_snapshot_path(target, asked.settings), target.name), None)
    return [results[target.name] for target in asked.targets]


def _in_ranks(job: Job, count: int) -> Found | Failure:
    """The facts of a target that runs as ``count`` processes, which find each other as those of torchrun do."""
    from lrlint.runner import workers

    port = ranks.free_port()
    jobs = [replace(job, env=ranks.environment(rank, count, port)) for rank in range(count)]
    found = workers.inspect_all(jobs, count, together=True)
    failed = [(rank, item) for rank, item in enumerate(found) if isinstance(item, Failure)]
    if failed:  # the first cause, and not a rank that was ended for it
        rank, failure = next((pair for pair in failed if "another rank failed" not in pair[1].message), failed[0])
        return replace(failure, message=f"on rank {rank}: {failure.message}")
    inspected = [item for item in found if isinstance(item, workers.Inspected)]
    setups = [item.setup for item in inspected]
    return Found(job.target, ranks.with_views(setups), inspected[0].root, tuple(setups[1:]))


def repairs(asked: Request) -> tuple[Run, list[Repair]]:
    """The targets as they are, and what repairs each that could be inspected; snapshots have no source to edit."""
    from lrlint.fixes.repair import repair
    from lrlint.runner import workers

    run = check(asked)
    selections = {target.name: select(asked.settings, target) for target in asked.targets}
    live = {target.name: target for target in asked.targets if not target.is_snapshot}
    active = {id(repairs_) for repairs_ in run.active}
    repairs_ = []
    for part in run.checked:
        target = live.get(part.target)
        root = part.root
        if target is None or root is None:
            continue
        part = replace(part, findings=tuple(f for f in run.active if f.target == part.target and id(f) in active))

        def edited(overlay: Mapping[str, str], target: Target = target) -> Checked | None:
            asked.progress(f"{target.name}: checking an edit …")
            job = workers.Job(target, asked.settings.folder, overlay=dict(overlay))
            (result,) = workers.inspect_all([job], 1 if asked.jobs is None else asked.jobs)
            if isinstance(result, Failure):
                return None
            with apart():
                return examine(result.setup, selections[target.name], result.root)

        repairs_.append(repair(part, root, edited))
    return run, repairs_


def snapshot(path: Path, name: str = "") -> Setup:
    """A saved setup; it keeps the name of the target it was taken from. Raises UsageError. Needs no torch."""
    data = files.read_json(path, "snapshot", "save one with `lrlint show TARGET --output setup.json`")
    again = "save it again with `lrlint show TARGET --output`"
    try:
        setup = Setup.from_dict(data)
    except ValueError as error:
        raise UsageError(f"snapshot {path}: {error}", again) from None
    if problems := json_schema.problems(upgraded(data), json_schema.load("setup")):
        where = json_schema.place(problems[0].at)
        raise UsageError(f"snapshot {path}: damaged: {where} {problems[0].message}", again)
    return setup if setup.target else replace(setup, target=name)


def one(asked: Request) -> Found:
    """The facts of a single target. Raises UsageError, or the target's error."""
    if len(asked.targets) != 1:
        names = ", ".join(target.name for target in asked.targets)
        raise UsageError(f"this command takes one target; there are {names}")
    inspected = inspect(asked)[0]
    if isinstance(inspected, Failure):
        raise Failed(inspected)
    return inspected


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
    file, colon, attribute = name.rpartition(":") if not name.endswith((".py", ".json")) else (name, "", "")
    path = Path(os.path.abspath(file))  # without `..`: the same file has one name, wherever one stands
    if not file.endswith((".py", ".json")) or not path.is_relative_to(settings.folder):
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
    if options.get("memory_limit"):
        changes["memory_limit"] = options["memory_limit"]
    declared = {key: options[key] for key in ("total_steps", "resume") if options.get(key)}
    if declared:
        changes["declared"] = {**target.declared, **declared}
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
