"""``lram data export``: a store in the format of others."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from lram.harness.cli.options import JsonOption, OnlyTasksOption, StoreArgument, TaskLimitOption
from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.cli.printing.problems import counted
from lram.harness.errors import LramError
from lram.harness.waiting import still


def export(
    store: StoreArgument,
    /,
    *,
    output: Annotated[Path, Parameter(name=["--output", "-o"], help="Folder of the data set; must be new.")],
    to: Annotated[Literal["lerobot"], Parameter(help="Format of the data set.")] = "lerobot",
    tasks: OnlyTasksOption = None,
    limit: TaskLimitOption = None,
    fps: Annotated[int, Parameter(help="Decisions a second, which a store does not know.")] = 20,
    images: Annotated[
        Literal["image", "video"],
        Parameter(help="Images as single PNGs, exact, or as videos, which are smaller and lossy."),
    ] = "image",
    quality: Annotated[
        int, Parameter(help="Of videos: x264's constant rate factor, 0 (largest files) to 51.")
    ] = 18,
    json: JsonOption = False,
) -> None:
    """Export a trajectory store as a data set that other packages read.

    'lerobot' is a LeRobot data set of version 3: rows in parquet files, with observation.state or
    observation.image, action, next.reward, next.done and more. All tasks in it must have the same shapes;
    --tasks chooses. What is imported from it again is the same trajectories. Needs pyarrow, and PyAV for
    videos: pip install 'lram-bench[lerobot]'.

    Example: lram data export data/reach -o lerobot/reach --tasks metaworld/reach-v3 --fps 80
    """
    from lram.agents.trajectories.exporters import ExportOptions
    from lram.harness.collection.exporting import export_data

    _check(limit, fps, quality)
    done = [0]

    def seen() -> None:
        done[0] += 1

    options = ExportOptions(fps=fps, images=images, quality=quality, seen=seen)
    with still(lambda: f"{done[0]:,} episodes written", quiet=json):
        made = export_data(store, output, to, options, tasks=tasks or (), limit=limit)
    if json:
        print_json({"folder": str(output), "format": to, **asdict(made)})
        return
    print_table(("task", "episodes"), list(made.tasks.items()))
    print()
    for text, count in made.notes.items():
        print(f"{count} {text}")
    print(f"{output}: {counted(made.episodes, 'episode')}, {counted(made.steps, 'step')}, as {to}")


def _check(limit: int | None, fps: int, quality: int) -> None:
    """Raise LramError for numbers that make no data set."""
    if limit is not None and limit < 1:
        raise LramError("--limit must be 1 or more")
    if not 1 <= fps <= 1000:
        raise LramError(f"--fps {fps} is no rate of decisions; give 1 to 1000")
    if not 0 <= quality <= 51:
        raise LramError(f"--quality {quality} is none of x264's; give 0 to 51")
