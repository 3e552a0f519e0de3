"""NaN or infinity comes up, and no lower rate prevents it.

The first value that is not finite was traced: a parameter that is not finite before any step, a module whose output is
not finite although its inputs are, the loss, or the gradient of a parameter (`sqrt` or a norm at 0, `log` of 0).

What to do: start at the module or parameter that is named; `torch.autograd.set_detect_anomaly(True)` shows the
operation of a gradient.

Where a lower rate does prevent it, the rate is what is reported.

Sources: https://github.com/pytorch/pytorch/issues/8860, https://github.com/pytorch/pytorch/issues/147437,
https://pytorch.org/docs/stable/autograd.html#anomaly-detection
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.analysis.probe_messages import confidence, severity

_PLACES = {
    "input": "the batch holds {kind}",
    "parameter": "{parameter} holds {kind} before the first step",
    "forward": "the output of {module} ({module_class}) is the first that holds {kind}",
    "loss": "the loss is {kind} although all outputs of modules are finite",
    "gradient": "the gradient of {parameter} is the first that holds {kind}; the loss is finite",
    "update": "the step writes {kind} into {parameter}; its gradient is finite",
}


@rule("LR908", severity="error", confidence="high", needs=("probe",))
def non_finite_origin(setup: Setup) -> Iterator[Finding]:
    facts = setup.probe
    origin = facts.non_finite
    if origin is None or facts.guilty:
        return
    kind = "NaN" if origin.kind == "nan" else "infinity"
    where = _PLACES[origin.place].format(
        kind=kind, parameter=f"`{origin.parameter}`", module=f"`{origin.module}`", module_class=origin.module_class
    )
    parameter = setup.by_name.get(origin.parameter)
    module = setup.module_by_path.get(origin.module) if origin.module else None
    yield Finding(
        parameter or module or setup,
        f"{where}, at step {origin.step}, and at lower rates too",
        data={"step": origin.step, "place": origin.place},
        help="torch.autograd.set_detect_anomaly(True) names the operation",
        severity=severity(facts, "error"),
        confidence=confidence(facts),
    )
