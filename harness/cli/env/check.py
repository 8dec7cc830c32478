"""``lram env check``: whether every task of a domain works, and repeats itself by its seed."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from lram.harness.cli.exits import EXIT_FAILED
from lram.harness.cli.options import DomainArgument, JsonOption, terms
from lram.harness.cli.printing.output import print_json, print_table, three_digits
from lram.harness.errors import LramError
from lram.harness.selecting import explain, selected
from lram.harness.waiting import left, remaining, say, still
from lram.harness.words import count

if TYPE_CHECKING:
    from lram.envs.session import Domain
    from lram.harness.interpreters.trial import TaskCheck

_COUNT_EVERY = 50


def check(
    domain: DomainArgument,
    /,
    *,
    tasks: Annotated[
        list[str] | None,
        Parameter(
            name=["--tasks", "-t"], help="A selection of its tasks (default: all of them).", negative=()
        ),
    ] = None,
    python: Annotated[
        str | None,
        Parameter(
            help="Another interpreter, or main for lram's own; DOMAIN=... will do (default: as 'lram eval')."
        ),
    ] = None,
    protocol: Annotated[
        str | None,
        Parameter(help="Name of a protocol; DOMAIN=NAME will do (default: as 'lram eval')."),
    ] = None,
    workers: Annotated[
        int | None, Parameter(name=["--workers", "-w"], help="Processes (default: one a core).")
    ] = None,
    steps: Annotated[int, Parameter(help="Decisions to make in each task.")] = 20,
    json: JsonOption = False,
) -> int:
    """Build every task of a domain, reset it and step it: the same seed must give the same again.

    In between it plays the beginning of another episode, which must leave nothing behind.

    Ends with 1 when a task fails.

    Example: lram env check composuite --tasks 'composuite/IIWA_*'
    """
    from lram.harness.interpreters import resolve, used
    from lram.harness.interpreters.readiness import adapter, readiness
    from lram.harness.interpreters.trial import check_domain

    if steps < 1 or (workers is not None and workers < 1):
        raise LramError("--steps and --workers must be 1 or more")
    its = adapter(domain)
    python, protocol = _plain(domain, python, "--python"), _plain(domain, protocol, "--protocol")
    interpreters = resolve([domain], {domain: python} if python is not None else None)
    names = _selected(its, tasks) if tasks else _playable(its, interpreters.get(domain))
    ready = readiness(its, names, interpreters.get(domain), protocol)
    where = interpreters.get(domain, sys.executable)
    print(f"{count(len(names), 'task')} of {ready.protocol.id(domain)} in {where}", file=sys.stderr)
    progress = _Progress(domain, len(names))
    with (
        tempfile.TemporaryDirectory(prefix="lram-check-") as folder,
        used(interpreters.values()),
        still(progress.text, quiet=progress.terminal),
    ):
        results = check_domain(
            its,
            names,
            ready.protocol.name,
            interpreters=interpreters,
            workers=min(len(names), workers or len(os.sched_getaffinity(0))),
            steps=steps,
            log_folder=Path(folder),
            on_result=progress,
        )
    failed = [result for result in results if result.problem]
    if json:
        print_json(
            {
                "domain": domain,
                "protocol": ready.protocol.id(domain),
                "python": where,
                "tasks": [asdict(result) for result in results],
                "failed": len(failed),
            }
        )
    else:
        _show(domain, results)
    return EXIT_FAILED if failed else 0


def _plain(domain: str, text: str | None, option: str) -> str | None:
    """Return an option's value for ``domain``, written DOMAIN=VALUE as in other commands or VALUE alone."""
    from lram.envs.registry import domain_names

    name, equals, value = (text or "").partition("=")
    if equals and name == domain:
        return value
    if equals and name in domain_names():
        raise LramError(f"{option} {text} is about {name}, and {domain} is checked")
    return text


def _selected(domain: Domain, tasks: Sequence[str]) -> list[str]:
    chosen = selected(terms(tasks, None))
    for task in chosen:
        if task.domain != domain.name:
            raise LramError(f"{task.id} is not a task of {domain.name}; select among its own")
    return [task.name for task in chosen]


def _playable(domain: Domain, python: str | None) -> list[str]:
    """Return the domain's tasks without those whose checkout is not there or that are made to fail.

    Which these are is said on standard error.
    """
    from lram.harness.interpreters.readiness import absent_sources
    from lram.harness.interpreters.sources import left_out
    from lram.harness.interpreters.trial import task_names

    known = task_names(domain)
    absent = [tree for tree in absent_sources(domain, python) if tree.tasks]
    if text := left_out(domain, absent, known):
        print(f"note: {text}", file=sys.stderr)
    explain([f"{domain.name}/{name}" for name in known if name in domain.faulty])
    names = [
        name for name in known if name not in domain.faulty and not any(tree.needed(name) for tree in absent)
    ]
    if not names:
        raise LramError(f"the domain {domain.name} brings no task to check")
    return names


def _show(domain: str, results: Sequence[TaskCheck]) -> None:
    failed = [result for result in results if result.problem]
    for result in failed:
        print(f"{domain}/{result.task}: {result.problem}")
    rows = []
    for name, values, worst in (
        ("build, s", [r.build_s for r in results], max),
        ("reset, s", [r.reset_s for r in results], max),
        ("steps/s", [r.steps_per_s for r in results], min),
    ):
        known = {r.task: v for r, v in zip(results, values, strict=True) if v is not None}
        if known:
            extreme = worst(known, key=known.__getitem__)
            rows.append((name, three_digits(median(known.values())), three_digits(known[extreme]), extreme))
    if rows:
        print_table(("time", "median", "worst", "in"), rows)
    total = f"{count(len(results), 'task')} {'works' if len(results) == 1 else 'work'}"
    print(f"\n{len(results) - len(failed)} of {total}; {len(failed)} fail")


class _Progress:
    """A counter on a terminal's error stream; elsewhere the failures as they come, and a count at times."""

    def __init__(self, domain: str, total: int) -> None:
        self._domain, self._total, self._done = domain, total, 0
        self.terminal = sys.stderr.isatty()
        self._began = time.monotonic()

    def text(self) -> str:
        """Return how far it is."""
        seconds = time.monotonic() - self._began
        ahead = left(remaining(self._total, self._done, 0, seconds))
        return f"{self._done}/{self._total} tasks, {ahead}"

    def __call__(self, result: TaskCheck) -> None:
        self._done += 1
        count = f"{self._done}/{self._total} tasks"
        if self.terminal:
            self._print(f"\r{count}", end="\n" if self._done == self._total else "")
            return
        if result.problem:
            self._print(f"{self._domain}/{result.task}: {result.problem}")
        if self._done % _COUNT_EVERY == 0:
            self._print(count)

    def _print(self, text: str, end: str = "\n") -> None:
        say(text, end)
