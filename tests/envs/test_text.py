"""Text of others, made fit to be shown."""

from __future__ import annotations

import random
import sys

import pytest

from lram.envs.text import message_of, printable, type_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words, Größe 3 × 4 – fine", "plain words, Größe 3 × 4 – fine"),
        ("\x1b]0;owned\x07\x1b[2J", r"\x1b]0;owned\x07\x1b[2J"),
        ("two\r\n  lines\tand\u2028more", "two lines and more"),
        ("\u202egnp.exe\u2066\u200b", r"\u202egnp.exe\u2066\u200b"),
        ("\x9b31m\x7f\0", r"\x9b31m\x7f\x00"),
        ("\ud800\U000e0001", r"\ud800\U000e0001"),
        ("", ""),
    ],
)
def test_what_a_terminal_would_obey_is_shown_as_its_escape(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_any_text_becomes_one_printable_line_of_bounded_length() -> None:
    rng = random.Random(1)
    for _ in range(500):
        text = "".join(chr(rng.randrange(sys.maxunicode + 1)) for _ in range(rng.randrange(60)))
        line = printable(text, 40)
        assert line.isprintable()
        assert len(line) <= 40
        assert printable(line, 40) == line
        line.encode()


def test_what_is_cut_says_so() -> None:
    assert printable("x" * 1001) == "x" * 997 + "..."
    assert printable("x" * 1000) == "x" * 1000
    assert printable(" " * 10**6 + "hidden", 10) == "..."


def _raising(what: BaseException) -> type[Exception]:
    def text(self: Exception) -> str:
        raise what

    return type("\x1b[2J", (Exception,), {"__str__": text})


@pytest.mark.parametrize("what", [ValueError(), KeyboardInterrupt(), SystemExit(3), RecursionError()])
def test_an_exception_whose_message_cannot_be_read_has_one(what: BaseException) -> None:
    error = _raising(what)()
    assert message_of(error) == "(its message cannot be read)"
    assert type_of(error) == r"\x1b[2J"
    assert message_of(ValueError("x" * 10**6)) == "x" * 997 + "..."
