"""Damage files of every format that lram reads, and count how its readers end.

    python tests/benchmarks/fuzz.py --rounds 10000 --seed 0

Every round damages one file of a small sample of one format and reads the sample with all that reads it. It
may be read, or refused in one sentence. Anything else is a fault, which is printed, and the exit code is 1:
a traceback, a crash of the process, a reader that does not end, a sound file that is not read because of
another, a refusal that is no sentence or names no file. ``--formats store,Minari`` takes some of the formats,
``--only 17`` one round of a format, with all that was said.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = "1"  # threads do not live on in a fork
sys.path.insert(0, str(Path(__file__).parents[1]))

from support.fuzz.formats import FORMATS
from support.fuzz.runner import FAULTS, Table, make_samples, read_one, run


def main() -> int:
    """Run the rounds; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--rounds", type=int, default=10_000, help="in all (default: 10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--formats", default="", help="beginnings of names, with commas (default: all)")
    parser.add_argument("--only", type=int, help="one round of a format, in this process")
    parser.add_argument("--json", type=Path, help="a file for the faults")
    asked = parser.parse_args()
    begins = tuple(asked.formats.split(",")) if asked.formats else ("",)
    formats = tuple(one for one in FORMATS if one.name.startswith(begins))
    table = Table()
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        place = Path(folder)
        samples = make_samples(place, formats)
        for number, one in enumerate(formats):
            scratch = place / "read"
            if asked.only is not None:
                print(read_one(one, samples[one.name], scratch, asked.seed, asked.only))
                continue
            rounds = len(range(number, asked.rounds, len(formats)))
            for trial in run(one, samples[one.name], scratch, asked.seed, range(rounds)):
                table.add(trial)
                if trial.outcome in FAULTS:
                    print(
                        f"{trial.format} {trial.number}, {trial.outcome}: {trial.damage}\n{trial.told}\n",
                        flush=True,
                    )
            print(f"{one.name}: {dict(table.counts[one.name])}", file=sys.stderr, flush=True)
    if asked.only is not None:
        return 0
    if asked.json:
        asked.json.write_text(json.dumps([vars(fault) for fault in table.faults], indent=1))
    rows = table.rows()
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        print(row[0].ljust(widths[0]), *cells[1:], sep="  ")
    return 1 if table.faults else 0


if __name__ == "__main__":
    sys.exit(main())
