"""What an evaluation would play and cost, as ``lram eval --dry-run`` prints it."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.forecast.costs import ENOUGH, Range
from lram.harness.forecast.forecast import Forecast
from lram.harness.waiting import duration

_SKIPPED_SHOWN = 5
_UNITS = ("B", "kB", "MB", "GB", "TB")


def show_forecast(found: Forecast, *, json: bool = False) -> None:
    """Print ``found``, as JSON or for people."""
    if json:
        print_json(asdict(found))
        return
    print_table(
        ("domain", "tasks", "protocol", "played in", "ready"),
        [
            (one.domain, one.tasks, one.protocol, one.python or "lram's own Python", _ready(one.problem))
            for one in found.domains
        ],
    )
    if not found.parts:
        return
    print()
    print_table(
        ("agent", "domain", "tasks", "episodes", "time alone", "measured by"),
        [
            (
                part.agent,
                part.domain,
                part.tasks,
                part.episodes,
                _durations(part.seconds),
                part.measured or f"not measured: {part.problem}",
            )
            for part in found.parts
        ],
    )
    for (agent, reason), times in Counter((one.agent, one.reason) for one in found.skipped).most_common(
        _SKIPPED_SHOWN
    ):
        print(f"\n{agent} skips {times} of {found.tasks} tasks: {reason}")
    if (more := len({(one.agent, one.reason) for one in found.skipped}) - _SKIPPED_SHOWN) > 0:
        print(f"\nand {more} other reasons to skip a task; --json has them all")
    _show_totals(found)
    for sentence in found.unread:
        print(f"\na past run was left out: {sentence}")


def _show_totals(found: Forecast) -> None:
    left_out = [part for part in found.parts if not part.measured]
    print(
        f"\n{found.planned:,} episodes: {found.episodes} of each agent on each task that it can play, "
        f"{found.lanes} at the same time; simulator processes: {found.workers}"
    )
    if found.seconds is None or found.bytes is None:
        print("how long they take is not known: nothing could be measured")
        return
    of = f" (without {sum(part.episodes for part in left_out):,} episodes not measured)" if left_out else ""
    print(f"time: {_durations(found.seconds)}{of}")
    print(
        f"disk: about {_sizes(found.bytes)} of plan and records; provenance and what simulators print "
        "come on top"
    )
    print(
        "These are ranges, not intervals of a known probability. Costs run from those of the shortest to "
        f"those of the longest measured episode (of fewer than {ENOUGH}, and of other tasks than those "
        "measured, up to the task's horizon). The least time is that of lanes and processes used as well as "
        "they can be; the most, that of no better pace than was measured. Loading and checking the agents "
        "comes on top."
    )


def _ready(problem: str) -> str:
    return f"no: {problem}" if problem else "yes"


def _durations(seconds: Range | None) -> str:
    if seconds is None:
        return ""
    low, high = duration(seconds.low), duration(seconds.high)
    return low if low == high else f"{low} to {high}"


def _sizes(sizes: Range) -> str:
    low, high = _size(sizes.low), _size(sizes.high)
    return low if low == high else f"{low} to {high}"


def _size(size: float) -> str:
    unit = 0
    while size >= 995 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.2g} {_UNITS[unit]}"
