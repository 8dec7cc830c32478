"""From an exported network and its sidecar to an agent, whatever runs the network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from lram.agents.acting.padded import Run, whole_action
from lram.agents.adapters.actions import Bounds, Choose, drawn, greatest
from lram.agents.adapters.exported.sidecar import (
    Sidecar,
    bounds_of,
    normalization_of,
    sidecar_of,
)
from lram.agents.adapters.policy import AdaptedPolicy, Memory, PolicyShape, safe_rows
from lram.agents.api import Action, AgentError, AgentInfo
from lram.agents.compute import Compute
from lram.agents.shown import shown
from lram.agents.sums import files_digest

Network: TypeAlias = Callable[[list[npt.NDArray[Any]]], Sequence[Any]]
"""Maps observations and memories, laid out as the network reads them, to an answer and memories."""


def agent_of(
    file: Path,
    sidecar: Sidecar,
    network: Network,
    kind: str,
    compute: Compute,
    *,
    more_files: Sequence[Path] = (),
    parameters: int | None = None,
) -> AdaptedPolicy:
    """Return the agent around ``network``, after one pass on zeros.

    Args:
        file: Where the network is from.
        sidecar: How it is used.
        network: Runs it.
        kind: What it is called, such as ``ONNX``.
        compute: Device; float32 only.
        more_files: What belongs to the network besides ``file``, for the digest.
        parameters: Number of its weights, where that is known.

    Raises:
        AgentError: It does not run, or does not answer as the sidecar says; one sentence.
    """
    if compute.precision != "float32":
        raise AgentError(f"{file} computes as it was exported; leave --precision {compute.precision} out")
    bounds, rows = bounds_of(sidecar, file), sidecar.batch or safe_rows(compute)
    memories = [Memory(tuple(table.shape), table.dtype, table.initial) for table in sidecar.memory]
    run = _runner(file, sidecar, network)
    image = sidecar.pixels is not None
    given = [np.zeros((rows, *sidecar.shape), np.uint8 if image else np.float32)]
    run([*given, *(np.full((rows, *one.shape), one.initial, one.dtype) for one in memories)])
    fit = PolicyShape(sidecar.shape, image, sidecar.action, sidecar.size)
    mapped = f", {bounds.describe()} mapped to [-1, 1]" if bounds is not None and not bounds.plain else ""
    how = "drawn from the episode's seed" if sidecar.draw else "deterministic"
    memory = f", {len(memories)} arrays of memory" if memories else ""
    pixels = f" ({sidecar.pixels} pixels)" if image else ""
    details = (
        ("sees", f"{fit.describe()}{pixels}"),
        ("normalization", "none" if sidecar.normalization is None else "of the sidecar"),
        ("actions", f"{sidecar.output}, {how}{mapped}"),
        ("pass", f"{rows} lanes{memory}"),
    )
    info = AgentInfo(
        "model",
        shown(f"{kind} network{memory}: {sidecar.output}, {how}{mapped} ({file.name})", 300),
        trained=None,
        parameters=parameters,
        digest=files_digest(file, sidecar_of(file), *more_files),
        details=details,
    )
    return AdaptedPolicy(
        run,
        _chooser(sidecar, bounds),
        fit=fit,
        info=info,
        rows=rows,
        memories=memories,
        draws=sidecar.draw,
    )


def _runner(file: Path, sidecar: Sidecar, network: Network) -> Run:
    """Return ``network`` with observations prepared, lanes first, and its answer checked."""
    statistics = normalization_of(sidecar, file)
    axes = [table.axis for table in sidecar.memory]

    def run(arrays: list[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        seen = arrays[0] if statistics is None else statistics(arrays[0])
        if sidecar.pixels in ("float", "unit"):
            seen = seen.astype(np.float32)
        if sidecar.pixels == "unit" and statistics is None:
            seen = seen / np.float32(255)
        laid = [
            np.ascontiguousarray(np.moveaxis(one, 0, axis))
            for one, axis in zip(arrays[1:], axes, strict=True)
        ]
        answer, *new = [np.asarray(one) for one in network([seen, *laid])]
        if len(new) != len(axes):
            raise AgentError(
                f"{file} gave {len(new)} arrays besides its answer, and {sidecar_of(file).name} tells of "
                f"{len(axes)} memories; name each"
            )
        moved = []
        for one, axis, table in zip(new, axes, sidecar.memory, strict=True):
            wanted = (*table.shape[:axis], len(seen), *table.shape[axis:])
            if one.shape != wanted:
                raise AgentError(f"{file} gave a memory of shape {one.shape}; its sidecar says {wanted}")
            moved.append(np.moveaxis(one, axis, 0))
        return [_checked(file, sidecar, answer, len(seen)), *moved]

    return run


def _checked(file: Path, sidecar: Sidecar, answer: npt.NDArray[Any], rows: int) -> npt.NDArray[Any]:
    """Return the answer with one row a lane."""
    index = sidecar.action == "discrete" and sidecar.output == "actions"
    width = 1 if index else sidecar.size
    if answer.shape[:1] != (rows,) or answer.size != rows * width:
        raise AgentError(
            f"{file} answered {rows} observations with the shape {answer.shape}; {sidecar.output} of "
            f"{sidecar.size} {sidecar.action} actions are {(rows, width)}"
        )
    return answer.reshape(rows, width)


def _chooser(sidecar: Sidecar, bounds: Bounds | None) -> Choose:
    if bounds is None:
        if sidecar.output == "actions":
            return lambda row, rng: whole_action(row[0])
        return drawn if sidecar.draw else greatest
    if sidecar.output == "actions":
        return lambda row, rng: bounds.to_task(row)
    std = None if sidecar.std is None else np.asarray(sidecar.std, np.float64)

    def choose(row: npt.NDArray[Any], rng: np.random.Generator | None) -> Action:
        if rng is not None and std is not None:
            row = (row + std * rng.standard_normal(len(row))).astype(np.float32)
        return bounds.to_task(bounds.clip(row))

    return choose
