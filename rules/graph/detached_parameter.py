"""A trainable parameter takes part in the output, but its gradient is cut off: it never moves by the loss.

`.detach()`, `torch.no_grad()`, `.data`, a round trip through NumPy or a custom function that returns None for it. The
output depends on the parameter, so that nothing looks wrong; only weight decay moves it.

What to do: remove the cut, or freeze the parameter and take it out of the optimizer.

From the observed training pass: the parameter's values flow into an output, and no gradient arrives in a backward pass.
*Info* in models of a library and where inputs had to be inferred. Left alone: frozen parameters, verdicts that depend
on data, and copies that are not meant to train, told by their names (teacher, target network), unless an optimizer
holds them.

Sources: https://docs.pytorch.org/docs/stable/notes/autograd.html#locally-disabling-gradient-computation
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.module_names import is_copy
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR502", severity="warning", confidence="medium", needs=("graph",))
def detached_parameter(setup: Setup) -> Iterator[Finding]:
    graph, found = setup.graph, {}
    for parameter in setup.parameters:
        use = graph.parameters.get(parameter.name)
        if use is None or not parameter.requires_grad or parameter.origin != "model" or use.guessed:
            continue
        copied = parameter.index not in setup.membership and any(map(is_copy, parameter.module.split(".")))
        if use.detached and use.depth_from_output is not None and not copied:
            found.setdefault(parameter.module.partition(".")[0], []).append(parameter)
    quiet = graph.inputs.startswith("inferred") or any(model.library for model in setup.models)
    for parameters in found.values():
        yield Finding(
            parameters,
            f"{count(len(parameters), 'trainable parameter')} {'shapes' if len(parameters) == 1 else 'shape'} the output "
            f"without a gradient: {describe(parameter.name for parameter in parameters)}",
            data={"parameters": len(parameters)},
            help="look for detach(), no_grad() or .data on the way to the loss; or freeze it",
            severity="info" if quiet else "",
        )
