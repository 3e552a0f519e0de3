"""A gradient scaler meets trainable parameters in float16: the first step raises.

GradScaler multiplies the loss so that float16 *activations* do not underflow, and expects float32 parameters with
float32 gradients. With float16 parameters its `unscale_` raises "Attempting to unscale FP16 gradients". Loading a model
with `torch_dtype=torch.float16` and training it, or adapters added to it, with `fp16=True` is the usual way there.

What to do: `parameter.data = parameter.data.float()` for what trains (adapters, the new head), or load in float32.

Reported when a gradient scaler or mixed float16 precision is declared and an optimizer holds trainable float16
parameters. DeepSpeed's and apex's scalers keep float32 copies and are left alone, as is pure float16 without a scaler.

Sources: https://github.com/huggingface/diffusers/issues/6086, https://github.com/haotian-liu/LLaVA/issues/363;
reproduced with torch 2.13
"""

import re
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count

_KEEPS_COPIES = re.compile("deepspeed|apex|megatron", re.IGNORECASE)


@rule("LR605", severity="error", confidence="high", needs=("optimizer",))
def fp16_params_with_grad_scaler(setup: Setup) -> Iterator[Finding]:
    scaler, precision = setup.training.grad_scaler, setup.training.precision
    if precision != "fp16-mixed" and (scaler is None or precision == "fp16"):
        return
    declared = f"a gradient scaler ({scaler.rpartition('.')[2]})" if scaler else "mixed float16 precision"
    for optimizer in setup.optimizers:
        if optimizer.master_weights or _KEEPS_COPIES.search(f"{scaler} {optimizer.module} {optimizer.wraps}"):
            continue
        half = optimizer.members.where(lambda member: member.requires_grad and member.dtype == "float16")
        if half:
            yield Finding(
                half,
                f"{declared} and {count(len(half), 'trainable float16 parameter')} in {optimizer.label}: its first "
                f"unscale_ raises; {describe(member.name for member in half)}",
                data={"parameters": len(half), "precision": precision, "scaler": scaler},
                help="cast what trains to float32: parameter.data = parameter.data.float()",
            )
