"""Gradients of other parameters are clipped than those that the optimizer moves.

A clip that leaves out a parameter group or a model lets its gradients through unbounded. A clip of another model than
the one whose optimizer steps next bounds nothing that is used. A clip that includes parameters which no optimizer
holds measures gradients that nobody clears: they grow, and the rest is scaled down by them.

What to do: clip what the optimizer holds, `[p for g in optimizer.param_groups for p in g["params"]]`.

Read from the source of the training loop and compared with the optimizers. Reported: `param_groups[0]` is clipped
alone of several groups; one of several models that share an optimizer is clipped alone (losses and heads left out:
some are spared on purpose); the step after the clip is of an optimizer that was built for another model. *Info* for a
model with trainable parameters in no optimizer, which `param-not-in-optimizer` reports. Silent where an expression
does not tell which parameters it lists, and for a part of a model, which somebody chose.

Sources: reproduced with torch 2.13 (a head outside the optimizer: the norm that is clipped grows from 2.6 to 3.1);
https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm_.html
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.clip_coverage import mismatches
from lrlint.analysis.order import read_functions, seen_loop
from lrlint.facts.loop import LoopLocation
from lrlint.text.names import describe
from lrlint.text.wording import count, listing

ALL = 'clip `[p for g in optimizer.param_groups for p in g["params"]]`'


@rule("LR706", severity="warning", confidence="medium", needs=("order", "optimizer"))
def clip_scope_mismatch(setup: Setup) -> Iterator[Finding]:
    for clip in seen_loop(setup).clips:
        if clip.foreign:
            text = f"what is clipped is in no optimizer: {describe(clip.parameters)}"
            place = LoopLocation(clip.span, clip.parameters)
            yield Finding(place, text, help=ALL, severity="error", confidence="high")
    found = {}
    for calls in read_functions(setup):
        for mismatch in mismatches(setup, calls):
            found.setdefault(mismatch.clip.span, mismatch)
    for mismatch in found.values():
        yield Finding(
            mismatch.clip,
            _said(mismatch),
            data={
                "scope": mismatch.kind,
                "parameters": len(mismatch.parameters),
                "elements": sum(parameter.numel for parameter in mismatch.parameters),
                "others": list(mismatch.others),
            },
            help=ALL,
            severity="info" if mismatch.kind == "outside" else "",
        )


def _said(mismatch):
    clipped, lost = mismatch.clip.covers[0], count(len(mismatch.parameters), "parameter")
    if mismatch.kind == "groups":
        return f"only {_groups(mismatch.names)} is clipped: {lost} of {_groups(mismatch.others)} are not"
    if mismatch.kind == "step":
        return f"`{clipped}` is clipped, but the next step is that of `{mismatch.step}`, which holds `{mismatch.others[0]}`"
    if mismatch.kind == "models":
        return f"`{clipped}` is clipped, but the optimizer also moves {listing(f'`{o}`' for o in mismatch.others)} ({lost})"
    elements = sum(parameter.numel for parameter in mismatch.parameters)
    trainable = count(len(mismatch.parameters), "trainable parameter")
    return f"the clipped norm includes {trainable} ({elements:,} elements) that no optimizer holds"


def _groups(names):
    return f"group{'s' if len(names) > 1 else ''} {', '.join(names)}"
