"""Modules or parameters in a plain list, tuple or dict: the model does not know them.

`self.layers = [nn.Linear(...), ...]` runs, but `parameters()`, `.to()`, `state_dict()` and therefore the optimizer do
not see what is in it. The layers keep their initial values, and a checkpoint is saved without them.

What to do: `nn.ModuleList`, `nn.ModuleDict`, `nn.ParameterList` or `nn.ParameterDict`.

*Warning* where an optimizer holds them nevertheless: they train, but are neither moved nor saved. Left alone: what is
frozen, and what is called a teacher, a target or a fixed judge; a list is a known way to leave those out of the
checkpoint.

Sources: https://github.com/pytorch/pytorch/issues/666, https://github.com/pytorch/pytorch/issues/715,
https://github.com/pytorch/pytorch/issues/632
"""

import re
from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.module_names import is_copy
from lrlint.text.names import describe
from lrlint.text.wording import count

_SEGMENT = re.compile(r"[.\[\]'\"]+")


@rule("LR105", severity="error", confidence="high")
def unregistered_submodule(setup: Setup) -> Iterator[Finding]:
    found = {}
    for item in setup.unregistered:
        trains = any(parameter.requires_grad for parameter in item.parameters)
        if item.kind in ("module", "parameter") and trains and not any(map(is_copy, _SEGMENT.split(item.path))):
            found.setdefault((item.owner, item.path.partition("[")[0]), []).append(item)
    for (_, attribute), items in found.items():
        parameters = [p for item in items for p in item.parameters if p.requires_grad]
        held = all(parameter.index in setup.membership for parameter in parameters)
        kinds = sorted({item.class_name for item in items})
        effect = "an optimizer trains them, but .to() and state_dict() leave them out" if held else "they never train"
        yield Finding(
            items,
            f"`{attribute}` holds {count(len(parameters), 'parameter')} ({', '.join(kinds)}) that "
            f"{items[0].owner_class} does not register: {effect}; {describe(p.name for p in parameters)}",
            data={"parameters": len(parameters), "attribute": attribute, "held": held},
            help="nn.ModuleList, nn.ModuleDict, nn.ParameterList or nn.ParameterDict",
            severity="warning" if held else "",
        )
