"""``lram leaderboard``: publications and runs as a static site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.options import NormaliserOption, SeedsOfOption
from lram.harness.waiting import still


def leaderboard(
    folders: Annotated[list[Path], Parameter(help="Folders of 'lram publish', and of runs.")],
    /,
    *,
    output: Annotated[
        Path,
        Parameter(name=["--output", "-o"], help="Folder of the site; new, or an earlier one to replace."),
    ],
    title: Annotated[str, Parameter(help="Heading of the page.")] = "Leaderboard",
    reports: Annotated[
        bool,
        Parameter(
            help="Make the report of each folder anew from its records, and link it.", negative="--no-reports"
        ),
    ] = True,
    seeds_of: SeedsOfOption = None,
    normaliser: NormaliserOption = "paper",
) -> int:
    """Make a leaderboard of many published folders and runs: a site of files that needs no server.

    Entries compare where they played the same tasks under the same protocols and score references; others
    stand in tables of their own. Folders that are damaged or were changed are refused.

    Example: lram leaderboard published/* runs/mine -o site
    """
    from lram.reports.leaderboard_site import write_site

    with still("reading the folders and making the site"):
        page = write_site(
            folders,
            output,
            title=title,
            reports=reports,
            normaliser=normaliser,
            seeds_of=seeds_of or (),
        )
    print(f"leaderboard: {page}")
    return 0
