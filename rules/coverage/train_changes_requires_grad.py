"""`model.train()` changes what is frozen, after the optimizer was built.

Models with frozen stages override `train()` to freeze them again in every epoch. What the optimizer was given, and what
was counted or filtered by `requires_grad`, was decided before. Where `train()` makes frozen parameters trainable again it
undoes a freeze: they train if the optimizer holds them, and pile up gradients if it does not.

What to do: call the freezing code once before the optimizer is built, and let `train()` set modes only.

`model.train()` is really called (everything is put back), for models whose class overrides it. *Warning* where it makes
frozen parameters trainable, *info* where it freezes trainable ones.

Sources: https://github.com/open-mmlab/mmpretrain (`frozen_stages` in `train()`),
https://docs.pytorch.org/docs/stable/generated/torch.nn.Module.html#torch.nn.Module.train
"""

from collections.abc import Iterator

from lrlint import Finding, Setup, rule
from lrlint.text.names import describe
from lrlint.text.wording import count


@rule("LR122", severity="warning", confidence="high", needs=("optimizer",))
def train_changes_requires_grad(setup: Setup) -> Iterator[Finding]:
    thawed = [p for p in setup.train_changes if not p.requires_grad]
    frozen = [p for p in setup.train_changes if p.requires_grad and p.index in setup.membership]
    for parameters, text in ((thawed, "become trainable again"), (frozen, "are frozen by it")):
        if parameters:
            held = sum(p.index in setup.membership for p in parameters)
            yield Finding(
                parameters,
                f"model.train() changes requires_grad: {count(len(parameters), 'parameter')} {text} "
                f"({held} in an optimizer): {describe(p.name for p in parameters)}",
                data={"parameters": len(parameters), "in_optimizer": held},
                help="freeze once, before the optimizer is built; let train() set modes only",
                severity="info" if parameters is frozen else "",
            )
