"""Small instances of real models: the published architectures of transformers, at toy widths.

Every entry of `MODELS` is a builder; a builder gives a fresh, seeded model. Three or four blocks each, because rules
compare repeated blocks. What is a normalisation layer is listed here by class, apart from how lrlint tells it.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import cache

import torch
import transformers as hf
from torch import nn

#: Classes of normalisation layers in these models.
NORM_CLASSES = frozenset(
    (
        *("LayerNorm", "RMSNorm", "BatchNorm1d", "BatchNorm2d", "GroupNorm"),
        *("LlamaRMSNorm", "MixtralRMSNorm", "MambaRMSNorm", "Qwen3RMSNorm", "T5LayerNorm", "ConvNextLayerNorm"),
    )
)

_TEXT = {"vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}
_BERT = {**_TEXT, "intermediate_size": 64, "max_position_embeddings": 32}
_DECODER = {**_BERT, "num_key_value_heads": 2}
_IMAGE = {"image_size": 32, "patch_size": 16, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4}


def bert() -> nn.Module:
    return hf.BertForSequenceClassification(hf.BertConfig(**_BERT, num_labels=3))


def roberta() -> nn.Module:
    return hf.RobertaForSequenceClassification(hf.RobertaConfig(**{**_BERT, "max_position_embeddings": 40}))


def electra() -> nn.Module:
    return hf.ElectraForSequenceClassification(hf.ElectraConfig(**_BERT, embedding_size=16))


def distilbert() -> nn.Module:
    config = hf.DistilBertConfig(
        vocab_size=64, dim=32, n_layers=4, n_heads=4, hidden_dim=64, max_position_embeddings=32
    )
    return hf.DistilBertForSequenceClassification(config)


def gpt2() -> nn.Module:
    """Head tied to the token embedding."""
    return hf.GPT2LMHeadModel(hf.GPT2Config(vocab_size=64, n_positions=32, n_embd=32, n_layer=4, n_head=4))


def gpt_neox() -> nn.Module:
    return hf.GPTNeoXForCausalLM(hf.GPTNeoXConfig(**_BERT))


def llama() -> nn.Module:
    return hf.LlamaForCausalLM(hf.LlamaConfig(**_DECODER))


def qwen3() -> nn.Module:
    """Norms of queries and keys inside each attention."""
    return hf.Qwen3ForCausalLM(hf.Qwen3Config(**_DECODER, head_dim=8))


def mixtral() -> nn.Module:
    """A mixture of experts, their weights stacked in one 3-D parameter."""
    return hf.MixtralForCausalLM(hf.MixtralConfig(**_DECODER, num_local_experts=4))


def mamba() -> nn.Module:
    """A state-space model."""
    return hf.MambaForCausalLM(hf.MambaConfig(vocab_size=64, hidden_size=32, num_hidden_layers=4, state_size=4))


def t5() -> nn.Module:
    """Encoder, decoder and head share one embedding; no norm has a bias."""
    config = hf.T5Config(vocab_size=64, d_model=32, d_kv=8, d_ff=64, num_layers=3, num_heads=4)
    return hf.T5ForConditionalGeneration(config)


def whisper() -> nn.Module:
    layers = {"encoder_layers": 3, "decoder_layers": 3, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    widths = {"d_model": 32, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "num_mel_bins": 8, "vocab_size": 64}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 3}
    config = hf.WhisperConfig(**layers, **widths, **tokens, max_source_positions=16, max_target_positions=16)
    return hf.WhisperForConditionalGeneration(config)


def wav2vec2() -> nn.Module:
    """A weight-normalised positional convolution, and a masked-frame embedding."""
    config = hf.Wav2Vec2Config(
        **_BERT,
        conv_dim=(16, 16),
        conv_stride=(2, 2),
        conv_kernel=(3, 3),
        num_conv_pos_embeddings=8,
        num_conv_pos_embedding_groups=4,
    )
    return hf.Wav2Vec2ForCTC(config)


def clip() -> nn.Module:
    """Two towers and a temperature."""
    text = {**_BERT, "intermediate_size": 64}
    return hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config={**_IMAGE, "intermediate_size": 64}))


def vit() -> nn.Module:
    return hf.ViTForImageClassification(hf.ViTConfig(**_IMAGE, intermediate_size=64, num_labels=5))


def swin() -> nn.Module:
    """Relative position tables named `relative_position_bias_table`."""
    config = hf.SwinConfig(
        image_size=32, patch_size=4, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=4, num_labels=5
    )
    return hf.SwinForImageClassification(config)


def resnet() -> nn.Module:
    config = hf.ResNetConfig(embedding_size=16, hidden_sizes=[16, 32], depths=[2, 2], layer_type="basic", num_labels=5)
    return hf.ResNetForImageClassification(config)


def convnext() -> nn.Module:
    """Layer scales, and two classes of layer norm."""
    config = hf.ConvNextConfig(num_stages=2, hidden_sizes=[16, 32], depths=[2, 2], num_labels=5)
    return hf.ConvNextForImageClassification(config)


def lora() -> nn.Module:
    """Llama with low-rank adapters by peft; everything else is frozen."""
    import peft

    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj", "v_proj"], r=4)
    return peft.get_peft_model(llama(), config)


_BUILDERS: tuple[Callable[[], nn.Module], ...] = (
    *(bert, roberta, electra, distilbert, gpt2, gpt_neox, llama, qwen3, mixtral, mamba, t5),
    *(whisper, wav2vec2, clip, vit, swin, resnet, convnext),
)
#: Every model that trains as a whole, by name (`lora` trains its adapters only).
MODELS: dict[str, Callable[[], nn.Module]] = {build.__name__: build for build in _BUILDERS}


def build(name: str) -> nn.Module:
    """A fresh model, the same at every call: a copy of one that is built once, which takes a tenth of the time."""
    return copy.deepcopy(_first(name))


@cache
def _first(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return lora() if name == "lora" else MODELS[name]()


def owners(model: nn.Module) -> dict[str, nn.Module]:
    """Parameter name → the module that holds it; one name per parameter."""
    modules = dict(model.named_modules())
    return {name: modules[name.rpartition(".")[0]] for name, _ in model.named_parameters()}


def norm_scales(model: nn.Module) -> list[str]:
    """Names of the scales of all normalisation layers."""
    return [
        name
        for name, owner in owners(model).items()
        if type(owner).__name__ in NORM_CLASSES and name.endswith(".weight")
    ]


def biases(model: nn.Module) -> list[str]:
    """Names of the biases of dense layers and convolutions."""
    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, hf.pytorch_utils.Conv1D)
    return [name for name, owner in owners(model).items() if isinstance(owner, kinds) and name.endswith(".bias")]
