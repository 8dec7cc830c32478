"""Learning curves: what watches show, and that the best checkpoint's score is corrected right."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.harness.errors import LramError
from lram.harness.storage.json_files import write_json
from lram.harness.storage.records import Failure, Skipped, WorkItem
from lram.harness.storage.seeds import confirmation_seed
from lram.harness.watching.folder import CONFIRMATION, MARKER, RUNS, WatchFolder, label_of
from lram.harness.watching.records import SCHEMA, WatchPlan
from lram.reports import write_report
from lram.reports.drawing import PAPER
from lram.reports.sections.learning.halves import Picked, pick
from lram.reports.sections.learning.model import read_curves
from lram.reports.sections.learning.section import section
from lram.reports.sections.registry import load_folders, make_sections
from lram.reports.statistics import Moments, equal_domain_weights, mean_interval

TASKS = ("metaworld/a", "metaworld/b", "dmcontrol/c")
SKILL = {100: 0.2, 200: 0.5, 300: 0.6, 400: 0.55}
WEIGHTS = equal_domain_weights([task.partition("/")[0] for task in TASKS])


def returns(skill: dict[str, float], missing: str = "") -> Callable[[WorkItem], float | None]:
    def outcome(item: WorkItem) -> float | None:
        luck = np.random.default_rng([ord(item.task[-1]), item.episode]).normal()
        own = np.random.default_rng([ord(item.task[-1]), item.episode, int(item.agent[7:])]).normal()
        if item.agent == missing and item.episode == 3:
            return None
        return skill[item.agent] + 0.2 * luck + 0.1 * own

    return outcome


def write(
    synthetic: Any,
    name: str,
    *,
    training: str = "first",
    skill: dict[int, float] = SKILL,
    tasks: tuple[str, ...] = TASKS,
    seed: int = 0,
    confirmed: int | None = None,
    unconfirmed: bool = False,
    missing: int = 0,
    updates: int = 400,
    episodes: int = 8,
) -> Path:
    """Write a watch as 'lram watch' does, with returns that are known."""
    path: Path = synthetic.folder / name
    path.mkdir()
    plan = WatchPlan(SCHEMA, f"/trainings/{training}", "0" * 64, updates, tasks, episodes, seed)
    write_json(path / MARKER, plan)
    by_label = {label_of(update): value for update, value in skill.items()}
    planned = [synthetic.task(task) for task in tasks]

    def play(part: str, update: int, number: int, run_seed: int, missing: int = missing) -> None:
        label = label_of(update)
        (path / part).mkdir(exist_ok=True)
        made = synthetic.plan([synthetic.agent(label)], planned, number, run_seed)
        synthetic.run(made, returns(by_label, label_of(missing)), name=f"{name}/{part}/{label}")

    for update in skill:
        play(RUNS, update, episodes, seed)
    if confirmed is not None:
        play(CONFIRMATION, confirmed, 12, confirmation_seed(seed), confirmed if unconfirmed else 0)
    return path


def rows(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_a_curve_has_every_checkpoint_with_its_interval_by_domain(synthetic: Any) -> None:
    made = section([write(synthetic, "watch", confirmed=300)])
    points = rows(made.csv["learning_points.csv"])
    assert [(row["update"], row["domain"]) for row in points] == [
        (str(update), domain) for update in SKILL for domain in ("all", "metaworld", "dmcontrol")
    ]
    for row in points:
        assert float(row["score_low"]) < float(row["score"]) < float(row["score_high"])
        assert float(row["score"]) == pytest.approx(SKILL[int(row["update"])], abs=0.2)
    whole = next(row for row in points if (row["update"], row["domain"]) == ("200", "all"))
    by_domain = [float(row["score"]) for row in points if row["update"] == "200" and row["domain"] != "all"]
    assert float(whole["score"]) == pytest.approx(np.mean(by_domain))
    (best,) = rows(made.csv["learning_best.csv"])
    assert (best["training"], best["update"], best["checkpoints"]) == ("first", "300", "4")
    assert float(best["corrected"]) < float(best["score"])
    assert float(best["confirmed_low"]) < float(best["confirmed"]) < float(best["confirmed_high"])
    assert best["confirmed_episodes"] == best["confirmed_scored"] == best["confirmed_planned"] == "36"
    assert not made.caveats
    (drawing,) = made.drawings
    titles = [axes.get_title(loc="left") for axes in drawing.figure.axes if axes.get_visible()]
    assert titles == ["mean of domain means", "metaworld", "dmcontrol"]
    assert "Star: the best" in drawing.caption
    assert "hollow" not in drawing.caption
    assert hollow(drawing) == []


def hollow(drawing: Any) -> list[tuple[str, str, float]]:
    """Title of the panel, marker, and value of every point that is drawn hollow, from left to right."""
    return [
        (axes.get_title(loc="left"), str(line.get_marker()), float(value))
        for axes in drawing.figure.axes
        for line in axes.get_lines()
        if line.get_marker() not in ("None", "") and line.get_markerfacecolor() == PAPER
        for value in line.get_ydata()
    ]


def test_a_confirmation_that_lacks_episodes_is_not_one_to_publish(synthetic: Any) -> None:
    made = section([write(synthetic, "watch", confirmed=300, unconfirmed=True)])
    assert made.lead[1].endswith("(33 of 36 episodes: not confirmed yet).")
    (caveat,) = made.caveats
    assert (caveat.kind, caveat.items) == ("learning-unconfirmed", ("first update 300: 33 of 36 episodes",))
    (best,) = rows(made.csv["learning_best.csv"])
    assert (best["confirmed_scored"], best["confirmed_planned"]) == ("33", "36")
    found = made.summary[0]["best"]["confirmed"]
    assert (found["scored"], found["planned"]) == (33, 36)
    ((_, marker, value),) = hollow(made.drawings[0])
    assert (marker, value) == ("*", found["estimate"]["value"])


def test_a_point_that_lacks_episodes_of_a_domain_is_hollow_there_and_over_all(
    synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = returns

    def lacking(skill: dict[str, float], missing: str = "") -> Callable[[WorkItem], float | None]:
        outcome = usual(skill)
        return lambda item: None if (item.agent, item.task) == (missing, "dmcontrol/c") else outcome(item)

    monkeypatch.setitem(globals(), "returns", lacking)
    made = section([write(synthetic, "watch", missing=200)])
    points = {(row["update"], row["domain"]): row["score"] for row in rows(made.csv["learning_points.csv"])}
    ((title, _, value),) = hollow(made.drawings[0])  # without any of its episodes a domain has no point
    assert (title, value) == ("mean of domain means", float(points["200", "all"]))
    assert "A hollow point lacks planned episodes or tasks" in made.drawings[0].caption


def test_several_trainings_are_lines_of_one_figure_and_names_tell_them_apart(synthetic: Any) -> None:
    watches = [write(synthetic, "one"), write(synthetic, "two"), write(synthetic, "three", training="other")]
    made = section(watches)
    names = ["first (one)", "first (two)", "other"]
    assert [row["training"] for row in rows(made.csv["learning_best.csv"])] == names
    (drawing,) = made.drawings
    assert [text.get_text() for text in drawing.figure.legends[0].get_texts()] == names
    assert not made.caveats


def test_what_does_not_compare_or_is_not_there_is_said(synthetic: Any) -> None:
    watches = [
        write(synthetic, "short", training="short", missing=300, updates=1000),
        write(synthetic, "seed", training="seed", seed=1),
        write(synthetic, "none", training="none", skill={}),
    ]
    told = {caveat.kind: caveat for caveat in section(watches).caveats}
    assert told["learning-unfinished"].items == ("short update 300: 21 of 24 episodes",)
    assert told["learning-early"].items == ("short: 400 of 1000 updates",)
    assert told["learning-empty"].items == ("none",)
    assert told["learning-other-tasks"].items[1] == "seed: 3 tasks, seed 1"
    best = read_curves(watches)[0].best
    assert best is not None
    assert (best.update, best.among) == (400, 3)  # not of one that lacks episodes
    assert section(watches[2:]).tables == ()


def test_a_task_without_a_score_and_one_that_is_not_played_keep_nothing_from_being_chosen(
    synthetic: Any,
) -> None:
    path: Path = synthetic.folder / "watch"
    path.mkdir()
    tasks = [
        synthetic.task("metaworld/a"),
        synthetic.task("atari/b", reference=None),
        synthetic.task("atari/c"),
    ]
    ids = tuple(task.id for task in tasks)
    write_json(path / MARKER, WatchPlan(SCHEMA, "/t", "0" * 64, 200, ids, 6, 0))
    (path / RUNS).mkdir()
    for update in (100, 200):
        label = label_of(update)
        skipped = [Skipped(label, "atari/c", "it cannot")]
        plan = synthetic.plan([synthetic.agent(label)], tasks, 6, skipped=skipped)
        synthetic.run(plan, returns({label: update / 400}), name=f"watch/{RUNS}/{label}")
    (curve,) = read_curves([path])
    assert curve.best is not None
    assert (curve.best.update, curve.best.tasks, curve.best.episodes) == (200, 1, 6)
    assert not section([path]).caveats


def test_a_checkpoint_that_fails_a_task_is_not_chosen_by_the_others(
    synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Atari no least return is known that an episode with NaN could count with."""
    usual = returns

    def failing(skill: dict[str, float], missing: str = "") -> Callable[[WorkItem], Any]:
        outcome = usual(skill, missing)

        def made(item: WorkItem) -> Any:
            if item.agent in nan and item.task == "atari/c":
                return Failure("agent", "the action is NaN") if item.episode < 6 else -5.0
            return outcome(item)

        return made

    monkeypatch.setitem(globals(), "returns", failing)
    tasks, skill = ("metaworld/a", "atari/c"), {100: 0.2, 200: 0.5, 300: 0.6, 400: 0.9}
    nan = {label_of(400)}
    watch = write(synthetic, "last", tasks=tasks, skill=skill)
    best = read_curves([watch])[0].best
    assert best is not None
    assert (best.update, best.among, best.tasks, best.episodes) == (300, 3, 2, 16)
    (caveat,) = section([watch]).caveats
    assert caveat.kind == "learning-failed"
    (item,) = caveat.items
    assert item.startswith("first update 400: no score on atari/c: 6 of 8 episodes failed by the agent's own")
    # Where all of them fail, the task tells no two of them apart, and the choice is by the others.
    nan = {label_of(update) for update in skill}
    best = read_curves([write(synthetic, "all", tasks=tasks, skill=skill)])[0].best
    assert best is not None
    assert (best.update, best.among, best.tasks) == (400, 4, 1)


@pytest.mark.usefixtures("no_figures")
def test_the_section_is_part_of_a_report_that_gives_the_same_bytes(synthetic: Any, tmp_path: Path) -> None:
    watch = write(synthetic, "watch")
    runs, others = load_folders([watch])
    assert (runs, others) == ([], {"learning": [watch]})
    page = write_report(runs, tmp_path / "report", others=others)
    assert "Learning curves" in page.read_text()
    kept = json.loads((page.parent / "summary.json").read_text())["chapters"]["learning"]
    assert [point["update"] for point in kept[0]["points"]] == list(SKILL)
    assert kept[0]["best"]["update"] == 300
    assert make_sections((), others)[0].csv == make_sections((), others)[0].csv


def test_a_run_that_is_not_of_the_watch_is_refused(synthetic: Any) -> None:
    watch = write(synthetic, "watch")
    plan = WatchFolder(watch).plan
    write_json(watch / MARKER, replace(plan, episodes=5))
    with pytest.raises(LramError, match="update-000100 is not of this watch"):
        section([watch])
    write_json(watch / MARKER, replace(plan, tasks=("../../x y",)))
    with pytest.raises(LramError, match="is no id of a task"):
        section([watch])


# --- the best of several ----------------------------------------------------------------------------------


def drawn(rng: np.random.Generator, truth: np.ndarray, episodes: int) -> list[np.ndarray]:
    """Return scores (checkpoints, episodes) of each task: luck of the start, which all share, and own."""
    return [
        truth[:, None] + 0.3 * rng.normal(size=episodes) + 0.3 * rng.normal(size=(len(truth), episodes))
        for _ in TASKS
    ]


def simulated(truth: np.ndarray, episodes: int, times: int) -> tuple[list[Picked], np.random.Generator]:
    rng = np.random.default_rng(7)
    found = [pick(drawn(rng, truth, episodes), WEIGHTS, rng, splits=20) for _ in range(times)]
    return found, rng


def test_of_equal_checkpoints_the_best_seems_better_and_the_corrected_score_does_not() -> None:
    truth, times = np.full(12, 0.5), 1500
    found, _ = simulated(truth, 8, times)
    naive = np.array([one.score for one in found])
    corrected = np.array([one.corrected for one in found])
    error = corrected.std(ddof=1) / times**0.5
    assert naive.mean() > 0.5 + 0.05  # by how much the choice flatters
    assert abs(corrected.mean() - 0.5) < 3.5 * error
    assert np.mean([one.agreement for one in found]) < 0.5


@pytest.mark.parametrize("episodes", [6, 9])
def test_of_unequal_checkpoints_the_corrected_score_is_no_higher_than_what_was_chosen_is_worth(
    episodes: int,
) -> None:
    """And no lower than what half of the episodes choose is worth, which is what it estimates."""
    truth, times = np.linspace(0.3, 0.6, 10), 1500
    found, rng = simulated(truth, episodes, times)
    naive = np.mean([one.score for one in found])
    corrected = np.array([one.corrected for one in found])
    error = corrected.std(ddof=1) / times**0.5
    chosen = truth[[one.place for one in found]].mean()
    sizes = [size for size in (episodes // 2, (episodes + 1) // 2) for _ in range(times)]
    halves = np.mean([truth[pick(drawn(rng, truth, size), WEIGHTS, rng, 1).place] for size in sizes])
    assert naive > chosen + 4 * error
    assert corrected.mean() < chosen + 2 * error
    assert corrected.mean() == pytest.approx(halves, abs=3.5 * error)


def test_other_starts_hold_the_truth_of_the_chosen_checkpoint_as_often_as_promised() -> None:
    """Intervals at 95%: on fresh episodes they hold it; on those that chose they do so far too seldom."""
    truth, times, held, flattered = np.full(20, 0.5), 400, 0, 0
    rng = np.random.default_rng(3)
    for _ in range(times):
        chose, fresh = drawn(rng, truth, 10), drawn(rng, truth, 10)
        place = pick(chose, WEIGHTS, rng, 1).place
        for values, counts in ((fresh, True), (chose, False)):
            found = mean_interval(WEIGHTS, Moments.of([one[place] for one in values]), 0.95)
            inside = bool(found.low <= truth[place] <= found.high)
            held += counts and inside
            flattered += not counts and inside
    assert held / times > 0.95 - 3 * (0.05 * 0.95 / times) ** 0.5
    assert flattered / times < 0.85


def test_one_episode_cannot_be_split_and_of_equals_the_earliest_is_best() -> None:
    rng = np.random.default_rng(0)
    single = pick([np.array([[0.1], [0.4]]), np.array([[0.2], [0.2]])], np.array([0.5, 0.5]), rng)
    assert single == Picked(1, pytest.approx(0.3), None, None)
    equal = pick([np.array([[0.1 + 0.2, 0.3], [0.3, 0.3], [0.1, 0.1]])], np.ones(1), rng)
    assert (equal.place, equal.corrected, equal.agreement) == (0, pytest.approx(0.3), 1.0)
