"""Weight decay is applied to the dynamics of a state-space or recurrent layer (`A_log`, `D`, `dt_bias`, ...).

These parameters are logarithms of time constants and similar: zero is no neutral value, and decay changes how long
the layer remembers. The original Mamba and S4 code exempts them; libraries that port the layers often lose the marks,
and the transformers Trainer decays `A_log` and `D`.

What to do: a group with `weight_decay` 0 for them.

Told by parameter name and owner class. This is *info*: decaying them is common (the Trainer does for 24
architectures), and sound published setups do it. Where the author marked them see `author-declared-no-decay-ignored`.

Sources: https://github.com/state-spaces/mamba/blob/main/mamba_ssm/modules/mamba_simple.py (`_no_weight_decay`),
https://github.com/state-spaces/mamba/issues/798, https://github.com/athms/mad-lab/issues/5
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import decays, trainable
from lrlint.text.names import describe
from lrlint.text.wording import count, listing, number


@rule("LR308", severity="info", confidence="high", needs=("optimizer",))
def decay_on_ssm_dynamics(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        found = trainable(optimizer, "ssm").where(lambda member: decays(member) and not member.no_decay)
        if not found:
            continue
        strengths = sorted({member.weight_decay for member in found})
        yield Finding(
            found,
            f"{count(len(found), 'parameter')} of state-space dynamics decayed at {listing(map(number, strengths))}: "
            f"{describe(m.name for m in found)}",
            data={"parameters": len(found), "weight_decay": strengths},
            help="a group with weight_decay 0 for them, as in the original code",
            key="weight_decay",
        )
