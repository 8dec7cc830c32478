"""What is wrong with data: the first problems, and how many more there are."""

from __future__ import annotations

SHOWN = 20
"""Problems named on the screen; the JSON has all."""


def show_problems(what: str, problems: list[str]) -> None:
    """Print the first of ``problems``, each after what was done about it."""
    for problem in problems[:SHOWN]:
        print(f"{what}: {problem}")
    if len(problems) > SHOWN:
        print(f"... and {len(problems) - SHOWN} more; --json names all")


def counted(number: int, what: str) -> str:
    """Return ``1 episode`` or ``3,000 episodes``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"
