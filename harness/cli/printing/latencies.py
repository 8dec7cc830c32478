"""A sweep of latencies, printed for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lram.harness.cli.printing.output import print_table, three_digits

if TYPE_CHECKING:
    from lram.reports.sections.latency.model import LatencyMedian, LatencyResult


def print_result(result: LatencyResult) -> None:
    """Print a sweep's numbers for people."""
    from lram.reports.sections.latency.wording import rows_words

    header = ("agent", "batch", "context", "decisions", "p50 ms", "interval", "p90", "p99", "model", "loop")
    rows: list[tuple[object, ...]] = []
    for spot in result.spots:
        head = (result.subjects[spot.subject].name, spot.batch, spot.context)
        if spot.agent is None:
            rows.append((*head, 0, None, spot.outcome, None, None, None, None, None, None))
            continue
        clock = spot.agent
        rows.append(
            (
                *head,
                clock.decisions,
                three_digits(clock.median.value),
                _interval(clock.median),
                three_digits(clock.p90),
                three_digits(clock.p99),
                None if spot.model is None else three_digits(spot.model.median.value),
                None if spot.loop is None else three_digits(spot.loop.median.value),
                round(spot.state_bytes / 2**20, 2),
                round(spot.peak_bytes / 2**20),
            )
        )
    print_table((*header, "state MiB", "peak MiB"), rows)
    if padded := rows_words(result):
        print(f"\n{padded}")
    if result.crossings:
        print("\nfrom which context on the first decides faster than the second:")
        print_table(
            ("first", "second", "batch", "from context", "interval"),
            [
                (
                    result.subjects[one.first].name,
                    result.subjects[one.second].name,
                    one.batch,
                    one.text + f" (without {', '.join(map(str, one.left_out))})" * bool(one.left_out),
                    one.interval_text,
                )
                for one in result.crossings
            ],
        )
    marked = [spot for spot in result.spots if spot.audit == "failed"]
    if marked:
        named = ", ".join(dict.fromkeys(result.subjects[spot.subject].name for spot in marked))
        print(
            f"\nfaster on inputs that they have seen, at {len(marked)} of {len(result.spots)} points, which "
            f"enter no crossover and no control rate: {named}"
        )
    for note in result.notes:
        print(f"\n{note}")


def _interval(middle: LatencyMedian) -> str:
    if middle.low is None or middle.high is None:
        return "too few"
    return f"[{middle.low:.3g}, {middle.high:.3g}]"
