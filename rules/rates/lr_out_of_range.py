"""A rate lies outside what its optimizer can use.

A rate is meaningful only for its optimizer: Adam's step is about the rate itself per element, SGD's is the rate times
the gradient, Lion's is always the rate. Porting a number from one to the other is the usual slip: Adam at 0.1 or 1.0,
SGD at 1e-5, Lion at AdamW's rate (it wants a third to a tenth of it, with as much more decay).

What to do: Adam family 1e-5 to 1e-2, Lion 3 to 10 times less, SGD 1e-3 to 1.

Upper limits, judged on dense, convolutional and recurrent weights: Adam family above `adam` (published recipes: at most
0.01 for such weights); Lion and other sign optimizers above `sign`, *error* above 1e-3; SGD above `sgd` with more than
four trainable tensors (linear probes use up to 30), twenty times that for recurrent networks, whose gradients are
clipped to a norm of 0.25 (AWD-LSTM trains at 30); RMSprop from 0.1, Adagrad from 1. Lower limits, judged on the fastest
group: SGD up to `sgd-low`, Adam family up to 1e-8. Tables, prompts, scalars and splats may run faster. No rule for
Prodigy, D-Adaptation, schedule-free, LBFGS, Adadelta, Adafactor, LARS, LAMB and Muon: their rates have other units. A
group alone far above its siblings is `group-lr-far-above-siblings`. The limits for Adam and SGD are those that left all
sound setups of our survey of published recipes silent.

Sources: https://github.com/rajveermalviya/language-modeling/issues/3, https://github.com/PeizeSun/OneNet/issues/18,
https://github.com/jfzhang95/pytorch-deeplab-xception/issues/9, https://arxiv.org/abs/2302.06675 (Lion),
https://github.com/mlfoundations/open_clip/pull/432 (best Lion rate 2e-4), https://github.com/wandb/senpai/pull/2871,
https://github.com/Canjie-Luo/MORAN_v2/issues/46 (1 is right for Adadelta), https://github.com/salesforce/awd-lstm-lm (30),
https://github.com/pytorch/examples/tree/main/word_language_model (20)
"""

import math
import re
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import by_family, is_ordinary, outlier, peak, rated, written
from lrlint.text.names import describe
from lrlint.text.wording import rate

_JUST_BELOW = 1 - 1e-9  # these two limits are themselves too large
_RECURRENT, _TINY, _TOY = 20, 4, 2  # how much faster they run; a linear probe; one layer fitted to a line
_SCHEDULE_FREE = re.compile("schedule_?free", re.IGNORECASE)


@rule("LR203", severity="warning", confidence="medium", needs=("optimizer",))
def lr_out_of_range(
    setup: Setup, *, adam: float = 0.05, sign: float = 3e-4, sgd: float = 2.0, sgd_low: float = 5e-5
) -> Iterator[Finding]:
    upper = {"adam": adam, "sign": sign, "sgd": sgd, "rmsprop": _JUST_BELOW * 0.1, "adagrad": _JUST_BELOW}
    lower = {"adam": 1e-8, "sgd": sgd_low}
    for optimizer in setup.optimizers:
        groups = rated(optimizer)
        if not groups or any(_SCHEDULE_FREE.search(name) for name in (optimizer.class_name, *optimizer.bases)):
            continue
        tensors = sum(len(group.trainable) for group in groups)
        recurrent = any(p.module_kind == "rnn" for group in groups for p in group.trainable)
        alone = outlier(optimizer, 1e3)
        for family, members in by_family(groups).items():
            fastest = max(map(peak, members))
            if fastest <= lower.get(family, 0):
                yield _finding(optimizer, members, fastest, f"weights hardly move (lower limit {rate(lower[family])})")
            limit = upper.get(family, math.inf) * (_RECURRENT if recurrent and family == "sgd" else 1)
            if tensors <= (_TINY if family == "sgd" else _TOY):
                continue
            found = {}
            for group in members:
                if group is not alone and peak(group) > limit and any(is_ordinary(p) for p in group.trainable):
                    found.setdefault(peak(group), []).append(group)
            for value, fast in found.items():
                severity = "error" if family == "sign" and value > 1e-3 else ""
                why = f"above what it is used with ({rate(float(f'{limit:.1g}'))})"
                yield _finding(optimizer, fast, value, why, severity)


def _finding(optimizer, groups, value, why, severity=""):
    weights = [p.name for group in groups for p in group.trainable if is_ordinary(p)]
    on = f" on {describe(weights)}" if weights else ""
    return Finding(
        groups,
        f"peak rate {rate(value)} for {optimizer.class_name}{on}: {why}",
        data={"lr": value},
        help="check the exponent, and that the rate was meant for this optimizer",
        key="lr",
        severity=severity,
        confidence="" if not written(groups, "lr") else "low",
    )
