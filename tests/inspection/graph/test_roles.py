"""What a parameter is for, by what operators do with it: compared with labels written by hand from the models' code."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from architectures import ZOO
from torch import nn

from lrlint.facts import ParameterUse
from lrlint.inspection.graph.observe import observe

#: Names → roles, first match wins; several roles where a parameter serves several ends.
LABELS = [
    (r"rel_attn\.(r_._bias)|attention\.r_._bias", "bias"),
    (r"seg_embed$", "linear_weight token"),
    (r"lora_(A|B)", "lora_A lora_B"),
    (r"(rnn|lstm|gru)\.weight_[ih]h", "rnn"),
    (r"(rnn|lstm|gru)\.bias_[ih]h", "bias"),
    (r"(relative_attention_bias|relative_position_bias_table)", "attn_bias"),
    (r"rel_embeddings\.weight", "pos_embed token"),
    (r"(position_embeddings?|time_embeddings|position_enc|embed_positions|wpe|decoder_pos_embed|mid_position_embeddings)(\.weight)?$", "pos_embed"),
    (r"(cls_token|class_embedding|distillation_token|detection_tokens|head\.probe)$", "token"),
    (r"mask_token$", "token mask_token"),
    (r"masked_spec_embed$", "mask_token"),
    (r"(lambda_?\d|layer_scale_parameter)$", "layer_scale"),
    (r"logit_scale$", "temperature"),
    (r"mixer\.A_log$|time_decay$", "ssm_A_log"),
    (r"mixer\.D$", "ssm_skip"),
    (r"dt_bias$|time_first$|logit_bias$", "bias"),
    (r"time_mix_\w+$", "gate"),
    (r"parametrizations\.weight\.original1?$", "conv_weight linear_weight"),
    (r"parametrizations\.weight\.original0$", "magnitude"),
    (r"experts\.(gate_up|down)_proj$", "expert_weight"),
    (r"(wte|(word|token)_embeddings?|token_type_embeddings|embed_tokens|embed_in|shared|^embed|\.embeddings)\.weight$", "embedding"),
    (r"pwconv\d\.weight$", "linear_weight"),
    (r"downsampling_layer\.0\.weight$", "norm_scale"),
    (r"downsampling_layer\.0\.bias$", "norm_shift"),
    (r"(norm|ln|layernorm|layer_norm|normalization|batch_norm|grn)[a-z_]*\d*\.weight$", "norm_scale"),
    (r"(norm|ln|layernorm|layer_norm|normalization|batch_norm|grn)[a-z_]*\d*\.bias$", "norm_shift"),
    (r"(^|\.)(ln_\w+|pre_ln|norm_f|layrnorm|pre_layrnorm)\.weight$", "norm_scale"),
    (r"(^|\.)(ln_\w+|pre_ln|norm_f|layrnorm|pre_layrnorm)\.bias$", "norm_shift"),
    (r"^1\.g$", "norm_scale"),
    (r"^scale$", "gate norm_scale layer_scale"),
    (r"^filter$", "gate"),
    (r"(conv|convolution|conv\dd|dwconv|conv1|conv2|patch_embeddings?|patch_embeddings\.proj(ection)?|input_projection)\.weight$", "conv_weight"),
    (r"(sequence_reduction\.sequence_reduction|downsampling_layer\.1|linear_fuse|decode_head\.classifier)\.weight$", "conv_weight"),
    (r"regnet\..*attention\.\d\.weight$", "conv_weight"),
    (r"^(down|deep|up|out)\.weight$", "conv_weight"),
    (r"\.weight$|in_proj_weight$|rel_attn\.[qkvor]$|r_kernel$", "linear_weight"),
    (r"bias$", "bias"),
]  # fmt: skip


def label(name: str) -> set[str]:
    return set(next((roles for pattern, roles in LABELS if re.search(pattern, name, re.IGNORECASE)), "").split())


def uses(model: nn.Module, inputs: Any) -> dict[str, ParameterUse]:
    torch.manual_seed(0)
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    facts, notes = observe({"": model}, name_of, example_inputs=inputs)
    assert facts is not None, notes
    return dict(facts.parameters)


@pytest.mark.long
def test_roles_of_known_architectures() -> None:
    checked, wrong, unlabelled, architectures = 0, [], [], 0
    for key, build in ZOO.items():
        architectures += 1
        for name, use in uses(*build()).items():
            if use.used:
                checked += 1
                if not label(name):
                    unlabelled.append((key, name))
                elif use.role not in label(name):
                    wrong.append((key, name, use.role))
    assert not unlabelled
    assert checked > 1000
    assert architectures >= 60
    assert len(wrong) <= 0.01 * checked, wrong


class Norm(nn.Module):
    """Something normalised in between two layers, in one of many spellings."""

    def __init__(self, spelling: Callable[..., torch.Tensor], shape: tuple[int, ...] = (8,), convolve: bool = False):
        super().__init__()
        self.spelling = spelling
        self.first = nn.Conv2d(3, 8, 3) if convolve else nn.Linear(6, 8)
        self.last = nn.Conv2d(8, 2, 3) if convolve else nn.Linear(8, 2)
        self.s = nn.Parameter(torch.ones(shape))
        self.t = nn.Parameter(torch.zeros(shape))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.spelling(self.first(x), self.s, self.t))


def with_variance(x: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    variance, mean = torch.var_mean(x, -1, keepdim=True, correction=0)
    return (x - mean) * (variance + 1e-5).rsqrt() * s + t


def in_single_precision(x: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    wide = x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + 1e-6)
    return s * wide.to(x.dtype) + t


def from_moments(x: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    mean = x.mean(-1, keepdim=True)
    variance = (x * x).mean(-1, keepdim=True) - mean * mean
    return s * ((x - mean) / torch.sqrt(variance + 1e-5)) + t


def centred_once(x: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    x = x - x.mean(-1, keepdim=True)
    return x / (x.pow(2).mean(-1, keepdim=True) + 1e-5).sqrt() * s + t


def functional_rms(x: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return F.rms_norm(x, (8,)) * s + t


def into_the_statistic(x: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return x * (s * (x.pow(2).mean(-1, keepdim=True) + 1e-6) ** -0.5) + t


def channels_first(x: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    mean = x.mean(1, keepdim=True)
    variance = (x - mean).pow(2).mean(1, keepdim=True)
    return s[:, None, None] * ((x - mean) / torch.sqrt(variance + 1e-6)) + t[:, None, None]


def over_the_batch(x: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    mean, variance = x.mean((0, 2, 3), keepdim=True), x.var((0, 2, 3), keepdim=True, unbiased=False)
    return (x - mean) * torch.rsqrt(variance + 1e-5) * s + t


SPELLINGS: dict[str, tuple[Callable[..., torch.Tensor], bool]] = {
    "rsqrt of the mean square": (
        lambda x, s, t: x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * s + t,
        False,
    ),
    "divided by the root": (lambda x, s, t: s * (x / (x.pow(2).mean(-1, keepdim=True) + 1e-6).sqrt()) + t, False),
    "divided by its length": (lambda x, s, t: x / x.norm(dim=-1, keepdim=True) * 8**0.5 * s + t, False),
    "F.normalize": (lambda x, s, t: F.normalize(x, dim=-1) * 8**0.5 * s + t, False),
    "one plus scale": (lambda x, s, t: x * torch.rsqrt((x**2).mean(-1, keepdim=True) + 1e-6) * (1 + s) + t, False),
    "scale, then rsqrt": (lambda x, s, t: s * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) + t, False),
    "mean and std": (lambda x, s, t: s * (x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-6) + t, False),
    "F.layer_norm": (lambda x, s, t: F.layer_norm(x, (8,), s, t), False),
    "F.layer_norm, scaled by hand": (lambda x, s, t: F.layer_norm(x, (8,)) * s + t, False),
    "F.rms_norm": (functional_rms, False),
    "F.group_norm": (lambda x, s, t: F.group_norm(x, 2, s, t), True),
    "F.batch_norm": (lambda x, s, t: F.batch_norm(x, None, None, s, t, training=True), True),
    "F.instance_norm": (lambda x, s, t: F.instance_norm(x, weight=s, bias=t), True),
    "var_mean": (with_variance, False),
    "in single precision": (in_single_precision, False),
    "from moments": (from_moments, False),
    "centred once": (centred_once, False),
    "scale times statistic": (into_the_statistic, False),
    "channels first": (channels_first, True),
    "addcmul": (lambda x, s, t: torch.addcmul(t, F.layer_norm(x, (8,)), s), False),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_norm_is_known_in_any_spelling(spelling: str) -> None:
    function, convolve = SPELLINGS[spelling]
    found = uses(Norm(function, convolve=convolve), (torch.randn(4, 3, 9, 9) if convolve else torch.randn(4, 5, 6),))
    assert found["s"].role == "norm_scale"
    assert found["t"].role == "norm_shift"
    assert found["first.weight"].role == ("conv_weight" if convolve else "linear_weight")
    assert found["first.bias"].role == "bias"


def test_a_batch_norm_written_by_hand() -> None:
    found = uses(Norm(over_the_batch, (8, 1, 1), convolve=True), (torch.randn(4, 3, 9, 9),))
    assert found["s"].role == "norm_scale"
    assert found["first.bias"].bias_cancelled is True


def softmax_like(x: torch.Tensor, s: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    shares = x.exp()
    return shares / shares.sum(-1, keepdim=True) * s + t


#: What looks like a normalisation and is none.
NEAR_MISSES: dict[str, Callable[..., torch.Tensor]] = {
    "shares of a sum": softmax_like,
    "energy of another value": lambda x, s, t: x * torch.rsqrt(x.roll(1, 0).abs().sum() + 1.0) * s + t,
    "minus the mean only": lambda x, s, t: (x - x.mean(-1, keepdim=True)) * s + t,
    "times its mean square": lambda x, s, t: x * x.pow(2).mean(-1, keepdim=True) * s + t,
    "times an energy without a root": lambda x, s, t: x / (x.pow(2).mean(-1, keepdim=True) + 1e-6) * s + t,
}


@pytest.mark.parametrize("spelling", NEAR_MISSES)
def test_what_is_no_norm(spelling: str) -> None:
    found = uses(Norm(NEAR_MISSES[spelling]), (torch.randn(4, 5, 6),))
    assert found["s"].role == "gate"
    assert found["t"].role == "bias"


class Custom(nn.Module):
    """A net whose forward is a function of its parameters."""

    def __init__(self, forward: Callable[..., torch.Tensor], **shapes: tuple[int, ...]) -> None:
        super().__init__()
        self.run = forward
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 2)
        for name, shape in shapes.items():
            self.register_parameter(name, nn.Parameter(torch.rand(shape)))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.run(self, self.first(x)))


def attention(m: Any, x: torch.Tensor) -> torch.Tensor:
    q, k = F.normalize(x @ m.q, dim=-1), F.normalize(x @ m.k, dim=-1)
    scores = q @ k.transpose(-1, -2) * m.tau.exp() + m.table
    return x + scores.softmax(-1) @ x


def masked(m: Any, x: torch.Tensor) -> torch.Tensor:
    hidden = (torch.arange(x.shape[1]) % 2 == 0)[None, :, None]
    return torch.where(hidden, m.mask, x)


def low_rank(m: Any, x: torch.Tensor) -> torch.Tensor:
    return x @ m.w + (F.dropout(x, 0.1) @ m.a) @ m.b * 0.5


def experts(m: Any, x: torch.Tensor) -> torch.Tensor:
    shares, chosen = (x @ m.router).topk(2, -1)
    return x + sum((x @ m.stack[expert]) * (shares * (chosen == expert)).sum(-1, keepdim=True) for expert in range(3))


def scan(m: Any, x: torch.Tensor) -> torch.Tensor:
    state, outputs = torch.zeros_like(x[:, 0]), []
    decay = torch.exp(-torch.exp(m.a_log) * F.softplus(x))
    for step in range(x.shape[1]):
        state = state * decay[:, step] + x[:, step]
        outputs.append(state)
    return torch.stack(outputs, 1) + x * m.d


CUSTOM: dict[str, tuple[nn.Module, dict[str, str]]] = {
    "residual branch": (
        Custom(lambda m, x: x + m.gamma * F.gelu(x @ m.w), gamma=(8,), w=(8, 8)),
        {"gamma": "layer_scale", "w": "linear_weight"},
    ),
    "residual branch of one number": (
        Custom(lambda m, x: x + F.dropout(m.alpha * F.relu(m.first(x[..., :6])), 0.1), alpha=()),
        {"alpha": "layer_scale"},
    ),
    "gate": (Custom(lambda m, x: x * torch.sigmoid(m.g), g=(8,)), {"g": "gate"}),
    "attention": (
        Custom(attention, q=(8, 8), k=(8, 8), tau=(), table=(5, 5)),
        {"q": "linear_weight", "k": "linear_weight", "tau": "temperature", "table": "attn_bias"},
    ),
    "tokens": (
        Custom(lambda m, x: torch.cat([m.cls.expand(len(x), -1, -1), x], 1) + m.pos, cls=(1, 1, 8), pos=(1, 6, 8)),
        {"cls": "token", "pos": "pos_embed"},
    ),
    "table of places": (
        Custom(lambda m, x: x + F.embedding(torch.arange(x.shape[1]), m.table), table=(16, 8)),
        {"table": "pos_embed"},
    ),
    "table of values": (
        Custom(lambda m, x: x + F.embedding((x[..., 0] > 0).long(), m.table), table=(16, 8)),
        {"table": "embedding"},
    ),
    "activation with a parameter": (
        Custom(lambda m, x: x + (m.alpha * x).sin().pow(2) / (m.alpha + 1e-9), alpha=(8,)),
        {"alpha": "gate"},
    ),
    "bias by heads": (
        Custom(
            lambda m, x: ((x @ m.w).unflatten(-1, (2, 12))[..., :4] + m.b.view(2, 4)).flatten(-2), w=(8, 24), b=(8,)
        ),
        {"w": "linear_weight", "b": "bias"},
    ),
    "affine flow, backwards": (
        Custom(lambda m, x: (x - m.shift) * torch.exp(-m.log_scale), shift=(8,), log_scale=(8,)),
        {"shift": "bias", "log_scale": "gate"},
    ),
    "mask token": (Custom(masked, mask=(8,)), {"mask": "mask_token"}),
    "adapter": (Custom(low_rank, w=(8, 8), a=(8, 2), b=(2, 8)), {"w": "linear_weight", "a": "lora_A", "b": "lora_B"}),
    "experts": (
        Custom(experts, router=(8, 3), stack=(3, 8, 8)),
        {"router": "linear_weight", "stack": "expert_weight"},
    ),
    "scan": (Custom(scan, a_log=(8,), d=(8,)), {"a_log": "ssm_A_log", "d": "ssm_skip"}),
    "PReLU": (Custom(lambda m, x: F.prelu(x.transpose(1, 2), m.slope).transpose(1, 2), slope=(8,)), {"slope": "slope"}),
    "merged adapter": (
        Custom(lambda m, x: F.linear(x, m.w + m.b @ m.a), w=(8, 8), a=(2, 8), b=(8, 2)),
        {"w": "linear_weight", "a": "linear_weight", "b": "linear_weight"},
    ),
    "standardised weight": (
        Custom(lambda m, x: F.linear(x, (m.w - m.w.mean(1, keepdim=True)) / m.w.std(1, keepdim=True)), w=(8, 8)),
        {"w": "linear_weight"},
    ),
}


@pytest.mark.parametrize("case", CUSTOM)
def test_roles_in_hand_written_code(case: str) -> None:
    model, expected = CUSTOM[case]
    found = uses(model, (torch.randn(4, 5, 6),))
    assert {name: found[name].role for name in expected} == expected
