"""``lram data info``: what trajectory stores hold."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

from cyclopts import Parameter

from lram.harness.cli.options import JsonOption, StoresArgument
from lram.harness.cli.printing.output import print_json
from lram.harness.waiting import still


def info(
    stores: StoresArgument,
    /,
    *,
    quick: Annotated[
        bool, Parameter(help="Only what the index says: leave out how alike actions are.", negative=())
    ] = False,
    json: JsonOption = False,
) -> None:
    """Show what trajectory stores hold: by domain, by task, and by who acted.

    'repeated' is the share of actions that equal the one before, and 'difference' the mean squared
    difference of consecutive actions (continuous ones; independent uniform actions would have 0.67).
    Where the one is high or the other small, a model that sees its last action can copy it instead of
    learning to act: this is why the paper leaves actions out of the context. 'score' is the normalised
    score of the mean return, where the task has a reference. Trajectories that are there more than once, in
    a store or in several of those named, are counted: they are one piece of evidence.
    """
    from lram.harness.collection.info import describe_stores

    with still("reading every action of the stores (--quick leaves that out)"):
        described = describe_stores(stores, quick=quick)
    if json:
        print_json([asdict(one) for one in described])
        return
    from lram.harness.cli.printing.store import show_store

    for one in described:
        show_store(one)
