"""One parameter is updated by two optimizers.

Torch cannot notice: each optimizer knows its own groups only. Both steps are applied, with two momenta and twice the
decay. An auxiliary optimizer for embeddings, biases or a head that forgets to take its parameters out of the main one
is the usual way there.

What to do: give the second optimizer the complement of the first one's parameters.

Reported when both optimizers hold the parameter at a rate above 0; *info* where each optimizer steps after backward
passes of its own, as a rehearsal saw it, or as the loop reads (a backward pass, with gradients cleared, between any two
steps of different optimizers): an encoder that each of two losses trains with an optimizer of its own (CURL), InfoGAN.
A wrapper and what it wraps count as one. LBFGS is left alone: it finishes what another optimizer began, as networks for
differential equations are trained.

Sources: https://github.com/wiseodd/controlled-text-generation/issues/15, https://github.com/KellerJordan/Muon (disjoint
groups for Muon and AdamW), https://arxiv.org/abs/2402.01868 (Adam, then LBFGS), https://github.com/MishaLaskin/curl
(one encoder, two losses in turn), https://github.com/MishaLaskin/curl/issues/28
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.order import take_turns
from lrlint.analysis.param_groups import peak
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR104", severity="error", confidence="high", needs=("optimizer",))
def param_in_multiple_optimizers(setup: Setup) -> Iterator[Finding]:
    shared = {}
    together = [optimizer for optimizer in setup.optimizers if optimizer.family != "lbfgs"]
    for members in setup.membership.values():
        held = [m for m in members if setup.optimizers[m.group.optimizer] in together]
        moving = {m.group.optimizer: m for m in held if m.requires_grad and (m.lr is None or peak(m.group) > 0)}
        if len(moving) > 1:
            shared.setdefault(tuple(moving), []).append(list(moving.values()))
    for indices, found in shared.items():
        labels = " and ".join(setup.optimizers[index].label for index in indices)
        yield Finding(
            [members[0] for members in found],
            f"{count(len(found), 'parameter')} updated by {len(indices)} optimizers ({labels}): "
            f"{describe(members[0].name for members in found)}",
            related={"also in": [member for members in found for member in members[1:]]},
            data={"parameters": len(found), "optimizers": len(indices)},
            help="give each parameter to one optimizer; build the second from what the first does not hold",
            severity="info" if take_turns(setup, indices) else "",
        )
