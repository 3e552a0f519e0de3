"""`self.w = nn.Parameter(x).to(device)` stores the result of an operation: no parameter is registered, none trains.

`.to()`, `.cuda()`, `.double()`, `.view()` or a product give a new tensor that depends on the parameter. The attribute
holds that tensor; the parameter itself is gone. On the CPU `.to("cpu")` returns its argument, so that the fault often
shows on a GPU only.

What to do: `nn.Parameter(x.to(device))`; a constant is `register_buffer`.

*Error* for the result of an operation on a tensor of its own; *warning* for a leaf that requires a gradient and is
neither a Parameter nor held by an optimizer. Left alone: activations that are kept (the operation leads back to a
registered parameter), attributes called a cache, and weights that weight or spectral normalisation computes.

Sources: https://github.com/pytorch/pytorch/issues/9303, https://github.com/pytorch/pytorch/issues/94828
"""

import re
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe

_CACHE = re.compile("cache", re.IGNORECASE)
_ADVICE = "nn.Parameter(x.to(device)): the Parameter is the last thing that is made"


@rule("LR106", severity="error", confidence="high")
def non_leaf_parameter_attribute(setup: Setup) -> Iterator[Finding]:
    for rejection in setup.rejections:
        if rejection.kind == "non-leaf":
            named = describe(parameter.name for parameter in rejection.parameters)
            message = f"torch refuses to build {rejection.class_name} with a tensor that is no leaf"
            yield Finding(rejection, message + (f": {named}" if named else ""), help=_ADVICE)
    for item in setup.unregistered:
        if item.kind != "tensor" or item.derived or _CACHE.search(item.path):
            continue
        if item.non_leaf:
            message = (
                f"`{item.path}` of {item.owner_class} is the result of an operation, and no parameter: it never trains"
            )
            yield Finding(item, message, data={"attribute": item.path, "leaf": False}, help=_ADVICE)
        elif not any(parameter.index in setup.membership for parameter in item.parameters):
            message = (
                f"`{item.path}` of {item.owner_class} requires a gradient, but is neither a Parameter nor a buffer"
            )
            advice = "nn.Parameter where it trains, register_buffer where it does not"
            yield Finding(item, message, data={"attribute": item.path, "leaf": True}, help=advice, severity="warning")
