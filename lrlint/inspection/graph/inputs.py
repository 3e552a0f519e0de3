"""Inputs for one pass: given by the target, taken from its batches, told by the model's library, or tried out."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

_BATCH = 2  # two samples, so that batch norm has something to normalise
_LENGTH = 8


@dataclass(frozen=True)
class Inputs:
    """Positional and keyword arguments of a forward pass; ``source`` says where they come from."""

    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    source: str = "given"

    def prepared(self, real: bool, shuffled: bool = False) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments for a pass on meta tensors: floating point values lose their memory, the others stay real.

        With ``shuffled`` the floating point values of each tensor change places, by torch's random generator, and their
        sign where they have both: other values that are as likely.
        """
        args = tuple(_prepare(item, real, shuffled) for item in self.args)
        return args, {key: _prepare(item, real, shuffled) for key, item in self.kwargs.items()}


def _prepare(value: Any, real: bool, shuffled: bool) -> Any:
    if isinstance(value, torch.Tensor):
        inexact = value.is_floating_point() or value.is_complex()
        if inexact and not real:
            return torch.empty(value.shape, dtype=value.dtype, device="meta")
        if value.device.type == "meta":
            return torch.zeros(value.shape, dtype=value.dtype)
        copy = value.detach().cpu().clone()
        return _shuffled(copy) if inexact and shuffled else copy
    if isinstance(value, (tuple, list)) and type(value) in (tuple, list):
        return type(value)(_prepare(item, real, shuffled) for item in value)
    if type(value) is dict:
        return {key: _prepare(item, real, shuffled) for key, item in value.items()}
    return value


def _shuffled(value: torch.Tensor) -> torch.Tensor:
    mixed = value.flatten()[torch.randperm(value.numel())].view(value.shape)
    return -mixed if not mixed.is_complex() and bool((mixed < 0).any()) else mixed


def given(example: Any) -> Inputs:
    """``example_inputs`` as the user wrote them: a tuple, a dict, the pair of both, or one value."""
    if (
        isinstance(example, tuple)
        and len(example) == 2
        and isinstance(example[0], tuple)
        and isinstance(example[1], dict)
    ):
        return Inputs(example[0], example[1], "given")
    if isinstance(example, Mapping):
        return Inputs((), dict(example), "given")
    return Inputs(tuple(example) if isinstance(example, (tuple, list)) else (example,), {}, "given")


def candidates(model: nn.Module, example: Any, batches: Any) -> Iterator[Inputs]:
    """Inputs worth trying, best first."""
    if example is not None:
        yield given(example)
        return
    yield from _from_batches(model, batches)
    example = getattr(model, "example_input_array", None)
    if example is not None:
        yield Inputs(given(example).args, given(example).kwargs, "example_input_array")
    if _is_of_transformers(model):
        yield from _of_transformers(model)
    yield from _from_layers(model)


def _from_batches(model: nn.Module, batches: Any) -> Iterator[Inputs]:
    batch = _first(batches)
    if batch is None:
        return
    known = _parameters(model)
    if isinstance(batch, Mapping):
        takes_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
        fitting = {k: v for k, v in batch.items() if takes_all or k in known}
        yield Inputs((), fitting, "the first batch")
    elif isinstance(batch, (tuple, list)):
        for count in dict.fromkeys((_required(known), 1, len(batch))):
            if 0 < count <= len(batch):
                yield Inputs(tuple(batch[:count]), {}, "the first batch")
    elif isinstance(batch, torch.Tensor):
        yield Inputs((batch,), {}, "the first batch")


def _first(batches: Any) -> Any:
    """The first batch; an iterator is left alone, since taking from it would use it up."""
    if batches is None or isinstance(batches, Iterator):
        return None
    dataset: Any = getattr(batches, "dataset", None)
    collate = getattr(batches, "collate_fn", None)
    try:
        if collate is not None and hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__"):
            return collate([dataset[k] for k in range(min(_BATCH, len(dataset)))])
        if isinstance(batches, Sequence):
            return batches[0] if batches else None
        return next(iter(batches), None)
    except Exception:
        return None


def _parameters(model: nn.Module) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return {}


def _required(known: Mapping[str, inspect.Parameter]) -> int:
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in plain and p.default is p.empty for p in known.values())


# -- transformers ------------------------------------------------------------------------------------------------------


def _is_of_transformers(model: nn.Module) -> bool:
    return any(base.__module__.startswith(("transformers.", "peft.")) for base in type(model).__mro__)


def _of_transformers(model: nn.Module) -> Iterator[Inputs]:
    """Inputs from the configuration, with labels (so that there is a loss) and without."""
    inner: Any = model
    for _ in range(4):
        if any(base.__module__.startswith("transformers.") for base in type(inner).__mro__):
            break
        inner = getattr(inner, "model", None) or getattr(inner, "base_model", inner)
    config = getattr(inner, "config", None)
    known = _parameters(inner)
    main = getattr(inner, "main_input_name", "input_ids")
    base = {name: value for name, value in _for_names(config, known, main).items() if name in known}
    if not base:
        return
    for labels in _labels(inner, config, known, base):
        yield Inputs((), {**base, **labels}, "the model's configuration, with labels")
    yield Inputs((), base, "the model's configuration")
    yield from _without_labels(config, base)


def _without_labels(config: Any, base: dict[str, torch.Tensor]) -> Iterator[Inputs]:
    """Other sizes, frames of a video, one row per choice; last, of several modalities the text alone."""
    origin = "the model's configuration"
    if "pixel_values" in base:
        for side in (32, 64, 224, 384, 518):
            changed = {**base, "pixel_values": torch.zeros(_BATCH, base["pixel_values"].shape[1], side, side)}
            yield Inputs((), changed, origin)
    for name in ("pixel_values", "pixel_values_videos"):
        frames, image = _number(config, "num_frames", default=0), base.get(name)
        if frames and image is not None and image.ndim == 4:
            yield Inputs((), {**base, name: image[:, None].repeat(1, frames, 1, 1, 1)}, origin)
    if "input_ids" in base:
        yield Inputs((), {key: value[:, None].repeat_interleave(2, 1) for key, value in base.items()}, origin)
        others = {key for key in base if key.startswith(("pixel_values", "input_features", "input_values"))}
        if others:
            rest = {key: value for key, value in base.items() if key not in others}
            yield Inputs((), rest, "inferred from the configuration, without images and sound")


def _for_names(config: Any, known: Mapping[str, Any], main: str) -> dict[str, torch.Tensor]:
    text = _inner(config, "text_config", "encoder", "decoder")
    vision = _inner(config, "vision_config", "encoder")
    ids = _ids(_number(text, "vocab_size", default=32))
    inputs: dict[str, torch.Tensor] = {}
    if main == "input_ids" or "input_ids" in known:
        inputs["input_ids"] = ids
    if main == "pixel_values" or "pixel_values" in known:
        side = _side(vision)
        inputs["pixel_values"] = torch.zeros(_BATCH, _number(vision, "num_channels", "in_channels", default=3), *side)
    if main == "input_values":
        if hasattr(config, "num_mel_bins"):
            length = _number(config, "max_length", default=1024)
            inputs["input_values"] = torch.zeros(_BATCH, length, _number(config, "num_mel_bins", default=128))
        else:
            inputs["input_values"] = torch.zeros(_BATCH, 4000)
    if main == "input_features":
        sound = _inner(config, "encoder_config", "audio_config")
        bins = _number(sound, "num_mel_bins", "feature_size", "input_feat_per_channel", default=80)
        frames = 2 * _number(config, "max_source_positions", default=50)
        fits = hasattr(config, "max_source_positions") and "whisper" in str(getattr(config, "model_type", ""))
        inputs["input_features"] = torch.zeros(_BATCH, bins, frames) if fits else torch.zeros(_BATCH, 64, bins)
    if "decoder_input_ids" in known and getattr(config, "is_encoder_decoder", False):
        inputs["decoder_input_ids"] = _ids(_number(_inner(config, "decoder"), "vocab_size", default=32))
    if "past_values" in known:
        inputs |= _series(config, known)
    if "bbox" in known:
        inputs["bbox"] = torch.zeros(_BATCH, _LENGTH, 4, dtype=torch.long)
    if main not in inputs and main in known:
        hidden = _number(config, "hidden_size", "d_model", "d_latents", default=32)
        inputs[main] = torch.zeros(_BATCH, _LENGTH, hidden)
    return inputs


def _ids(size: int) -> torch.Tensor:
    """Token ids that draw nothing from the random generator of the program."""
    return torch.randint(2, max(size, 4), (_BATCH, _LENGTH), generator=torch.Generator().manual_seed(0))


def _series(config: Any, known: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    channels = _number(config, "num_input_channels", default=0)
    if channels and "past_time_features" not in known:
        length, horizon = (_number(config, f"{part}_length", default=16) for part in ("context", "prediction"))
        return {
            "past_values": torch.zeros(_BATCH, length, channels),
            "future_values": torch.zeros(_BATCH, horizon, channels),
        }
    lags = getattr(config, "lags_sequence", None) or [0]
    length = _number(config, "context_length", default=16) + max(lags)
    horizon = _number(config, "prediction_length", default=4)
    features = _number(config, "num_time_features", default=0)
    return {
        "past_values": torch.zeros(_BATCH, length),
        "past_time_features": torch.zeros(_BATCH, length, features),
        "past_observed_mask": torch.ones(_BATCH, length),
        "future_values": torch.zeros(_BATCH, horizon),
        "future_time_features": torch.zeros(_BATCH, horizon, features),
    }


def _labels(
    model: nn.Module, config: Any, known: Mapping[str, Any], base: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    ids = base.get("input_ids")
    if "start_positions" in known:
        yield {
            "start_positions": torch.zeros(_BATCH, dtype=torch.long),
            "end_positions": torch.ones(_BATCH, dtype=torch.long),
        }
    if "return_loss" in known:
        yield {"return_loss": True}
    if "labels" not in known:
        return
    name = type(model).__name__
    one, each = torch.zeros(_BATCH, dtype=torch.long), torch.zeros(_BATCH, _LENGTH, dtype=torch.long)
    if "Sequence" in name or "ImageClassification" in name or "AudioClassification" in name:
        yield {"labels": one}
    target = base.get("decoder_input_ids", ids)
    if target is not None:
        yield {"labels": target.clone() if "Token" not in name else each}
    if "SemanticSegmentation" in name and "pixel_values" in base:
        yield {"labels": torch.zeros(_BATCH, *base["pixel_values"].shape[-2:], dtype=torch.long)}
    if "CTC" in name:
        yield {"labels": torch.ones(_BATCH, 2, dtype=torch.long)}
    yield {"labels": one}


def _inner(config: Any, *names: str) -> Any:
    return next((inner for name in names if (inner := getattr(config, name, None)) is not None), config)


def _number(config: Any, *names: str, default: int) -> int:
    values = (getattr(config, name, None) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), default)


def _side(config: Any) -> tuple[int, int]:
    size = getattr(config, "image_size", None) or getattr(config, "input_size", None)
    if isinstance(size, (tuple, list)) and len(size) >= 2:
        return int(size[-2]), int(size[-1])
    return (size, size) if isinstance(size, int) and size > 0 else (64, 64)


# -- any module --------------------------------------------------------------------------------------------------------


def _from_layers(model: nn.Module) -> Iterator[Inputs]:
    """Shapes that the first layer accepts, in a short search; further arguments get inputs of the same kinds."""
    count = max(_required(_parameters(model)), 1)
    tried = [value for layer in _firsts(model) for value in _accepted(layer)]
    for value in tried:
        yield Inputs((value,) * count, {}, "inferred from the layers")
    for other in tried[:6] if count == 2 else ():
        for value in tried[:6]:
            if value is not other:
                yield Inputs((value, other), {}, "inferred from the layers")
    for size in (4, 8, 16, 32):
        yield Inputs((torch.zeros(_BATCH, size),) * count, {}, "inferred from the layers")


def _firsts(model: nn.Module) -> list[nn.Module]:
    kinds: tuple[type[nn.Module], ...] = (
        nn.Embedding,
        nn.EmbeddingBag,
        nn.Linear,
        nn.RNNBase,
        nn.modules.conv._ConvNd,
        nn.modules.batchnorm._NormBase,
    )
    modules = [module for module in model.modules() if isinstance(module, kinds)]
    tables = [module for module in modules[3:] if isinstance(module, (nn.Embedding, nn.EmbeddingBag))]
    return modules[:3] + tables[:1]


def _accepted(layer: nn.Module) -> Iterator[torch.Tensor]:
    if isinstance(layer, (nn.Embedding, nn.EmbeddingBag)):
        yield torch.zeros(_BATCH, _LENGTH, dtype=torch.long)
        yield torch.zeros(_BATCH, dtype=torch.long)
    elif isinstance(layer, nn.modules.conv._ConvNd):
        dimensions = len(layer.kernel_size)
        for side in (32, 28, 64, 224, 128, 256)[: 6 if dimensions == 2 else 3]:
            yield torch.zeros(_BATCH, layer.in_channels, *(side,) * dimensions)
    elif isinstance(layer, nn.RNNBase):
        yield torch.zeros(_BATCH, _LENGTH, layer.input_size)
    elif isinstance(layer, nn.Linear):
        yield torch.zeros(_BATCH, layer.in_features)
        yield torch.zeros(_BATCH, _LENGTH, layer.in_features)
        for channels in (1, 3):  # an image that the model flattens itself
            side = round((layer.in_features / channels) ** 0.5)
            if side > 1 and channels * side * side == layer.in_features:
                yield torch.zeros(_BATCH, channels, side, side)
    elif isinstance(layer, nn.modules.batchnorm._NormBase):
        yield torch.zeros(_BATCH, layer.num_features, 32, 32)
        yield torch.zeros(_BATCH, layer.num_features)
