"""``lram data verify``: whether stores are sound."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lram.harness.cli.exits import EXIT_FAILED
from lram.harness.cli.options import JsonOption, StoresArgument
from lram.harness.cli.printing.output import print_json
from lram.harness.cli.printing.problems import SHOWN, counted, show_problems
from lram.harness.waiting import still

if TYPE_CHECKING:
    from lram.agents.trajectories.verification import Verified


def verify(
    stores: StoresArgument,
    /,
    *,
    json: JsonOption = False,
) -> int:
    """Read every checksum and trajectory of stores; exit with 1 when something is bad.

    Trajectories that are there more than once, in a store or in several of those named, are counted; nothing
    is wrong with that. With --json several stores are a list.
    """
    from lram.agents.trajectories.verification import verified_all

    with still("reading every trajectory"):
        verdicts = verified_all(stores)
    if json:
        facts = [asdict(found) for found in verdicts]
        print_json(facts[0] if len(facts) == 1 else facts)
    else:
        for store, found in zip(stores, verdicts, strict=True):
            _show_verified(store, found)
    return EXIT_FAILED if any(found.bad for found in verdicts) else 0


def _verdict(found: Verified) -> str:
    """Return what can be said of a whole store, but not of what has no checksum or no place in the index."""
    if found.bad:
        return counted(len(found.bad), "fault")
    if found.unsigned:
        return "no fault found, in what carries a checksum"
    return "no fault found, in what the index names" if found.unnamed or found.pending else "all good"


def _show_verified(store: Path, found: Verified) -> None:
    show_problems("bad", found.bad)
    for text in found.repeats[:SHOWN]:
        print(f"repeated: {text}")
    if len(found.repeats) > SHOWN:
        print(f"... and {len(found.repeats) - SHOWN} more tasks; --json names all")
    if found.pending:
        print(f"of a commit that is under way or was interrupted: {', '.join(found.pending)}")
    if found.unnamed:
        print(f"not in the index, and left where it is: {', '.join(found.unnamed)}")
    if found.unsigned:
        print(f"written by an earlier version, without a checksum: {', '.join(found.unsigned)}")
    if found.recorded:
        print(
            f"{found.recorded} of {counted(found.episodes, 'episode')} carry the checksum of what was "
            "played, and were compared with it"
        )
    verdict = _verdict(found)
    held = ", ".join(
        counted(number, what)
        for number, what in ((found.parts, "part"), (found.episodes, "episode"), (found.steps, "step"))
    )
    for other, number in found.shared.items():
        print(f"{number} of {counted(found.episodes, 'episode')} are also in {other}")
    print(f"{store}: {held}: {verdict}")
