"""Adam's eps vanishes in float16: the first element with a zero gradient becomes NaN.

For float16 parameters torch's Adam family (other than its fused kernels) computes in float16, where eps of 1e-8 rounds
to 0. The update of an element without gradient is then 0/0. Measured with AdamW at eps 1e-8 on gradients (0, 1e-4,
1e-2, 1): [nan, -inf, 0.999, 0.999]; at 6e-8 the second element moves by 1680 times the rate; at 1e-4 all is well.

What to do: keep parameters in float32 and use autocast; else `eps=1e-4`, or `fused=True`, which computes in float32.

*Error* up to 2^-25 (2.98e-8), which rounds to 0 in float16; *warning* below 1e-5. Left alone: bfloat16 (it has the
range of float32), optimizers that keep float32 copies or states (apex, bitsandbytes, DeepSpeed).

Sources: https://github.com/pytorch/pytorch/issues/8860, https://github.com/google-deepmind/optax/issues/1754,
https://github.com/NVIDIA/apex/issues/240, https://github.com/pytorch/pytorch/issues/147437; measured with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count, number

_ROUNDS_TO_ZERO = 2.0**-25
_IN_FLOAT32 = ("apex", "bitsandbytes", "deepspeed")


@rule("LR603", severity="error", confidence="high", needs=("optimizer",))
def half_precision_adam_eps(setup: Setup, *, safe: float = 1e-5) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        if optimizer.master_weights or optimizer.module.startswith(_IN_FLOAT32):
            continue
        found = {}
        for group in optimizer.groups:
            eps = group.number("eps")
            half = [p for p in group.trainable if p.dtype == "float16" and group.family == "adam"]
            if half and eps is not None and eps < safe and group.options.get("fused") is not True:
                found.setdefault(eps, []).extend(member for member in group.members if member.parameter in half)
        for eps, members in found.items():
            vanishes = eps <= _ROUNDS_TO_ZERO
            effect = "is 0 in float16: an element without gradient becomes NaN" if vanishes else "is tiny in float16"
            yield Finding(
                members,
                f"eps {number(eps)} of {optimizer.class_name} {effect}; "
                f"{count(len(members), 'float16 parameter')}: {describe(m.name for m in members)}",
                data={"eps": eps, "parameters": len(members)},
                help="float32 parameters with autocast; else eps=1e-4 or fused=True",
                key="eps",
                severity="" if vanishes else "warning",
            )
