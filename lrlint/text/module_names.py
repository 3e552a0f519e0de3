"""What the names of modules say: a copy, a loss, a backbone, a head."""

from __future__ import annotations

import re

_WORD = re.compile(r"[._]|(?<=[a-z])(?=[A-Z])")


#: A part of a model with one of these words in its name is a copy or a judge that is not meant to train.
_COPIES = frozenset(("teacher", "ema", "swa", "averaged", "lpips", "vgg", "vgg11", "vgg13", "vgg16", "vgg19"))


#: These say so only at the end, or before one of the words for a network (`reference_points` is a layer).
_ROLES = frozenset(("target", "reference", "ref", "old", "momentum"))


_NETWORK = re.compile(
    r"(net(work)?s?|models?|actors?|critics?|q|qf|policy|encoder|value|projector|predictor|agent)\d*$", re.IGNORECASE
)


_BACKBONE = re.compile(
    r"^((image|text|vision|audio|visual)_?)?(backbone|encoder|body|trunk|tower|features?)$"
    r"|^feature_extractor$|^base(_model)?$"
    r"|^(distil|ro|de|al|camem|mo)?bert(a)?$|^(vit|resnet|swin|convnext|deit|beit|efficientnet|mobilenet|densenet|vgg|dino|electra|xlnet|wav2vec2?|hubert)\w*$"
    r"|^vision_model$",
    re.IGNORECASE,
)


_HEAD = re.compile(
    r"^(heads?|\w+_head|aux(iliary)?_?head|(\w+_)?classifier|classification_head|decoder|fc(_out)?|score|qa_outputs)$",
    re.IGNORECASE,
)


_ADAPTER = re.compile(r"lora|adapter|prompt|prefix|projector", re.IGNORECASE)


_LOSS = re.compile(r"(^|_)(loss(es)?|criterion|criteria|metric_fc|margin)(_|$)|(Loss|Criterion)\d*$")


def is_copy(segment: str) -> bool:
    """Whether a module name calls its module a teacher, a target network, an average or a fixed judge.

    >>> [name for name in ("teacher", "q_target", "old_policy", "target_embedding") if is_copy(name)]
    ['teacher', 'q_target', 'old_policy']
    """
    words = [word.lower() for word in _WORD.split(segment) if word]
    if _COPIES & set(words) or {"key", "encoder"} <= set(words) or words[-2:] == ["encoder", "k"]:
        return True
    for position, word in enumerate(words):
        following = words[position + 1] if position + 1 < len(words) else ""
        if word in _ROLES and (not following or _NETWORK.match(following)):
            return True
    return False


def is_loss(name: str) -> bool:
    """Whether an attribute or class name says that the module computes a loss: ``criterion``, ``CenterLoss``."""
    return _LOSS.search(name) is not None


def side(path: str) -> str:
    """``backbone`` or ``head``: what a module path says its module is; "" where it says neither.

    The first telling segment decides, and a head directly in a backbone is one. Adapters and projectors are neither.

    >>> [side(path) for path in ("bert.encoder.layer.0", "vit.head", "decode_head.conv", "mm_projector", "layers.3")]
    ['backbone', 'head', 'head', '', '']
    """
    segments = path.split(".")
    for position, segment in enumerate(segments):
        if _HEAD.match(segment):
            return "" if _ADAPTER.search(path) else "head"
        if _BACKBONE.match(segment):
            inner = segments[position + 1 :]
            if len(inner) == 1 and _HEAD.match(inner[0]) and inner[0] != "decoder":
                return "head"
            return "" if _ADAPTER.search(path) else "backbone"
    return ""
