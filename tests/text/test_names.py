"""Names as text: canonical spelling, compression without loss, patterns."""

import re
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrlint.text import names


def expand(pattern: str) -> list[str]:
    """The names a compressed pattern stands for (the inverse of `compress`, written apart from it)."""
    parts = re.split(r"\{([^}]*)\}", pattern)
    choices = []
    for index, part in enumerate(parts):
        if index % 2 == 0:
            choices.append([part])
            continue
        values: list[str] = []
        for item in part.split(","):
            first, _, last = item.partition("..")
            values += [str(n) for n in range(int(first), int(last or first) + 1)]
        choices.append(values)
    return ["".join(choice) for choice in product(*choices)]


segments = st.one_of(st.sampled_from(["h", "ln", "weight", "block"]), st.integers(0, 12).map(str))
dotted = st.lists(segments, min_size=1, max_size=5).map(".".join)


@given(st.lists(dotted, max_size=30))
def test_compression_loses_and_invents_nothing(listed: list[str]) -> None:
    expanded = [name for pattern in names.compress(listed) for name in expand(pattern)]
    assert sorted(expanded) == sorted(set(listed))


def test_repeated_blocks_become_one_pattern() -> None:
    listed = [f"h.{i}.ln_{j}.weight" for i in range(12) for j in (1, 2)]
    assert names.compress([*listed, "ln_f.weight"]) == ["h.{0..11}.ln_{1,2}.weight", "ln_f.weight"]


def test_description_is_bounded() -> None:
    assert names.describe(["a", "b", "c", "d"], limit=2) == "`a`, `b` and 2 more"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("module.fc.weight", "fc.weight"),
        ("module._orig_mod.fc.weight", "fc.weight"),
        ("_orig_mod.module.fc.weight", "fc.weight"),
        ("_fsdp_wrapped_module.fc._checkpoint_wrapped_module.weight", "fc.weight"),
        ("base_model.model.lm_head.lora_A.default.weight", "lm_head.lora_A.default.weight"),
        ("conv.parametrizations.weight.original0", "conv.weight.original0"),
        ("conv.parametrizations.weight.original", "conv.weight"),
        ("encoder.module.weight", "encoder.module.weight"),
        ("strange name.with/odd\tcharacters", "strange name.with/odd\tcharacters"),
    ],
)
def test_canonical(raw: str, expected: str) -> None:
    assert names.canonical(raw) == expected


@given(st.text(min_size=1))
def test_a_name_matches_itself_unless_it_holds_wildcards(name: str) -> None:
    if not set(name) & set("*?"):
        assert names.matches(name, name)


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("head", "head.weight", True),
        ("head", "heads.weight", False),
        ("h.*.ln", "h.3.ln.weight", True),
        ("h.*.ln", "h.3.x.ln.weight", False),
        ("**.bias", "a.b.c.bias", True),
        ("a?c", "abc", True),
        ("a(b", "a(b.c", True),
    ],
)
def test_globs(pattern: str, name: str, expected: bool) -> None:
    assert names.matches(pattern, name) is expected
