"""``lram env remove``: take a domain's interpreter away."""

from __future__ import annotations

from lram.harness.cli.options import DomainArgument


def remove(domain: DomainArgument, /) -> None:
    """Remove a domain's interpreter. Checkouts stay where they are."""
    from lram.harness.interpreters import remove as remove_interpreter

    print(f"removed {remove_interpreter(domain).folder}")
