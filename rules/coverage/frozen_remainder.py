"""One or two parameters are frozen while their siblings all train: a pattern that matched by accident.

`if "layer1" in name: p.requires_grad = False` freezes `layer1` of an encoder and `layer10` too, or a bias whose weight
trains. Nothing fails, and what is frozen keeps its initial values.

What to do: list what is frozen once; freeze modules, not fragments of names.

*Info*. Reported for at most `most` frozen parameters of a model that trains at least `least`, where at least two others
with the same name up to numbers train, or the rest of the same module does. Left alone: tables and tokens (fixed position
codes), norm layers (`norm-half-frozen`), scalars, copies that are not meant to train, and what is declared to be unfrozen.

Sources: https://github.com/facebookresearch/mae (fixed `pos_embed`, left alone),
https://docs.pytorch.org/docs/stable/notes/autograd.html#setting-requires-grad
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.module_names import is_copy
from lrlint.text.names import describe, star
from lrlint.text.wording import count

_OTHERS = frozenset(("position", "token", "relative_position", "embedding", "norm", "scalar", "scale", "ssm"))


@rule("LR123", severity="info", confidence="medium", needs=("optimizer",))
def frozen_remainder(setup: Setup, *, most: int = 2, least: int = 16) -> Iterator[Finding]:
    own = [p for p in setup.parameters if p.origin == "model" and not any(map(is_copy, p.module.split(".")))]
    frozen = [p for p in own if not p.requires_grad]
    live = [p for p in own if p.requires_grad]
    if len(frozen) > most or len(live) < least or setup.training.unfreezes:
        return
    found = [p for p in frozen if p.role not in _OTHERS and p.numel > 1 and _siblings(p, live)]
    if found:
        yield Finding(
            found,
            f"{count(len(found), 'parameter')} frozen, the other {len(live)} train: {describe(p.name for p in found)}",
            data={"frozen": len(found), "trainable": len(live)},
            help="freeze by module, or check what the name pattern matched",
        )


def _siblings(parameter, live):
    family, module = star(parameter.name), parameter.module
    alike = sum(star(other.name) == family for other in live)
    return alike >= 2 or any(other.module == module and module for other in live)
