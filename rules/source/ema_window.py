"""The average of weights reaches back further than half of the run: it still holds the initialisation.

An exponential average with decay d is a mean over the last 1 / (1 − d) steps. 0.9999 means 10,000 steps; in a run of 5,000
the initial weights still have a share of 60 % in what is evaluated.

What to do: `decay = 1 - 10 / total_steps` or so, or an average whose decay is warmed up (`min(d, (1 + t) / (10 + t))`).

*Info*. Needs the declared `total_steps` and `ema_decay`, the latter per optimizer step (`ema_every` steps where declared).
`ema_warmup=True` declares that the decay is warmed up, as timm's and diffusers' averages do.

Sources: https://arxiv.org/abs/2312.02696 (length of the average beside the length of the run),
https://github.com/huggingface/diffusers (`EMAModel`), https://github.com/huggingface/pytorch-image-models (`ModelEmaV3`)
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule


@rule("LR710", severity="info", confidence="medium", needs=("optimizer", "total_steps"))
def ema_window(setup: Setup, *, share: float = 0.5) -> Iterator[Finding]:
    declared, total = setup.training.options, setup.training.total_steps
    decay, every = declared.get("ema_decay"), declared.get("ema_every") or 1
    if not isinstance(decay, float) or not isinstance(every, int) or not 0 < decay < 1 or declared.get("ema_warmup"):
        return
    window = every / (1 - decay)
    if window > share * total * (1 + 1e-9):
        left = decay ** (total / every)
        yield Finding(
            setup.optimizers[0],
            f"ema_decay {decay:g} averages over {window:.0f} steps of {total}: the initialisation still has a share of "
            f"{left:.0%} at the end",
            data={"window": window, "total_steps": total, "left": left},
            help="a shorter average, or one whose decay is warmed up",
        )
