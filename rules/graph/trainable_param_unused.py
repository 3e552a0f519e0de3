"""A trainable parameter has no part in the loss: it is dead weight, and DDP stops with "unused parameters".

A layer that `forward` no longer calls, a head whose output nobody reads, a branch that is never taken. It stays at its
initial values, takes memory in the optimizer, and decays.

What to do: delete or freeze the module; with DDP, `find_unused_parameters=True` where the use depends on data.

From the observed training pass: the parameter is not used, or what is computed with it reaches no output (not the loss,
where the model computes one). *Error* where DDP is declared without `find_unused_parameters`. *Info* in models of a
library (poolers, mask tokens and projection heads that a task does not need) and where inputs had to be inferred. Left
alone: verdicts that depend on data (routed experts, layer drop), modules called unused, and what has an optimizer of its
own, of which the pass uses nothing (a discriminator in the generator's module).

Sources: https://docs.pytorch.org/docs/stable/generated/torch.nn.parallel.DistributedDataParallel.html; the verdict agrees
with a backward pass on every architecture of the test suite
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.module_names import is_copy
from lrlint.text.names import describe, star
from lrlint.text.wording import count


@rule("LR501", severity="warning", confidence="medium", needs=("graph",))
def trainable_param_unused(setup: Setup) -> Iterator[Finding]:
    graph, found = setup.graph, {}
    dead = {p.index: use for p in setup.parameters if (use := graph.parameters.get(p.name)) and _is_dead(use)}
    other = _of_other_passes(setup, dead)
    for parameter in setup.parameters:
        if parameter.index not in dead or parameter.index in other or dead[parameter.index].guessed:
            continue
        path = parameter.module or parameter.name
        counts = parameter.requires_grad and parameter.origin == "model" and "unused" not in path
        if counts and not any(map(is_copy, path.split("."))):
            found.setdefault((_part(path), dead[parameter.index].used), []).append(parameter)
    training, inferred = setup.training, graph.inputs.startswith("inferred")
    crashes = training.distributed == "ddp" and training.find_unused_parameters is False
    library = any(model.library for model in setup.models)
    for (part, used), parameters in found.items():
        elements = sum(parameter.numel for parameter in parameters)
        why = "used, but reach no output" if used else "not used"
        yield Finding(
            parameters,
            f"{count(len(parameters), 'trainable parameter')} of `{part}` ({elements:,} elements) {why} in the forward "
            f"pass: {describe(p.name for p in parameters)}"
            + ("; DDP without find_unused_parameters will stop" if crashes else ""),
            data={"parameters": len(parameters), "elements": elements, "used": bool(used)},
            help="delete or freeze the module",
            severity="error" if crashes and not inferred else "info" if library or inferred or setup.loop else "",
            confidence="low" if inferred else "",
        )


def _is_dead(use):
    return use.used is False or (use.reaches_output is False and use.depth_from_output is None)


def _of_other_passes(setup, dead):
    """Parameters of those of several optimizers of which the pass uses nothing: it is not theirs (a discriminator's)."""
    held = [[member.parameter.index for member in optimizer.members] for optimizer in setup.optimizers]
    unused = [indices for indices in held if all(index in dead for index in indices)]
    return set().union(*unused) if len(unused) < len(held) else set()


def _part(path):
    """The module, with what is numbered in it as one."""
    return star(path).partition(".*")[0] or path
