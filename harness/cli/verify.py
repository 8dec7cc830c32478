"""``lram verify``: a random sample of a run's episodes, replayed and held against its records."""

from __future__ import annotations

import math
import secrets
import shlex
from collections.abc import Sequence
from typing import Annotated

from cyclopts import Parameter

from lram.agents.shown import few
from lram.harness.cli.exits import EXIT_FAILED, EXIT_INTERRUPTED, EXIT_NOT_JUDGED
from lram.harness.cli.options import DEFAULT_MACHINE, MachineOptions, RunArgument, TrustOption
from lram.harness.progress import quiet, shown
from lram.harness.replay.comparison import Replayed
from lram.harness.replay.detection import Detection, detection
from lram.harness.replay.replaying import replay
from lram.harness.replay.sampling import sample, scored
from lram.harness.storage.run_folder import Run
from lram.harness.trust import trusted
from lram.harness.words import count

_SHOWN = 20
_CONDITIONS_SHOWN = 6


def verify(
    run: RunArgument,
    /,
    *,
    share: Annotated[
        float, Parameter(help="Share of the scored episodes to replay; at least one is.")
    ] = 0.05,
    seed: Annotated[
        int | None,
        Parameter(
            name=["--seed", "-s"],
            help="Names the sample. Without it, one is drawn and printed: whoever knows the sample "
            "beforehand can forge the other records.",
        ),
    ] = None,
    agent: Annotated[
        list[str] | None, Parameter(help="Only episodes of this agent; repeat it for several.", negative=())
    ] = None,
    task: Annotated[
        list[str] | None, Parameter(help="Only episodes of this task; repeat it for several.", negative=())
    ] = None,
    trust: TrustOption = False,
    machine: MachineOptions = DEFAULT_MACHINE,
) -> int:
    """Replay a random sample of a run's scored episodes, and compare them with their records.

    Each must give the recorded trajectory checksum, return, length and success, bit for bit. The last line
    says what that shows of the records that were not replayed. Nothing is written to the run's folder.

    Example: lram verify runs/first --share 0.1
    """
    opened = Run(run)
    records = scored(opened, agent, task)
    number = secrets.randbelow(1 << 31) if seed is None else seed
    chosen = sample(records, share, number)
    print(
        f"replaying {len(chosen)} of {count(len(records), 'scored episode')}, sample {number}"
        + ("" if seed is not None else f" (again with --seed {number})")
    )
    command = shlex.join(["lram", "verify"])
    try:
        replayed = replay(
            opened,
            chosen,
            machine=machine.machine(opened),
            trust=trusted(trust),
            progress=quiet if machine.quiet else shown,
            command=command,
        )
    except KeyboardInterrupt:
        print("interrupted; nothing was judged, and the run's folder is as it was")
        return EXIT_INTERRUPTED
    return conclude(replayed, len(records))


def conclude(replayed: Sequence[Replayed], episodes: int) -> int:
    """Print what the replays show of ``episodes`` records, and return the exit code."""
    other = [one for one in replayed if one.verdict != "same"]
    for one in other[:_SHOWN]:
        print(f"{one.record.item.id}: {'; '.join(one.differences)}")
    if len(other) > _SHOWN:
        print(f"and {len(other) - _SHOWN} more")
    if not other:
        print(shown_by(detection(len(replayed), episodes)))
        return 0
    same = len(replayed) - len(other)
    forged = [one for one in other if one.verdict == "differs"]
    print(f"{same} of {len(replayed)} replayed episodes equal their records, {len(other)} do not")
    if forged:
        print(
            f"{count(len(forged), 'record')} made under the same conditions (processor, library, versions) "
            f"{'is' if len(forged) == 1 else 'are'} not what the agent does in the episode now: changed by "
            "hand, played by something else, or of an agent or simulator that is not deterministic, which "
            "'lram check' and 'lram env check' find"
        )
        return EXIT_FAILED
    print(f"whether these records are true cannot be judged here: {_why(other)}")
    return EXIT_NOT_JUDGED


def shown_by(found: Detection) -> str:
    """Return in one sentence what a sample without a finding shows."""
    if found.sampled == found.episodes:
        return (
            f"all {count(found.episodes, 'scored episode')} were replayed, and all are equal: none of the "
            "records is forged in what was compared"
            if found.episodes > 1
            else "the only scored episode was replayed and is equal: its record is not forged in what was "
            "compared"
        )
    # Rounded up, so that the probability holds for what is printed.
    share = math.ceil(found.share * 10_000) / 100
    return (
        f"{found.sampled} of {found.episodes} scored episodes replayed, all equal: if at least {share:.2f}% "
        f"of the records ({found.forged} of {found.episodes}) were forged, this sample would have found one "
        f"with probability {_probability(found.probability)} or more"
    )


def _probability(value: float) -> str:
    """Return it with its last digit cut off, not rounded: what is printed is reached, and 100% is certain."""
    return "100%" if value >= 1 else f"{int(value * 1000) / 10:.1f}%"


def _why(other: Sequence[Replayed]) -> str:
    found = list(dict.fromkeys(condition for one in other for condition in one.conditions))
    if not found:
        return "the replays failed, for the reasons above; fix that and repeat"
    return (
        f"{few(found, _CONDITIONS_SHOWN, '; ')}. Repeat it on a machine and with versions as they "
        "were ('provenance/' in the run's folder tells them)"
    )
