"""Data sets of strangers: nothing but the file itself is read, what it declares is bounded, nothing hangs."""

from __future__ import annotations

import io
import json
import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories import StoreWriter, Trajectory, TrajectoryStore, global_heaps
from lram.agents.trajectories.hdf5 import Hdf5Error, attribute, read_array
from lram.agents.trajectories.readers import Imported, Options, Problem, Shapes, detect, npz, read
from lram.agents.trajectories.readers.source import by_number

STEPS, WIDTH, SIZE = 20, 23, 7
SECRET = b"TOPSECRETPASSWORD!" * 4000


class AnyTask:
    """Takes every name as a task of its own, sizes from what is seen."""

    def find(self, names: tuple[str, ...]) -> str:
        return "some/task"

    def wanted(self, task_id: str) -> bool:
        return True

    def spec(self, task_id: str, shapes: Shapes) -> TaskSpec:
        shape = shapes.observation_shape
        return TaskSpec(
            task_id, "some", shapes.observation, shape, shapes.action, shapes.action_size or 9, None, 1.0
        )

    def horizon(self, task_id: str) -> int | None:
        return None


def results(path: Path, layout: str) -> tuple[list[Trajectory], list[str]]:
    """Return the episodes of a source, and what could not be read."""
    found = list(read(path, AnyTask(), Options(), layout))
    problems = [item.text for item in found if isinstance(item, Problem)]
    assert all("\n" not in text and text.isprintable() for text in problems)
    return [item.trajectory for item in found if isinstance(item, Imported)], problems


def robomimic(file: h5py.File) -> tuple[h5py.Group, str]:
    file.create_group("data").attrs["env_args"] = json.dumps({"env_name": "Stack_D0"})
    for number in range(2):
        demo = file.create_group(f"data/demo_{number}")
        demo["actions"], demo["rewards"], demo["dones"] = (
            np.zeros((STEPS, SIZE)),
            np.ones(STEPS),
            np.ones(STEPS),
        )
        for key, width in (("robot0_eef_pos", 3), ("robot0_eef_quat", 4), ("robot0_gripper_qpos", 2)):
            demo[f"obs/{key}"] = np.zeros((STEPS, width))
        demo["obs/object"] = np.zeros((STEPS, WIDTH - 9))
    return file["data/demo_0/obs"], "object"


def minari(file: h5py.File) -> tuple[h5py.Group, str]:
    for number in range(2):
        episode = file.create_group(f"episode_{number}")
        episode["observations"] = np.zeros((STEPS + 1, WIDTH), np.float32)
        episode["actions"], episode["rewards"] = np.zeros((STEPS, SIZE)), np.zeros(STEPS)
        episode["terminations"] = episode["truncations"] = np.zeros(STEPS, bool)
        episode["infos/success"] = np.zeros(STEPS, bool)
    return file["episode_0"], "observations"


def composuite(file: h5py.File) -> tuple[h5py.Group, str]:
    ends = np.zeros(STEPS, bool)
    ends[-1] = True
    file["observations"], file["actions"] = np.zeros((STEPS, WIDTH)), np.zeros((STEPS, SIZE))
    file["rewards"], file["terminals"], file["timeouts"] = np.zeros(STEPS), ends, ends
    return file["/"], "observations"


def reference(file: h5py.File) -> tuple[h5py.Group, str]:
    file["states"], file["actions"] = np.zeros((STEPS, WIDTH)), np.zeros((STEPS, SIZE))
    file["rewards"], file["dones"], file["returns_to_go"] = np.zeros(STEPS), np.array(True), np.zeros(STEPS)
    return file["/"], "states"


LAYOUTS: dict[str, Callable[[h5py.File], tuple[h5py.Group, str]]] = {
    "robomimic": robomimic,
    "minari": minari,
    "composuite": composuite,
    "lram": reference,
}


def external_storage(group: h5py.Group, name: str, file: str) -> None:
    group.create_dataset(name, (STEPS, WIDTH), dtype="u1", external=[(file, 0, h5py.h5f.UNLIMITED)])


def external_link(group: h5py.Group, name: str, file: str) -> None:
    group[name] = h5py.ExternalLink(file + ".hdf5", "/secret")


def soft_link(group: h5py.Group, name: str, file: str) -> None:
    group.file["elsewhere"] = np.zeros((STEPS, WIDTH))
    group[name] = h5py.SoftLink("/elsewhere")


def virtual(group: h5py.Group, name: str, file: str) -> None:
    layout = h5py.VirtualLayout((STEPS, WIDTH), "u1")
    layout[:] = h5py.VirtualSource(file + ".hdf5", "secret", (STEPS, WIDTH))
    group.create_virtual_dataset(name, layout)


def many_rows(group: h5py.Group, name: str, file: str) -> None:
    group.create_dataset(name, (10**15, WIDTH), "f4", chunks=(1024, WIDTH))


def many_contiguous_rows(group: h5py.Group, name: str, file: str) -> None:
    group.create_dataset(name, (10**12, WIDTH), "f4")


def wide_rows(group: h5py.Group, name: str, file: str) -> None:
    group.create_dataset(name, (STEPS, 10**12), "f4", chunks=(1, 1024))


def large_chunks(group: h5py.Group, name: str, file: str) -> None:
    group.create_dataset(
        name, (STEPS, WIDTH), "f4", chunks=(10**7, WIDTH), maxshape=(None, WIDTH), compression="gzip"
    )


def compressed_twice(group: h5py.Group, name: str, file: str) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((1 << 15, WIDTH))
    plist.set_deflate(9)
    plist.set_filter(h5py.h5z.FILTER_DEFLATE, 0, (9,))
    space = h5py.h5s.create_simple((1 << 19, WIDTH))
    made = h5py.h5d.create(group.id, name.encode(), h5py.h5t.IEEE_F32LE, space, plist)
    h5py.Dataset(made)[:] = np.zeros((1 << 19, WIDTH), np.float32)


def unknown_filter(group: h5py.Group, name: str, file: str) -> None:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk((STEPS, WIDTH))
    plist.set_filter(32123, h5py.h5z.FLAG_OPTIONAL, ())
    h5py.h5d.create(
        group.id, name.encode(), h5py.h5t.IEEE_F32LE, h5py.h5s.create_simple((STEPS, WIDTH)), plist
    )


def texts(group: h5py.Group, name: str, file: str) -> None:
    group.create_dataset(name, (STEPS, WIDTH), dtype=h5py.string_dtype())[:] = "x"


def references(group: h5py.Group, name: str, file: str) -> None:
    group.create_dataset(name, (STEPS,), dtype=h5py.ref_dtype)[:] = group.ref


def lists(group: h5py.Group, name: str, file: str) -> None:
    group.create_dataset(name, (STEPS,), dtype=h5py.vlen_dtype(np.float32))


def committed_type(group: h5py.Group, name: str, file: str) -> None:
    group[name] = np.dtype("f4")


def no_shape(group: h5py.Group, name: str, file: str) -> None:
    group[name] = h5py.Empty("f4")


def a_number(group: h5py.Group, name: str, file: str) -> None:
    group[name] = 1.0


def itself(group: h5py.Group, name: str, file: str) -> None:
    group[name] = group


ATTACKS: dict[Callable[[h5py.Group, str, str], None], str] = {
    external_storage: "stored in another file",
    external_link: "is a link to another place",
    soft_link: "is a link to another place",
    virtual: "virtual data set",
    many_rows: "bytes in",
    many_contiguous_rows: "bytes in",
    wide_rows: "bytes in",
    large_chunks: "chunks of",
    unknown_filter: "needs the filter 32123",
    texts: "no plain numbers",
    references: "no plain numbers",
    lists: "no plain numbers",
    committed_type: "",
    no_shape: "without a shape",
    a_number: "",
    itself: "",
}


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """A file that somebody else's data must not show, as bytes and as HDF5."""
    (tmp_path / "secret").write_bytes(SECRET)
    with h5py.File(tmp_path / "secret.hdf5", "w") as file:
        file["secret"] = np.frombuffer(SECRET[: STEPS * WIDTH], np.uint8).reshape(STEPS, WIDTH)
    return str(tmp_path / "secret")


def source(folder: Path, layout: str) -> Path:
    """Return the file to write for a source of ``layout`` in ``folder``, with what belongs beside it."""
    folder.mkdir()
    if layout == "lram":
        (folder / "episode_lengths.json").write_text(json.dumps({"0": STEPS}))
    return folder / "0.hdf5"


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__)
def test_what_leads_elsewhere_or_declares_too_much_is_refused_by_name(
    tmp_path: Path, secret: str, layout: str, attack: Callable[[h5py.Group, str, str], None]
) -> None:
    path = source(tmp_path / "raw", layout)
    with h5py.File(path, "w") as file:
        group, name = LAYOUTS[layout](file)
        del group[name]
        attack(group, name, secret)
    episodes, problems = results(path.parent, layout)
    assert len(problems) == 1
    assert str(path) in problems[0]
    assert ATTACKS[attack] in problems[0]
    assert len(episodes) == (1 if layout in ("robomimic", "minari") else 0)
    assert not any(b"TOPSECRET" in e.observations.astype(np.uint8).tobytes() for e in episodes)


@pytest.mark.parametrize("layout", ["robomimic", "minari"])
def test_a_group_that_is_a_link_is_refused(tmp_path: Path, layout: str) -> None:
    other, path = tmp_path / "other.hdf5", source(tmp_path / "raw", layout)
    with h5py.File(other, "w") as file:
        LAYOUTS[layout](file)
    name = "data/demo_0" if layout == "robomimic" else "episode_0"
    with h5py.File(path, "w") as file:
        LAYOUTS[layout](file)
        del file[name]
        file[name] = h5py.ExternalLink(str(other), name)
    episodes, problems = results(path.parent, layout)
    assert len(episodes) == 1
    assert "is a link to another place" in problems[0]


def test_arrays_compressed_twice_are_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "bomb.hdf5", "w") as file:
        compressed_twice(file, "bomb", "")
    assert (tmp_path / "bomb.hdf5").stat().st_size < 1 << 20
    with h5py.File(tmp_path / "bomb.hdf5") as file, pytest.raises(Hdf5Error, match="bytes of storage"):
        read_array(file, "bomb")


def test_what_is_well_compressed_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "zeros.hdf5", "w") as file:
        for name, filters in {"gzip": 9, "lzf": None}.items():
            values = np.zeros((1 << 18, 8))
            file.create_dataset(name, data=values, compression=name, compression_opts=filters, shuffle=True)
        file["whole"] = np.ones((1 << 18, 8))
    with h5py.File(tmp_path / "zeros.hdf5") as file:
        assert [read_array(file, name).sum() for name in ("gzip", "lzf", "whole")] == [0, 0, 1 << 21]


def test_attributes_are_bounded(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "file.hdf5", "w", libver="latest") as file:
        file.attrs["texts"] = ["x" * 1000] * 100
        file.attrs["reference"] = file.ref
        file.attrs["text"], file.attrs["number"], file.attrs["numbers"] = "t", 3, np.arange(3)
        for name in ("texts", "reference"):
            with pytest.raises(Hdf5Error, match=f"the attribute {name}"):
                attribute(file, name)
        assert (attribute(file, "text"), attribute(file, "number"), attribute(file, "none", 4)) == ("t", 3, 4)
        assert attribute(file, "numbers").tolist() == [0, 1, 2]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_named_pipes_and_folders_in_place_of_files_are_named(tmp_path: Path, layout: str) -> None:
    path = source(tmp_path / "raw", layout)
    os.mkfifo(path)
    assert "not a regular file" in results(path.parent, layout)[1][0]
    path.unlink()
    path.mkdir()
    said = "there is no such .hdf5" if layout == "lram" else "not a regular file"
    assert said in results(path.parent, layout)[1][0]
    os.mkfifo(tmp_path / "pipe.hdf5")
    with pytest.raises(AgentError):
        detect(tmp_path / "pipe.hdf5")


def test_observations_in_groups_without_end_are_refused(tmp_path: Path) -> None:
    path = source(tmp_path / "raw", "minari")
    with h5py.File(path, "w") as file:
        episode, name = minari(file)
        del episode[name]
        goals = episode.create_group(name)
        goals["again"] = goals
    assert "deeper than 8 groups" in results(path.parent, "minari")[1][0]


@pytest.mark.parametrize(
    "metadata",
    [
        b"[" * 200_000,
        b'{"a": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"action_space": {"type": "Discrete"}}',
        b'{"action_space": {"type": "Discrete", "n": 1e300}}',
        b'{"action_space": {"type": "Discrete", "n": "many"}}',
        b'{"action_space": "{\\"a\\": ' + b"[" * 200_000 + b'"}',
        b'{"env_spec": {"id": "\\u001b[31m\\ud800"}, "algorithm_name": {"x": 1}, "dataset_id": 7}',
        b"\xff\xfe",
        b"null",
    ],
)
def test_hostile_metadata_gives_a_sentence_or_nothing(tmp_path: Path, metadata: bytes) -> None:
    path = source(tmp_path / "raw", "minari")
    with h5py.File(path, "w") as file:
        minari(file)
    (path.parent / "metadata.json").write_bytes(metadata)
    episodes, problems = results(path.parent, "minari")
    assert episodes or problems


@pytest.mark.parametrize(
    "lengths", [b'{"0": ' + b"[" * 200_000, b'{"0": 1e999}', b'{"0": NaN}', b"[]", b'{"0": -1}', b"\xff"]
)
def test_hostile_lengths_give_a_sentence(tmp_path: Path, lengths: bytes) -> None:
    path = source(tmp_path / "raw", "lram")
    with h5py.File(path, "w") as file:
        reference(file)
    (path.parent / "episode_lengths.json").write_bytes(lengths)
    episodes, problems = results(path.parent, "lram")
    assert not episodes
    assert len(problems) == 1


def npy(shape: str, kind: str = "<f4", rest: bytes = b"") -> bytes:
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    header += b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + rest


@pytest.mark.parametrize(
    "array",
    [
        npy("(1000000000000000,)"),
        npy("(-5,)"),
        npy("(" + "-" * 9000 + "1,)"),
        npy("(4, 99999999999999999999999999)"),
        npy("(5,)", "|O"),
        npy("(5,)", "<f4", b"\0"),
        b"\x93NUMPY\x09\x00",
        b"",
        npy("(2048, 1024)", "|u1", bytes(1 << 21)),
    ],
    ids=["rows", "negative", "deep", "overflow", "objects", "cut", "version", "empty", "bomb"],
)
def test_hostile_npz_gives_a_sentence(tmp_path: Path, array: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npz, "LARGEST_READ", 1 << 20)
    path = source(tmp_path / "raw", "lram").with_suffix(".npz")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        archive.writestr("states.npy", array)
        for name in ("actions", "rewards", "dones"):
            held = io.BytesIO()
            np.save(held, np.zeros(STEPS))
            archive.writestr(f"{name}.npy", held.getvalue())
    episodes, problems = results(path.parent, "lram")
    assert not episodes
    assert str(path) in problems[0]


def test_names_of_any_kind_are_sorted() -> None:
    names = ["demo_10", "demo_9", "demo_²", "demo_" + "9" * 5000, "demo_010", "", "x", "demo_٣"]
    assert sorted(names, key=by_number).index("demo_9") < sorted(names, key=by_number).index("demo_10")


def test_names_from_files_are_printed_without_what_a_terminal_acts_upon(tmp_path: Path) -> None:
    path = source(tmp_path / "raw", "robomimic")
    with h5py.File(path, "w") as file:
        group, name = robomimic(file)
        del group[name]
        group["\x1b[31mred\n"] = np.zeros(3)
        h5py.h5g.create(group.id, b"\xff\xfe")
    (problem,) = results(path.parent, "robomimic")[1]
    assert "\\x1b[31mred" in problem


def test_rewards_whose_sum_overflows_are_refused(tmp_path: Path) -> None:
    path = source(tmp_path / "raw", "minari")
    with h5py.File(path, "w") as file:
        minari(file)
        file["episode_0/rewards"][:] = 1e308
    episodes, problems = results(path.parent, "minari")
    assert len(episodes) == 1
    assert "not finite" in problems[0]


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS)
def test_flipped_bits_in_a_source_give_episodes_or_sentences(tmp_path: Path, layout: str) -> None:
    path = source(tmp_path / "raw", layout)
    with h5py.File(path, "w") as file:
        LAYOUTS[layout](file)
    content, draw = path.read_bytes(), random.Random(layout)
    for _ in range(60):
        changed = bytearray(content)
        for _ in range(draw.choice((1, 4))):
            changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        results(path.parent, layout)


# Our own stores, from a stranger


def stored(path: Path, **attributes: Any) -> Path:
    task = TaskSpec("some/task", "some", "vector", (WIDTH,), "continuous", SIZE, None, 1.0)
    with StoreWriter(path) as writer:
        writer.append(
            Trajectory(
                task,
                np.zeros((STEPS + 1, WIDTH), np.float32),
                np.zeros((STEPS, SIZE), np.float32),
                np.zeros(STEPS),
                np.zeros(STEPS, np.float32),
                True,
                False,
                **attributes,
            )
        )
    return path


@pytest.mark.parametrize(
    "attack",
    [attack for attack in ATTACKS if attack not in (itself,)],
    ids=lambda attack: attack.__name__,
)
def test_a_part_that_leads_elsewhere_is_refused_at_use(
    tmp_path: Path, secret: str, attack: Callable[[h5py.Group, str, str], None]
) -> None:
    import hashlib
    import re

    store = stored(tmp_path / "store")
    part = store / TrajectoryStore(store).parts[0].part
    with h5py.File(part, "r+") as file:
        del file["episode_0/observations"]
        attack(file["episode_0"], "observations", secret)
    content, index = part.read_bytes(), store / "index.jsonl"
    text = re.sub(r',"crc32":"[0-9a-f]{8}"}\n', "}\n", index.read_text())
    text = re.sub(r'"sha256":"[0-9a-f]{64}"', f'"sha256":"{hashlib.sha256(content).hexdigest()}"', text)
    index.write_text(re.sub(r'"bytes":[0-9]+', f'"bytes":{len(content)}', text))
    found = TrajectoryStore(store)
    for use in (found.trajectory, lambda number: found.window(number, 0, 5)):
        with pytest.raises(AgentError, match=ATTACKS[attack] or "observations"):
            use(0)
    assert results(store, "minari")[0] == []


def test_flipped_bits_in_a_part_that_is_imported_give_episodes_or_sentences(tmp_path: Path) -> None:
    store = stored(tmp_path / "store", policy="p", origin="o", record="{}", seed=3)
    part = store / TrajectoryStore(store).parts[0].part
    content, draw = part.read_bytes(), random.Random(3)
    for _ in range(100):
        changed = bytearray(content)
        changed[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        (tmp_path / "part.hdf5").write_bytes(changed)
        results(tmp_path / "part.hdf5", "minari")


def test_texts_that_hdf5_would_read_for_ever_are_refused_and_the_rest_is_imported(tmp_path: Path) -> None:
    for name in ("bad", "good"):
        with h5py.File(tmp_path / f"{name}.hdf5", "w") as file:
            minari(file)
            file.attrs["dataset_id"] = "a text in the global heap"
    damaged = bytearray((tmp_path / "bad.hdf5").read_bytes())
    heap = damaged.index(b"GCOL")
    damaged[heap + 16 : heap + 80] = bytes(64)
    (tmp_path / "bad.hdf5").write_bytes(damaged)
    episodes, problems = results(tmp_path, "minari")
    assert len(episodes) == 2
    (problem,) = problems
    assert f"{tmp_path / 'bad.hdf5'}" in problem
    assert f"the texts at byte {heap} are damaged" in problem


def test_a_heap_is_found_across_the_blocks_that_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = b"GCOL\x01\0\0\0" + (4096).to_bytes(8, "little")
    for before in range(12):
        (tmp_path / "file").write_bytes(bytes(before) + head + bytes(4080))
        monkeypatch.setattr(global_heaps, "_BLOCK", 7)
        assert global_heaps.endless_heap(tmp_path / "file") == before
    free = (0).to_bytes(8, "little") + (4080).to_bytes(8, "little")
    (tmp_path / "file").write_bytes(head + free + bytes(4064))
    assert global_heaps.endless_heap(tmp_path / "file") is None


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_macos_lays_beside_data_is_left_out(layout: str, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "0.hdf5", "w") as file:
        LAYOUTS[layout](file)
    if layout == "lram":
        (tmp_path / "episode_lengths.json").write_text(json.dumps({"0": STEPS}))
    for name in ("._0.hdf5", "._episode_lengths.json", ".DS_Store"):
        (tmp_path / name).write_bytes(b"\x00\x05\x16\x07Mac OS X")
    found = list(read(tmp_path, AnyTask(), Options()))
    assert not [item.text for item in found if isinstance(item, Problem)]
    assert any(isinstance(item, Imported) for item in found)


def test_a_compressed_array_that_cannot_be_unpacked_does_not_stop_the_import(tmp_path: Path) -> None:
    arrays = {"states": np.arange(460.0).reshape(20, 23), "actions": np.zeros((20, 7)), "dones": True}
    for name in ("0", "1"):
        np.savez_compressed(tmp_path / f"{name}.npz", rewards=np.zeros(20), **arrays)
    (tmp_path / "episode_lengths.json").write_text('{"0": 20, "1": 20}')
    content = bytearray((tmp_path / "0.npz").read_bytes())
    start = content.index(b"states.npy") + 40
    content[start : start + 8] = b"\xff" * 8
    (tmp_path / "0.npz").write_bytes(content)
    episodes, problems = results(tmp_path, "lram")
    assert len(episodes) == 1
    assert len(problems) == 1
    assert "0.npz is no whole .npz file" in problems[0]
