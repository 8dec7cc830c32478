"""``lram env install``: an interpreter of a domain's own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.exits import EXIT_INTERRUPTED
from lram.harness.waiting import say, still
from lram.harness.words import count, visible


def install(
    domain: Annotated[str, Parameter(help="Name of a domain; see 'lram domains'.")],
    /,
    *,
    source: Annotated[
        list[Path] | None,
        Parameter(help="A checkout that the domain needs; used where it lies.", negative=()),
    ] = None,
    clone: Annotated[bool, Parameter(help="Clone the checkouts that are missing.", negative=())] = False,
    python: Annotated[
        str | None, Parameter(help="Python to make it from: a path, or a version such as 3.11.")
    ] = None,
    force: Annotated[bool, Parameter(help="Install again what is installed.", negative=())] = False,
) -> int:
    """Install an interpreter for a domain, with the versions that its scores were proven with.

    'lram eval' and the other commands play the domain in it from then on; --python DOMAIN=main tells them
    not to. It lies in $LRAM_HOME, or in ~/.local/share/lram-bench. What is installed already is left alone.

    Example: lram env install composuite --source ~/code/CompoSuite
    """
    from lram.harness.interpreters import SourcesNeededError, installed
    from lram.harness.interpreters import install as install_interpreter

    try:
        with _steps() as say:
            done = install_interpreter(
                domain, source or (), python=python, clone=clone, force=force, progress=say
            )
    except SourcesNeededError as error:
        for command in error.commands:
            print(command)
        raise
    except KeyboardInterrupt:
        stays = installed().get(domain)
        now = f"what was installed stays, in {stays.path}" if stays else f"{domain} is not installed"
        print(f"\ninterrupted: {now}; the same command starts over")
        return EXIT_INTERRUPTED
    print(f"{domain} plays in {done.path} (Python {done.python}, {count(len(done.packages), 'package')})")
    return 0


@contextmanager
def _steps() -> Iterator[Callable[[str], None]]:
    """Show on standard error what is done: a spinner on a terminal, plain lines elsewhere."""
    from rich.console import Console
    from rich.markup import escape

    console = Console(stderr=True)
    if not console.is_terminal:
        doing = "preparing"

        def line(text: str) -> None:
            nonlocal doing
            doing = text
            say(text)

        with still(lambda: doing):
            yield line
        return
    with console.status("") as status:

        def spin(text: str) -> None:
            if text.startswith("note: "):
                console.print(visible(text), markup=False, highlight=False)
            else:
                status.update(escape(visible(text)))

        yield spin
