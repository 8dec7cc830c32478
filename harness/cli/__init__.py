"""The command ``lram``: one module a command, named as it, and one place where errors become sentences.

What commands share: :mod:`lram.harness.cli.options` (options), :mod:`lram.harness.cli.exits` (exit codes) and
:mod:`lram.harness.cli.printing` (what is printed).
"""

from __future__ import annotations

import difflib
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from importlib.metadata import version
from typing import Any

from cyclopts import App, CycloptsError, UnknownCommandError, UnusedCliTokensError

from lram.harness.children import SAFE_PATH
from lram.harness.cli import (
    ablate,
    agents,
    bench,
    cast,
    check,
    collect,
    compare,
    create,
    data,
    demo,
    doctor,
    domains,
    embed,
    env,
    eval,
    export,
    extrapolate,
    film,
    finetune,
    import_checkpoint,
    latency,
    leaderboard,
    literature,
    paper,
    publish,
    reference,
    report,
    resume,
    serve,
    suites,
    tasks,
    train,
    verify,
    watch,
)
from lram.harness.cli.exits import EXIT_BAD_INPUT, EXIT_INTERRUPTED
from lram.harness.cli.printing.output import only_the_answer
from lram.harness.cli.printing.paths import placed_argument
from lram.harness.cli.printing.streams import lead_nowhere, nothing_hidden
from lram.harness.errors import ROOTS, LramError
from lram.harness.words import brief

COMMANDS: tuple[tuple[str, App | Callable[..., Any]], ...] = (
    ("ablate", ablate.ablate),
    ("agents", agents.agents),
    ("bench", bench.app),
    ("cast", cast.cast),
    ("check", check.check),
    ("collect", collect.collect),
    ("compare", compare.compare),
    ("create", create.create),
    ("data", data.app),
    ("demo", demo.demo),
    ("doctor", doctor.doctor),
    ("domains", domains.domains),
    ("embed", embed.embed),
    ("env", env.app),
    ("eval", eval.eval_),
    ("export", export.export),
    ("extrapolate", extrapolate.extrapolate),
    ("film", film.film),
    ("finetune", finetune.finetune),
    ("import-checkpoint", import_checkpoint.import_checkpoint),
    ("latency", latency.latency),
    ("leaderboard", leaderboard.leaderboard),
    ("literature", literature.literature),
    ("paper", paper.paper),
    ("publish", publish.publish),
    ("reference", reference.reference),
    ("report", report.report),
    ("resume", resume.resume),
    ("serve", serve.serve),
    ("suites", suites.suites),
    ("tasks", tasks.tasks),
    ("train", train.train),
    ("verify", verify.verify),
    ("watch", watch.watch),
)
"""Every command, in the order of the help. Its module has its name; a family is a folder."""

_ANSWERS = ("json", "print_", "print_recipe")
"""Options with which a command prints what programs read, and nothing else."""

app = App(
    name="lram",
    help="Evaluate large recurrent action models across control domains, and compare them.",
    version=lambda: version("lram-bench"),
    help_flags=["--help", "-h"],
)
for name, command in COMMANDS:
    app.command(command, name=name)


def _interrupt(number: int, frame: object) -> None:
    """End as Ctrl-C does: workers gone, records kept, and a word on how to continue."""
    raise KeyboardInterrupt


def _usage(error: CycloptsError) -> str:
    """Return what is wrong with the arguments, and what is right or where the help says it."""
    chain = [*(error.command_chain or ())]
    command = " ".join(["lram", *chain])
    if not isinstance(error, UnknownCommandError):
        text = " ".join(str(error).split()).rstrip(".")
        if isinstance(error, UnusedCliTokensError):
            text = f"{command} takes no more arguments: {' '.join(error.unused_tokens or ())!r} is too much"
        return f"{text}; see '{command if chain else 'lram'} --help'"
    level = app
    for name in chain:
        level = level[name]
    known = [name for name in level if not name.startswith("-")]
    word = str(next(iter(error.unused_tokens or ()), ""))
    close = difflib.get_close_matches(word, known, n=1)
    hint = f"; did you mean '{command} {close[0]}'?" if close else f"; it has {', '.join(sorted(known))}"
    return f"{command} has no command {word!r}{hint}"


def _say(text: str) -> None:
    """Print a last line for people; a terminal that is gone must not make a traceback of it."""
    with suppress(OSError):
        print(f"lram: {brief(text)}", file=sys.stderr, flush=True)


def main() -> None:
    """Run the command line; exit with 2 for bad input and 130 for Ctrl-C, SIGTERM or SIGHUP."""
    _open_closed_streams()
    try:
        with nothing_hidden():
            _run()
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # nobody reads it; the interpreter must not fail on it at exit
                lead_nowhere(stream)


def give(arguments: Sequence[str]) -> int:
    """Run the command that ``arguments`` name, with paths from the root; return its exit code.

    Raises:
        CycloptsError: The arguments are none of a command; and whatever the command raises.
    """
    command, bound, _ = app.parse_args(arguments, exit_on_error=False, print_error=False)
    for name, value in bound.arguments.items():
        bound.arguments[name] = placed_argument(value)
    # The answer is for a program to read, so what code of the user's prints is no part of it.
    answered = any(bound.arguments.get(name) for name in _ANSWERS)
    with only_the_answer() if answered else nullcontext():
        code = command(*bound.args, **bound.kwargs)
    return code if isinstance(code, int) else 0


def _open_closed_streams() -> None:
    """Let streams that the caller has closed (``>&-``) lead nowhere, and no other file take their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the smallest number that is free: this one
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: PTH123, SIM115


def _check_arguments(arguments: Sequence[str]) -> None:
    """Refuse bytes that are no text: they end in plans, records and cards, which are UTF-8."""
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            shown = brief(repr(argument), 200)
            raise LramError(
                f"the argument {shown} is no UTF-8 text; give it, or name the file, in UTF-8"
            ) from None


def _run() -> None:
    os.environ.update(SAFE_PATH)  # whatever Python processes a library of ours starts
    os.environ["MPLBACKEND"] = "agg"  # no windows here; a notebook's may not be installed
    signal.signal(signal.SIGTERM, _interrupt)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # under nohup it is ignored, and stays so
        signal.signal(signal.SIGHUP, _interrupt)
    try:
        _check_arguments(sys.argv[1:])
        code = give(sys.argv[1:])
        sys.stdout.flush()
    except CycloptsError as error:
        _say(_usage(error))
        sys.exit(EXIT_BAD_INPUT)
    except ROOTS as error:
        _say(str(error))
        sys.exit(EXIT_BAD_INPUT)
    except KeyboardInterrupt:
        _say("interrupted")
        sys.exit(EXIT_INTERRUPTED)
    except UnicodeEncodeError as error:  # a name from a folder's listing, or the folder that this runs in
        _say(f"a name is no UTF-8 text and cannot be written: {brief(repr(error.object), 200)}; rename it")
        sys.exit(EXIT_BAD_INPUT)
    except MemoryError as error:
        _say(f"the memory does not suffice{f' ({error})' if str(error) else ''}; ask for less at once")
        sys.exit(EXIT_BAD_INPUT)
    except OSError as error:
        _say(f"the system refuses: {error}")
        sys.exit(EXIT_BAD_INPUT)
    sys.exit(code)
