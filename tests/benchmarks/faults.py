"""Every file operation of a command killed, failing with EIO and with ENOSPC in turn; slow.

    PYTHONPATH=tests python tests/benchmarks/faults.py eval collect train latency report ablate --every 1

prints what did not survive, and a line a command with its operations, trials and failures.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from support.faults import KINDS, Server
from support.scenarios import OUT, SCENARIOS, trial


def main() -> int:
    """Run the trials; return 1 where one went wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("commands", nargs="*", default=list(SCENARIOS), metavar="COMMAND")
    parser.add_argument("--every", type=int, default=1, help="Try one operation in so many.")
    parser.add_argument("--kinds", default=",".join(KINDS), help="kill, EIO, ENOSPC.")
    options = parser.parse_args()
    failures = 0
    for name in options.commands:
        with tempfile.TemporaryDirectory(prefix="lram-faults-") as folder:
            failures += tried(SCENARIOS[name], Path(folder), options.kinds.split(","), options.every)
    return bool(failures)


def tried(scenario, folder: Path, kinds: list[str], every: int) -> int:  # type: ignore[no-untyped-def]
    """Try the operations of one command; return how many trials went wrong."""
    place, failures, trials = folder / "whole", 0, 0
    whole = place / OUT
    place.mkdir()
    with Server(folder, "import torch, lram.harness.evaluation, lram.harness.collection.collect") as server:
        for words in scenario.prepare(folder):
            assert server.run(*words).code == 0
        undisturbed = server.run(*scenario.begin(folder, whole), folder=place)
        assert undisturbed.code == 0, undisturbed.errors
        result = scenario.result(whole)
        for kind in kinds:
            for at in range(0, undisturbed.operations, every):
                found = trial(server, scenario, folder, folder / f"{kind}-{at}", result, kind, at)
                trials += 1
                if found.wrong:
                    failures += 1
                    print(f"{scenario.name}: {kind} at {at} ({found.hit}): {found.wrong}", flush=True)
    print(
        f"{scenario.name}: {undisturbed.operations} operations, {trials} trials, {failures} failures",
        flush=True,
    )
    return failures


if __name__ == "__main__":
    raise SystemExit(main())
