"""Artefacts on their way to nodes and back: checkpoints, policies' files, stores, and cells of studies.

All of them go as pieces of files through Ray's object store, from which a node fetches what it does not have
yet: an artefact is known by its content's digest, lies on a node once, and is checked there before it
counts. What a node has made comes back as pieces, too, among the updates of its job.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lram.agents.adapters import files_of
from lram.agents.api import AgentError
from lram.agents.spec import parse_agent
from lram.agents.trajectories import TrajectoryStore
from lram.agents.trajectories.index import read_index
from lram.agents.trajectories.layout import CARD_FILE, INDEX_FILE
from lram.harness.errors import LramError, as_lram_error
from lram.harness.executors.ray.connection import Cluster, follow
from lram.harness.executors.ray.node import KEEP_S, held, scratch

PIECE_BYTES = 8 << 20
"""Most bytes of a file in one message."""

_MOST_BYTES = 64 << 30
_FILES = "files"  # what the folder of a policy's file is called on a node

Pieces = Sequence[tuple[str, int, Any]]
"""Files as name, offset and Ray's reference to the content; references are followed where they are needed."""
Artifacts = Mapping[str, Pieces]
"""What comes along with a job, by digest."""


@dataclass(frozen=True, slots=True)
class ShippedAgent:
    """An agent's specification on its way to a node.

    Attributes:
        spec: As the driver's user wrote it.
        folder: The part of it that is a checkpoint's folder, or a policy's file or folder with the scheme of
            its adapter before it; empty where there is none.
        files: SHA-256 over the files, by which nodes know that they have them.
        name: Of the folder, links followed: it goes into what reports say.
        scheme: Of the adapter, with the colon; empty for a checkpoint.
        inside: Name of the policy's file in the folder; empty: it is the folder.
    """

    spec: str
    folder: str = ""
    files: str = ""
    name: str = ""
    scheme: str = ""
    inside: str = ""

    def there(self, artifacts: Artifacts) -> str:
        """Return what it is called on the node that this runs on."""
        if not self.folder:
            return self.spec
        here = unpacked(artifacts.get(self.files, ()), self.files, self.name)
        return f"{self.scheme}{here / self.inside}{self.spec.removeprefix(self.folder)}"


class ArtifactTransfer:
    """The driver's side: puts artefacts into the cluster's object store, each once."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._put: dict[str, Pieces] = {}

    def agent(self, spec: str) -> ShippedAgent:
        """Return a specification for nodes, and put its files; LramError where they cannot be read."""
        parsed = parse_agent(spec)
        with as_lram_error():
            files = files_of(parsed.base)
        if files is not None:
            digest = self._kept(files.folder, sorted(files.names))
            scheme = f"{parsed.base.partition(':')[0]}:"
            name = _FILES if files.inside else files.folder.resolve().name
            return ShippedAgent(spec, scheme + files.named, digest, name, scheme, files.inside)
        if not parsed.folder:
            return ShippedAgent(spec)
        path = Path(parsed.folder)
        return ShippedAgent(spec, parsed.folder, self._kept(path), path.resolve().name)

    def _kept(self, folder: Path, names: Sequence[str] | None = None) -> str:
        """Put those that lie in ``folder`` itself, or just ``names``; return the files' digest."""
        try:
            names = files_in(folder) if names is None else names
            if sum((folder / name).stat().st_size for name in names) > _MOST_BYTES:
                raise LramError(
                    f"{folder} holds more than {_MOST_BYTES >> 30} GiB; give a checkpoint's own folder"
                )
            digest = digest_of(folder, names)
            if digest not in self._put:
                self._put[digest] = self.put(folder, names)
        except OSError as error:
            raise LramError(f"{folder} cannot be read: {error.strerror}") from error
        return digest

    def store(self, path: str, digest: str) -> None:
        """Put a trajectory store."""
        if digest not in self._put:
            names = [CARD_FILE, *(line.part for line in read_index(Path(path)).lines), INDEX_FILE]
            self._put[digest] = self.put(Path(path), names)

    def put(self, folder: Path, names: Sequence[str]) -> Pieces:
        """Put the named files of a folder, to be sent along with one job."""
        return [(name, place, self._cluster.put(content)) for name, place, content in pieces(folder, names)]

    def of(self, *agents: ShippedAgent) -> dict[str, Pieces]:
        """Return what must come along with a job of ``agents``."""
        return self.by_digest(*(agent.files for agent in agents if agent.files))

    def by_digest(self, *digests: str) -> dict[str, Pieces]:
        """Return those of the artefacts that were put."""
        return {digest: self._put[digest] for digest in digests if digest in self._put}


def files_in(folder: Path) -> list[str]:
    """Return the names of the files that lie in ``folder`` itself, sorted."""
    return sorted(file.name for file in folder.iterdir() if file.is_file())


def digest_of(folder: Path, names: Sequence[str] | None = None) -> str:
    """Return a SHA-256 over names and contents of ``names``, or all that lie in ``folder`` itself, in hex."""
    digest = hashlib.sha256()
    for name in files_in(folder) if names is None else names:
        file = folder / name
        digest.update(f"{len(name)} {name} {file.stat().st_size} ".encode())
        with file.open("rb") as content:
            while piece := content.read(PIECE_BYTES):
                digest.update(piece)
    return digest.hexdigest()


# On a node


def fetch(sent: Pieces, folder: Path) -> None:
    """Write files that were put into ``folder``, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, place, reference in sent:
        put_piece(folder, name, place, follow(reference))


def unpacked(sent: Pieces, digest: str, name: str) -> Path:
    """Return a folder on this node, called ``name``, with the files of an agent; once written, kept.

    The name goes into what a report says of a checkpoint, so the same files may lie there under several.

    Raises:
        LramError: What came is not what was sent.
    """
    folder = scratch() / "checkpoints" / digest[:32] / Path(name).name
    with held(f"checkpoint-{digest[:16]}"):
        if not folder.is_dir():
            _clean(folder.parent.parent)
            partial = folder.with_name(f".{folder.name}.{os.getpid()}")
            shutil.rmtree(partial, ignore_errors=True)
            fetch(sent, partial)
            there = sorted(one.relative_to(partial).as_posix() for one in partial.rglob("*") if one.is_file())
            if digest_of(partial, there) != digest:
                shutil.rmtree(partial)
                what = "a policy's file" if name == _FILES else f"the checkpoint {name}"
                raise LramError(f"{what} has not come whole; start the command again")
            partial.rename(folder)
        os.utime(folder.parent)
    return folder


def unpacked_store(sent: Pieces, digest: str) -> Path:
    """Return this node's copy of a trajectory store; LramError where it has not come as it was."""
    stores = _stores()
    with held(f"store-{digest[:16]}"):
        if not (stores / digest).is_dir():
            partial = stores / f".{digest}.{os.getpid()}"
            shutil.rmtree(partial, ignore_errors=True)
            try:
                fetch(sent, partial)
                store = TrajectoryStore(partial)
                store.verify()
                if store.digest != digest:
                    raise LramError(
                        f"the store {digest[:12]} has come as {store.digest[:12]}: it was added to meanwhile"
                    )
            except BaseException as error:
                shutil.rmtree(partial, ignore_errors=True)
                if isinstance(error, AgentError):
                    raise LramError(str(error)) from error
                raise
            partial.rename(stores / digest)
        os.utime(stores / digest)
    return stores / digest


def missing_stores(digests: Sequence[str]) -> list[str]:
    """Return which of the stores this node does not have; those that nobody has used for days go."""
    stores = _stores()
    for old in stores.iterdir():
        if old.name not in digests and time.time() - old.stat().st_mtime > KEEP_S:
            shutil.rmtree(old, ignore_errors=True)
    for digest in digests:
        if (stores / digest).is_dir():
            os.utime(stores / digest)
    return [digest for digest in digests if not (stores / digest).is_dir()]


def _stores() -> Path:
    folder = scratch().resolve() / "stores"
    folder.mkdir(exist_ok=True)
    return folder


def _clean(folder: Path) -> None:
    """Remove what nobody has asked for in two days, verdicts of gates among it."""
    old = [*(folder.iterdir() if folder.is_dir() else ()), *scratch().glob("gate-*.txt")]
    for one in old:
        with suppress(OSError):  # another process was faster
            if time.time() - one.stat().st_mtime > KEEP_S:
                shutil.rmtree(one) if one.is_dir() else one.unlink()


def pieces(folder: Path, names: Sequence[str]) -> Iterator[tuple[str, int, bytes]]:
    """Yield the named files of ``folder`` as name, offset and content; an empty file is one empty piece."""
    for name in names:
        with (folder / name).open("rb") as file:
            place = 0
            while (content := file.read(PIECE_BYTES)) or place == 0:
                yield name, place, content
                place += len(content)
                if len(content) < PIECE_BYTES:
                    break


def put_piece(folder: Path, name: str, place: int, content: bytes) -> None:
    """Write what :func:`pieces` has read; a file's pieces come in order."""
    file = (folder / name).resolve()
    if not file.is_relative_to(folder.resolve()):
        raise ValueError(f"{name} leads out of {folder}")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("r+b" if place else "wb") as handle:
        handle.seek(place)
        handle.write(content)
