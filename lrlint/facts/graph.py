"""What the forward pass does with each parameter."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ParameterUse:
    """How one parameter takes part in the observed pass.

    A field is None where it could not be established.

    ``used``: an operator of the pass reads it. ``reaches_output``: autograd leads from an output back to it
    (``outputs`` names them). ``detached``: used, but no output leads back to it. ``guessed``: the verdict depends on a
    value that had to be guessed, or a layer that is dropped at random.
    ``role`` is by what operators do with it: linear_weight, conv_weight, expert_weight, rnn, embedding, bias,
    norm_scale, norm_shift, layer_scale, pos_embed, token, mask_token, attn_bias, temperature, gate, slope (of PReLU),
    magnitude (of a weight norm), ssm_A_log, ssm_skip, lora_A, lora_B or unknown.
    ``order``: rank of the first use. ``depth_from_input`` and ``depth_from_output``: layers with weights before the first
    and after the last use, along the longest path; 0 at the ends.
    ``followed_by``/``preceded_by``: the nearest normalisation or activation with no other layer between: its module path,
    or its operator (``relu``) where it has no module of its own.
    ``uses``: paths of the modules in which it is used; ``count``: by how many operators.
    ``scale_invariant``: multiplying it by a positive number changes no output. ``bias_cancelled``: adding a constant to it
    changes no output, so its gradient is zero.
    """

    reaches_output: bool | None = None
    used: bool | None = None
    detached: bool | None = None
    guessed: bool = False
    role: str | None = None
    order: int | None = None
    depth_from_input: int | None = None
    depth_from_output: int | None = None
    followed_by: str | None = None
    preceded_by: str | None = None
    uses: tuple[str, ...] = ()
    count: int = 0
    outputs: tuple[str, ...] = ()
    scale_invariant: bool | None = None
    bias_cancelled: bool | None = None


@dataclass(frozen=True, slots=True)
class NormUse:
    """A norm layer (or hand-written normalisation) as it ran.

    ``kind``: layer, rms, batch, instance, group, l2 (to unit length) or response. ``scale`` and ``shift`` are the names of
    its parameters. ``axes`` are those that are normalised over, ``elements`` how many values share one statistic in the
    pass, ``elements_per_sample`` how many of them each sample of the batch contributes.
    """

    path: str
    kind: str
    axes: tuple[int, ...] = ()
    uses_batch_statistics: bool = False
    updates_statistics: bool = False
    elements: int | None = None
    elements_per_sample: int | None = None
    scale: str | None = None
    shift: str | None = None


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """One observed pass. ``parameters`` maps canonical names, ``norms`` module paths.

    ``inputs`` says how the inputs were found; ``complete``: the pass ran to its end and no value was guessed.
    """

    method: str
    inputs: str
    complete: bool
    parameters: Mapping[str, ParameterUse] = field(default_factory=dict)
    norms: Mapping[str, NormUse] = field(default_factory=dict)
    operators: int = 0
