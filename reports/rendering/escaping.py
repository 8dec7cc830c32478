"""Text of others in Markdown: shown as it is, and never more than text."""

from __future__ import annotations

import re

from lram.harness.words import visible


def plain(text: str) -> str:
    """Return ``text`` so that Markdown shows it as it is, on one line, and makes no link of it."""
    one_line = visible(" ".join(text.split()))
    one_line = one_line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    escaped = re.sub(r"([\\`*\[\]|$])", r"\\\1", one_line)
    # GitHub makes links of bare addresses too; of an address of mail it does so behind an escape as well.
    escaped = re.sub(r"(?i):(?=//)|(?<=www)\.|(?<=mailto):|(?<=xmpp):", r"\\\g<0>", escaped)
    return re.sub(r"@(?=[\w.-]*\.\w)", "@<!-- -->", escaped)


def block(text: str) -> str:
    """Return ``text`` as ``plain`` does, where a line begins: it begins no heading, list, rule or fence."""
    return re.sub(r"^(\d{1,9}(?=[.)])|(?=[#+=~_-]))", r"\1\\", plain(text))


def code(name: str) -> str:
    """Return ``name`` as code, or as plain text where it holds what would end that."""
    shown = visible(" ".join(name.split()))
    return plain(name) if "`" in shown or not shown else f"`{shown}`"
