"""A loss with parameters of its own (class centres, a margin head, a temperature) is in no optimizer.

Center loss, ArcFace and learned task weights are modules whose parameters train together with the model. They usually
stand beside it, and `model.parameters()` does not hold them: the centres stay random, and the loss does not fall.

What to do: `{"params": criterion.parameters(), "lr": ...}` as a group of its own, usually at a larger rate.

Looked at are modules beside the model (the target's `loss_fn`, `criterion` and `extra_modules`) and, within a model,
modules that are called a loss. Left alone: frozen ones (perceptual losses), and teachers or other copies (by name, or by
having the values of what trains, as averages and target networks have at the start).

Sources: https://github.com/KaiyangZhou/pytorch-center-loss/issues/22,
https://github.com/4uiiurz1/pytorch-adacos/issues/10
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.coverage import coverage, is_copied
from lrlint.text.module_names import is_copy
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR107", severity="error", confidence="high", needs=("optimizer",))
def loss_module_params_not_in_optimizer(setup: Setup) -> Iterator[Finding]:
    beside = {}
    for parameter in setup.parameters:
        if parameter.origin == "extra" and parameter.requires_grad and parameter.index not in setup.membership:
            beside.setdefault(parameter.name.partition(".")[0], []).append(parameter)
    own = [parameter for held in beside.values() if not is_copied(setup, held) for parameter in held]
    found = {}
    for parameter in (*own, *coverage(setup).loss):
        if not any(map(is_copy, parameter.module.split("."))):
            found.setdefault(parameter.module or parameter.name, []).append(parameter)
    for module, parameters in found.items():
        elements = sum(parameter.numel for parameter in parameters)
        yield Finding(
            parameters,
            f"`{module}` ({parameters[0].module_class}) has {count(len(parameters), 'trainable parameter')} "
            f"({elements:,} elements) in no optimizer: {describe(p.name for p in parameters)}",
            data={"parameters": len(parameters), "elements": elements},
            help='add {"params": criterion.parameters(), "lr": ...} to the optimizer',
        )
