"""Real architectures, small: what a capture has to cope with. Each entry builds a model and the inputs of one pass."""

from __future__ import annotations

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy
import torch
import transformers as hf
from torch import nn
from torch.utils.checkpoint import checkpoint

Built = tuple[nn.Module, Any]
ZOO: dict[str, Callable[[], Built]] = {}

TEXT = {"vocab_size": 64, "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
IDS = torch.randint(2, 60, (2, 8), generator=torch.Generator().manual_seed(0))
LABELS = {"labels": IDS.clone()}


def entry(function: Callable[[], Built]) -> Callable[[], Built]:
    ZOO[function.__name__] = function
    return function


def text(name: str, config: str, model: str, inputs: dict[str, Any] | None = None, **options: Any) -> None:
    """A transformers text model from its configuration."""

    def build() -> Built:
        made = getattr(hf, config)(**options)
        return getattr(hf, model)(made), {"input_ids": IDS, **(LABELS if inputs is None else inputs)}

    ZOO[name] = build


ONE = {"labels": torch.tensor([0, 1])}
text("bert", "BertConfig", "BertForMaskedLM", **TEXT)
text("bert_classifier", "BertConfig", "BertForSequenceClassification", ONE, **TEXT)
text("bert_plain", "BertConfig", "BertModel", {}, **TEXT)
text("roberta", "RobertaConfig", "RobertaForSequenceClassification", ONE, **TEXT)
text(
    "distilbert",
    "DistilBertConfig",
    "DistilBertForMaskedLM",
    vocab_size=64,
    dim=16,
    n_layers=2,
    n_heads=2,
    hidden_dim=32,
)
text(
    "deberta_v2",
    "DebertaV2Config",
    "DebertaV2ForMaskedLM",
    **TEXT,
    relative_attention=True,
    pos_att_type=["c2p", "p2c"],
)
text("electra", "ElectraConfig", "ElectraForSequenceClassification", ONE, **TEXT, embedding_size=16)
text("albert", "AlbertConfig", "AlbertForMaskedLM", **TEXT, embedding_size=8)
text("gpt2", "GPT2Config", "GPT2LMHeadModel", vocab_size=64, n_embd=16, n_layer=2, n_head=2, n_positions=32)
text("gpt_neox", "GPTNeoXConfig", "GPTNeoXForCausalLM", **TEXT)
text("gptj", "GPTJConfig", "GPTJForCausalLM", vocab_size=64, n_embd=16, n_layer=2, n_head=2, rotary_dim=4)
text("llama", "LlamaConfig", "LlamaForCausalLM", **TEXT, num_key_value_heads=1)
text("mistral", "MistralConfig", "MistralForCausalLM", **TEXT, num_key_value_heads=1)
text("qwen2", "Qwen2Config", "Qwen2ForCausalLM", **TEXT, num_key_value_heads=1)
text("qwen3", "Qwen3Config", "Qwen3ForCausalLM", **TEXT, num_key_value_heads=1, head_dim=8)
text("gemma", "GemmaConfig", "GemmaForCausalLM", **TEXT, num_key_value_heads=1, head_dim=8)
text("phi", "PhiConfig", "PhiForCausalLM", **TEXT)
text(
    "opt",
    "OPTConfig",
    "OPTForCausalLM",
    vocab_size=64,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    ffn_dim=32,
    word_embed_proj_dim=16,
)
text("bloom", "BloomConfig", "BloomForCausalLM", vocab_size=64, hidden_size=16, n_layer=2, n_head=2)
text(
    "falcon",
    "FalconConfig",
    "FalconForCausalLM",
    vocab_size=64,
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
)
text("mpt", "MptConfig", "MptForCausalLM", vocab_size=64, d_model=16, n_layers=2, n_heads=2)
text("olmo2", "Olmo2Config", "Olmo2ForCausalLM", **TEXT)
text("cohere", "CohereConfig", "CohereForCausalLM", **TEXT)
text("stablelm", "StableLmConfig", "StableLmForCausalLM", **TEXT, num_key_value_heads=1)
text("mixtral", "MixtralConfig", "MixtralForCausalLM", **TEXT, num_key_value_heads=1, num_local_experts=4)
text(
    "qwen2_moe",
    "Qwen2MoeConfig",
    "Qwen2MoeForCausalLM",
    **TEXT,
    num_key_value_heads=1,
    num_experts=4,
    moe_intermediate_size=16,
    shared_expert_intermediate_size=16,
)
text("mamba", "MambaConfig", "MambaForCausalLM", vocab_size=64, hidden_size=16, num_hidden_layers=2, state_size=4)
text(
    "mamba2",
    "Mamba2Config",
    "Mamba2ForCausalLM",
    vocab_size=64,
    hidden_size=16,
    num_hidden_layers=2,
    state_size=4,
    num_heads=4,
    head_dim=8,
    n_groups=1,
    chunk_size=4,
)
text("rwkv", "RwkvConfig", "RwkvForCausalLM", vocab_size=64, hidden_size=16, num_hidden_layers=2)
text(
    "t5",
    "T5Config",
    "T5ForConditionalGeneration",
    vocab_size=64,
    d_model=16,
    d_kv=8,
    d_ff=32,
    num_layers=2,
    num_heads=2,
    decoder_start_token_id=0,
)
text(
    "bart",
    "BartConfig",
    "BartForConditionalGeneration",
    vocab_size=64,
    d_model=16,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
    pad_token_id=1,
    decoder_start_token_id=2,
)
text(
    "pegasus",
    "PegasusConfig",
    "PegasusForConditionalGeneration",
    vocab_size=64,
    d_model=16,
    encoder_layers=2,
    decoder_layers=2,
    encoder_attention_heads=2,
    decoder_attention_heads=2,
    encoder_ffn_dim=32,
    decoder_ffn_dim=32,
    decoder_start_token_id=0,
)
text("longformer", "LongformerConfig", "LongformerForMaskedLM", **TEXT, attention_window=4)
text(
    "funnel",
    "FunnelConfig",
    "FunnelForMaskedLM",
    vocab_size=64,
    block_sizes=[1, 1],
    d_model=16,
    n_head=2,
    d_head=8,
    d_inner=32,
)
text("xlnet", "XLNetConfig", "XLNetLMHeadModel", vocab_size=64, d_model=16, n_layer=2, n_head=2, d_inner=32)


def images(name: str, config: str, model: str, side: int = 32, labels: Any = None, **options: Any) -> None:
    """A transformers vision model."""

    def build() -> Built:
        made = getattr(hf, model)(getattr(hf, config)(**options))
        inputs: dict[str, Any] = {"pixel_values": torch.randn(2, 3, side, side)}
        return made, inputs | ({"labels": torch.tensor([0, 1])} if labels is None else labels)

    ZOO[name] = build


VISION = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": 32,
    "patch_size": 8,
}
images("vit", "ViTConfig", "ViTForImageClassification", **VISION)
images("deit", "DeiTConfig", "DeiTForImageClassification", **VISION)
images("beit", "BeitConfig", "BeitForImageClassification", **VISION)
images(
    "dinov2",
    "Dinov2Config",
    "Dinov2ForImageClassification",
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    image_size=32,
    patch_size=8,
)
images(
    "swin",
    "SwinConfig",
    "SwinForImageClassification",
    image_size=32,
    patch_size=4,
    embed_dim=8,
    depths=[1, 1],
    num_heads=[2, 2],
    window_size=4,
)
images(
    "convnext", "ConvNextConfig", "ConvNextForImageClassification", hidden_sizes=[8, 16], depths=[1, 1], num_stages=2
)
images(
    "convnext_v2",
    "ConvNextV2Config",
    "ConvNextV2ForImageClassification",
    hidden_sizes=[8, 16],
    depths=[1, 1],
    num_stages=2,
)
images("resnet", "ResNetConfig", "ResNetForImageClassification", embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1])
images(
    "regnet",
    "RegNetConfig",
    "RegNetForImageClassification",
    embedding_size=8,
    hidden_sizes=[8, 16, 16, 16],
    depths=[1, 1, 1, 1],
    groups_width=8,
)
images("mobilenet_v2", "MobileNetV2Config", "MobileNetV2ForImageClassification", image_size=64, side=64)
images(
    "segformer",
    "SegformerConfig",
    "SegformerForSemanticSegmentation",
    32,
    {"labels": torch.zeros(2, 32, 32, dtype=torch.long)},
    hidden_sizes=[8, 8, 8, 8],
    depths=[1, 1, 1, 1],
    num_attention_heads=[1, 1, 1, 1],
    decoder_hidden_size=8,
)
images(
    "yolos",
    "YolosConfig",
    "YolosForObjectDetection",
    32,
    {},
    hidden_size=16,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=32,
    image_size=[32, 32],
    patch_size=8,
    num_detection_tokens=4,
)
images(
    "vit_mae",
    "ViTMAEConfig",
    "ViTMAEForPreTraining",
    32,
    {},
    **VISION,
    decoder_hidden_size=16,
    decoder_num_hidden_layers=1,
    decoder_num_attention_heads=2,
    decoder_intermediate_size=32,
)


@entry
def whisper() -> Built:
    config = hf.WhisperConfig(
        vocab_size=64, d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=32, decoder_ffn_dim=32, max_source_positions=20,
        num_mel_bins=8, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=3,
    )  # fmt: skip
    return hf.WhisperForConditionalGeneration(config), {"input_features": torch.randn(2, 8, 40), **LABELS}


@entry
def wav2vec2() -> Built:
    config = hf.Wav2Vec2Config(
        vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        conv_dim=(8, 8), conv_stride=(5, 2), conv_kernel=(10, 3), num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2, mask_time_prob=0.0, layerdrop=0.0,
    )  # fmt: skip
    return hf.Wav2Vec2ForCTC(config), {
        "input_values": torch.randn(2, 400),
        "labels": torch.ones(2, 2, dtype=torch.long),
    }


@entry
def audio_spectrogram() -> Built:
    config = hf.ASTConfig(**{k: v for k, v in VISION.items() if k != "image_size"}, num_mel_bins=16, max_length=32)
    return hf.ASTForAudioClassification(config), {"input_values": torch.randn(2, 32, 16), **ONE}


@entry
def clip() -> Built:
    config = hf.CLIPConfig(text_config={**TEXT, "max_position_embeddings": 16}, vision_config=VISION, projection_dim=8)
    return hf.CLIPModel(config), {"input_ids": IDS, "pixel_values": torch.randn(2, 3, 32, 32), "return_loss": True}


@entry
def siglip() -> Built:
    config = hf.SiglipConfig(text_config={**TEXT, "max_position_embeddings": 16}, vision_config=VISION)
    return hf.SiglipModel(config), {"input_ids": IDS, "pixel_values": torch.randn(2, 3, 32, 32), "return_loss": True}


@entry
def lora() -> Built:
    import peft

    model, inputs = ZOO["llama"]()
    return peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules=["q_proj", "v_proj"])), inputs


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.embed, self.rnn, self.head = (
            nn.Embedding(20, 8),
            kind(8, 8, num_layers=2, batch_first=True),
            nn.Linear(8, 3),
        )

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.head(self.rnn(self.embed(ids))[0][:, -1])


@entry
def lstm() -> Built:
    return Recurrent(nn.LSTM), (torch.randint(0, 20, (2, 5)),)


@entry
def gru() -> Built:
    return Recurrent(nn.GRU), (torch.randint(0, 20, (2, 5)),)


class Packed(Recurrent):
    def forward(self, ids: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        packed = nn.utils.rnn.pack_padded_sequence(self.embed(ids), lengths, batch_first=True, enforce_sorted=False)
        _, (hidden, _) = self.rnn(packed)
        return self.head(hidden[-1])


@entry
def packed_lstm() -> Built:
    return Packed(nn.LSTM), (torch.randint(0, 20, (2, 5)), torch.tensor([5, 3]))


class Net(nn.Module):
    """Two layers, an unused one, and a head behind `forward`."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.unused = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 8)
        self.norm, self.head = nn.BatchNorm1d(8), nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.second(self.first(x).relu())))


X = (torch.randn(4, 6),)


@entry
def unused_layer() -> Built:
    return Net(), X


@entry
def detached_branch() -> Built:
    class Detached(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.first(x).relu()
            return self.head(self.norm(hidden) + self.second(hidden).detach())

    return Detached(), X


@entry
def frozen_branch() -> Built:
    model = Net()
    model.first.requires_grad_(False)
    return model, X


@entry
def without_gradient() -> Built:
    class Guarded(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with torch.no_grad():
                hidden = self.first(x).relu()
            return self.head(self.norm(self.second(hidden)))

    return Guarded(), X


@entry
def branch_on_data() -> Built:
    class Branching(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.first(x)
            hidden = self.second(hidden) if hidden.mean() > -100 else self.unused(hidden)
            return self.head(self.norm(hidden))

    return Branching(), X


@entry
def checkpointed() -> Built:
    class Checkpointed(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = checkpoint(self.first, x, use_reentrant=False)
            return self.head(self.norm(self.second(hidden)))

    return Checkpointed(), X


@entry
def weight_norm() -> Built:
    model = Net()
    nn.utils.parametrizations.weight_norm(model.first)
    nn.utils.parametrizations.spectral_norm(model.second)
    return model, X


@entry
def several_outputs() -> Built:
    class Two(Net):
        def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:  # type: ignore[override]
            hidden = self.first(x)
            return {"logits": self.head(hidden), "auxiliary": self.second(hidden)}

    return Two(), X


class NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        return x * weight

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> tuple[torch.Tensor, None]:
        return grad, None


@entry
def custom_function_without_gradient() -> Built:
    class Custom(Net):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(NoGradient.apply(self.second(self.first(x)), self.scale)))

    return Custom(), X


@entry
def routed_experts() -> Built:
    class Routed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.router = nn.Linear(6, 3)
            self.experts = nn.ModuleList(nn.Linear(6, 6) for _ in range(3))
            with torch.no_grad():
                self.router.weight.zero_()
                self.router.bias.zero_()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weights = self.router(x).softmax(-1)
            out = torch.zeros_like(x)
            for index, expert in enumerate(self.experts):
                rows = (weights[:, index] > 0.1).nonzero().flatten()
                out = out.index_add(0, rows, expert(x[rows]) * weights[rows, index, None])
            return out

    return Routed(), X


@entry
def shared_weights() -> Built:
    model = Net()
    model.unused = model.second
    return model, X


@entry
def transformer_of_torch() -> Built:
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), (torch.randn(2, 5, 8),)


@entry
def u_net() -> Built:
    class UNet(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down, self.deep = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
            self.up, self.out = nn.ConvTranspose2d(8, 8, 2, 2), nn.Conv2d(11, 3, 1)
            self.norm = nn.GroupNorm(2, 8)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.norm(self.deep(self.down(x).relu()))
            return self.out(torch.cat([self.up(hidden), x], 1))

    return UNet(), (torch.randn(2, 3, 16, 16),)


@entry
def variational() -> Built:
    class Variational(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean, spread = self.first(x), self.second(self.first(x))
            return self.head(mean + torch.randn_like(mean) * (0.5 * spread).exp())

    return Variational(), X


@entry
def scripted_part() -> Built:
    model = Net()
    model.second = torch.jit.script(nn.Linear(8, 8))
    return model, X


@entry
def hand_written_norm() -> Built:
    class RMS(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.g = nn.Parameter(torch.ones(8))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * self.g

    return nn.Sequential(nn.Linear(6, 8), RMS(), nn.Linear(8, 3)), X


@entry
def numpy_inside() -> Built:
    class Numpy(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            factor = float(x.detach().numpy().mean())
            return self.head(self.norm(self.second(self.first(x)))) * (1 + 0 * factor)

    return Numpy(), X


@entry
def video() -> Built:
    config = hf.TimesformerConfig(**VISION, num_frames=2)
    return hf.TimesformerForVideoClassification(config), {"pixel_values": torch.randn(2, 2, 3, 32, 32), **ONE}


@entry
def series_of_patches() -> Built:
    config = hf.PatchTSTConfig(
        num_input_channels=2, context_length=16, patch_length=4, patch_stride=4, prediction_length=4, d_model=16,
        num_hidden_layers=1, num_attention_heads=2, ffn_dim=32,
    )  # fmt: skip
    return hf.PatchTSTForPrediction(config), {
        "past_values": torch.randn(2, 16, 2),
        "future_values": torch.randn(2, 4, 2),
    }


@entry
def multiple_choice() -> Built:
    model = hf.ElectraForMultipleChoice(hf.ElectraConfig(**TEXT, embedding_size=16))
    return model, {"input_ids": torch.stack([IDS, IDS.flip(1)], 1), **ONE}


@entry
def without_images() -> Built:
    """Of several modalities one may be missing."""
    config = hf.LlavaConfig(
        text_config=hf.LlamaConfig(**TEXT, num_key_value_heads=1), vision_config=hf.CLIPVisionConfig(**VISION), image_token_id=63
    )  # fmt: skip
    return hf.LlavaForConditionalGeneration(config), {"input_ids": IDS, **LABELS}


@entry
def table_among_layers() -> Built:
    class Table(Net):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(20, 6)

        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.second(self.first(self.embed(ids).mean(1)))))

    return Table(), (torch.randint(0, 20, (2, 5)),)


@entry
def checkpointed_reentrant() -> Built:
    """Autograd's graph leads to none of the parameters: the backward pass runs the layers again and fills them."""

    class Reentrant(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = checkpoint(self.first, x.clone().requires_grad_(), use_reentrant=True)
            return self.head(self.norm(checkpoint(self.second, hidden, use_reentrant=True)))

    return Reentrant(), X


@entry
def checkpointed_without_input_gradient() -> Built:
    """The reentrant checkpoint's known trap: nothing that goes in requires a gradient, so nothing inside gets one."""

    class Reentrant(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(self.norm(self.second(checkpoint(self.first, x, use_reentrant=True))))

    return Reentrant(), X


@entry
def layers_in_threads() -> Built:
    class Threaded(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            with ThreadPoolExecutor(2) as pool:
                first, second = pool.map(lambda layer: layer(x), [self.first, self.first])
            return self.head(self.norm(self.second(first + second)))

    return Threaded(), X


def dropped_at_random(draw: Callable[[], float]) -> Callable[[], Built]:
    class Dropping(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            hidden = self.first(x)
            for layer in (self.second, self.unused):
                if draw() > 0.5:
                    hidden = hidden + layer(hidden)
            return self.head(self.norm(hidden))

    return lambda: (Dropping(), X)


ZOO["layers_dropped_by_python"] = dropped_at_random(random.random)
ZOO["layers_dropped_by_torch"] = dropped_at_random(lambda: torch.rand(1).item())
ZOO["layers_dropped_by_numpy"] = dropped_at_random(numpy.random.rand)


class Result(NamedTuple):
    loss: torch.Tensor
    auxiliary: torch.Tensor


@entry
def named_tuple_with_loss() -> Built:
    class Named(Net):
        def forward(self, x: torch.Tensor) -> Result:  # type: ignore[override]
            hidden = self.first(x)
            return Result(self.head(hidden).pow(2).mean(), self.second(hidden))

    return Named(), X


@entry
def filter_of_frequencies() -> Built:
    class Filter(Net):
        def __init__(self) -> None:
            super().__init__()
            self.filter = nn.Parameter(torch.randn(5, dtype=torch.cfloat))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            spectrum = torch.fft.rfft(self.first(x)) * self.filter
            return self.head(self.norm(torch.fft.irfft(spectrum, n=8)))

    return Filter(), X


@entry
def nested_tensors() -> Built:
    class Ragged(Net):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            parts = torch.nested.nested_tensor([x[:1], x[1:]])
            return self.head(self.first(parts).to_padded_tensor(0.0))

    return Ragged(), X


@entry
def scripted_whole() -> Built:
    return torch.jit.script(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))), X
