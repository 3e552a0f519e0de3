"""Batch norm momentum in TensorFlow's convention: the running statistics follow the last batch alone.

PyTorch's `momentum` is the weight of the new batch (0.1), TensorFlow's and Keras' that of the old average (0.99).
Ported without translation, 0.99 makes the running mean the mean of the last batch: after batches with means 0 to 9 it
is 9.47. Training looks fine, evaluation is noise. torchvision shipped MaxViT like that.

What to do: `momentum = 1 - tf_momentum`, so 0.01 for 0.99.

Reported for batch norms, and instance norms that track statistics, above `limit`. Left alone: None (cumulative
average), frozen layers in evaluation mode, and 1.0 where the target declares `precise_bn=True`. No model of timm or
torchvision has such a value today.

Sources: https://github.com/pytorch/vision/issues/8250, https://github.com/ludwig-ai/ludwig/pull/2100,
https://github.com/kazuto1011/deeplab-pytorch/issues/79, https://github.com/r9y9/tacotron_pytorch/issues/19,
https://docs.pytorch.org/docs/stable/generated/torch.nn.BatchNorm2d.html
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count, number


@rule("LR505", severity="error", confidence="high")
def bn_momentum_convention(setup: Setup, *, limit: float = 0.5) -> Iterator[Finding]:
    found = {}
    for norm in setup.norms:
        if norm.kind not in ("batch", "instance") or not norm.tracks_statistics:
            continue
        if norm.momentum is None or norm.momentum <= limit or _fixed(norm):
            continue
        if norm.momentum == 1 and setup.training.options.get("precise_bn"):
            continue
        found.setdefault(norm.momentum, []).append(norm)
    for momentum, norms in found.items():
        yield Finding(
            norms,
            f"momentum {number(momentum)} in {count(len(norms), 'norm layer')}: the last batch makes up {momentum:.3g} "
            f"of the running statistics: {describe(norm.path for norm in norms)}",
            data={"momentum": momentum, "norms": len(norms)},
            help=f"PyTorch's momentum is 1 minus TensorFlow's ({max(1 - momentum, 0.0):.2g}?); the default is 0.1",
        )


def _fixed(norm):
    """Frozen and kept in evaluation mode: its statistics do not move."""
    own = [parameter for parameter in (norm.weight, norm.bias) if parameter is not None]
    return bool(own) and not any(parameter.requires_grad for parameter in own) and not norm.trains_statistics
