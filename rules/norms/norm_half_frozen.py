"""Half of a normalisation layer is frozen: the scale and not the shift, or the reverse.

Freezing by name often does it by accident (`requires_grad = "bias" in name`). Some recipes do it on purpose: airbench
trains only the shifts of its batch norms, re-identification code freezes the shift of its last one (BNNeck). So this is
*info*.

What to do: freeze layers by module (`norm.requires_grad_(False)`) where both halves were meant.

Reported once for frozen scales and once for frozen shifts. Silent where every bias of the model trains and all else is
frozen (BitFit), and the reverse: that is a policy and not an accident.

Sources: https://github.com/KellerJordan/cifar10-airbench, https://github.com/michuanhaohao/reid-strong-baseline,
https://arxiv.org/abs/2106.10199 (BitFit)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR509", severity="info", confidence="high")
def norm_half_frozen(setup: Setup) -> Iterator[Finding]:
    if _bias_tuning(setup.parameters):
        return
    halves = [norm for norm in setup.norms if norm.weight is not None and norm.bias is not None]
    for still, moving in (("weight", "bias"), ("bias", "weight")):
        found = [n for n in halves if getattr(n, moving).requires_grad and not getattr(n, still).requires_grad]
        if found:
            words = {"weight": "scale", "bias": "shift"}
            yield Finding(
                found,
                f"the {words[still]} is frozen and the {words[moving]} trains in {count(len(found), 'norm layer')}: "
                f"{describe(norm.path for norm in found)}",
                data={"norms": len(found), "frozen": words[still]},
                help="freeze by module: `norm.requires_grad_(False)`",
            )


def _bias_tuning(parameters):
    """Whether exactly the biases train (a head aside)."""
    body = [p for p in parameters if p.origin == "model" and not p.is_head]
    trained = [p for p in body if p.requires_grad]
    return bool(trained) and all(p.role == "bias" for p in trained) and any(p.role == "matrix" for p in body)
