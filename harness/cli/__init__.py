"""The command ``lram``: one module a command, and one place where errors become sentences."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version

from cyclopts import App

from lram.agents.api import AgentError
from lram.envs.registry import SelectionError
from lram.harness.cli import listings, making, reporting, running
from lram.harness.errors import LramError

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130

app = App(
    name="lram",
    help="Evaluate large recurrent action models across control domains, and compare them.",
    version=lambda: version("lram-bench"),
    help_flags=["--help", "-h"],
)
for module in (running, reporting, listings, making):
    for command, name in module.COMMANDS:
        app.command(command, name=name)


def main() -> None:
    """Run the command line; exit with 2 for bad input and 130 for Ctrl-C."""
    try:
        code = app()
        sys.stdout.flush()
    except (LramError, SelectionError, AgentError) as error:
        print(f"lram: {error}", file=sys.stderr)
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        print("lram: interrupted", file=sys.stderr)
        sys.exit(EXIT_INTERRUPTED)
    except BrokenPipeError:  # the reader of a listing has seen enough (lram tasks | head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
