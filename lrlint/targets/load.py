"""From a target to live objects: import the user's code, call its factory, and sort what comes.

`load` runs the user's code (see `lrlint.targets.sandbox` for how); `from_objects` takes objects that exist already.
"""

from __future__ import annotations

import functools
import inspect
import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from lrlint.errors import LrlintError, TargetError, UsageError
from lrlint.facts import Span, Training
from lrlint.targets import arguments, returned, user_traceback
from lrlint.targets import script as scripts
from lrlint.targets import spec as target_spec
from lrlint.targets.assemble import assemble
from lrlint.targets.live_target import LiveTarget
from lrlint.targets.preservation.snapshot import preserved
from lrlint.targets.provenance.project import Project, root_for
from lrlint.targets.provenance.recorder import ConstructionRecorder, recording, watch_others
from lrlint.targets.rejections import owners, rejected
from lrlint.targets.returned import NotASetup, ReturnedParts
from lrlint.targets.rng_state import Kept
from lrlint.targets.sandbox import Expired, training_settings, user_code

__all__ = ["LiveTarget", "from_objects", "load"]


def load(
    spec: str | None,
    *,
    model: str | None = None,
    optimizer: str | None = None,
    scheduler: str | None = None,
    args: Sequence[str] | Mapping[str, Any] = (),
    timeout: float | None = None,
    source_hook: bool = True,
    root: Path | None = None,
    declared: Mapping[str, Any] | None = None,
    script: str | None = None,
    script_args: Sequence[str] = (),
    observer: Any = None,
    at_step: int = 1,
    steps_of: str = "",
) -> LiveTarget:
    """Import and call a target: ``module:factory``, ``path/file.py:factory``, or the three factories one by one.

    Or run ``script``, a training script, with its own ``script_args`` up to its first ``optimizer.step()`` (or to the one
    of number ``at_step``; only steps of the optimizer called ``steps_of`` count, where that is given); with an
    ``observer`` (see `lrlint.rehearsal.process`) it goes on, and this function does not return.

    ``optimizer`` is called with the model, ``scheduler`` with the optimizer. ``args`` are ``name=value`` texts (or a
    mapping) for the factories. ``declared`` says more about the run (``total_steps``, ...) and yields to what the
    target declares itself. ``root`` is the project folder, found from the target where not given.

    Raises UsageError when the target or its arguments are wrong, TargetError when its code fails, hangs for longer than
    ``timeout`` seconds, or gives no setup. An optimizer that torch refuses to build is no error: see
    ``LiveTarget.rejections``.
    """
    texts = [text for text in (spec or script, model, optimizer, scheduler) if text]
    spec = spec or script
    if bool(spec) == bool(model or optimizer or scheduler) or (not spec and not (model and optimizer)):
        raise UsageError(
            "give one target, or both --model and --optimizer", "package.module:factory, or path/file.py:factory"
        )
    specs = [target_spec.parse(text) for text in texts]
    job = _Job(
        " ".join(texts),
        specs,
        Project(root or root_for(specs[0].file)),
        arguments.split(args),
        timeout,
        source_hook,
        dict(declared or {}),
        script_args,
    )
    job.observer, job.until = observer, (at_step, steps_of)
    return job.run(_as_script if script else _as_loop if observer else _whole if spec else _in_parts)


def from_objects(model: Any, optimizer: Any = None, scheduler: Any = None, **declared: Any) -> LiveTarget:
    """Objects that exist already. Each is one object, or a list or dict of them.

    ``declared``: ``total_steps``, ``steps_per_epoch``, ``batch_size``, ``accumulation``, ``world_size``, ``precision``,
    ``grad_scaler``, ``clip_norm``, ``distributed``, ``find_unused_parameters``, ``unfreezes`` become Training facts;
    ``extra_modules``, ``example_inputs``, ``batches``, ``loss_fn`` are objects; anything else goes to the options.
    A LightningModule, or a Trainer of transformers or Lightning, needs no optimizer: the one it trains with is taken,
    else the one it makes. Raises UsageError.
    """
    try:
        parts = ReturnedParts(declared=dict(declared))
        if returned.is_trainer(model):
            parts.trainer = model
        else:
            parts.models = returned.named(model, returned.is_model, "model, where a torch.nn.Module")
        if optimizer is not None:
            parts.optimizers = returned.named(
                optimizer, returned.is_optimizer, "optimizer, where a torch.optim.Optimizer"
            )
        returned.take_declared(parts)
        if scheduler is not None:
            returned.put(parts, "scheduler", scheduler)
        project = Project(root_for(None))
        own = list(parts.models.values())
        with ExitStack() as stack:
            if not parts.optimizers:  # the LightningModule or Trainer makes them
                stack.enter_context(user_code())
                stack.enter_context(preserved(own, [], lazily=True))
            built = assemble(parts, ConstructionRecorder.none(project.root), {})
        return replace(built, shared=True, span=built.span or project.call_span(_caller(sys._getframe(1))))
    except NotASetup as nonsense:
        hint = "pass a model and its optimizer (lists or dicts of them), or a Trainer or LightningModule alone"
        raise UsageError(f"got {nonsense}", hint) from None


def _caller(frame: FrameType | None) -> FrameType | None:
    """The frame that called lrlint."""
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "lrlint":
        frame = frame.f_back
    return frame


class _Job:
    """One run of a target's code, with what its errors need to be told well."""

    def __init__(
        self,
        text: str,
        specs: Sequence[target_spec.Spec],
        project: Project,
        args: Mapping[str, Any],
        timeout: float | None,
        hook: bool,
        declared: Mapping[str, Any],
        argv: Sequence[str],
    ) -> None:
        self.text, self.specs, self.project, self.args = text, specs, project, args
        self.timeout, self.hook, self.declared, self.argv = timeout, hook, declared, argv
        self.recording = ConstructionRecorder.none(project.root)
        self.doing = "importing"
        self.found: list[tuple[Any, str, str]] = []  # each object that was named, with its module's file and its name
        self.until = (1, "")  # the step that a script stops at: its number, and whose it is
        self.main = 0  # the one that stands for the target
        self.span: Span | None = None
        self.modules: dict[Path | None, Any] = {}
        self.stack = ExitStack()
        self.contexts = ExitStack()
        self.lift: Callable[[], None] = lambda: None
        self.paths: list[Path] = []
        self.observer: Any = None

    def run(self, build: Callable[[_Job], ReturnedParts]) -> LiveTarget:
        """Everything that runs user code happens in here."""
        self.paths = list(dict.fromkeys(path for spec in self.specs for path in spec.paths))
        linecache.checkcache()  # files may have been edited since an earlier target
        argv = [str(self.specs[0].file or self.specs[0].module), *self.argv]
        try:
            with self.contexts as contexts:
                contexts.enter_context(self.stack)
                self.lift = contexts.enter_context(user_code(self.paths, argv, self.timeout, self.text))
                self.recording = contexts.enter_context(recording(self.project.root, self.hook))
                if self.observer is not None:
                    self.observer.install(self)
                built = self._build(build)
                settings = training_settings()
        except NotASetup as nonsense:
            raise TargetError(f"{self.text} gave {nonsense}", returned.EXPECTED) from None
        except Expired as error:  # it came between two lines of ours
            raise self._failure(error) from None
        return self.complete(built, settings)

    def complete(self, built: LiveTarget, settings: Sequence[Kept]) -> LiveTarget:
        """The setup with where it came from, and what is needed to run more of its code."""
        return replace(
            built,
            target=self.text,
            span=built.span or self.span or self._definition(),
            paths=self.paths,
            recording=self.recording,
            settings=settings,
        )

    def assembled(self, parts: ReturnedParts) -> LiveTarget:
        """The parts of a script's setup, put together."""
        self.span = parts.span
        return assemble(parts, self.recording, self.declared, fresh=True)

    def _build(self, build: Callable[[_Job], ReturnedParts]) -> LiveTarget:
        try:
            return self.assembled(build(self))
        except (LrlintError, NotASetup, KeyboardInterrupt):
            raise
        except BaseException as error:
            refused = rejected(error, self.recording)
            if refused is None:
                raise self._failure(error) from error
            self.recording.failed.append(refused)
            return LiveTarget(
                models=owners(error, self.recording, refused.params),
                rejections=[(refused.kind, refused.error, refused.class_name, refused.params, refused.span)],
                training=Training(),
            )

    def _failure(self, error: BaseException) -> TargetError:
        """The error of the target's code, told with its own frames."""
        shown = user_traceback.trim(error, self.project)
        if isinstance(error, Expired):
            frame = user_traceback.last_user_frame(error, self.project)
            where = f" (it was at {frame.filename}:{frame.lineno})" if frame else ""
            message = f"{self.text} did not finish {self.doing} within {self.timeout:g} s{where}"
            return TargetError(
                message,
                "give it more time with --timeout, or less to do: a factory needs no data and no training",
                shown,
            )
        if isinstance(error, SystemExit):
            hint = 'guard script code with `if __name__ == "__main__"`; a factory must not read the command line'
            if self.argv or self.doing.endswith("step()"):
                hint = "pass the arguments it needs after `--`"
            return TargetError(f"{self.text} called sys.exit({error.code!r}) while {self.doing}", hint, shown)
        frame = user_traceback.last_user_frame(error, self.project)
        doing = "" if self.doing == f"running {self.text}" else f" while {self.doing}"
        where = f" at {frame.filename}:{frame.lineno}" if frame else ""
        text = f"{self.text} raised {type(error).__name__}{doing}{where}: {user_traceback.first_line(error)}"
        return TargetError(text.rstrip(": "), _hint(error), shown)

    def find(self, spec: target_spec.Spec) -> Any:
        """Import the module and take the object from it."""
        self.doing = "importing"
        module = self.modules.get(spec.file) or target_spec.load_module(spec, self.project, self.hook)
        if file := getattr(module, "__file__", None):  # two factories of one file share its classes
            self.modules[Path(file)] = module
        watch_others(self.recording, self.stack)
        target = target_spec.find(spec, module)
        self.found.append((target, str(file or ""), spec.attribute))
        return target

    def _definition(self) -> Span | None:
        """Where the target's own object is defined, or named: a partial, a lambda, code that is not on disk."""
        for item, file, name in self.found[self.main : self.main + 1]:
            return self.project.definition(item) or self.project.binding(file, name)
        return None

    def call(
        self, function: Callable[..., Any], values_by_name: Mapping[str, Any], label: str, *positional: Any
    ) -> Any:
        """Call a factory with converted arguments; an object that is no factory is taken as it is."""
        values = arguments.bind(function, values_by_name, label, len(positional))
        self.doing = f"running {label}"
        result = function(*positional, **values)
        if inspect.iscoroutine(result):
            result.close()
            raise NotASetup("a coroutine (an async function cannot be a factory)")
        return result


def _hint(error: BaseException) -> str:
    """What to do about an error of the target's code, where that is known."""
    text = user_traceback.first_line(error)
    if isinstance(error, ImportError):
        if "no known parent package" in text:
            return "run it as `python -m` does, from the folder above its package: --script package.train"
        return "it runs in your environment: install what it imports"
    if "environment variable RANK expected" in text:
        return (
            "start it with torchrun, or alone: RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=29500 lrlint ..."
        )
    return user_traceback.advice(error)


def _whole(job: _Job) -> ReturnedParts:
    spec = job.specs[0]
    target = job.find(spec)
    if _is_factory(target):
        return returned.read(job.call(target, job.args, spec.text))
    if job.args:
        raise UsageError(f"{spec.text} is no function: it takes no --arg")
    return returned.read(target)


def _as_script(job: _Job) -> ReturnedParts:
    job.doing = "on the way to its first optimizer.step()"
    file, package = target_spec.main_file(job.specs[0])
    sys.argv[0] = str(file)
    run = functools.partial(target_spec.run_main, file, package, job.project, job.hook)
    return scripts.until_first_step(run, job.recording, *job.until, observer=job.observer)


def _as_loop(job: _Job) -> ReturnedParts:
    """A function that trains, called as a script is run."""
    function = job.find(job.specs[0])
    job.doing = "on the way to its first optimizer.step()"
    return scripts.until_first_step(function, job.recording, observer=job.observer)


def _in_parts(job: _Job) -> ReturnedParts:
    """--model F --optimizer G [--scheduler H]: each gets the arguments that it takes."""
    functions = [job.find(spec) for spec in job.specs]
    job.main = 1
    positional = [0, 1, 1]
    for name in job.args:
        if not any(callable(f) and arguments.accepts(f, name, k) for f, k in zip(functions, positional, strict=False)):
            raise UsageError(f"none of {', '.join(spec.attribute for spec in job.specs)} has an argument {name!r}")

    def call(position: int, *inputs: Any) -> Any:
        function, label = functions[position], job.specs[position].text
        if not _is_factory(function):
            return function
        accepted = {n: v for n, v in job.args.items() if arguments.accepts(function, n, len(inputs))}
        return job.call(function, accepted, label, *inputs)

    model = call(0)
    parts = ReturnedParts(
        models=returned.named(model, returned.is_model, f"{job.specs[0].attribute}, where a torch.nn.Module")
    )
    direct = (
        isinstance(functions[1], type) and returned.is_model(model) and issubclass(functions[1], _optimizer_class())
    )
    returned.put(parts, "optimizer", call(1, model.parameters() if direct else model))
    if len(functions) > 2:
        returned.put(parts, "scheduler", call(2, *[parts.optimizers.get("", parts.optimizers)]))
    return parts


def _optimizer_class() -> type:
    return sys.modules["torch.optim"].Optimizer  # type: ignore[no-any-return]


def _is_factory(target: Any) -> bool:
    """Whether it is to be called: functions and classes, not objects that are setups themselves."""
    if isinstance(target, type):
        return True
    return callable(target) and not (returned.is_model(target) or returned.is_trainer(target))
