"""The optimizer's state does not fit its parameters: it was loaded in another order, for another model or device.

`load_state_dict` of an optimizer goes by position and checks the number of parameters only. After a change of order
(groups swapped, a set instead of a list, a renamed layer) momentum and variance belong to other parameters. Where
shapes differ, `step()` fails; where they are equal, it trains wrongly in silence, so that one misfit means doubt about
all of the state.

What to do: build groups in a fixed order, or load by name (`torch.distributed.checkpoint.state_dict`).

Reported: a state tensor of another shape or on another device than its parameter; state in another precision under
torch's own optimizers; a step counter on an accelerator without `capturable` or `fused`. Factored and quantized states
and sharded parameters have shapes of their own and are left alone.

Sources: https://github.com/roytseng-tw/Detectron.pytorch/issues/37, https://github.com/pytorch/pytorch/pull/6031,
https://github.com/pytorch/pytorch/issues/80809, https://github.com/lanl/hippynn/pull/15; reproduced with torch 2.13
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR116", severity="error", confidence="high", needs=("optimizer",))
def optimizer_state_mismatch(setup: Setup) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        found = {}
        for misfit in optimizer.misfits:
            if misfit.problem != "dtype" or optimizer.module.startswith("torch.optim"):
                found.setdefault(misfit.problem, {}).setdefault(misfit.parameter.index, misfit)
        for problem, misfits in found.items():
            first = next(iter(misfits.values()))
            yield Finding(
                [misfit.parameter for misfit in misfits.values()],
                f"{problem.replace('-', ' ')} of the state of {count(len(misfits), 'parameter')} in {optimizer.label} "
                f"does not fit: `{first.key}` of `{first.parameter.name}` is {first.found} instead of {first.expected}; "
                f"{describe(misfit.parameter.name for misfit in misfits.values())}",
                data={"problem": problem, "parameters": len(misfits), "found": first.found, "expected": first.expected},
                help="the state goes by position: check the order of parameters and groups, or load by name",
            )
