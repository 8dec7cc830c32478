"""What the nodes of a cluster have of a study: the driver's own folder, or copies of what they need.

A node that sees the study's folder and its stores, by a token and by digests, works there, and nothing is
sent. Any other has a copy: what it lacks comes from the cluster's object store, and what it has made comes
back in pieces and is put into place whole.
"""

from __future__ import annotations

import hashlib
import platform
import secrets
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from lram.harness.executors.ray import cell_node
from lram.harness.executors.ray.cell_node import CELL, CellOrder
from lram.harness.executors.ray.connection import JobLost, Node
from lram.harness.executors.ray.loop import ClusterContext
from lram.harness.executors.ray.transfer import (
    Artifacts,
    ShippedAgent,
    put_piece,
)
from lram.harness.storage.trees import names_in, sync_tree
from lram.harness.studies.cell_job import CellJob
from lram.harness.studies.folder import CellFolder, StudyFolder


class CellFiles:
    """Gives nodes what cells need, and takes what they have made.

    Attributes:
        study: Whose cells.
    """

    def __init__(self, context: ClusterContext, study: StudyFolder) -> None:
        """Prepare, and undo what a power cut has left half done."""
        self._cluster, self._transfer, self._log = context.cluster, context.transfer, context.log
        self.study = study
        self._path = study.path.resolve()
        self._shared: dict[str, bool] = {}
        self._initial: dict[str, ShippedAgent] = {}
        for cell in study.cells():
            self._restore(cell)

    # Before a cell

    def serve(self, nodes: Sequence[Node]) -> None:
        """Find out which of ``nodes`` see the driver's files, and have the stores ready for the others.

        A node that is lost meanwhile is left out.
        """
        new = [node for node in nodes if node.id not in self._shared]
        content = secrets.token_hex(8)
        token = self._path / f".token-{content}"
        token.write_text(content, encoding="utf-8")
        stores = dict(self.study.plan.stores)
        try:
            asked = [
                (
                    node,
                    self._cluster.start(node, cell_node.view, str(self._path), token.name, content, stores),
                )
                for node in new
            ]
            views = [(node, self._view(reference)) for node, reference in asked]
        finally:
            token.unlink(missing_ok=True)
        paths = {digest: path for path, digest in stores.items()}
        lacking: dict[str, list[Node]] = {}
        for node, view in views:
            if view is None:
                continue
            self._shared[node.id] = view[0]
            for digest in [] if view[0] else view[1]:
                lacking.setdefault(digest, []).append(node)
        for digest, waiting in lacking.items():
            self._log(f"sending {paths[digest]} to {', '.join(map(str, waiting))}")
            self._transfer.store(paths[digest], digest)

    def _view(self, reference: Any) -> tuple[bool, list[str]] | None:
        """Return whether a node sees the driver's files, and the stores that it lacks; None: it was lost."""
        try:
            sees, lacks = self._cluster.result(reference)
        except JobLost:
            return None
        return bool(sees), list(lacks)

    def order(self, job: CellJob, node: Node) -> tuple[CellOrder, Artifacts]:
        """Return the order that a node gets for a cell, and its files; JobLost where the cell is gone."""
        if node.id not in self._shared:
            self.serve([node])
        if node.id not in self._shared:
            raise JobLost("ended", "it was lost before it had what it needs")
        order = CellOrder(job.what, str(self._path), job.cell.entry.folder)
        return (order, {}) if self._shared[node.id] else self._copy(job, order)

    def _copy(self, job: CellJob, order: CellOrder) -> tuple[CellOrder, Artifacts]:
        """Return the order for a copy, with what the driver has of the cell."""
        plan, cell = self.study.plan, job.cell
        spec = str(dict(cell.entry.recipe.get("model", {})).get("init_from", ""))
        initial = None
        if spec and Path(spec).is_dir():
            if spec not in self._initial:
                self._initial[spec] = self._transfer.agent(spec)
            initial = self._initial[spec]
        names = names_in(cell.path)
        if job.what == "time":
            names = [one for one in names if "/" not in one or one.startswith("train/checkpoint/")]
        elif initial is not None and not cell.is_trained():
            names = []  # a training finds what it was begun from by its path
        copied = replace(
            order,
            copy=self._copy_name(cell),
            basis=_basis(job.what, cell, names),
            plan=replace(plan, cells=(cell.entry,)),
            stores=dict(plan.stores),
            initial=initial,
        )
        sent = self._transfer.by_digest(*plan.stores.values())
        if initial is not None:
            sent |= self._transfer.of(initial)
        return copied, {**sent, CELL: self._transfer.put(cell.path, names)}

    def _copy_name(self, cell: CellFolder) -> str:
        home = hashlib.sha256(f"{platform.node()} {self._path}".encode()).hexdigest()[:16]
        return f"{home}-{cell.entry.folder}"

    # After a cell

    def take(self, cell: CellFolder, name: str, place: int, content: bytes) -> None:
        """Write a piece of what comes back."""
        put_piece(self._coming(cell), name, place, content)

    def finish(self, job: CellJob, node: Node) -> None:
        """Put what has come back into its place."""
        cell = job.cell
        coming = self._coming(cell)
        if not coming.is_dir():
            return
        sync_tree(coming)
        if job.what == "time":
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
        self._cluster.start(node, cell_node.forget, self._copy_name(cell))

    def drop(self, cell: CellFolder) -> None:
        """Forget what has come of a cell."""
        shutil.rmtree(self._coming(cell), ignore_errors=True)

    def _coming(self, cell: CellFolder) -> Path:
        return cell.path.with_name(f".{cell.entry.folder}.coming")

    def _restore(self, cell: CellFolder) -> None:
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
