"""What tables and figures of latencies say of passes with more rows than lanes, and of whose memory it is."""

from __future__ import annotations

from lram.reports import text
from lram.reports.sections.latency.model import ContextLatency, LatencyResult
from lram.reports.table import TableCell


def lanes_cell(spot: ContextLatency) -> TableCell:
    """Return the lanes of a point, and below them the rows of a pass, where these are others."""
    padded = spot.rows is not None and spot.rows != spot.batch
    return TableCell(str(spot.batch), f"{spot.rows} rows a pass" if padded else "", value=spot.batch)


def lanes_text(result: LatencyResult, batch: int) -> str:
    """Return what a panel of ``batch`` lanes is called."""
    rows = sorted(_padded(result).get(batch, ()))
    return text.count(batch, "lane") + (f"\n({text.names(map(str, rows))} rows)" if rows else "")


def rows_words(result: LatencyResult) -> str:
    """Return a sentence on passes that have more rows than lanes; empty where there are none."""
    batches: dict[int, list[int]] = {}
    for batch, several in sorted(_padded(result).items()):
        for rows in several:
            batches.setdefault(rows, []).append(batch)
    if not batches:
        return ""
    passes = [
        f"{text.names(map(str, lanes))} {'lane' if lanes == [1] else 'lanes'} share a pass of {rows} rows"
        for rows, lanes in sorted(batches.items())
    ]
    return (
        "A model's pass has one row or a multiple of eight, so that a lane's actions do not depend on how "
        f"many decide with it: {'; '.join(passes)}. The other rows are empty and computed all the same: "
        "time, state and peak memory are those of all rows."
    )


def peak_label(result: LatencyResult) -> str:
    """Return the label of an axis of peak memory."""
    whose = {True: "peak on the GPU", False: "peak of the process"}
    found = {one.on_gpu for one in result.subjects}
    return f"{whose[found.pop()] if len(found) == 1 else 'peak memory'}, MiB"


def peak_words(result: LatencyResult) -> str:
    """Return whose peak memory is shown, to stand within a sentence."""
    process = "the highest resident memory of the process, with libraries, weights and recorded inputs"
    gpu = "the highest memory allocated on the GPU, with weights"
    found = {one.on_gpu for one in result.subjects}
    if len(found) > 1:
        return f"{process}; of sweeps on a GPU {gpu}"
    return gpu if True in found else process


def _padded(result: LatencyResult) -> dict[int, set[int]]:
    """Return the rows of passes by lanes, where these are fewer."""
    found: dict[int, set[int]] = {}
    for spot in result.spots:
        if spot.rows is not None and spot.rows > spot.batch:
            found.setdefault(spot.batch, set()).add(spot.rows)
    return found
