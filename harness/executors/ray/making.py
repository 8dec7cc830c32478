"""Cells of a study on a node: in the study's own folder where the node sees it, else in a copy of it.

A copy has what the cell needs: its part of the plan, the cell as far as it is made, and the stores, which
come once a node. What goes back names the driver's paths, so that a cell reads as if it was made there.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec

from lram.agents.api import AgentError
from lram.agents.trajectories import TrajectoryStore
from lram.harness.executors.ray.jobs import die_with_raylet
from lram.harness.executors.ray.renaming import holds_paths, renamed, renamed_text
from lram.harness.executors.ray.shipping import held as held_here
from lram.harness.executors.ray.shipping import scratch
from lram.harness.executors.ray.transfer import Shipped, as_others, names_in, pieces, put_piece
from lram.harness.studies.folder import CellFolder, StudyFolder, held, write_plan
from lram.harness.studies.records import StudyPlan
from lram.harness.studies.running import begin, reason

_KEEP_S = 2 * 86400.0
_BASIS = "basis.txt"


@dataclass(frozen=True, slots=True)
class CellOrder:
    """What a node is to make.

    Attributes:
        what: ``make`` or ``time``.
        study: Folder of the study, as the driver knows it.
        cell: Name of the cell's folder.
        copy: Name of the node's copy; empty: the node sees the driver's folder.
        plan: For a copy: of the study, with this cell only.
        stores: For a copy: digests by the driver's paths.
        initial: For a copy: the checkpoint that the training begins from, where that is a folder.
    """

    what: str
    study: str
    cell: str
    copy: str = ""
    plan: StudyPlan | None = None
    stores: Mapping[str, str] | None = None
    initial: Shipped | None = None


@dataclass(frozen=True, slots=True)
class CellNews:
    """What a node says of a cell.

    Attributes:
        begun: It has room now.
        name, place: Of the piece of a file that comes along.
        done: It is over; without this, a stream that ends was cut off.
        reason: Why it failed; empty where it has not.
        seconds: That it took.
    """

    begun: bool = False
    name: str = ""
    place: int = 0
    done: bool = False
    reason: str = ""
    seconds: float = 0.0


def sees(folder: str, token: str, content: str, stores: Mapping[str, str]) -> bool:
    """Return whether this node sees the driver's files: a token in the study's folder, and the stores."""
    try:
        if (Path(folder) / token).read_text(encoding="utf-8") != content:
            return False
        return all(TrajectoryStore(path).digest == digest for path, digest in stores.items())
    except (OSError, AgentError, UnicodeDecodeError):
        return False


def lacks(digests: Sequence[str]) -> list[str]:
    """Return which of the stores this node does not have; those that nobody has used for days go."""
    stores = _stores()
    for old in stores.iterdir():
        if old.name not in digests and time.time() - old.stat().st_mtime > _KEEP_S:
            shutil.rmtree(old, ignore_errors=True)
    for digest in digests:
        if (stores / digest).is_dir():
            (stores / digest).touch()
    return [digest for digest in digests if not (stores / digest).is_dir()]


def take_store(digest: str, sender: str, name: str, place: int, content: bytes) -> None:
    """Write a piece of a store that is on its way."""
    put_piece(_stores() / f".{digest}.{sender}", name, place, content)


def keep_store(digest: str, sender: str) -> str:
    """Check a store that has come and keep it; return what is wrong with it."""
    partial = _stores() / f".{digest}.{sender}"
    try:
        store = TrajectoryStore(partial)
        store.verify()
    except AgentError as error:
        return str(error)
    if store.digest != digest:
        return f"the store {digest[:12]} has come as {store.digest[:12]}: it was added to meanwhile"
    with held_here(f"store-{digest[:16]}"):
        if (_stores() / digest).is_dir():
            shutil.rmtree(partial)
        else:
            partial.rename(_stores() / digest)
    return ""


def ready(copy: str, cell: str, basis: str) -> bool:
    """Return whether this node's copy of a cell goes on from what the driver has, told by ``basis``.

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
    path.mkdir(parents=True)
    (study / _BASIS).write_text(basis, encoding="utf-8")
    return False


def take_cell(copy: str, cell: str, name: str, place: int, content: bytes) -> None:
    """Write a piece of a cell that the driver has made a part of."""
    put_piece(_copies() / copy / "cells" / cell, name, place, content)


def forget(copy: str) -> None:
    """Remove a copy, and those that nobody came back to."""
    shutil.rmtree(_copies() / copy, ignore_errors=True)
    for old in _copies().iterdir():
        if time.time() - old.stat().st_mtime > _KEEP_S:
            shutil.rmtree(old, ignore_errors=True)


def work(order: bytes, files: Mapping[str, bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Work on a cell; yield :class:`CellNews` as JSON each, with pieces of its files where it is a copy."""
    die_with_raylet()
    asked = msgspec.json.decode(order, type=CellOrder)
    yield _said(CellNews(begun=True))
    began = time.monotonic()
    study = Path(asked.study)
    names: dict[str, str] = {}
    if asked.copy:
        study, names = _unpacked(asked, files)
    cell = StudyFolder(study).cell(asked.cell)
    with ExitStack() as stack:
        if asked.what == "time":
            stack.enter_context(as_others())
        process = begin(study, cell, asked.what)
        code = process.wait()
    why = renamed_text(reason(code, cell.path / "log.txt"), names)
    if asked.copy:
        made = names_in(cell.path)
        for name in made if asked.what == "make" else [one for one in made if "/" not in one]:
            yield from _pieces(cell, name, names)
    yield _said(CellNews(done=True, reason=why, seconds=time.monotonic() - began))


def _pieces(cell: CellFolder, name: str, names: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    file = cell.path / name
    if holds_paths(name):
        yield _said(CellNews(name=name), renamed(file, names))
        return
    for each, place, content in pieces(cell.path, [name]):
        yield _said(CellNews(name=each, place=place), content)


def _unpacked(asked: CellOrder, files: Mapping[str, bytes]) -> tuple[Path, dict[str, str]]:
    """Return the folder of a copy whose plan names this node's paths, and the driver's path by each."""
    assert asked.plan is not None
    study = _copies() / asked.copy
    here = {path: str(_stores() / digest) for path, digest in (asked.stores or {}).items()}
    [entry] = asked.plan.cells
    recipe = {**entry.recipe, "data": {**entry.recipe["data"]}}
    recipe["data"]["stores"] = [here[path] for path in recipe["data"]["stores"]]
    names = {there: path for path, there in here.items()} | {str(study): asked.study}
    if asked.initial is not None:
        spec = asked.initial.there({asked.initial.files: files})
        recipe["model"] = {**recipe["model"], "init_from": spec}
        names[spec] = asked.initial.spec
    changed = replace(entry, recipe=recipe)
    stores = {here[path]: digest for path, digest in asked.plan.stores.items()}
    (study / "cells" / asked.cell).mkdir(parents=True, exist_ok=True)
    write_plan(study, replace(asked.plan, stores=stores, cells=(changed,)))
    return study, names


def _said(news: CellNews, content: bytes = b"") -> tuple[bytes, bytes]:
    return msgspec.json.encode(news), content


def _stores() -> Path:
    folder = scratch().resolve() / "stores"
    folder.mkdir(exist_ok=True)
    return folder


def _copies() -> Path:
    folder = scratch().resolve() / "studies"
    folder.mkdir(exist_ok=True)
    return folder
