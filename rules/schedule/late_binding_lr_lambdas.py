"""Functions made in a loop for `LambdaLR` all read the loop variable's last value: every group gets the last factor.

`[lambda epoch: f for f in (1.0, 0.5, 0.1)]` gives three functions that return 0.1, because Python looks `f` up when
the function runs. Found where all functions share one piece of code and one variable that the source shows to be set
by the loop around them (warning). Where the source is not at hand, functions made separately that share their
variables are told as *info*: they may be meant to be equal.

What to do: bind the value when the function is made: `lambda epoch, f=f: f`, or `functools.partial`.

Silent for one function used for all groups, and for functions that share only constants of an enclosing function.

Sources:
https://docs.python.org/3/faq/programming.html#why-do-lambdas-defined-in-a-loop-with-different-values-all-return-the-same-result,
https://docs.pytorch.org/docs/stable/generated/torch.optim.lr_scheduler.LambdaLR.html"""

from lrlint import Finding, rule
from lrlint.text.wording import listing


@rule("LR408", severity="warning", confidence="high")
def late_binding_lr_lambdas(setup):
    for schedule in setup.schedules:
        for node in schedule.nodes():
            lambdas = node.lambdas
            if lambdas is None:
                continue
            if loop := lambdas.loop:
                yield Finding(
                    schedule,
                    f"the {lambdas.count} functions of {node.class_name} share the loop variable "
                    f"{listing(f'`{name}`' for name in loop)}: all groups get the factor of the last one",
                    data={"variables": list(loop), "functions": lambdas.count},
                    help=f"bind it when the function is made: `lambda step, {loop[0]}={loop[0]}: ...`",
                )
            elif not lambdas.source and lambdas.shared:
                yield Finding(
                    schedule,
                    f"the {lambdas.count} functions of {node.class_name} share their variables "
                    f"({listing(lambdas.shared)}): they cannot differ between groups",
                    data={"variables": list(lambdas.shared), "functions": lambdas.count},
                    help="bind what differs as a default argument when the function is made",
                    severity="info",
                )
