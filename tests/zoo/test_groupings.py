"""Groupings in use, on real models: sound where they fit, and found where they are a published fault.

The list ``["bias", "LayerNorm.weight"]`` was written for BERT and travels with example scripts to models whose norms
are called something else; the Trainer's own patterns miss the last norm of Mamba.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from torch.optim import AdamW

import lrlint
from zoo import models
from zoo.groupings import GROUPINGS

#: (grouping, model) → (code, what the finding is about: parameters of these suffixes, none where it is a group).
FAULTS: dict[tuple[str, str], tuple[str, tuple[str, ...]]] = {
    # Only the norm of the embeddings has the name that the list knows.
    ("classic", "distilbert"): ("LR301", ("sa_layer_norm.weight", "output_layer_norm.weight")),
    # Biases are exempt and no norm scale is.
    ("classic", "gpt2"): ("LR304", ("ln_1.weight", "ln_2.weight", "ln_f.weight")),
    ("classic", "gpt_neox"): ("LR304", ("layernorm.weight", "layer_norm.weight")),
    ("classic", "mamba"): ("LR304", ("norm.weight", "norm_f.weight")),
    ("classic", "whisper"): ("LR304", ("layer_norm.weight",)),
    ("classic", "wav2vec2"): ("LR304", ("layer_norm.weight",)),
    ("classic", "clip"): ("LR304", ("layrnorm.weight", "layernorm.weight", "layer_norm.weight", "_norm1.weight",
                                    "_norm2.weight")),
    ("classic", "vit"): ("LR304", ("layernorm_before.weight", "layernorm_after.weight", "layernorm.weight")),
    ("classic", "swin"): ("LR304", ("norm.weight", "layernorm_before.weight", "layernorm_after.weight",
                                    "layernorm.weight")),
    ("classic", "convnext"): ("LR304", ("norm.weight", "downsampling_layer.0.weight")),
    # These have no biases: the group that was to be exempt is empty.
    ("classic", "llama"): ("LR108", ()),
    ("classic", "qwen3"): ("LR108", ()),
    ("classic", "mixtral"): ("LR108", ()),
    # The Trainer knows `norm` and `_norm`, and `norm_f` is neither.
    ("trainer", "mamba"): ("LR301", ("norm_f.weight",)),
}  # fmt: skip

#: Models with one stack of blocks, for which layer-wise rates are defined.
STACKS = ("bert", "roberta", "electra", "gpt2", "gpt_neox", "llama", "qwen3", "mixtral", "vit")
CASES = [
    (grouping, name) for grouping in GROUPINGS for name in models.MODELS if grouping != "layerwise" or name in STACKS
]


@pytest.mark.parametrize(("grouping", "name"), CASES)
def test_a_grouping_in_use(grouping: str, name: str) -> None:
    model = models.build(name)
    run = lrlint.check(model, AdamW(GROUPINGS[grouping](model), lr=1e-4), graph=False)
    loud = [found for found in run.findings if found.severity != "info"]
    code, suffixes = FAULTS.get((grouping, name), ("", ()))
    assert [found.rule for found in loud] == ([code] if code else [])
    if suffixes:
        expected = {scale for scale in models.norm_scales(model) if scale.endswith(suffixes)}
        assert set(loud[0].parameters) == expected
        if code == "LR304":
            assert expected == set(models.norm_scales(model)), "no norm scale is exempt"


def test_the_trainers_groups_are_its_own(tmp_path: Path) -> None:
    """`transformers.Trainer` cuts a model as the grouping here says."""
    from transformers import Trainer, TrainingArguments

    model = models.build("llama")
    built = Trainer(model, TrainingArguments(str(tmp_path), weight_decay=0.1, use_cpu=True)).create_optimizer()
    ours = GROUPINGS["trainer"](model)
    assert [{id(p) for p in group["params"]} for group in built.param_groups] == [
        {id(p) for p in group["params"]} for group in ours
    ]


def test_a_block_that_is_left_out_is_named_as_a_whole() -> None:
    """Longformer's global projections have no part in a pass without global tokens, and are lost with their block."""
    from transformers import LEDConfig, LEDForConditionalGeneration

    layers = {"encoder_layers": 3, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    widths = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "vocab_size": 64, "attention_window": 4}
    places = {"max_encoder_position_embeddings": 32, "max_decoder_position_embeddings": 32}
    model = LEDForConditionalGeneration(LEDConfig(**layers, **widths, **places, bos_token_id=1, eos_token_id=2))
    lost = {name for name, _ in model.named_parameters() if name.startswith("led.encoder.layers.1.")}
    optimizer = AdamW([p for name, p in model.named_parameters() if name not in lost], lr=1e-4)
    run = lrlint.check(model, optimizer)
    assert run.setup.graph is not None, run.setup.note("graph")
    missing = [found for found in run.findings if found.rule == "LR101"]
    assert [set(found.parameters) for found in missing] == [lost]
