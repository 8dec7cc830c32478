"""What the scripts of this folder share: weights, files of arrays, the command line, a clock."""

from __future__ import annotations

import argparse
import io
import json
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

SEED = 0
ROWS, TOKENS = 2, 21  # not a multiple of any chunk
DECISION = 3  # tokens
FOLDER = Path("tests/data/recurrences")
LIMIT_BYTES = 150_000

# Returns the arrays and the description of one file.
Recorder = Callable[[], tuple[dict[str, Tensor], dict[str, Any]]]
# Returns how many weights a model has, and what reads one decision.
Timing = tuple[int, Callable[[], object]]
# Prepares a model of this width and so many layers, with heads of 64 channels.
Timed = Callable[[int, int], Timing]


def perturb(module: nn.Module, spread: float = 0.3) -> None:
    """Give every parameter values of its own, so that none can be left out, or taken for another, unseen.

    Matrices and convolutions keep the scale of their inputs; vectors (norms, biases, decays) and whatever
    the module declares otherwise move away from where they start by normal noise of ``spread``.
    """
    with torch.no_grad():
        for name, value in module.named_parameters():
            if value.dim() >= 2 and name.rsplit(".", 1)[-1].endswith("weight"):
                fan_in = value[0].numel()
                value.copy_(torch.randn_like(value) * max(fan_in, 4) ** -0.5)
            else:
                value.add_(torch.randn_like(value) * spread)


def weights_of(module: nn.Module) -> dict[str, Tensor]:
    """Return the module's state under the names of files here."""
    return {f"weight/{name}": value for name, value in module.state_dict().items()}


def count_weights(module: nn.Module) -> int:
    """Return how many numbers a module learns."""
    return sum(value.numel() for value in module.parameters())


def by_tokens(step: Callable[[Tensor, int], Tensor], x: Tensor) -> Tensor:
    """Feed (rows, tokens, width) token by token: ``step`` reads (rows, 1, width) and the position."""
    return torch.cat([step(x[:, t : t + 1], t) for t in range(x.shape[1])], dim=1)


def run(package: Mapping[str, Any], recorders: Mapping[str, Recorder], timed: Mapping[str, Timed]) -> None:
    """Run a script: record the files that are asked for, or time one decision of each model."""
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "names", nargs="*", help=f"which to record: {', '.join(recorders)}; without names all"
    )
    parser.add_argument("-o", "--output", type=Path, default=FOLDER, help="where the files go")
    parser.add_argument("--time", action="store_true", help="time decisions in place of recording")
    parser.add_argument("--width", type=int, default=512, help="of the models that are timed")
    parser.add_argument("--layers", type=int, default=8, help="of the models that are timed")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each model is timed")
    arguments = parser.parse_args()
    torch.set_grad_enabled(False)
    torch.set_num_threads(1)
    if arguments.time:
        for name, prepare in timed.items():
            if not arguments.names or name in arguments.names:
                report_time(name, partial(prepare, arguments.width, arguments.layers), arguments.seconds)
        return
    for name in arguments.names or recorders:
        torch.manual_seed(SEED)
        arrays, config = recorders[name]()
        save(arguments.output / f"{name}.npz", arrays, dict(package) | {"config": config})


def save(path: Path, arrays: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """Write float32 arrays and their origin; a second run writes the same bytes.

    Raises:
        ValueError: An array is not finite, or the file larger than a file of a test should be.
    """
    script = Path(sys.argv[0]).name
    everything = {
        **meta,
        "torch": version("torch").split("+")[0],
        "seed": SEED,
        "command": f"python tests/benchmarks/public_recurrences/{script} {path.stem}",
    }
    values = {name: value.detach().to(torch.float32).numpy() for name, value in arrays.items()}
    for name, value in values.items():
        if not np.isfinite(value).all():
            raise ValueError(f"{path.stem}: {name} is not finite")
    text = json.dumps(everything, sort_keys=True).encode()
    content = io.BytesIO()
    np.savez_compressed(content, meta=np.frombuffer(text, np.uint8), **values)
    size = len(content.getvalue())
    if size > LIMIT_BYTES:
        raise ValueError(f"{path.stem}: {size} bytes are more than {LIMIT_BYTES}")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.getvalue())
    shapes = ", ".join(f"{name} {value.shape}" for name, value in values.items() if "weight/" not in name)
    print(f"{path}: {size} bytes; {shapes}")


def report_time(name: str, prepare: Callable[[], Timing], seconds: float) -> None:
    """Print the minimum and the median time of a decision of one row, in milliseconds, on one thread.

    The processor's own time stands beside it, because other work on the machine disturbs it less.
    """
    torch.manual_seed(SEED)
    weights, decide = prepare()
    for _ in range(20):
        decide()
    clocks = {"wall": time.perf_counter, "cpu": time.process_time}
    samples: dict[str, list[float]] = {clock: [] for clock in clocks}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        starts = {clock: read() for clock, read in clocks.items()}
        decide()
        for clock, read in clocks.items():
            samples[clock].append((read() - starts[clock]) * 1e3)
    print(f"{name}: {weights / 1e6:.1f}M weights, {len(samples['wall'])} decisions")
    for clock, values in samples.items():
        print(f"  {clock}: min {min(values):.3f} ms, median {statistics.median(values):.3f} ms")
