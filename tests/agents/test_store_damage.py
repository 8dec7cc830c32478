"""Whatever happens to a store: nothing is deleted, nothing is read wrong, the index can be made anew."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import random
import re
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.checksums import sign_line
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore
from lram.agents.trajectories.folder import StoreFolder
from lram.agents.trajectories.index import read_index
from lram.agents.trajectories.rebuilding import rebuild
from lram.agents.trajectories.verification import verified

REACH = TaskSpec("toy/reach", "toy", "vector", (3,), "continuous", 2, 25.0, 1.0)
LIVES = TaskSpec("toy/lives", "toy", "vector", (2,), "discrete", 4, None, 1.0)


def made(seed: int, task: TaskSpec = REACH, length: int = 5) -> Trajectory:
    rng = np.random.default_rng(seed)
    if task.action == "discrete":
        actions = rng.integers(0, task.action_size, length)
    else:
        actions = rng.uniform(-1, 1, (length, task.action_size)).astype(np.float32)
    rewards = rng.normal(size=length)
    return Trajectory(
        task=task,
        observations=rng.standard_normal((length + 1, *task.observation_shape)).astype(np.float32),
        actions=actions,
        rewards=rewards,
        signals=np.sign(rewards).astype(np.float32),
        terminated=seed % 2 == 0,
        truncated=seed % 2 == 1,
        success=np.arange(length) == 3 if task is REACH else None,
        context_starts=(0, 2) if task is LIVES else (0,),
        seed=seed,
        policy="random",
        protocol="toy:plain@1",
        record=json.dumps({"episode": seed}),
        origin=f"{task.id}|{seed}",
    )


def write(path: Path, *trajectories: Trajectory) -> None:
    with StoreWriter(path, card={"made_by": "a test"}) as writer:
        for trajectory in trajectories:
            writer.append(trajectory)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    write(path, made(0), made(1))
    write(path, made(2, LIVES), made(3), made(4))
    return path


def read_all(path: Path) -> tuple[object, ...]:
    """Return all that a store says and holds, as something that can be compared."""
    found = TrajectoryStore(path)
    windows = [found.window(episode.number, 1, 4) for episode in found.episodes]
    numbers = [(w.observations, w.actions, w.rewards, w.signals, w.returns_to_go) for w in windows]
    contents = [np.concatenate([one.ravel() for one in some]).tobytes() for some in numbers]
    records = [found.record(episode.number) for episode in found.episodes]
    card = {**found.card, "additions": sorted(map(json.dumps, found.card["additions"]))}
    return found.digest, found.episodes, found.tasks, contents, records, card


def hashes(path: Path) -> dict[str, str]:
    """Return the checksum of each file under ``path``, by its place."""
    files = [file for file in path.rglob("*") if file.is_file() and not file.is_symlink()]
    return {str(f.relative_to(path)): hashlib.sha256(f.read_bytes()).hexdigest() for f in sorted(files)}


def assert_nothing_lost(before: dict[str, str], path: Path) -> None:
    """Every file is where it was, or its content is somewhere in the store."""
    after = hashes(path)
    lost = {name for name, content in before.items() if content not in after.values()}
    assert lost <= {"lock"}, lost


def opened(path: Path) -> str:
    """Open a writer as a command does that adds one episode; return what it refused, or nothing."""
    try:
        with StoreWriter(path, say=lambda sentence: None) as writer:
            if "toy/reach|9" not in writer.committed:
                writer.append(made(9))
    except AgentError as error:
        return " ".join(str(error).splitlines())
    return ""


def flipped(content: bytes, place: int, bit: int) -> bytes:
    changed = bytearray(content)
    changed[place] ^= 1 << bit
    return bytes(changed)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index.jsonl", "card.json"])
def test_every_flipped_byte_is_found_or_harmless(store: Path, name: str) -> None:
    whole, content = read_all(store), (store / name).read_bytes()
    draw, found = random.Random(0), 0
    for place in range(len(content)):
        (store / name).write_bytes(flipped(content, place, draw.randrange(8)))
        try:
            assert read_all(store) == whole, place
        except AgentError as error:
            found += str(store) in str(error)
    assert found > 0.9 * len(content)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index.jsonl", "card.json"])
def test_every_cut_is_found(store: Path, name: str) -> None:
    content = (store / name).read_bytes()
    for size in range(len(content)):
        (store / name).write_bytes(content[:size])
        with pytest.raises(AgentError):
            TrajectoryStore(store)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["index.jsonl", "card.json"])
@pytest.mark.parametrize("signed", [True, False], ids=["signed", "of an earlier version"])
def test_a_writer_deletes_nothing_and_a_rebuild_gives_the_same_store(
    store: Path, name: str, signed: bool
) -> None:
    if not signed:
        without_checksums(store)
    whole, original = read_all(store), store.with_name("original")
    shutil.copytree(store, original)
    content, draw = (store / name).read_bytes(), random.Random(1)
    changes = [flipped(content, draw.randrange(len(content)), draw.randrange(8)) for _ in range(12)]
    changes += [content[: draw.randrange(len(content))] for _ in range(5)]
    lines = content.splitlines(keepends=True)
    changes += [b"", content[:-1], b"".join(lines[:-1]), b"".join(lines[1:]), content + lines[0][:20]]
    read = set[frozenset[tuple[str, str]]]()
    for changed in changes:
        shutil.rmtree(store)
        shutil.copytree(original, store)
        (store / name).write_bytes(changed)
        before = hashes(store)
        refused = opened(store)
        after = hashes(store)
        parts = {file for file in before if file.startswith("parts/")}
        assert {file: after.get(file) for file in parts} == {file: before[file] for file in parts}
        if not refused:  # harmless, or nothing that an unsigned file shows
            continue
        assert after.keys() - {"lock"} == before.keys() - {"lock"}
        assert_nothing_lost(before, store)
        try:
            rebuild(store)
        except AgentError:
            # The card itself says that it is another format or version: that is not overwritten.
            assert name == "card.json"
            assert not signed
            continue
        assert_nothing_lost(before, store)
        # The same bytes are read once; the damaged file, which the rebuild kept, is not among what is read.
        rebuilt = frozenset(item for item in hashes(store).items() if "before-rebuild" not in item[0])
        if rebuilt in read:
            continue
        assert read_all(store)[:-1] == whole[:-1]
        assert verified(store).bad == []
        assert opened(store) == ""
        read.add(rebuilt)
    assert read


def without_checksums(store: Path) -> None:
    """Change a store to what earlier versions wrote."""
    index, card = store / "index.jsonl", store / "card.json"
    index.write_text(re.sub(r',"crc32":"[0-9a-f]{8}"}\n', "}\n", index.read_text()))
    card.write_text(re.sub(r',\n  "checksum": "sha256:[0-9a-f]{64}"\n}\n', "\n}\n", card.read_text()))


def test_stores_of_earlier_versions_are_read_and_added_to_and_said_to_be_without_checksums(
    store: Path,
) -> None:
    whole = read_all(store)
    assert TrajectoryStore(store).unsigned == ()
    without_checksums(store)
    assert read_all(store) == whole
    assert TrajectoryStore(store).unsigned == ("card.json", "3 of 3 lines of the index")
    assert verified(store).unsigned == ["card.json", "3 of 3 lines of index.jsonl"]
    assert opened(store) == ""
    assert TrajectoryStore(store).unsigned == ("card.json", "3 of 4 lines of the index")
    assert len(TrajectoryStore(store)) == 6


def test_flips_in_parts_are_found_before_a_number_is_read(store: Path) -> None:
    draw = random.Random(2)
    for part in [store / line.part for line in TrajectoryStore(store).parts]:
        content = part.read_bytes()
        for _ in range(30):
            part.write_bytes(flipped(content, draw.randrange(len(content)), draw.randrange(8)))
            with pytest.raises(AgentError, match=re.escape(f"{part} is damaged: its checksum is")):
                read_all(store)
        part.write_bytes(content)
    read_all(store)


def test_a_part_is_verified_once_in_a_process_and_its_forks_and_again_when_it_changes(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lram.agents.trajectories import checked_parts

    read, (one, *_) = checked_parts.sha256_of, TrajectoryStore(store).parts
    reads: list[int] = []
    monkeypatch.setattr(checked_parts, "sha256_of", lambda file: reads.append(1) or read(file))
    opened_store = TrajectoryStore(store)
    opened_store.trajectory(0)
    opened_store.trajectory(1)
    assert len(reads) == 1
    child = os.fork()
    if child == 0:
        opened_store.trajectory(0)  # verified by the parent
        opened_store.trajectory(3)  # not yet
        os._exit(0 if len(reads) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    opened_store.trajectory(3)  # verified by the child
    assert len(reads) == 1
    part = store / one.part
    part.write_bytes(flipped(part.read_bytes(), 3000, 1))
    child = os.fork()
    if child == 0:
        try:
            opened_store.trajectory(0)
        except AgentError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_a_damaged_part_is_left_out_by_a_rebuild_and_kept(store: Path) -> None:
    first, second, third = (store / line.part for line in TrajectoryStore(store).parts)
    content = second.read_bytes()
    second.write_bytes(flipped(content, len(content) // 2, 3))
    damaged = hashes(store)
    made_anew = rebuild(store)
    assert len(made_anew.damaged) == 1
    assert str(second) in made_anew.damaged[0]
    assert_nothing_lost(damaged, store)
    assert {store / line.part for line in TrajectoryStore(store).parts} == {first, third}
    assert len(TrajectoryStore(store)) == 4
    # Without an index, too, where its content shows it.
    (store / "index.jsonl").unlink()
    third.write_bytes(content[:-40])
    assert str(third) in rebuild(store).damaged[0]


def test_a_rebuild_needs_neither_index_nor_card(store: Path) -> None:
    whole = read_all(store)
    for name in ("index.jsonl", "card.json"):
        (store / name).unlink()
    with pytest.raises(AgentError, match="lram data rebuild"):
        StoreWriter(store)
    with pytest.raises(AgentError, match="lram data rebuild"):
        TrajectoryStore(store)
    made_anew = rebuild(store)
    assert (made_anew.parts, made_anew.episodes, made_anew.steps) == (3, 5, 25)
    assert len(made_anew.by_content) == 3
    assert read_all(store)[:-1] == whole[:-1]
    assert TrajectoryStore(store).card["additions"][0]["made_by"] == "lram data rebuild"


def test_a_rebuild_of_a_good_store_changes_nothing_and_is_refused_beside_a_writer(store: Path) -> None:
    index, whole = (store / "index.jsonl").read_bytes(), read_all(store)
    made_anew = rebuild(store)
    assert (store / "index.jsonl").read_bytes() == index
    assert made_anew.kept == ["index.jsonl.before-rebuild-1"]
    assert (made_anew.by_content, made_anew.copies, made_anew.damaged) == ([], [], [])
    assert read_all(store) == whole
    with StoreWriter(store), pytest.raises(AgentError, match="in use by another process"):
        rebuild(store)
    with pytest.raises(AgentError, match="no trajectory store"):
        rebuild(store / "runs")


def test_copies_and_strays_of_the_user_survive(store: Path) -> None:
    whole, first = read_all(store), store / TrajectoryStore(store).parts[0].part
    for name in ("part-00000 (copy).hdf5", "backup-part-00000.hdf5", ".part-00001.hdf5.77", "notes.txt"):
        shutil.copy(first, first.with_name(name))
    (store / "parts" / "my-part-list.txt").write_text("precious")
    (store / "parts" / "toy" / "reach" / "sub" / "deep").mkdir(parents=True)
    shutil.copy(first, store / "parts" / "toy" / "reach" / "sub" / "deep" / "part-00000.hdf5")
    before = hashes(store)
    assert opened(store) == ""
    assert hashes(store).items() >= {k: v for k, v in before.items() if k.startswith("parts/")}.items()
    assert len(verified(store).unnamed) == 6
    # One that has a part's own name cannot be told from a part that the index lost.
    shutil.copy(first, first.with_name("part-00007.hdf5"))
    before = hashes(store)
    assert "part-00007.hdf5, which its index does not name" in opened(store)
    with pytest.raises(AgentError, match="lram data rebuild"):
        TrajectoryStore(store)
    assert hashes(store) == before
    made_anew = rebuild(store)
    assert len(made_anew.copies) == 1
    assert "holds episodes that parts/toy/reach/part-00000.hdf5 holds" in made_anew.copies[0]
    assert_nothing_lost(before, store)
    assert read_all(store)[3][:5] == whole[3]  # type: ignore[index]
    assert opened(store) == ""


def test_a_new_part_takes_no_name_that_is_there(store: Path) -> None:
    taken = store / "parts/toy/reach/part-00003.hdf5"
    with StoreWriter(store) as writer:
        taken.write_text("precious")
        writer.append(made(9))
    assert taken.read_text() == "precious"
    assert (store / "parts/toy/reach/part-00004.hdf5").is_file()


# Links


LINKED = [
    "parts",
    "parts/toy",
    "parts/toy/reach",
    "parts/toy/reach/part-00000.hdf5",
    "parts/toy/reach/notes",
    "index.jsonl",
    "card.json",
    "lock",
    "pending.json",
    "set-aside",
    "runs",
    "runs/0001",
]


@pytest.mark.parametrize("dangling", [False, True], ids=["", "dangling"])
@pytest.mark.parametrize("name", LINKED)
def test_a_link_in_a_store_is_refused_by_name_and_nothing_outside_is_touched(
    store: Path, tmp_path: Path, name: str, dangling: bool
) -> None:
    outside, place = tmp_path / "outside", store / name
    outside.mkdir()
    (outside / "my-part-list.txt").write_text("precious")
    place.parent.mkdir(exist_ok=True)
    if dangling:
        shutil.rmtree(place) if place.is_dir() else place.unlink(missing_ok=True)
        place.symlink_to(outside / "nothing")
    elif place.exists():
        place.rename(outside / "moved")
        place.symlink_to(outside / "moved")
    else:
        place.symlink_to(outside if "." not in name else outside / "my-part-list.txt")
    before = hashes(tmp_path)
    sentence = re.escape(f"{place} is a link")
    if dangling and name == "card.json":
        sentence = "link|no trajectory store|has parts"
    with pytest.raises(AgentError, match=sentence):
        StoreWriter(store)
    with pytest.raises(AgentError, match=sentence):
        rebuild(store)
    if name.startswith(("parts", "index", "card", "pending")) and not (dangling and name == "card.json"):
        with pytest.raises(AgentError, match=sentence):
            TrajectoryStore(store)
    after = hashes(tmp_path)
    after.pop("store/lock", None)
    before.pop("store/lock", None)
    assert after == before
    assert not (outside / "nothing").exists()


def test_a_link_that_appears_while_a_store_is_written_is_not_followed(store: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    with StoreWriter(store) as writer:
        (store / "parts" / "toy" / "reach").rename(outside / "reach")
        (store / "parts" / "toy" / "reach").symlink_to(outside / "reach")
        before = hashes(outside)
        writer.append(made(9))
        with pytest.raises(AgentError, match="cannot write to"):
            writer.commit()
        assert hashes(outside) == before
        (store / "parts" / "toy" / "reach").unlink()
        (outside / "reach").rename(store / "parts" / "toy" / "reach")
    assert len(TrajectoryStore(store)) == 6


@pytest.mark.parametrize("name", ["index.jsonl", "card.json", "parts/toy/reach/part-00000.hdf5", "lock"])
def test_a_named_pipe_in_a_store_is_not_waited_for(store: Path, name: str) -> None:
    (store / name).unlink()
    os.mkfifo(store / name)
    with pytest.raises(AgentError):
        StoreWriter(store)
    with pytest.raises(AgentError):
        rebuild(store) if name == "index.jsonl" else StoreWriter(store, create=False)
    if name != "lock":
        with pytest.raises(AgentError):
            TrajectoryStore(store)


def test_a_link_to_a_whole_store_may_be_used(store: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(store)
    assert opened(tmp_path / "link") == ""
    assert len(TrajectoryStore(tmp_path / "link")) == 6


# Moved, killed, full


@pytest.mark.parametrize("replaced", [False, True], ids=["moved", "replaced"])
def test_a_store_that_is_moved_while_it_is_written_is_not_split(store: Path, replaced: bool) -> None:
    moved = store.with_name("moved")
    whole = read_all(store)

    def written() -> None:
        with StoreWriter(store, resume="lram collect --resume") as writer:
            writer.append(made(9))
            store.rename(moved)
            if replaced:
                shutil.copytree(moved, store)
            writer.commit()

    before: dict[str, str] = {}
    with pytest.raises(AgentError, match=f"'lram collect --resume {re.escape(str(moved))}' continues there"):
        written()
    assert read_all(moved) == whole
    assert verified(moved).bad == []
    assert store.exists() == replaced
    if replaced:
        before = hashes(store)
        assert read_all(store) == whole
        assert "lock" in before
    assert opened(moved) == ""


Step = Callable[[StoreFolder, str, bytes], None]


@pytest.mark.parametrize("torn", [None, 0, 100], ids=["before the line", "no byte", "a torn line"])
def test_what_a_kill_leaves_between_part_and_index_is_moved_aside_and_replayed_once(
    store: Path, torn: int | None
) -> None:
    whole = read_all(store)
    killed_within_a_commit(store, torn)
    assert read_all(store) == whole, "a reader does not mind"
    assert len(verified(store).pending) == 1
    assert verified(store).bad == []
    before, said = hashes(store), list[str]()
    with StoreWriter(store, say=said.append) as writer:
        assert "toy/reach|9" not in writer.committed
        assert_nothing_lost(before, store)
        writer.append(made(9))
    (sentence,) = said
    assert "set-aside/0001/parts/toy/reach/part-00003.hdf5" in sentence
    assert [e.origin for e in TrajectoryStore(store).episodes].count("toy/reach|9") == 1
    assert_nothing_lost({k: v for k, v in before.items() if k != "index.jsonl" or torn}, store)
    assert verified(store).bad == []


def killed_within_a_commit(store: Path, torn: int | None) -> None:
    """Leave what a kill does: the part is there, of its line nothing or a beginning."""
    child = os.fork()
    if child == 0:
        writer = StoreWriter(store)
        writer.append(made(9))
        line = os.write
        os.write = lambda handle, content: (line(handle, content[: torn or 0]), os._exit(0))  # type: ignore[assignment]
        writer.commit()
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0


def test_what_a_kill_leaves_is_adopted_by_a_rebuild_once(store: Path) -> None:
    killed_within_a_commit(store, 100)
    made_anew = rebuild(store)
    assert (made_anew.parts, made_anew.by_content) == (4, ["parts/toy/reach/part-00003.hdf5"])
    found = TrajectoryStore(store)
    assert [episode.origin for episode in found.episodes].count("toy/reach|9") == 1
    with StoreWriter(store) as writer:
        assert "toy/reach|9" in writer.committed
    assert not (store / "pending.json").exists()


def test_a_torn_line_without_a_note_is_refused_and_rebuilt(store: Path) -> None:
    killed_within_a_commit(store, 100)
    (store / "pending.json").unlink()
    assert "ends within a line" in opened(store)
    with pytest.raises(AgentError, match="ends within a line"):
        TrajectoryStore(store)
    rebuild(store)
    assert len(TrajectoryStore(store)) == 6


@pytest.mark.parametrize("fails", ["create", "index write", "index sync"])
def test_a_commit_that_fails_leaves_the_store_as_it_was_and_can_be_repeated(
    store: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    whole, before = read_all(store), hashes(store)
    with StoreWriter(store, resume="lram collect --resume") as writer:
        writer.append(made(9))
        writer.append(made(10, LIVES))
        with monkeypatch.context() as patched:
            if fails == "create":
                create, calls = StoreFolder.create, []

                def second_fails(folder: StoreFolder, name: str, content: bytes) -> None:
                    calls.append(name)
                    if len(calls) == 2:
                        raise OSError(28, "No space left on device")
                    create(folder, name, content)

                patched.setattr(StoreFolder, "create", second_fails)
            elif fails == "index write":
                patched.setattr(os, "write", lambda handle, content: 7)
            else:

                def refused(handle: int) -> None:
                    raise OSError(5, "Input/output error")

                patched.setattr(os, "fdatasync", refused)
            with pytest.raises(
                AgentError, match=f"make room, then 'lram collect --resume {re.escape(str(store))}'"
            ):
                writer.commit()
        scratch = {".pending.json.lram-new", "card.json", "lock"}
        assert {k: v for k, v in hashes(store).items() if k not in scratch} == {
            k: v for k, v in before.items() if k not in scratch
        }
        assert read_all(store)[:-1] == whole[:-1]
    assert len(TrajectoryStore(store)) == 7
    assert verified(store).bad == []


CHANGES = ("open", "write", "rename", "mkdir", "unlink", "ftruncate")
"""What changes a folder, where ``open`` is to write: a kill elsewhere leaves what one at these does."""

CALLS = (*CHANGES, "fsync", "fdatasync", "dup", "stat", "lstat")


def in_a_child(store: Path, fails_at: int, error: int | None) -> tuple[bool, set[str], str]:
    """Make a store, or add to it, where file operation ``fails_at`` kills (``error`` None) or is refused.

    Returns:
        Whether it came to that operation, the origins that were promised to be on disk, and what was said.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child:
        os.close(writable)
        with os.fdopen(readable) as pipe:
            said = pipe.read().splitlines()
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, 9), said
        promised = {line.removeprefix("promised ") for line in said if line.startswith("promised ")}
        return not (status == 0 and "all" in said), promised, " ".join(said)
    count, tell, plain_open = 0, os.write, os.open
    try:

        def failing(call: Callable[..., object]) -> Callable[..., object]:
            def counted(*arguments: Any, **options: Any) -> object:
                nonlocal count
                reads = call is plain_open and not arguments[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
                if error is None and reads:
                    return call(*arguments, **options)
                count += 1
                if count == fails_at + 1:
                    if error is None:
                        os._exit(9)
                    raise OSError(error, os.strerror(error))
                return call(*arguments, **options)

            return counted

        for name in CHANGES if error is None else CALLS:
            setattr(os, name, failing(getattr(os, name)))
        with StoreWriter(store, say=lambda sentence: None) as writer:
            for group in ((made(9),), (made(10), made(11, LIVES))):
                for trajectory in group:
                    if trajectory.origin not in writer.committed:
                        writer.append(trajectory)
                writer.commit()
                tell(writable, "".join(f"promised {origin}\n" for origin in writer.committed).encode())
        tell(writable, b"all\n" if count <= fails_at else b"harmless\n")
    except AgentError as refused:
        tell(writable, f"refused {refused}\n".encode())
    except BaseException as other:
        tell(writable, f"RAISED {other!r}\n".encode())
        os._exit(1)
    os._exit(0)


@pytest.mark.slow
@pytest.mark.parametrize("error", [None, errno.EIO, errno.ENOSPC], ids=["kill", "EIO", "ENOSPC"])
@pytest.mark.parametrize("begun", [True, False], ids=["added to", "made"])
def test_a_kill_or_a_refusal_at_each_file_operation_costs_nothing_that_was_promised(
    tmp_path: Path, error: int | None, begun: bool
) -> None:
    original, store, whole = tmp_path / "original", tmp_path / "store", tmp_path / "whole"
    if begun:
        write(original, made(0), made(1))
    else:
        original.mkdir()
    shutil.copytree(original, whole)
    everything = (made(9), made(10), made(11, LIVES))
    write(whole, *everything)
    expected, read = contents(whole), set[frozenset[tuple[str, str]]]()
    # Killed at every one; refused at every third, where either error takes its turn.
    for number in range(begun if error != errno.ENOSPC else begun + 3, 1000, 1 if error is None else 6):
        shutil.rmtree(store, ignore_errors=True)
        shutil.copytree(original, store)
        failed, promised, said = in_a_child(store, number, error)
        before = hashes(store)
        with StoreWriter(store, say=lambda sentence: None) as writer:
            assert promised <= writer.committed, (number, said)
            for trajectory in everything:
                if trajectory.origin not in writer.committed:
                    writer.append(trajectory)
        after = hashes(store)
        lost = {name for name, content in before.items() if content not in after.values()}
        assert not {name for name in lost if name.startswith("parts/")}, (number, said)
        if (state := frozenset(after.items())) not in read:  # the same bytes are read once
            assert contents(store) == expected, (number, said)
            assert verified(store).bad == [], (number, said)
            read.add(state)
        if not failed:
            break
    else:
        pytest.fail("it never came to an end")
    assert number > (20 if error is None else 80)


def contents(path: Path) -> dict[str, tuple[object, ...]]:
    """Return what a store holds by origin, wherever its parts are cut."""
    found = TrajectoryStore(path)
    held = {}
    for episode in found.episodes:
        t = found.trajectory(episode.number)
        assert episode.origin not in held
        arrays = (t.observations, t.actions, t.rewards, t.signals)
        held[episode.origin] = (*(array.tobytes() for array in arrays), t.seed, t.policy, t.record, t.task)
    return held


# Hostile lines


def hostile(store: Path, **changes: object) -> None:
    """Change the first line of the index, and give it a checksum that fits."""
    index = store / "index.jsonl"
    first, *others = index.read_bytes().splitlines()
    line = json.loads(first)
    del line["crc32"]
    for name, value in changes.items():
        line[name] = value(line[name]) if callable(value) else value
    text = json.dumps(line, separators=(",", ":")).replace("Infinity", "1e999").encode()
    index.write_bytes(b"\n".join([sign_line(text), *others, b""]))


LINES: dict[str, dict[str, object]] = {
    "a way out": {"part": "../../outside.hdf5"},
    "an absolute path": {"part": "/etc/passwd"},
    "a way out in the middle": {"part": "parts/../../x/part-00000.hdf5"},
    "another folder": {"part": "runs/toy/part-00000.hdf5"},
    "a NUL": {"part": "parts/toy/reach/part-00000.hdf5\0"},
    "a hidden folder": {"part": "parts/.toy/reach/part-00000.hdf5"},
    "the part of another line": {"part": "parts/toy/lives/part-00001.hdf5"},
    "no checksum": {"sha256": ""},
    "negative lengths": {"lengths": [-5, 5]},
    "no episodes": {
        name: []
        for name in (
            "lengths",
            "returns",
            "signal_returns",
            "success_any",
            "success_last",
            "terminated",
            "truncated",
            "seeds",
            "policies",
            "origins",
        )
    },
    "huge lengths": {"lengths": [10**30, 5]},
    "longer columns": {"returns": [1.0, 2.0, 3.0]},
    "infinite returns": {"returns": [float("inf"), 1.0]},
    "a context without its episode": {"contexts": {"7": [0, 1]}},
    "a context that does not begin": {"contexts": {"0": [1, 2]}},
    "a context that ends late": {"contexts": {"0": [0, 99]}},
    "contexts that fall": {"contexts": {"0": [0, 3, 2]}},
    "a task without actions": {"task": lambda task: {**task, "action_size": 0}},
    "a task with 10^30 actions": {"task": lambda task: {**task, "action_size": 10**30}},
    "a task of a negative shape": {"task": lambda task: {**task, "observation_shape": [-3]}},
    "a task without scale": {"task": lambda task: {**task, "reward_scale": 0}},
    "another type": {"bytes": "many"},
    "a huge size": {"bytes": 10**30},
}


@pytest.mark.parametrize("change", LINES)
def test_a_hostile_line_gives_a_sentence(store: Path, tmp_path: Path, change: str) -> None:
    (tmp_path / "outside.hdf5").write_bytes(b"secret")
    hostile(store, **LINES[change])
    before = hashes(tmp_path)
    for use in (TrajectoryStore, StoreWriter):
        with pytest.raises(AgentError) as caught:
            use(store)
        assert "\n" not in str(caught.value)
    assert verified(store).bad
    assert {k: v for k, v in hashes(tmp_path).items() if k != "store/lock"} == {
        k: v for k, v in before.items() if k != "store/lock"
    }


@pytest.mark.parametrize(
    "line",
    [b'{"x":' + b"[" * 200_000 + b"]" * 200_000 + b"}", b"[]", b"null", b"\xff", b"", b"\0" * 100],
    ids=["deep", "list", "null", "no text", "empty", "zeros"],
)
@pytest.mark.parametrize("name", ["index.jsonl", "card.json"])
def test_what_is_no_line_and_no_card_gives_a_sentence(store: Path, name: str, line: bytes) -> None:
    (store / name).write_bytes(line + b"\n")
    for use in (TrajectoryStore, StoreWriter):
        with pytest.raises(AgentError):
            use(store)
    rebuild(store)
    assert len(TrajectoryStore(store)) == 5


@pytest.mark.parametrize("lengths", [[3, 5], [6, 5]])
def test_counts_that_disagree_with_the_part_give_a_sentence_at_use(store: Path, lengths: list[int]) -> None:
    hostile(store, lengths=lengths)
    found = TrajectoryStore(store)
    with pytest.raises(AgentError, match="what the index says"):
        found.window(0, 0, 2)
    with pytest.raises(AgentError, match="the index says"):
        found.trajectory(0)
    assert found.window(1, 0, 5).actions.shape == (5, 2)
    assert verified(store).bad


def test_a_part_with_fewer_episodes_than_the_index_has_gives_a_sentence(store: Path) -> None:
    part = store / TrajectoryStore(store).parts[0].part
    with h5py.File(part, "r+") as file:
        del file["episode_1"]
    content = part.read_bytes()
    hostile(store, sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))
    found = TrajectoryStore(store)
    assert found.trajectory(0).length == 5
    for use in (found.trajectory, found.record, lambda number: found.window(number, 0, 1)):
        with pytest.raises(AgentError, match="episode 1 cannot be read"):
            use(1)


def test_sums_that_overflow_are_refused_by_name(tmp_path: Path) -> None:
    large = np.full(5, 1e308)
    with StoreWriter(tmp_path / "store") as writer:
        with pytest.raises(AgentError, match="rewards whose sum is not finite"):
            writer.append(replace(made(0), rewards=large))
        with pytest.raises(AgentError, match="signals whose sum is too large for float32"):
            writer.append(replace(made(0), signals=np.full(5, 3e38, np.float32)))
        with pytest.raises(AgentError, match="a policy that is no text"):
            writer.append(replace(made(0), policy="\udc80"))
        with pytest.raises(AgentError, match="more than 64 bits"):
            writer.append(replace(made(0), seed=1 << 64))


@pytest.mark.slow
def test_a_reader_beside_a_writer_sees_what_is_committed(tmp_path: Path) -> None:
    path = tmp_path / "store"
    write(path, made(0))
    child = os.fork()
    if child == 0:
        with StoreWriter(path, part_bytes=1) as writer:
            for seed in range(100, 140):
                writer.append(made(seed))
        os._exit(0)
    counts = []
    while not os.waitpid(child, os.WNOHANG)[0]:
        counts.append(sum(len(line.lengths) for line in read_index(path).lines))
    assert counts == sorted(counts)
    assert len(TrajectoryStore(path)) == 41


@pytest.mark.timeout(20)
def test_a_part_of_holes_is_not_read_to_its_end(tmp_path: Path) -> None:
    (tmp_path / "parts" / "toy" / "reach").mkdir(parents=True)
    with (tmp_path / "parts" / "toy" / "reach" / "part-00000.hdf5").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(AgentError, match=r"no part of .* can be taken"):
        rebuild(tmp_path)


def _played(discrete: bool) -> Trajectory:
    """A trajectory with the record of what a simulator's process saw: the sum is made as it makes it."""
    trajectory = made(0, LIVES if discrete else REACH)
    checksum = zlib.crc32(trajectory.observations[0].tobytes())
    for action, reward, seen in zip(
        trajectory.actions, trajectory.rewards, trajectory.observations[1:], strict=True
    ):
        checksum = zlib.crc32(int(action).to_bytes(4, "little") if discrete else action.tobytes(), checksum)
        checksum = zlib.crc32(struct.pack("<d", reward), checksum)
        checksum = zlib.crc32(seen.tobytes(), checksum)
    return replace(trajectory, record=json.dumps({"trajectory": f"{checksum:08x}", "length": 5}))


@pytest.mark.parametrize("discrete", [False, True])
@pytest.mark.parametrize("name", ["", "observations", "actions", "rewards"])
def test_a_trajectory_that_is_not_what_was_played_is_found(tmp_path: Path, discrete: bool, name: str) -> None:
    trajectory = _played(discrete)
    if name:
        changed = getattr(trajectory, name).copy()
        changed[2] = (changed[2] + 1) % 4 if name == "actions" and discrete else changed[2] / 2
        trajectory = replace(trajectory, **{name: changed})
    with StoreWriter(tmp_path) as writer:
        writer.append(trajectory)
    found = verified(tmp_path)
    if name:
        assert len(found.bad) == 1
        assert "part-00000.hdf5, episode 0 has the checksum" in found.bad[0]
    else:
        assert found.bad == []
        assert found.recorded == 1


def test_a_trajectory_without_a_record_is_not_counted_as_compared(tmp_path: Path) -> None:
    with StoreWriter(tmp_path) as writer:
        writer.append(replace(made(0), record=""))
    assert verified(tmp_path).recorded == 0
    assert verified(tmp_path).bad == []


def test_a_task_whose_name_no_folder_can_have_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    task = replace(REACH, id=f"own/{'x' * 300}", domain="own")
    with StoreWriter(tmp_path) as writer:
        with pytest.raises(AgentError, match="too long for a folder"):
            writer.append(made(0, task))
        writer.append(made(1))
    assert len(TrajectoryStore(tmp_path)) == 1
