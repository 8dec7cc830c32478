"""RLDS data sets that TensorFlow Datasets wrote: read as that package reads them; damage is refused."""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.agents.api import AgentError, TaskSpec
from lram.agents.trajectories import Trajectory
from lram.agents.trajectories.readers import Imported, Note, Options, Problem, Shapes, detect, read
from lram.agents.trajectories.readers.areas import area_mean
from lram.agents.trajectories.readers.keys import choose_keys
from lram.agents.trajectories.readers.rlds import INVALID
from lram.agents.trajectories.readers.rlds.episode import ACTED_LAST, DISCOUNTED, NO_LAST, EpisodeReader
from lram.agents.trajectories.readers.rlds.examples import ExampleError, parse_example, varints
from lram.agents.trajectories.readers.rlds.features import describe
from lram.agents.trajectories.readers.rlds.records import crc32c, masked, read_records
from lram.agents.trajectories.readers.source import SourceError

DATA = Path(__file__).parents[1] / "data" / "rlds"
VERSION = "1.0.0"


class OwnTask:
    """Every data set is a task of its own, of the sizes that it shows."""

    def find(self, names: tuple[str, ...]) -> str:
        return f"own/{names[0]}"

    def wanted(self, task_id: str) -> bool:
        return True

    def spec(self, task_id: str, s: Shapes) -> TaskSpec:
        shape = s.observation_shape
        return TaskSpec(task_id, "own", s.observation, shape, s.action, s.action_size or 3, None, 1.0)

    def horizon(self, task_id: str) -> int | None:
        return None


def results(path: Path, **options: Any) -> list[Any]:
    return list(read(path, OwnTask(), Options(**options)))


def trajectories(path: Path, **options: Any) -> list[Trajectory]:
    found = results(path, **options)
    assert [one.text for one in found if isinstance(one, Problem)] == []
    return [one.trajectory for one in found if isinstance(one, Imported)]


def problems(path: Path, **options: Any) -> list[str]:
    return [one.text for one in results(path, **options) if isinstance(one, Problem)]


def notes(path: Path, **options: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in results(path, **options):
        if isinstance(one, Note):
            counts[one.text] = counts.get(one.text, 0) + one.count
    return counts


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    with np.load(DATA / "expected.npz") as arrays:
        return dict(arrays)


@pytest.fixture
def copied(tmp_path: Path) -> Callable[[str], Path]:
    """The folder of a data set that a test may change."""

    def copy(name: str) -> Path:
        return Path(shutil.copytree(DATA / name / VERSION, tmp_path / name / VERSION))

    return copy


def framed(*examples: bytes) -> bytes:
    """A file of records."""
    parts = []
    for one in examples:
        size = len(one).to_bytes(8, "little")
        sums = [masked(crc32c(part)).to_bytes(4, "little") for part in (size, one)]
        parts.append(size + sums[0] + one + sums[1])
    return b"".join(parts)


def field(number: int, content: bytes) -> bytes:
    size, head = len(content), bytes([number << 3 | 2])
    while size > 127:
        head, size = head + bytes([size & 0x7F | 0x80]), size >> 7
    return head + bytes([size]) + content


def encoded(values: dict[str, Any]) -> bytes:
    """A record of numbers and byte strings."""
    entries = b""
    for name, value in values.items():
        if isinstance(value, list):
            message = field(1, b"".join(field(1, one) for one in value))
        elif np.asarray(value).dtype.kind == "f":
            message = field(2, field(1, np.asarray(value, "<f4").tobytes()))
        else:
            message = field(3, field(1, bytes(int(one) for one in np.ravel(value))))
        entries += field(1, field(1, name.encode()) + field(2, message))
    return field(1, entries)


def walker(**changed: Any) -> dict[str, Any]:
    """An episode of three steps of the walker's data set; a value of None leaves the list out."""
    plain = {
        "agent_id": [b"by hand"],
        "invalid": [0],
        "steps/observation": np.arange(1, 16, dtype=np.float32).reshape(3, 5),
        "steps/action": np.array([[0.5, 1], [-1, 0], [0, 0]], np.float32),
        "steps/reward": np.array([1, 2, 0], np.float32),
        "steps/discount": np.ones(3, np.float32),
        "steps/is_first": np.array([1, 0, 0]),
        "steps/is_last": np.array([0, 0, 1]),
        "steps/is_terminal": np.array([0, 0, 1]),
    }
    plain["invalid"] = np.array([0])
    made = {**plain, **{name.replace("__", "/"): value for name, value in changed.items()}}
    return {name: value for name, value in made.items() if value is not None}


def write(folder: Path, *examples: dict[str, Any]) -> Path:
    """Put these episodes into the walker's training split, as its only file."""
    for file in folder.glob("*.tfrecord*"):
        file.unlink()
    info = json.loads((folder / "dataset_info.json").read_text())
    info["splits"] = [{"name": "train", "shardLengths": [str(len(examples))]}]
    (folder / "dataset_info.json").write_text(json.dumps(info))
    file = folder / "rlds_walker-train.tfrecord-00000-of-00001"
    file.write_bytes(framed(*map(encoded, examples)))
    return folder


# --- what TensorFlow Datasets reads ---


@pytest.mark.parametrize("name", ["rlds_walker", "rlds_arm", "rlds_game", "rlds_plain"])
def test_every_array_is_what_tensorflow_datasets_reads(name: str, expected: dict[str, Any]) -> None:
    about = describe(DATA / name / VERSION)
    observation = {"rlds_arm": ("state",), "rlds_plain": ("raw",)}.get(name, ())
    action = {"rlds_arm": ("move",)}.get(name, ())
    reader = EpisodeReader(about, Options(observation=observation, action=action))
    compared, counts = set(), {"train": 0, "test": 0}
    for shard in about.shards:
        split = "test" if "-test." in shard.path.name else "train"
        for record in read_records(shard.path):
            assert isinstance(record, bytes)
            example = parse_example(record)
            for key, leaf in about.leaves.items():
                wanted = expected.get(f"{name}/{split}/{counts[split]}/{key.removeprefix('steps/')}")
                if not key.startswith("steps/") or wanted is None:
                    continue
                if leaf.kind == "image":
                    found = np.stack(list(reader._images(example, key, len(wanted), "here")))
                else:
                    found = reader._array(example, key, "here")
                assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape)
                np.testing.assert_array_equal(found, wanted, err_msg=key)
                compared.add(key)
            counts[split] += 1
    assert f"{name}/train/{counts['train']}/reward" not in expected  # all of them were compared
    left = {key for key in about.leaves if key.startswith("steps/")} - compared
    assert left <= {"steps/language_instruction", "steps/boxes"}


def test_the_last_step_gives_an_observation_and_no_decision(expected: dict[str, Any]) -> None:
    found = trajectories(DATA / "rlds_walker")
    train = [number for number in range(4) if len(expected[f"rlds_walker/train/{number}/reward"]) != 4]
    places = [f"rlds_walker/train/{number}" for number in train]  # the one of 4 steps is marked as invalid
    places += [f"rlds_walker/test/{number}" for number in range(2)]
    assert len(found) == len(places) == 5
    for one, place in zip(found, places, strict=True):
        np.testing.assert_array_equal(one.observations, expected[f"{place}/observation"])
        np.testing.assert_array_equal(one.actions, expected[f"{place}/action"][:-1])
        np.testing.assert_array_equal(one.rewards, expected[f"{place}/reward"][:-1])
        assert one.terminated == expected[f"{place}/is_terminal"][-1]
    assert [one.truncated for one in found] == [not one.terminated for one in found]
    assert {one.policy for one in found} == {"walker-sac"}
    assert len({one.origin for one in found}) == 5


def test_episodes_marked_as_invalid_are_left_out_and_counted() -> None:
    assert notes(DATA / "rlds_walker") == {INVALID: 1}


def test_demonstrations_keep_the_action_and_the_reward_of_their_last_step(expected: dict[str, Any]) -> None:
    options = {"observation": ("state", "gripper"), "action": ("move", "grip")}
    found = trajectories(DATA / "rlds_arm", **options)
    said = notes(DATA / "rlds_arm", **options)
    assert said == {ACTED_LAST: 2}
    for number, one in enumerate(found):
        whole = {key: expected[f"rlds_arm/train/{number}/{key}"] for key in ("reward", "action/move")}
        assert one.length == len(whole["reward"]) == len(one.observations)
        assert (one.rewards[-1], one.terminated) == (1, True)
        np.testing.assert_array_equal(one.actions[:, :3], whole["action/move"])
        np.testing.assert_array_equal(one.actions[:, 3], expected[f"rlds_arm/train/{number}/action/grip"])
        np.testing.assert_array_equal(
            one.observations[:, 3], expected[f"rlds_arm/train/{number}/observation/gripper"]
        )


def test_images_are_made_64_by_64_by_area_means_and_it_is_said(expected: dict[str, Any]) -> None:
    options = {"observation": ("image",), "action": ("move",)}
    found = trajectories(DATA / "rlds_arm", **options)
    whole = expected["rlds_arm/train/0/observation/image"]
    wanted = np.stack([area_mean(image) for image in whole])
    np.testing.assert_array_equal(found[0].observations, wanted)
    said = notes(DATA / "rlds_arm", **options)
    assert said["episodes have images of 96 x 80, made 64 x 64 by the mean over areas"] == 2
    plain = trajectories(DATA / "rlds_arm", observation=("wrist/image",), action=("move",))
    wanted = expected["rlds_arm/train/0/observation/wrist/image"].transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(plain[0].observations, wanted)


def test_labels_are_discrete_actions_of_their_number_of_classes(expected: dict[str, Any]) -> None:
    found = trajectories(DATA / "rlds_game")[0]
    assert (found.task.action, found.task.action_size) == ("discrete", 4)
    np.testing.assert_array_equal(found.actions, expected["rlds_game/train/0/action"][:-1])
    assert (found.truncated, found.terminated) == (True, False)


def test_the_layout_is_found_out_for_folders_and_for_one_file() -> None:
    file = DATA / "rlds_walker" / VERSION / "rlds_walker-test.tfrecord-00001-of-00002"
    assert {detect(DATA), detect(DATA / "rlds_game"), detect(DATA / "rlds_game" / VERSION)} == {"rlds"}
    assert detect(file) == "rlds"
    assert len(trajectories(file)) == 1
    folders = {Path(one.trajectory.origin).parts[1] for one in results(DATA) if isinstance(one, Imported)}
    assert folders == {"rlds_game", "rlds_walker"}  # the others ask which keys are meant


# --- which keys ---


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            {"action": ("move",)},
            "has the vectors gripper, state and the images image, wrist/image; say which",
        ),
        ({"observation": ("state",)}, "the action in"),
        ({"observation": ("depth",), "action": ("move",)}, "has no 'depth' to read with --observation"),
        ({"observation": ("state", "image"), "action": ("move",)}, "'image' is an image"),
        ({"observation": ("state", "state"), "action": ("move",)}, "names 'state' twice"),
    ],
)
def test_keys_that_are_not_clear_are_refused_with_those_there_are(options: Any, words: str) -> None:
    found = problems(DATA / "rlds_arm", **options)
    assert len(found) == 1
    assert words in found[0]


def test_keys_of_steps_outside_of_the_observation_can_be_read(expected: dict[str, Any]) -> None:
    found = trajectories(DATA / "rlds_arm", observation=("language_embedding", "state"), action=("move",))
    np.testing.assert_array_equal(
        found[0].observations[:, :4], expected["rlds_arm/train/0/language_embedding"]
    )


def test_the_only_key_needs_not_be_named() -> None:
    assert choose_keys((), ["a"], [], "x", "--observation") == ("a",)
    with pytest.raises(SourceError, match="neither a vector nor an image"):
        choose_keys((), [], [], "x", "--observation")


# --- ends ---


def test_an_episode_that_is_cut_off_keeps_its_last_decision_as_d4rl_has_it(copied: Any) -> None:
    last = {"steps__action": np.full((3, 2), 0.5, np.float32), "steps__is_terminal": np.zeros(3, int)}
    folder = write(copied("rlds_walker"), walker(**last))
    one = trajectories(folder)[0]
    assert (one.length, len(one.observations), one.truncated) == (3, 3, True)
    assert notes(folder) == {ACTED_LAST: 1}


def test_a_last_observation_of_zeros_stands_for_none(copied: Any) -> None:
    seen = np.arange(1, 16, dtype=np.float32).reshape(3, 5) * np.array([[1], [1], [0]], np.float32)
    folder = write(copied("rlds_walker"), walker(steps__observation=seen))
    one = trajectories(folder)[0]
    assert (one.length, len(one.observations), one.terminated) == (2, 2, True)
    assert notes(folder) == {NO_LAST: 1}


def test_discounts_are_said_not_to_be_read(copied: Any) -> None:
    folder = write(copied("rlds_walker"), walker(steps__discount=np.full(3, 0.99, np.float32)))
    assert notes(folder) == {DISCOUNTED: 1}


# --- damage ---


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"steps__observation": np.full((3, 5), np.nan, np.float32)}, "not finite at row"),
        ({"steps__reward": np.array([1, np.inf, 0], np.float32)}, "not finite at row"),
        ({"steps__observation": np.ones(14, np.float32)}, "has 14 numbers, which are no steps of shape (5,)"),
        ({"steps__action": np.ones((2, 2), np.float32)}, "steps/action has 2 steps, and there are 3 rewards"),
        ({"steps__action": None}, "has no 'steps/action', and features.json tells of it"),
        ({"steps__reward": [b"x", b"y", b"z"]}, "steps/reward has byte strings instead of numbers"),
        ({"steps__is_last": np.array([0, 1, 1])}, "ends at step 1 and continues"),
        ({"steps__is_first": np.array([1, 1, 0])}, "begins anew at step 1"),
        ({"steps__is_terminal": np.array([1, 0, 1])}, "is terminal at step 0 and continues"),
        ({"steps__reward": np.zeros(0, np.float32)}, "is empty"),
        ({"steps__action": np.full((3, 2), 3, "f4")}, "has an action outside [-1, 1] at decision 0"),
    ],
)
def test_a_bad_episode_is_one_sentence_and_the_next_one_is_read(
    copied: Any, changed: Any, words: str
) -> None:
    folder = write(copied("rlds_walker"), walker(), walker(**changed), walker(steps__reward=np.ones(3, "f4")))
    found = problems(folder)
    assert len(found) == 1
    assert words in found[0]
    assert "tfrecord-00000-of-00001, record 1" in found[0]
    assert len([one for one in results(folder) if isinstance(one, Imported)]) == 2


def test_a_flipped_bit_costs_its_record_alone(copied: Any) -> None:
    file = copied("rlds_walker") / "rlds_walker-train.tfrecord-00000-of-00002"
    content = bytearray(file.read_bytes())
    content[100] ^= 4
    file.write_bytes(content)
    assert problems(file) == [f"{file}, record 0, has a wrong checksum: it is damaged; fetch the file again"]
    assert len([one for one in results(file) if isinstance(one, Imported)]) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda content: content[:-5], "record 1, is cut off"),
        (lambda content: content[: len(content) // 2 + 30], "record 1, is cut off"),
        (lambda content: content[:7], "record 0, is cut off"),
        (lambda content: b"\x1f\x8b" + content, "is no whole file of records"),
        (lambda content: content[:469] + b"\xff" + content[470:], "wrong checksum of its length"),
        (lambda content: content[:469], "has 1 records, and dataset_info.json says 2"),
    ],
)
def test_a_damaged_file_is_one_sentence(copied: Any, change: Callable[[bytes], bytes], words: str) -> None:
    file = copied("rlds_walker") / "rlds_walker-train.tfrecord-00000-of-00002"
    whole = file.read_bytes()
    assert int.from_bytes(whole[:8], "little") + 16 == 469
    file.write_bytes(change(whole))
    found = problems(file)
    assert len(found) == 1
    assert words in found[0]
    assert str(file) in found[0]


def test_a_missing_file_is_named(copied: Any) -> None:
    folder = copied("rlds_walker")
    (folder / "rlds_walker-test.tfrecord-00000-of-00002").unlink()
    assert problems(folder) == [
        f"{folder}/rlds_walker-test.tfrecord-00000-of-00002 is missing, and dataset_info.json tells of it; "
        "fetch it again"
    ]


@pytest.mark.parametrize(
    ("file", "change", "words"),
    [
        ("features.json", lambda text: text[:50], "is no JSON"),
        (
            "features.json",
            lambda text: '{"type": "x", "content": {}}',
            "an old version of TensorFlow Datasets",
        ),
        ("features.json", lambda text: text.replace('"steps"', '"frames"'), "tells of no steps"),
        ("features.json", lambda text: text.replace('"reward"', '"gain"'), "has no number as the reward"),
        (
            "dataset_info.json",
            lambda text: text.replace("tfrecord", "array_record", 1),
            "format array_record",
        ),
        ("dataset_info.json", lambda text: text.replace("{DATASET}", "../../x"), "none in the folder"),
        ("dataset_info.json", lambda text: text.replace("shardLengths", "shards"), "tells of no files"),
    ],
)
def test_a_description_that_cannot_be_followed_is_refused(
    copied: Any, file: str, change: Callable[[str], str], words: str
) -> None:
    path = copied("rlds_walker") / file
    path.write_text(change(path.read_text()))
    found = problems(path.parent)
    assert len(found) == 1
    assert words in found[0]


def test_packed_arrays_and_pictures_that_are_damaged_are_refused(copied: Any) -> None:
    folder = copied("rlds_game")
    file = next(folder.glob("*.tfrecord*"))
    frames = [zlib.compress(bytes(64 * 64 * 3)), zlib.compress(bytes(10_000_000)), b"nothing"]
    lists = {
        f"steps/{key}": np.array(value, kind)
        for key, value, kind in [
            ("action", [1, 2, 0], int),
            ("reward", [1, 1, 0], np.float32),
            ("discount", [1, 1, 1], np.float32),
            ("is_first", [1, 0, 0], int),
            ("is_last", [0, 0, 1], int),
            ("is_terminal", [0, 0, 0], int),
        ]
    }
    for bad, words in ((1, "step 1, has not the 12288 bytes"), (2, "step 1, cannot be unpacked")):
        packed: dict[str, Any] = {**lists, "steps/observation": [frames[0], frames[bad], frames[0]]}
        file.write_bytes(framed(encoded(packed)))
        found = problems(folder)
        assert len(found) == 1
        assert words in found[0]


def test_a_picture_of_another_size_or_kind_is_refused(copied: Any) -> None:
    folder = copied("rlds_arm")
    file = next(folder.glob("*.tfrecord*"))
    example = parse_example(next(one for one in read_records(file) if isinstance(one, bytes)))
    lists: dict[str, Any] = {
        key: [bytes(one) for one in value.bytes_list()] if value.kind == "bytes" else value.numbers()
        for key, value in example.items()
        if "boxes" not in key
    }
    wrist, image = (f"steps/observation/{key}" for key in ("wrist/image", "image"))
    for new, words in (
        ([lists[wrist][0]], "is a picture of 64 x 64 (RGB), and features.json says 96 x 80"),
        ([b"GIF89a"], "is no whole JPEG or PNG"),
        ([lists[image][0][:300]], "is no whole JPEG or PNG"),
    ):
        file.write_bytes(framed(encoded({**lists, image: [*new, *lists[image][1:]]})))
        found = [
            text for text in problems(folder, observation=("image",), action=("move",)) if "record 0" in text
        ]
        assert len(found) == 1
        assert words in found[0]
        assert "step 0," in found[0]


# --- checksums and messages ---


@pytest.mark.parametrize(
    ("data", "checksum"),
    [  # RFC 3720, B.4
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"123456789", 0xE3069283),
        (b"", 0),
    ],
)
def test_checksums_are_those_of_the_standard(data: bytes, checksum: int) -> None:
    assert crc32c(data) == checksum


def test_checksums_of_any_length_are_those_of_the_definition(monkeypatch: pytest.MonkeyPatch) -> None:
    def defined(data: bytes) -> int:
        state = 0xFFFFFFFF
        for byte in data:
            state ^= byte
            for _ in range(8):
                state = state >> 1 ^ (0x82F63B78 if state & 1 else 0)
        return state ^ 0xFFFFFFFF

    data = np.random.default_rng(0).bytes(1000)
    monkeypatch.setattr("lram.agents.trajectories.readers.rlds.records._BLOCK", 64)
    assert [crc32c(data[:size]) for size in (*range(140), 999)] == [
        defined(data[:size]) for size in (*range(140), 999)
    ]


def test_whole_numbers_of_all_sizes_are_read() -> None:
    def packed(value: int) -> bytes:
        value &= 2**64 - 1
        found = []
        while value > 127:
            found.append(value & 0x7F | 0x80)
            value >>= 7
        return bytes([*found, value])

    numbers = [0, 1, 127, 128, 300, 2**31, 2**63 - 1, -1, -(2**63), 5]
    assert varints(b"".join(map(packed, numbers))).tolist() == numbers
    with pytest.raises(ExampleError, match="ends within"):
        varints(b"\x80")
    with pytest.raises(ExampleError, match="64 bits"):
        varints(b"\x80" * 11 + b"\x01")


@pytest.mark.parametrize("record", [b"", b"\x0b", b"\x0a\x7f", b"\x0a\x02\x0a\x05", b"\xff" * 12])
def test_what_is_no_example_is_refused(record: bytes) -> None:
    with pytest.raises(ExampleError):
        parse_example(record)


def test_no_cut_or_flipped_record_ends_in_anything_but_a_sentence(copied: Any) -> None:
    """Behind a right checksum, too: whoever can write a file can write its checksums."""
    folder = copied("rlds_walker")
    whole = encoded(walker())
    rng = np.random.default_rng(1)
    for _ in range(120):
        bad = bytearray(whole[: rng.integers(1, len(whole) + 1)])
        bad[rng.integers(len(bad))] ^= int(rng.integers(1, 256))
        write(folder)
        info = json.loads((folder / "dataset_info.json").read_text())
        info["splits"] = [{"name": "train", "shardLengths": ["1"]}]
        (folder / "dataset_info.json").write_text(json.dumps(info))
        (folder / "rlds_walker-train.tfrecord-00000-of-00001").write_bytes(framed(bytes(bad)))
        assert all(isinstance(one, Problem | Note | Imported) for one in results(folder))


def test_a_folder_without_anything_known_is_still_refused(tmp_path: Path) -> None:
    (tmp_path / "features.json").write_text("{}")
    with pytest.raises(AgentError, match="no known layout"):
        detect(tmp_path)


def test_images_are_made_smaller_as_gymnasiums_tasks_do() -> None:
    from lram.envs.domains.gym.images import area_mean as of_tasks

    rng = np.random.default_rng(3)
    for size in ((64, 64), (80, 96), (210, 160), (30, 47)):
        image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        np.testing.assert_array_equal(area_mean(image), of_tasks(image))


def test_a_data_set_that_lost_one_of_its_descriptions_is_told_which(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(DATA / "rlds_plain" / VERSION, folder)
    (folder / "dataset_info.json").unlink()
    assert detect(folder) == "rlds"
    (problem,) = problems(folder)
    assert "dataset_info.json is missing" in problem


@pytest.mark.parametrize("name", ["features.json", "meta/info.json", "data/chunk-000/file-000.parquet"])
def test_a_part_of_a_data_set_leads_to_its_folder(name: str, tmp_path: Path) -> None:
    file = tmp_path / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"{}")
    with pytest.raises(AgentError, match="name the data set's folder"):
        detect(file)
