"""Text from outside does nothing where it is shown."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrlint.cli.output import complain
from lrlint.lint.finding import Finding
from lrlint.lint.run import Failure, Run
from lrlint.reports import render
from lrlint.text.cleaning import clean, clean_lines

#: What an attacker would put together.
_PIECES = st.sampled_from(
    ["::", "##[", "\n", "\r", "\x1b[2J", "`", "|", "\\", "<img>", "error", " ", "\t", "\u202e", "\U000e0041", "\ufe0f"]
)
hostile = st.lists(st.one_of(_PIECES, st.text(max_size=4)), max_size=12).map("".join)


@given(st.one_of(st.text(), hostile))
def test_a_clean_text_is_one_visible_line_without_commands(text: str) -> None:
    shown = clean(text)
    assert not [c for c in shown if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")]
    assert not shown.lstrip().startswith("::")
    assert "##[" not in shown
    assert " ::" not in shown
    assert clean(shown) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("größe 中文 ¬ λ", "größe 中文 ¬ λ"),
        ("a\u3164b\u115f\uffa0\u2800", "a\\u3164b\\u115f\\uffa0\\u2800"),
        ("tag\U000e0041 vs\ufe0f\U000e0100", "tag\\U000e0041 vs\\ufe0f\\U000e0100"),
        ("\ud800 \u00ad \u061c \ufff9", "\\ud800 \\xad \\u061c \\ufff9"),
        ("::error::x", ": :error::x"),
        ("a ##[error]x", "a # #[error]x"),
        ("torch::nn and x[::2]", "torch::nn and x[::2]"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert clean(text) == shown


def test_a_word_without_end_is_cut() -> None:
    assert len(clean("x" * 10_000)) < 300
    assert clean("word " * 1000) == "word " * 1000


@settings(max_examples=40)
@given(hostile)
def test_reports_and_errors_of_hostile_targets_are_harmless(text: str) -> None:
    finding = Finding(None, f"m {text}", rule="LR999", name="mine", severity="error", confidence="high", target=text)
    run = Run((finding,), failures=(Failure(text, f"raised {text}", 3, text, f"Traceback\n{text}"),))
    for format_ in ("full", "concise", "markdown", "junit", "github", "json", "sarif", "gitlab"):
        shown = render(format_, run)
        if format_ in ("json", "sarif", "gitlab"):
            json.loads(shown)
        for line in shown.split("\n"):
            own = format_ == "github" and re.match(r"::(error|warning|notice) ", line)
            assert own or not line.lstrip().startswith("::"), format_
            assert "##[" not in line, format_
            assert not [c for c in line if unicodedata.category(c) in ("Cf", "Cs", "Zl", "Zp", "Cc")], format_


def test_an_error_of_the_command_line_is_clean_too(capsys: pytest.CaptureFixture[str]) -> None:
    complain("no \x1b[31mred\n::error::x", "hint\u202e", "Traceback\n  ::add-mask::y\n\tz")
    written = capsys.readouterr().err
    assert written.splitlines() == [
        "Traceback", "  : :add-mask::y", "    z", "lrlint: no \\x1b[31mred", ": :error::x", "  hint: hint\\u202e",
    ]  # fmt: skip
    assert clean_lines("a\n\nb") == "a\n\nb"
