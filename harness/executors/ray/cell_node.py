"""Cells of a study on a node: in the study's own folder where the node sees it, else in a copy of it.

A copy has what the cell needs: its part of the plan, the cell as far as it is made, and the stores, which
come once a node. What goes back names the driver's paths, so that a cell reads as if it was made there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from lram.agents.api import AgentError
from lram.agents.trajectories import TrajectoryStore
from lram.harness.errors import LramError
from lram.harness.executors.ray.cell_paths import holds_paths, renamed, renamed_text
from lram.harness.executors.ray.node import KEEP_S, die_with_raylet, scratch, usual_priority
from lram.harness.executors.ray.transfer import (
    Artifacts,
    ShippedAgent,
    fetch,
    missing_stores,
    pieces,
    unpacked_store,
)
from lram.harness.storage.trees import names_in
from lram.harness.studies.cell_job import What, begin, reason
from lram.harness.studies.folder import CellFolder, StudyFolder, held, write_plan
from lram.harness.studies.records import StudyPlan

CELL = "cell"
"""Among a job's artefacts: what the driver has of the cell."""
_BASIS = "basis.txt"


@dataclass(frozen=True, slots=True)
class CellOrder:
    """What a node is to make.

    Attributes:
        what: ``make`` or ``time``.
        study: Folder of the study, as the driver knows it.
        cell: Name of the cell's folder.
        copy: Name of the node's copy; empty: the node sees the driver's folder.
        basis: For a copy: tells what the driver has of the cell.
        plan: For a copy: of the study, with this cell only.
        stores: For a copy: digests by the driver's paths.
        initial: For a copy: the checkpoint that the training begins from, where that is a folder.
    """

    what: What
    study: str
    cell: str
    copy: str = ""
    basis: str = ""
    plan: StudyPlan | None = None
    stores: Mapping[str, str] | None = None
    initial: ShippedAgent | None = None


@dataclass(frozen=True, slots=True)
class CellUpdate:
    """What a node says of a cell.

    Attributes:
        problem: Why no cell can be made here.
        name, place: Of the piece of a file that comes along.
        done: It is over; without this, a stream that ends was cut off.
        reason: Why it failed; empty where it has not.
        seconds: That it took.
    """

    problem: str = ""
    name: str = ""
    place: int = 0
    done: bool = False
    reason: str = ""
    seconds: float = 0.0


def view(folder: str, token: str, content: str, stores: Mapping[str, str]) -> tuple[bool, list[str]]:
    """Return whether this node sees the driver's files, and which stores it has no copy of.

    It sees them when there is a token in the study's folder, and the stores are those.
    """
    try:
        sees = (Path(folder) / token).read_text(encoding="utf-8") == content and all(
            TrajectoryStore(path).digest == digest for path, digest in stores.items()
        )
    except (OSError, AgentError, UnicodeDecodeError):
        sees = False
    return sees, missing_stores(list(stores.values()))


def ready(copy: str, cell: str, basis: str) -> bool:
    """Return whether this node's copy of a cell continues from what the driver has, by its ``basis``.

    It was interrupted here then, and has more than the driver. Otherwise there is no copy afterwards.
    """
    study = _copies() / copy
    path = study / "cells" / cell
    with ExitStack() as stack:
        try:
            if (study / _BASIS).read_text(encoding="utf-8") == basis:
                return True
            if path.is_dir():  # its process may still be saving
                stack.enter_context(held(path / "lock", wait=True))
        except OSError:
            pass
        shutil.rmtree(study, ignore_errors=True)
    return False


def forget(copy: str) -> None:
    """Remove a copy, and those that nobody came back to."""
    shutil.rmtree(_copies() / copy, ignore_errors=True)
    for old in _copies().iterdir():
        if time.time() - old.stat().st_mtime > KEEP_S:
            shutil.rmtree(old, ignore_errors=True)


def work(order: bytes, artifacts: Artifacts) -> Iterator[tuple[bytes, bytes]]:
    """Work on a cell; yield :class:`CellUpdate` as JSON each, with pieces of its files where it is a copy."""
    die_with_raylet()
    asked = msgspec.json.decode(order, type=CellOrder)
    study = Path(asked.study)
    names: dict[str, str] = {}
    if asked.copy:
        try:
            study, names = _unpacked(asked, artifacts)
        except LramError as error:
            yield _message(CellUpdate(problem=str(error)))
            return
    began = time.monotonic()
    cell = StudyFolder(study).cell(asked.cell)
    with ExitStack() as stack:
        if asked.what == "time":
            stack.enter_context(usual_priority())
        process = begin(study, cell, asked.what)
        code = process.wait()
    why = renamed_text(reason(code, cell.path / "log.txt"), names)
    if asked.copy:
        made = names_in(cell.path)
        for name in made if asked.what == "make" else [one for one in made if "/" not in one]:
            yield from _pieces(cell, name, names)
    yield _message(CellUpdate(done=True, reason=why, seconds=time.monotonic() - began))


def _pieces(cell: CellFolder, name: str, names: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    file = cell.path / name
    if holds_paths(name):
        yield _message(CellUpdate(name=name), renamed(file, names))
        return
    for each, place, content in pieces(cell.path, [name]):
        yield _message(CellUpdate(name=each, place=place), content)


def _unpacked(asked: CellOrder, artifacts: Artifacts) -> tuple[Path, dict[str, str]]:
    """Return the folder of a copy whose plan names this node's paths, and the driver's path by each.

    Raises:
        LramError: What came is not what was sent.
    """
    assert asked.plan is not None
    study = _copies() / asked.copy
    here = {
        path: str(unpacked_store(artifacts.get(digest, ()), digest))
        for path, digest in (asked.stores or {}).items()
    }
    if not ready(asked.copy, asked.cell, asked.basis):
        fetch(artifacts[CELL], study / "cells" / asked.cell)
        (study / _BASIS).write_text(asked.basis, encoding="utf-8")
    [entry] = asked.plan.cells
    recipe = {**entry.recipe, "data": {**entry.recipe["data"]}}
    recipe["data"]["stores"] = [here[path] for path in recipe["data"]["stores"]]
    names = {there: path for path, there in here.items()} | {str(study): asked.study}
    if asked.initial is not None:
        spec = asked.initial.there(artifacts)
        recipe["model"] = {**recipe["model"], "init_from": spec}
        names[spec] = asked.initial.spec
    changed = replace(entry, recipe=recipe)
    stores = {here[path]: digest for path, digest in asked.plan.stores.items()}
    (study / "cells" / asked.cell).mkdir(parents=True, exist_ok=True)
    write_plan(study, replace(asked.plan, stores=stores, cells=(changed,)))
    return study, names


def _message(update: CellUpdate, content: bytes = b"") -> tuple[bytes, bytes]:
    return msgspec.json.encode(update), content


def _copies() -> Path:
    folder = scratch().resolve() / "studies"
    folder.mkdir(exist_ok=True)
    return folder
