"""Text of others on a terminal: readable, and never a command to it."""

from __future__ import annotations

from lram.agents.shown import shown


def test_control_characters_are_escaped_and_all_else_stays() -> None:
    assert shown("größe \u2013 ok") == "größe \u2013 ok"
    assert shown("é\x1b[2J\r\n\x9b1m\u202e\udcff") == "é\\x1b[2J\\r\\n\\x9b1m\\u202e\\udcff"


def test_what_is_long_is_cut() -> None:
    assert shown("x" * 80) == "x" * 80
    assert shown("x" * 10**6) == "x" * 80 + "..."
    assert shown("\x00" * 30, 10) == "\\x00\\x00\\x" + "..."
