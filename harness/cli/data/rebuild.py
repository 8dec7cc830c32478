"""``lram data rebuild``: a lost or damaged index, made again."""

from __future__ import annotations

from dataclasses import asdict

from lram.harness.cli.exits import EXIT_FAILED
from lram.harness.cli.options import JsonOption, StoreArgument
from lram.harness.cli.printing.output import print_json
from lram.harness.cli.printing.problems import counted, show_problems
from lram.harness.waiting import still


def rebuild(
    store: StoreArgument,
    /,
    *,
    json: JsonOption = False,
) -> int:
    """Rebuild a damaged or lost index of a store (and its card) from its parts.

    Each part is read whole and checked. The old index is kept beside the new one as
    index.jsonl.before-rebuild-N. Parts that are damaged, and parts that hold what others hold already, are
    moved to set-aside/ in the store. Nothing is deleted. Ends with 1 when a part was damaged.

    Example: lram data rebuild data/reach
    """
    from lram.agents.trajectories.rebuilding import rebuild

    with still("reading every part"):
        made = rebuild(store)
    if json:
        print_json(asdict(made))
        return EXIT_FAILED if made.damaged else 0
    show_problems("set aside", made.damaged)
    show_problems("set aside", made.copies)
    if made.by_content:
        print(
            f"of {counted(len(made.by_content), 'part')} the old index had no checksum: their content was "
            "checked only"
        )
    for name in made.kept:
        print(f"kept: {store / name}")
    print(
        f"{store}: {counted(made.parts, 'part')}, {counted(made.episodes, 'episode')}, "
        f"{counted(made.steps, 'step')} in the index"
    )
    return EXIT_FAILED if made.damaged else 0
