"""Sorted parts become a `LiveTarget`: frameworks make their optimizers, wrappers come off, declared values become facts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lrlint.facts import Note, Span
from lrlint.targets import returned
from lrlint.targets.declared import training
from lrlint.targets.frameworks import engines, hf_trainer, lightning, lightning_module, per_parameter, wrappers
from lrlint.targets.live_target import LiveTarget
from lrlint.targets.provenance.recorder import ConstructionRecorder
from lrlint.targets.returned import NotASetup, ReturnedParts


def assemble(
    parts: ReturnedParts, recording: ConstructionRecorder, declared: Mapping[str, Any], fresh: bool = False
) -> LiveTarget:
    """The setup of these parts. ``declared`` yields to what the parts declare. Raises Nonsense, UsageError.

    ``fresh``: the parts were made for lrlint, so that a framework's hooks may finish them.
    """
    built = LiveTarget(
        recording=recording,
        batches=parts.batches,
        loss_fn=parts.loss_fn,
        metric_fn=parts.metric_fn,
        example_inputs=parts.example_inputs,
        train=parts.train,
        ranks=parts.ranks,
        extra_modules=dict(parts.extra_modules),
        in_training=parts.in_training,
    )
    declared_by_trainer: dict[str, Any] = {}
    configs: list[dict[str, Any]] = []
    if returned.is_lightning_trainer(parts.trainer) and not parts.models:
        _take_module(parts)
    if returned.is_transformers_trainer(parts.trainer):
        declared_by_trainer = _from_trainer(parts, built)
        configs = [{"framework": "transformers", "interval": "step", "frequency": 1}] * len(parts.schedulers)
    elif (module := _lightning(parts)) is not None:
        declared_by_trainer, configs = _from_lightning(parts, module, built, declared, fresh)
    elif not (parts.models and parts.optimizers):
        raise NotASetup(_missing(parts))
    elif returned.is_lightning_trainer(parts.trainer):
        declared_by_trainer = lightning_module.declared(parts.trainer, parts.batches)
    declared_by_trainer = {
        **engines.declared(parts.engine),
        **{key: value for key, value in declared_by_trainer.items() if value is not None},
    }
    built.models = dict(parts.models)
    _take_optimizers(parts, built)
    _take_schedulers(parts, configs, built)
    stated = {
        **declared,
        **declared_by_trainer,
        **{key: value for key, value in parts.declared.items() if value is not None},
    }
    built.training = training({**declared, **{k: v for k, v in stated.items() if v is not None}})
    return built


def _missing(parts: ReturnedParts) -> str:
    if returned.is_lightning_trainer(parts.trainer):
        return "a Lightning Trainer without its module (before `fit`, pass the module and `trainer=`)"
    if parts.models:
        return "a model but no optimizer"
    return "an optimizer but no model" if parts.optimizers else "neither a model nor an optimizer"


def _take_module(parts: ReturnedParts) -> None:
    """The module that a Lightning Trainer was given by `fit`."""
    module = getattr(parts.trainer, "lightning_module", None)
    if module is not None:
        parts.models = {"": module}


def _lightning(parts: ReturnedParts) -> Any:
    """The LightningModule whose optimizers are still to be made."""
    modules = [model for model in parts.models.values() if returned.is_lightning_module(model)]
    return modules[0] if modules and not parts.optimizers else None


def _from_lightning(
    parts: ReturnedParts, module: Any, built: LiveTarget, declared: Mapping[str, Any], fresh: bool
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    trainer = parts.trainer if returned.is_lightning_trainer(parts.trainer) else None
    notes: list[Note] = []
    with lightning_module.attached(module, trainer):
        declared_by_trainer = lightning_module.declared(getattr(module, "_trainer", None), parts.batches)
        fit = lightning.fit_of(getattr(module, "_trainer", None))
        if fit is not None and fit.module is module:  # what steps is there: another one would say nothing about it
            fit = lightning.as_written(fit, built.recording.scheduler_configs)
            optimizers, schedulers = fit.optimizers, fit.schedulers
        else:
            known = {
                **declared,
                **{key: value for key, value in declared_by_trainer.items() if value is not None},
                **parts.declared,
            }
            result, notes = lightning_module.configure(module, known, built.recording, fresh)
            optimizers, schedulers = lightning_module.parse_result(result)
    parts.optimizers = {"": optimizers[0]} if len(optimizers) == 1 else {str(k): o for k, o in enumerate(optimizers)}
    parts.schedulers = [scheduler for scheduler, _ in schedulers]
    built.notes += notes
    built.owner = module
    if built.recording.project is not None:
        built.span = built.recording.project.definition(type(module).configure_optimizers)
    if built.example_inputs is None:
        built.example_inputs = getattr(module, "example_input_array", None)
    if not optimizers:
        built.notes.append(Note("optimizer", "configure_optimizers returned None"))
    return declared_by_trainer, [config for _, config in schedulers]


def _from_trainer(parts: ReturnedParts, built: LiveTarget) -> dict[str, Any]:
    trainer = parts.trainer
    model = trainer.model
    parts.models = parts.models or {"": model}
    built.owner = trainer
    if parts.optimizers:  # the caller's own, as in Trainer(..., optimizers=...)
        return hf_trainer.declared(trainer, model)
    optimizer, scheduler, notes = hf_trainer.create(trainer)
    parts.optimizers = {"": optimizer}
    parts.schedulers = [] if scheduler is None else [scheduler]
    built.notes += notes
    known = built.batches is not None or hf_trainer.is_training(trainer)  # a loader made now would be one too many
    if getattr(trainer, "train_dataset", None) is not None and not known:
        built.batches = hf_trainer.Batches(trainer.get_train_dataloader)
    _place_trainer(built.recording, trainer, wrappers.unwrap_optimizer(optimizer)[0], scheduler)
    return hf_trainer.declared(trainer, model)


def _place_trainer(recording: ConstructionRecorder, trainer: Any, optimizer: Any, scheduler: Any) -> None:
    """The rates stand in the training arguments, or else where the Trainer was made."""
    span = recording.created(trainer.args)
    keys: dict[str, Span] = {}
    if span is not None and recording.project is not None:
        written = recording.project.keywords(span)
        keys = {ours: written[theirs] for theirs, ours in hf_trainer.KEYS.items() if theirs in written}
    span = span or recording.created(trainer)
    recording.place(optimizer, span, keys)
    recording.place(scheduler, span, {})


def _take_optimizers(parts: ReturnedParts, built: LiveTarget) -> None:
    for name, optimizer in wrappers.expand(parts.optimizers):
        inner, wrapper = wrappers.unwrap_optimizer(optimizer)
        built.optimizers[name] = inner
        if wrapper is not None:
            built.wraps[name] = wrapper
            built.outer[name] = optimizer
    whole = per_parameter.merged(built.optimizers)
    if whole is not None:
        built.notes += [Note("schedule", _PER_PARAMETER)] if parts.schedulers else []
        built.optimizers, built.wraps, parts.schedulers = {"": whole}, {}, []


_PER_PARAMETER = "each parameter has an optimizer and a scheduler of its own, which are not followed one by one"


def _take_schedulers(parts: ReturnedParts, configs: list[dict[str, Any]], built: LiveTarget) -> None:
    for position, item in enumerate(parts.schedulers):
        config = dict(configs[position]) if position < len(configs) else {}
        if isinstance(item, Mapping):  # the form that Lightning uses, in a factory's own result
            item, config = lightning_module.parse_scheduler(item, {})
        elif lightning.is_config(item):
            item, config = lightning.config_of(item)
        inner, wrapped = wrappers.unwrap_scheduler(item)
        built.schedulers.append(inner)
        built.scheduler_configs.append({**wrapped, **config})
