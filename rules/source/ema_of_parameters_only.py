"""An average of weights follows the parameters, and not the running statistics of batch norms.

Evaluated with the averaged weights, a batch norm normalises with statistics that belong to other weights: those of the
raw model, or of the copy's first moment.

What to do: average or copy the buffers too (`torch.optim.swa_utils.AveragedModel` copies them), or re-estimate them.

Off by default: an averaged model that runs in training mode keeps statistics of its own, which the source does not
tell. *Info* where a class or function named after an average walks over `parameters()` and mentions no buffers, or
where a library's `ExponentialMovingAverage(model.parameters())` is built, and the model trains batch norms with running
statistics. Left out: frozen batch norms, and copies for contrastive learning, which are no averages for evaluation.

Sources: https://github.com/fadel/pytorch_ema/issues/13, https://github.com/FlyreelAI/sesemi/issues/36,
https://github.com/pytorch/ignite/issues/2590
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR708", severity="info", confidence="low", needs=("source",), default=False)
def ema_of_parameters_only(setup: Setup) -> Iterator[Finding]:
    norms = [
        norm
        for norm in setup.norms
        if norm.kind == "batch" and norm.tracks_statistics and norm.trains_statistics and norm.momentum != 0
        if norm.weight is None or norm.weight.requires_grad
    ]
    for call in setup.source.of_kind("average") if norms else ():
        yield Finding(
            call,
            f"`{call.receiver}` averages parameters without buffers: the running statistics of "
            f"{count(len(norms), 'batch norm')} are left out ({describe(norm.path for norm in norms)})",
            data={"norms": len(norms)},
            help="average or copy the buffers too",
        )
