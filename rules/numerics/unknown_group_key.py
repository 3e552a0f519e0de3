"""A key of a parameter group looks like an option of the optimizer and is none: torch stores it and ignores it.

`{"params": head, "learning_rate": 1e-3}` trains the head at the optimizer's default rate. Torch keeps unknown keys of
a group as they are, and no option is checked for its spelling.

What to do: write the option's exact name (`lr`, `weight_decay`, `betas`, `eps`).

Reported when the key is an option in another case, a known alias (`learning_rate`, `wd`, `decay`, `epsilon`, ...), or
nearly an option (similarity at least `likeness`, at most two characters longer or shorter), the option itself was not
written on that group, and the source of neither the optimizer nor its scheduler reads the key. Multipliers such as
`lr_scale` are `lr-scale-key-unused`; names, numbers of layers and whatever else people keep in a group are left alone.

Sources: https://github.com/PaddlePaddle/Paddle/pull/43013, https://github.com/msight-tech/research-ms-loss/issues/27,
https://docs.pytorch.org/docs/stable/optim.html#per-parameter-options
"""

from collections.abc import Iterator
from difflib import SequenceMatcher

from lrlint import Finding, Setup, rule
from lrlint.text.wording import MULTIPLIER_KEYS, listing

_ALIASES = {
    "learning_rate": "lr",
    "learningrate": "lr",
    "lrate": "lr",
    "lr_rate": "lr",
    "lrs": "lr",
    "wd": "weight_decay",
    "wdecay": "weight_decay",
    "weight_decay_rate": "weight_decay",
    "decay": "weight_decay",
    "weightdecay": "weight_decay",
    "l2": "weight_decay",
    "beta": "betas",
    "beta1": "betas",
    "beta2": "betas",
    "epsilon": "eps",
    "adam_epsilon": "eps",
    "mom": "momentum",
}
_KNOWN = {"params", "param_names", "initial_lr", "max_lr", "min_lr", "max_momentum", "base_momentum", "swa_lr"}


@rule("LR602", severity="error", confidence="high", needs=("optimizer",))
def unknown_group_key(setup: Setup, *, likeness: float = 0.8) -> Iterator[Finding]:
    for optimizer in setup.optimizers:
        silent = {*optimizer.defaults, *(optimizer.reads or ()), *_KNOWN, *MULTIPLIER_KEYS}
        found = {}
        for group in optimizer.groups:
            for key in group.options.keys() - silent:
                meant = _meant(key, optimizer.defaults, likeness)
                if meant and not (group.written is not None and meant in group.written):
                    found.setdefault((key, meant), []).append(group)
        for (key, meant), groups in sorted(found.items()):
            used = listing(dict.fromkeys(repr(group.options.get(meant)) for group in groups))
            yield Finding(
                groups,
                f"{optimizer.class_name} has no option `{key}` and ignores it; `{meant}` stays {used}",
                data={"key": key, "option": meant, "values": [group.options[key] for group in groups]},
                help=f"write `{meant}`",
                key=key,
                confidence="medium" if optimizer.reads is None else "",
            )


def _meant(key, options, likeness):
    """The option that the key stands for, or None."""
    plain = key.lower().replace("-", "_")
    alias = _ALIASES.get(plain) or _ALIASES.get(plain.replace("_", ""))
    if alias in options:
        return alias
    if plain in options:
        return plain
    near = [option for option in options if abs(len(option) - len(plain)) <= 2 and len(option) > 3]
    best = max(near, key=lambda option: SequenceMatcher(None, plain, option).ratio(), default=None)
    return best if best and SequenceMatcher(None, plain, best).ratio() >= likeness else None
