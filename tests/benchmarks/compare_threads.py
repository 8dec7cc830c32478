"""Two threads against one: decisions of one model in turns, on the clock and in the main thread's own time.

On a busy machine the clock says little: two threads seldom have two cores at the same moment. So beside the
fastest decision of each is shown the processor's time of the main thread alone, which does all that is serial
and its part of what is divided: what a decision would take were the others never late.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import msgspec
import torch

from lram.agents.compute import Compute
from lram.agents.model.presets import parse_preset
from lram.harness.cli.printing.output import print_table
from lram.harness.machine import threads
from lram.harness.timing.backbones import READ, DecisionInputs, TimedBackbone
from lram.harness.timing.load import LoadWatch


def main() -> None:
    """Measure, print the table, write the numbers."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--preset", default="xlstm[7:1]-16M")
    parser.add_argument("--rows", type=int, default=16)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precisions", default="float32,bfloat16-weights,int8")
    parser.add_argument("--moments", type=int, default=5, help="so many times, with a pause between")
    parser.add_argument("--pause", type=float, default=20.0, help="seconds")
    parser.add_argument("--turns", type=int, default=10, help="decisions of each a moment")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()

    config, watch = parse_preset(options.preset), LoadWatch()
    decides = {}
    for text in options.precisions.split(","):
        work = DecisionInputs(
            rows=options.rows,
            tokens=config.pass_tokens,
            width=config.width,
            precision=Compute(precision=text).precision,
        )
        with torch.inference_mode():
            decides[text] = TimedBackbone(options.preset, config, work, [READ]).prepare("fused", READ).decide
    taken: dict[str, dict[int, list[tuple[float, float]]]] = {
        name: {1: [], options.threads: []} for name in decides
    }
    for moment in range(options.moments):
        if moment:
            time.sleep(options.pause)
        for name, decide in decides.items():
            for turn in range(options.turns + 1):
                for count in (1, options.threads)[:: 1 if turn % 2 else -1]:
                    with threads(count), torch.inference_mode():
                        decide()  # the caches and the pool as this number of threads leaves them
                        wall, own = time.perf_counter(), time.thread_time()
                        decide()
                        found = 1e3 * (time.perf_counter() - wall), 1e3 * (time.thread_time() - own)
                    if turn:
                        taken[name][count].append(found)
    rows = []
    for name, by_count in taken.items():
        one, more = (tuple(map(min, zip(*by_count[count], strict=True))) for count in (1, options.threads))
        rows.append((name, one[0], more[0], one[0] / more[0], one[1], more[1], one[1] / more[1]))
    many = f"{options.threads} threads"
    print_table(
        ("precision", "1 thread ms", f"{many} ms", "x", "1: own ms", f"{many}: own ms", "x own"), rows
    )
    count = options.moments * options.turns
    print(f"{options.preset}, {options.rows} rows; the fastest of {count} each; {watch.load()}")
    if options.output:
        options.output.write_bytes(msgspec.json.encode(taken))


if __name__ == "__main__":
    main()
