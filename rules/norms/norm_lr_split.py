"""Scale and shift of one normalisation layer train at very different rates.

The two are learned together: a shift that moves a hundred times faster than its scale is the mark of a filter that
caught `bias` and not the norm's `weight`, and gave its group another rate.

What to do: choose both by their owner module.

Reported when both train in one optimizer and their peak rates differ by more than `factor`, one finding per pair of
groups. Left alone: a frozen scale (airbench trains shifts alone, at 64 times the rate), rates of 0, layers that are
split over two optimizers (rates have other units there). Barlow Twins gives all 1-D parameters another rate, scale and
shift alike: no split.

Sources: https://github.com/KellerJordan/cifar10-airbench, https://github.com/facebookresearch/barlowtwins
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.param_groups import exceeds, peak
from lrlint.text.names import describe
from lrlint.text.wording import count, rate


@rule("LR507", severity="warning", confidence="high", needs=("optimizer",))
def norm_lr_split(setup: Setup, *, factor: float = 10.0) -> Iterator[Finding]:
    found = {}
    for norm in setup.norms:
        if norm.weight is None or norm.bias is None or not (norm.weight.requires_grad and norm.bias.requires_grad):
            continue
        scales, shifts = setup.groups_of(norm.weight), setup.groups_of(norm.bias)
        if len(scales) != 1 or len(shifts) != 1 or scales[0].optimizer != shifts[0].optimizer:
            continue
        rates = sorted((peak(scales[0]), peak(shifts[0])))
        if rates[0] and exceeds(rates[1] / rates[0], factor):
            pair = (scales[0].optimizer, scales[0].index, shifts[0].index)
            found.setdefault(pair, (scales[0], shifts[0], []))[2].append(norm)
    for scale, shift, norms in found.values():
        ratio = max(peak(scale), peak(shift)) / min(peak(scale), peak(shift))
        members = {norm.weight.index for norm in norms} | {norm.bias.index for norm in norms}
        yield Finding(
            [member for group in (shift, scale) for member in group.members if member.index in members],
            f"scale at {rate(peak(scale))} ({scale.label}) and shift at {rate(peak(shift))} ({shift.label}), "
            f"{ratio:.3g}× apart, in {count(len(norms), 'norm layer')}: {describe(norm.path for norm in norms)}",
            data={"scale": peak(scale), "shift": peak(shift), "ratio": ratio, "norms": len(norms)},
            help="choose norm parameters by their owner module, not by `bias` in the name",
            key="lr",
        )
