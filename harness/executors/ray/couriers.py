"""What a study's driver and its nodes send each other: stores, once a node, and cells on their way.

A node that sees the study's folder and its stores, by a token and by digests, works there, and nothing is
sent. Any other has a copy: what it lacks is sent in pieces, and what it has made comes back in pieces and
is put into place whole.
"""

from __future__ import annotations

import hashlib
import platform
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from lram.agents.trajectories.index import read_index
from lram.agents.trajectories.layout import CARD_FILE, INDEX_FILE
from lram.harness.errors import LramError
from lram.harness.executors.ray import making
from lram.harness.executors.ray.connection import Cluster, Lost, Node
from lram.harness.executors.ray.making import CellOrder
from lram.harness.executors.ray.resources import Needs
from lram.harness.executors.ray.transfer import names_in, pieces, put_piece, shipped, sync_tree
from lram.harness.studies.folder import CellFolder, StudyFolder

_STORE_S = 1800.0  # to read a store of many gigabytes once more
_CELL_S = 600.0  # for a process that was stopped to save its state


class Courier:
    """Sends and takes what cells need and are."""

    def __init__(
        self, cluster: Cluster, study: StudyFolder, session: str, say: Callable[[str], None]
    ) -> None:
        """Prepare; ``session`` tells this driver's files on nodes from others'."""
        self._cluster, self._study, self._session, self._say = cluster, study, session, say
        self._path = study.path.resolve()
        self._shared: dict[str, bool] = {}
        self._initial: dict[str, Any] = {}
        for cell in study.cells():
            self._mend(cell)

    # Before a cell

    def serve(self, nodes: Sequence[Node]) -> None:
        """Find out which of ``nodes`` see the driver's files, and send the stores to the others.

        A node that is lost meanwhile is left out.
        """
        new = [node for node in nodes if node.id not in self._shared]
        token = self._path / f".token-{self._session}"
        token.write_text(self._session, encoding="utf-8")
        try:
            asked = [(node, self._asked(node, token.name)) for node in new]
            apart = [node for node, reference in asked if self._told(reference) is False]
            shared = [node for node, reference in asked if self._told(reference) is True]
        finally:
            token.unlink(missing_ok=True)
        self._shared |= dict.fromkeys((node.id for node in shared), True)
        for node in self._furnish(apart):
            self._shared[node.id] = False

    def _asked(self, node: Node, token: str) -> Any:
        stores = dict(self._study.plan.stores)
        return self._cluster.start(node, making.sees, str(self._path), token, self._session, stores)

    def _told(self, reference: Any) -> bool | None:
        try:
            return bool(self._cluster.result(reference))
        except Lost:
            return None

    def _furnish(self, nodes: Sequence[Node]) -> list[Node]:
        """Send ``nodes`` the stores that they lack; return those that have all of them then."""
        digests = {digest: path for path, digest in self._study.plan.stores.items()}
        lacking: dict[str, list[Node]] = {}
        served = list(nodes)
        asked = [(node, self._cluster.start(node, making.lacks, list(digests))) for node in nodes]
        for node, reference in asked:
            try:
                for digest in self._cluster.result(reference):
                    lacking.setdefault(digest, []).append(node)
            except Lost:
                served.remove(node)
        for digest, waiting in lacking.items():
            waiting = [node for node in waiting if node in served]
            self._say(f"sending {digests[digest]} to {', '.join(map(str, waiting))}")
            path = Path(digests[digest])
            index = read_index(path).lines
            names = [CARD_FILE, *(line.part for line in index), INDEX_FILE]
            for name, place, content in pieces(path, names):
                piece = self._cluster.put(content)
                waiting = self._all(waiting, served, making.take_store, digest, name, place, piece)
            self._all(waiting, served, making.keep_store, digest)
        return served

    def _all(
        self, nodes: Sequence[Node], served: list[Node], function: Callable[..., Any], digest: str, *told: Any
    ) -> list[Node]:
        """Run ``function`` on ``nodes``; return those that are still there, take others from ``served``."""
        left = []
        asked = [
            # Two nodes may have one disk.
            (node, self._cluster.start(node, function, digest, f"{self._session}-{node.id[:12]}", *told))
            for node in nodes
        ]
        for node, reference in asked:
            try:
                problem = self._cluster.result(reference, _STORE_S)
            except Lost as lost:
                if lost.why == "raised":
                    raise LramError(f"the node {node} cannot take what it lacks: {lost}") from lost
                served.remove(node)
                continue
            if problem:
                raise LramError(f"{problem} (on the node {node})")
            left.append(node)
        return left

    def start(self, what: str, cell: CellFolder, node: Node, needs: Needs) -> Any:
        """Start the work on a cell; return the stream of what the node says. Lost where it is gone."""
        if node.id not in self._shared:
            self.serve([node])
        if node.id not in self._shared:
            raise Lost("ended", "it was lost before it had what it needs")
        order, files = CellOrder(what, str(self._path), cell.entry.folder), None
        if not self._shared[node.id]:
            order, files = self._copy(what, cell, node, order)
        return self._cluster.start(
            node,
            making.work,
            msgspec.json.encode(order),
            files or {},
            cpus=needs.cpus,
            gpus=needs.gpus,
            memory=needs.memory,
            stream=True,
        )

    def _copy(self, what: str, cell: CellFolder, node: Node, order: CellOrder) -> tuple[CellOrder, Any]:
        """Send what the driver has of a cell, and return the order for a copy with its shipped files."""
        plan, name = self._study.plan, self._copy_name(cell)
        initial, files = None, None
        spec = str(dict(cell.entry.recipe.get("model", {})).get("init_from", ""))
        if spec and Path(spec).is_dir():
            if spec not in self._initial:
                self._initial[spec] = shipped({"": spec}, self._cluster.put)
            specs, folders = self._initial[spec]
            initial = specs[""]
            [files] = folders.values()
        names = names_in(cell.path)
        if what == "time":
            names = [one for one in names if "/" not in one or one.startswith("train/checkpoint/")]
        elif initial is not None and not cell.is_trained():
            names = []  # a training finds what it was begun from by its path
        basis = _basis(what, cell, names)
        folder = cell.entry.folder
        goes_on = self._cluster.result(self._cluster.start(node, making.ready, name, folder, basis), _CELL_S)
        if not goes_on:
            for one, place, content in pieces(cell.path, names):
                sent = self._cluster.start(node, making.take_cell, name, folder, one, place, content)
                self._cluster.result(sent)
        own = replace(plan, cells=(cell.entry,))
        copied = replace(order, copy=name, plan=own, stores=dict(plan.stores), initial=initial)
        return copied, files

    def _copy_name(self, cell: CellFolder) -> str:
        home = hashlib.sha256(f"{platform.node()} {self._path}".encode()).hexdigest()[:16]
        return f"{home}-{cell.entry.folder}"

    # After a cell

    def take(self, cell: CellFolder, name: str, place: int, content: bytes) -> None:
        """Write a piece of what comes back."""
        put_piece(self._coming(cell), name, place, content)

    def finish(self, what: str, cell: CellFolder, node: Node) -> None:
        """Put what has come back into its place."""
        coming = self._coming(cell)
        if not coming.is_dir():
            return
        sync_tree(coming)
        if what == "time":
            # Nothing else has changed; what says that the cell is whole comes last.
            for file in sorted(coming.iterdir(), key=lambda file: file.name == "done.json"):
                file.replace(cell.path / file.name)
            coming.rmdir()
        else:
            old = _old(cell)
            shutil.rmtree(old, ignore_errors=True)
            if cell.path.exists():
                cell.path.rename(old)
            coming.rename(cell.path)
            shutil.rmtree(old, ignore_errors=True)
        self._cluster.start(node, making.forget, self._copy_name(cell))

    def drop(self, cell: CellFolder) -> None:
        """Forget what has come of a cell."""
        shutil.rmtree(self._coming(cell), ignore_errors=True)

    def _coming(self, cell: CellFolder) -> Path:
        return cell.path.with_name(f".{cell.entry.folder}.coming")

    def _mend(self, cell: CellFolder) -> None:
        """Undo what a power cut has left half done."""
        self.drop(cell)
        if not cell.path.exists() and _old(cell).exists():
            _old(cell).rename(cell.path)


def _old(cell: CellFolder) -> Path:
    return cell.path.with_name(f".{cell.entry.folder}.old")


def _basis(what: str, cell: CellFolder, names: Sequence[str]) -> str:
    """Return what tells whether the driver's part of a cell is still the one that a copy was begun from."""
    facts: Mapping[str, tuple[int, int]] = {
        name: (file.stat().st_size, file.stat().st_mtime_ns) for name in names for file in [cell.path / name]
    }
    return f"{what} {cell.entry.key} {hashlib.sha256(repr(sorted(facts.items())).encode()).hexdigest()}"
