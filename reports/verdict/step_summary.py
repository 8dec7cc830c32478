"""Cases of a regression gate as Markdown, for the summary of a job of GitHub Actions."""

from __future__ import annotations

from collections.abc import Sequence

from lram.reports.rendering.escaping import block, plain
from lram.reports.verdict.gate import GateCase, Outcome

SHOWN = 100
"""Parts that are shown; of more, regressions and errors come first. GitHub takes 1 MiB a step."""

_SIGNS: dict[Outcome, str] = {"passed": "✅", "failure": "❌", "error": "⚠️", "skipped": "➖"}
_LAST: tuple[Outcome, ...] = ("failure", "error", "passed", "skipped")


def step_summary(cases: Sequence[GateCase]) -> bytes:
    """Return ``cases`` as Markdown: the first, the whole comparison, in full, and the others as a table."""
    whole, *parts = cases
    blocks = [
        f"### {_SIGNS[whole.outcome]} {plain(whole.name)}: {plain(whole.word)}",
        block(whole.sentence),
        "\n".join(f"- {block(line)}" for line in whole.details),
    ]
    if parts:
        shown = sorted(parts, key=lambda case: _LAST.index(case.outcome))[:SHOWN]
        rows = [f"| {_SIGNS[case.outcome]} | {plain(case.name)} | {plain(case.sentence)} |" for case in shown]
        blocks.append("\n".join([f"| | {parts[0].group} | what was found |", "|---|---|---|", *rows]))
        if len(shown) < len(parts):
            blocks.append(
                f"{len(shown)} of {len(parts)} are shown, regressions first; the JUnit file has all."
            )
    return ("\n\n".join(part for part in blocks if part) + "\n").encode("utf-8", "backslashreplace")
