"""Films: of episodes whose replay is their record, whole or not there, with what the record says drawn in."""

from __future__ import annotations

import shutil
import sys
from ctypes.util import find_library
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.forging import forge

from lram.agents.durable import SCRATCH
from lram.harness import opengl
from lram.harness.cli.exits import EXIT_FAILED
from lram.harness.cli.film import film
from lram.harness.cli.options import MachineOptions
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate
from lram.harness.films import FilmMaker, FilmSettings, choose, read_films
from lram.harness.films.choosing import pairs_to_compare, read_words
from lram.harness.films.drawing import Caption, panel, scene
from lram.harness.films.encoding import encode
from lram.harness.films.spool import Moment, Spool, first_divergence
from lram.harness.replay import scored
from lram.harness.storage.films import FILMS_FILE, digest
from lram.harness.storage.run_folder import Run

av = pytest.importorskip("av")

QUIET = MachineOptions(workers=1, quiet=True)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("film") / "run"
    evaluate(["random", "scripted"], "toy/reach,toy/steps", folder, episodes=3, machine=Machine(workers=1))
    return folder


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "run"))


def frames(file: Path) -> list[np.ndarray]:
    with av.open(str(file)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9")])
def test_a_film_has_a_frame_of_every_step_and_of_the_start(
    made: Path, tmp_path: Path, suffix: str, codec: str, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / f"one{suffix}"
    assert film(made, output=file, agent=["scripted"], task=["toy/reach"], episodes=["1"], machine=QUIET) == 0
    (record,) = (
        r for r in Run(made).records() if (r.agent, r.task, r.episode) == ("scripted", "toy/reach", 1)
    )
    assert f"scripted on toy/reach, episode 1, {(record.length or 0) + 1} frames" in capsys.readouterr().out
    with av.open(str(file)) as container:
        assert container.streams.video[0].codec_context.name == codec
        assert container.streams.video[0].average_rate == 30
    shown = frames(file)
    assert len(shown) == (record.length or 0) + 1
    # The point has moved, and the goal has not: the scene is the simulator's.
    first, last = shown[0][-256:], shown[-1][-256:]
    assert np.abs(first.astype(int) - last).mean() > 1
    assert [file] == [one for one in tmp_path.iterdir() if one.is_file()]  # no list, nothing half-written


def test_an_altered_record_has_no_film_and_the_others_have_theirs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key = ("random", "toy/steps", 2)
    forge(run, lambda r: {"trajectory": "0badc0de"} if (r["agent"], r["task"], r["episode"]) == key else None)
    folder = tmp_path / "films"
    code = film(run, output=folder, task=["toy/steps"], episodes=["1,2"], machine=QUIET)
    assert code == EXIT_FAILED
    output = capsys.readouterr().out
    assert "no film of random on toy/steps, episode 2: the replay is not what was recorded" in output
    assert "trajectory checksum 0badc0de, replayed" in output
    films = read_films(folder)
    assert [(f.episodes[0].agent, f.episodes[0].episode) for f in films] == [
        ("random", 1),
        ("scripted", 1),
        ("scripted", 2),
    ]
    assert {file.name for file in folder.iterdir()} == {FILMS_FILE, *(f.file for f in films)}
    alone = tmp_path / "alone.mp4"
    options: dict[str, Any] = {"agent": ["random"], "task": ["toy/steps"], "machine": QUIET}
    assert film(run, output=alone, episodes=["2"], **options) == EXIT_FAILED
    assert film(run, output=alone, episodes=["1,2"], grid=True, **options) == EXIT_FAILED
    assert not alone.exists()


def test_the_list_of_a_folder_tells_what_its_films_show(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    chosen = choose(scored(Run(made), ["scripted"], ["toy/reach"]), ["best", "worst", "median"])
    outcomes = FilmMaker(Run(made), folder, FilmSettings(fps=10, size=64, suffix=".webm")).episodes(chosen)
    films = read_films(folder)
    assert [one.entry for one in outcomes if one.entry] == list(films)
    for entry, one in zip(films, chosen, strict=True):
        (episode,) = entry.episodes
        assert (episode.trajectory, episode.why) == (one.record.trajectory, one.why)
        assert (episode.episode_return, episode.length) == (one.record.episode_return, one.record.length)
        assert (entry.kind, entry.run, entry.fps) == ("episode", "run", 10)
        assert entry.sha256 == digest(folder / entry.file)
        shown = frames(folder / entry.file)
        assert (len(shown), *shown[0].shape[:2]) == (entry.frames, entry.height, entry.width)
    with pytest.raises(LramError, match="is not empty"):
        FilmMaker(Run(made), folder).episodes(chosen)


def test_every_nth_step_is_shown_and_the_end(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "one.mp4"
    chosen = choose(scored(Run(made), ["scripted"], ["toy/reach"]), ["0"])
    length = chosen[0].record.length or 0
    (outcome,) = FilmMaker(Run(made), file, FilmSettings(every=10)).episodes(chosen)
    assert outcome.entry is not None
    assert outcome.entry.frames == len(frames(file)) == -(-length // 10) + 1
    whole = tmp_path / "whole.mp4"
    FilmMaker(Run(made), whole).episodes(chosen)
    for some, all_of_them in ((1, 10), (-1, -1)):
        assert np.abs(frames(file)[some].astype(int) - frames(whole)[all_of_them]).mean() < 3


def test_two_agents_are_shown_side_by_side_around_their_first_difference(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "both.mp4"
    code = film(made, output=file, task=["toy/reach"], episodes=["first-divergence:1"], machine=QUIET)
    assert code == 0
    told = capsys.readouterr().out
    assert "random and scripted on toy/reach, episode 1" in told
    assert "they first differ at step 1" in told
    height, width, _ = frames(file)[0].shape
    assert width > 1.4 * height


def test_two_agents_that_do_the_same_have_no_film_of_a_divergence(tmp_path: Path) -> None:
    run = evaluate({"a": "scripted", "b": "scripted"}, "toy/reach", tmp_path / "run", episodes=1)
    file = tmp_path / "both.mp4"
    assert film(run.path, output=file, episodes=["first-divergence"], machine=QUIET) == EXIT_FAILED
    assert not file.exists()


@pytest.mark.parametrize(
    ("one", "other", "step"),
    [
        ([1, 2, 3], [1, 2, 3], None),
        ([1, 2, 3], [1, 5, 6], 2),
        ([1, 2, 3], [4, 5, 6], 1),
        ([1, 2, 3], [1, 2], 3),
    ],
)
def test_the_first_divergence_is_the_first_step_that_is_not_the_same(
    one: list[int], other: list[int], step: int | None
) -> None:
    def moments(checksums: list[int]) -> list[Moment]:
        return [Moment(k, 0.0, 0.0, None, b"", c) for k, c in enumerate([0, *checksums])]

    assert first_divergence(moments(one), moments(other)) == step
    assert first_divergence(moments(other), moments(one)) == step


def test_a_grid_shows_an_episode_of_each_task_beside_each_other(made: Path, tmp_path: Path) -> None:
    file = tmp_path / "grid.mp4"
    assert film(made, output=file, agent=["scripted"], episodes=["0"], grid=True, machine=QUIET) == 0
    shown = frames(file)
    lengths = [r.length or 0 for r in Run(made).records() if (r.agent, r.episode) == ("scripted", 0)]
    assert len(shown) == max(lengths) + 1
    assert shown[0].shape[1] > 2 * 236
    assert not (tmp_path / FILMS_FILE).exists()


def test_best_worst_and_median_are_those_by_return(made: Path) -> None:
    record = scored(Run(made))[0]
    records = [
        replace(record, episode=k, episode_return=value) for k, value in enumerate([3.0, 1.0, 4.0, 1.0, 4.0])
    ]

    def numbers(*words: str) -> list[tuple[int, str]]:
        return [(one.record.episode, one.why) for one in choose(records, words)]

    assert numbers("best", "worst", "median") == [(0, "median"), (1, "worst"), (2, "best")]
    assert numbers("3", "best") == [(2, "best"), (3, "chosen")]
    assert [one.why for one in choose(records[:1], ["best", "worst"])] == ["best, worst"]
    with pytest.raises(LramError, match="has no scored episode 9"):
        choose(records, ["9"])


def test_what_is_no_choice_is_said(made: Path, tmp_path: Path) -> None:
    assert read_words(["best, 3", "03"]) == ["best", "3"]
    for words, told in (
        ("middle", "takes best, worst, median"),
        ("first-divergence:x", "takes best"),
        ("first-divergence,best", "alone"),
    ):
        with pytest.raises(LramError, match=told):
            read_words([words])
    records = scored(Run(made))
    with pytest.raises(LramError, match="compares two agents, and 1"):
        pairs_to_compare(records, ["random"], None)
    with pytest.raises(LramError, match="have no scored episode 7 with the same start"):
        pairs_to_compare(records, ["random", "scripted"], 7)
    for settings, told in (
        (FilmSettings(fps=0), "frames a second"),
        (FilmSettings(size=33), "even number"),
        (FilmSettings(every=0), "--every is 0"),
        (FilmSettings(suffix=".avi"), "ends with .mp4 or .webm"),
    ):
        with pytest.raises(LramError, match=told):
            settings.check()
    with pytest.raises(LramError, match="is one film, and 12 episodes are chosen"):
        FilmMaker(Run(made), tmp_path / "one.mp4").episodes(choose(records, ["0", "1", "2"]))
    with pytest.raises(LramError, match=r"ends with .mp4 or .webm, not with '.gif'"):
        FilmMaker(Run(made), tmp_path / "one.gif").episodes(choose(records, ["0"]))
    with pytest.raises(LramError, match="nowhere is not a run"):
        film(tmp_path / "nowhere", output=tmp_path / "x", machine=QUIET)


def test_without_pyav_the_next_step_is_said(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(LramError, match=r"PyAV, which is not installed; pip install 'lram-bench\[film\]'"):
        film(made, output=tmp_path / "films", machine=QUIET)
    assert not (tmp_path / "films").exists()


def test_where_nothing_gives_mujoco_a_context_the_next_step_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opengl, "renders", lambda domain, python, backend: False)
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    with (
        pytest.raises(LramError, match=r"dmcontrol cannot be rendered here.*egl nor by osmesa.*apt-get"),
        opengl.rendering(["dmcontrol", "toy"], {}),
    ):
        raise AssertionError("never entered")
    with opengl.rendering(["toy"], {}):
        pass


def test_what_works_is_given_to_workers_and_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    import os

    monkeypatch.setattr(opengl, "renders", lambda domain, python, backend: backend == "osmesa")
    monkeypatch.setenv("MUJOCO_GL", "glfw")
    with opengl.rendering(["metaworld"], {}):
        assert os.environ["MUJOCO_GL"] == "osmesa"
    assert os.environ["MUJOCO_GL"] == "glfw"


def test_a_film_that_cannot_be_finished_is_not_there(tmp_path: Path) -> None:
    def broken() -> Any:
        yield np.zeros((16, 16, 3), np.uint8)
        raise OSError(28, "No space left on device")

    with pytest.raises(LramError, match="No space left on device"):
        encode(broken(), tmp_path / "film.mp4", 30)
    assert list(tmp_path.iterdir()) == []
    assert not any(SCRATCH in file.name for file in tmp_path.iterdir())


def test_the_caption_stands_above_the_scene_and_fits(tmp_path: Path) -> None:
    image = np.full((64, 64, 3), 200, np.uint8)
    caption = Caption("an agent with a label that is far too long for this" * 3, "toy/reach", 3, 20)
    plain = panel(image, 128, 236, caption, Moment(4, 0.5, 2.0, 23.0), mark=False)
    marked = panel(image, 128, 236, caption, Moment(4, 0.5, 2.0, 23.0), mark=True)
    without = panel(image, 128, 236, caption, Moment(4, 0.5, 2.0, None), mark=False)
    assert plain.shape[0] % 2 == 0
    band = plain.shape[0] - 128
    np.testing.assert_array_equal(plain[band:, 54 : 54 + 128], scene(image, 128))
    assert (plain[:band, 4:-4] > 100).any()
    assert not (plain[:band, -2:] > 100).any()
    assert (plain[:band] != marked[:band]).any()
    assert (plain[:band] != without[:band]).any()
    assert (scene(image, 32).shape, scene(image, 64) is image) == ((32, 32, 3), True)


def test_a_spool_gives_back_what_it_was_given_and_begins_anew() -> None:
    spool = Spool()
    images = [np.random.default_rng(k).integers(0, 255, (5, 7, 3), dtype=np.uint8) for k in range(3)]
    for _ in range(2):
        spool.clear()
        for step in range(5):
            spool.moments.append(Moment(step, None, 0.0, None))
            if step % 2 == 0:
                spool.add(images[step // 2])
        assert [spool.seen(step) for step in range(5)] == [0, 0, 2, 2, 4]
        for step in range(5):
            np.testing.assert_array_equal(spool.image(step), images[step // 2])
    spool.close()


@pytest.mark.slow
def test_a_models_return_to_go_is_what_it_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lram.agents.acting.model_agent import ModelAgent
    from lram.harness.films.watching import Camera

    run = evaluate(["small-mamba", "random"], "toy/lives", tmp_path / "run", episodes=1)
    read: list[float] = []
    original = ModelAgent._read_block

    def reading(self: Any, state: Any, block: int, rows: Any, *others: Any) -> Any:
        lane = block * self.rows + rows[0]
        read.append(state.tasks[lane].target_return - state.earned[lane])
        return original(self, state, block, rows, *others)

    shown: dict[str, list[float | None]] = {}

    def take(self: Camera, item: Any) -> Spool | None:
        spool = self._spools.pop(item)
        shown[item.agent] = [moment.asked for moment in spool.moments]
        return spool

    monkeypatch.setattr(Camera, "take", take)
    chosen = choose(scored(run), ["0"])
    (mamba,) = (one for one in chosen if one.record.agent == "small-mamba")
    # The gate plays before the episode does.
    monkeypatch.setattr(ModelAgent, "_read_block", reading)
    FilmMaker(run, tmp_path / "films").episodes(chosen)
    length = mamba.record.length or 0
    assert shown["random"] == [None] * (length + 1)
    assert shown["small-mamba"][:-1] == read[-length:]
    assert len(set(read[-length:])) > 2


REAL = {
    "dmcontrol/cartpole-swingup": ("dm_control", 250),
    "metaworld/reach-v3": ("metaworld", 50),
    "atari/road-runner": ("ale_py", 20),
    "procgen/coinrun": ("procgen", 50),
}


@pytest.mark.slow
@pytest.mark.parametrize("task", REAL)
def test_an_episode_of_a_real_simulator_is_filmed(task: str, tmp_path: Path) -> None:
    module, every = REAL[task]
    pytest.importorskip(module)
    if module in ("dm_control", "metaworld") and find_library("EGL") is None:
        pytest.skip("rendering needs a GL library (libegl1)")
    run = evaluate("random", task, tmp_path / "run", episodes=1, machine=Machine(workers=1))
    file = tmp_path / "film.mp4"
    chosen = choose(scored(run), ["0"])
    (outcome,) = FilmMaker(run, file, FilmSettings(every=every, size=240)).episodes(chosen)
    assert outcome.refused == ""
    shown = frames(file)
    assert len(shown) == -(-(chosen[0].record.length or 0) // every) + 1
    assert all(frame[-240:].std() > 10 for frame in shown)
    assert np.abs(shown[0][-240:].astype(int) - shown[-1][-240:]).mean() > 0.5
