"""Words that messages and reports need, and text of others made fit to be shown."""

from __future__ import annotations

import re

from lram.agents.shown import command as command

# Control characters (C0 but tab and newline, DEL, C1), lone surrogates, line and paragraph separators, and
# category Cf: among them the marks that turn the direction of writing, and characters without width.
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u180e\u200b-\u200f"
    "\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff\U000110bd\U000110cd"
    "\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0001\U000e0020-\U000e007f]"
)


def count(items: int, one: str, many: str = "") -> str:
    """Return ``1 task`` or ``3 tasks``."""
    return f"{items} {one if items == 1 else many or one + 's'}"


def visible(text: str) -> str:
    r"""Return ``text`` with each control and format character, but tab and newline, as its escape.

    An escape is that of JSON, such as ``\u001b``, so that JSON text stays what it says.
    """
    return text if text.isascii() and text.isprintable() else _HIDDEN.sub(_escape, text)


def brief(text: str, limit: int = 2000) -> str:
    """Return ``text``, of what is longer than ``limit`` characters the beginning and the end."""
    half = limit // 2
    return text if len(text) <= limit else f"{text[:half]} … {text[-half:]}"


def one_line(text: str) -> str:
    r"""Return ``text`` with nothing hidden in it, newlines and tabs as ``\n`` and ``\t``."""
    return visible(text).replace("\n", "\\n").replace("\t", "\\t")


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code <= 0xFFFF:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
