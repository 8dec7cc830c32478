"""Aggregate metrics: what ships is what rliable defines, and another package's enters by an entry point."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from lram.harness.errors import LramError
from lram.reports import aggregates as registry
from lram.reports import summarise, summary_json, write_report
from lram.reports.aggregates import AGGREGATES, PAIR_AGGREGATES, aggregate_metrics, pair_metrics
from lram.reports.samples import Resampling, no_noise_note
from lram.reports.sections.scores.comparisons import comparisons
from lram.reports.statistics import (
    TaskScores,
    iqm_of_task_means,
    mean_of_domain_means,
    median_of_task_means,
    optimality_gap,
    probability_of_improvement,
    redrawn,
    win_contributions,
)

TASKS = 7


def some_scores(seed: int, episodes: int = 5) -> tuple[np.ndarray, TaskScores]:
    """Scores as rliable has them, (runs, tasks), and as reports do."""
    scores = np.random.default_rng(seed).normal(0.8, 0.5, size=(episodes, TASKS)).round(1)
    return scores, TaskScores(tuple(scores.T), ("a",) * 3 + ("b",) * (TASKS - 3))


def test_the_median_is_rliables() -> None:
    plain, scores = some_scores(0)
    assert median_of_task_means(scores) == pytest.approx(np.median(np.mean(plain, axis=0)))


def test_the_optimality_gap_is_rliables() -> None:
    plain, scores = some_scores(1)
    assert optimality_gap(scores) == pytest.approx(1.0 - np.mean(np.minimum(plain, 1.0)))
    ragged = TaskScores((np.array([0.0, 0.5, 2.0]), np.array([0.25])), ("a", "a"))
    assert optimality_gap(ragged) == pytest.approx((0.5 + 0.75) / 2), "each task alike, whatever its episodes"


def test_the_probability_of_improvement_is_rliables() -> None:
    (x, first), (y, second) = some_scores(2), some_scores(3)
    by_task = []
    for task in range(TASKS):
        u, _ = mannwhitneyu(x[:, task], y[:, task], alternative="greater")
        by_task.append(u / (len(x) * len(y)))
    assert probability_of_improvement(first, second) == pytest.approx(np.mean(by_task))
    assert probability_of_improvement(first, first) == pytest.approx(0.5)
    assert probability_of_improvement(first, second) + probability_of_improvement(
        second, first
    ) == pytest.approx(1.0)


def test_rliable_itself_agrees() -> None:
    metrics = pytest.importorskip("rliable.metrics")
    (x, first), (y, second) = some_scores(4), some_scores(5)
    assert median_of_task_means(first) == pytest.approx(metrics.aggregate_median(x))
    assert optimality_gap(first) == pytest.approx(metrics.aggregate_optimality_gap(x))
    assert probability_of_improvement(first, second) == pytest.approx(
        metrics.probability_of_improvement(x, y)
    )


def test_contributions_have_the_probability_as_their_mean() -> None:
    (_, first), (_, second) = some_scores(6), some_scores(7)
    parts = [win_contributions(*both).mean() for both in zip(first.tasks, second.tasks, strict=True)]
    assert np.mean(parts) == pytest.approx(float(probability_of_improvement(first, second)))


@pytest.mark.parametrize("metric", [*AGGREGATES, *PAIR_AGGREGATES], ids=lambda metric: metric.key)
def test_every_metric_keeps_leading_axes(metric: Any) -> None:
    generator = np.random.default_rng(8)
    tasks = tuple(generator.normal(size=(4, episodes)) for episodes in (3, 5, 1))
    scores = TaskScores(tasks, ("a", "b", "b"))
    agents = (
        (scores,)
        if metric in AGGREGATES
        else (scores, TaskScores(tuple(t + 0.1 for t in tasks), scores.domains))
    )
    together = metric.function(*agents)
    assert together.shape == (4,)
    for place in range(4):
        alone = tuple(TaskScores(tuple(t[place] for t in one.tasks), one.domains) for one in agents)
        assert metric.function(*alone) == pytest.approx(together[place])


def test_replicates_of_a_mean_have_its_unbiased_variance() -> None:
    values = np.random.default_rng(9).normal(size=6)
    drawn = values[redrawn(len(values), 200_000, np.random.default_rng(10))].mean(axis=1)
    assert drawn.var() == pytest.approx(values.var(ddof=1) / len(values), rel=0.02)


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures_but_svg")
def test_every_form_of_a_report_has_every_metric(synthetic: Any, tmp_path: Path) -> None:
    run = synthetic.study(agents=3)
    folder = write_report([run], tmp_path / "report").parent
    told = json.loads((folder / "summary.json").read_text())
    page, markdown = (folder / "index.html").read_text(), (folder / "summary.md").read_text()
    rows = list(csv.DictReader(io.StringIO((folder / "tables/aggregates.csv").read_text())))
    latex = (folder / "tables/headline.tex").read_text()
    for metric in AGGREGATES:
        for agent in told["agents"]:
            estimate = agent["aggregates"][metric.key]["estimate"]
            (row,) = [row for row in rows if (row["agent"], row["aggregate"]) == (agent["label"], metric.key)]
            assert float(row["value"]) == estimate["value"]
        for text in (page, markdown, latex):
            assert metric.title in text
        for text in (page, markdown):
            assert metric.method[:40].replace("'", "&#39;" if text is page else "'") in text
        assert f">{metric.title}<" in (folder / "figures/aggregates.svg").read_text() or metric.title in page
    pairs = list(csv.DictReader(io.StringIO((folder / "tables/pair_aggregates.csv").read_text())))
    assert len(pairs) == 3 * len(PAIR_AGGREGATES)
    for pair, row in zip(told["comparisons"], pairs, strict=True):
        estimate = pair["aggregates"]["probability_of_improvement"]
        assert float(row["value"]) == estimate["value"]
        assert estimate["interval"]["low"] <= estimate["value"] <= estimate["interval"]["high"]
    assert "Probability of improvement" in page


def test_readers_of_earlier_summaries_find_what_they_know(synthetic: Any) -> None:
    (agent,) = json.loads(summary_json(summarise([synthetic.study(agents=1)])))["agents"]
    assert agent["mean_of_domains"]["estimate"] == agent["aggregates"]["mean_of_domain_means"]["estimate"]
    assert agent["iqm_of_task_means"]["estimate"] == agent["aggregates"]["iqm_of_task_means"]["estimate"]
    assert agent["mean_of_domains"]["rests_on"]["left_out"] == []


def test_the_optimality_gap_has_an_interval_that_never_falls_below_zero(synthetic: Any) -> None:
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1"), synthetic.task("x/2")], 6)
    summary = summarise([synthetic.run(plan, lambda item: 0.98 if item.episode % 2 else 1.5)])
    gap = summary.agents[0].aggregates["optimality_gap"].estimate
    assert gap.value == pytest.approx(0.01)
    assert gap.interval.method == "t"
    assert 0 <= gap.interval.low < gap.value < gap.interval.high
    over = summarise([synthetic.run(plan, lambda item: 1.5 + item.episode)]).agents[0]
    assert over.aggregates["optimality_gap"].estimate.value == 0.0
    assert over.aggregates["optimality_gap"].estimate.interval is None


Announce = Callable[..., None]


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Announce]:
    """Announces a metric of another package: ``mine_metric:METRIC``, made of the text of its module."""
    folder = tmp_path / "package"
    folder.mkdir()
    monkeypatch.syspath_prepend(folder)

    def made(text: str, name: str = "METRIC") -> None:
        head = "import numpy as np\nfrom lram.reports.aggregates import AggregateMetric, PairMetric\n"
        (folder / "mine_metric.py").write_text(head + text)
        info = folder / "mine-1.0.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[lram.aggregates]\nmine = mine_metric:{name}\n")
        sys.modules.pop("mine_metric", None)
        registry._loaded.cache_clear()

    yield made
    sys.modules.pop("mine_metric", None)
    registry._loaded.cache_clear()


WORST = """
METRIC = AggregateMetric(
    "worst_task", "Worst task", lambda scores: scores.means.min(axis=-1), "The least of all tasks' means."
)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_metric_of_another_package_enters_by_its_entry_point(
    synthetic: Any, tmp_path: Path, announce: Announce
) -> None:
    assert "worst_task" not in [metric.key for metric in aggregate_metrics()]
    announce(WORST)  # as an installation while this process, a notebook's, say, goes on
    assert [metric.key for metric in aggregate_metrics()][-1] == "worst_task"
    run = synthetic.study(agents=2)
    folder = write_report([run], tmp_path / "report").parent
    for agent in json.loads((folder / "summary.json").read_text())["agents"]:
        worst = agent["aggregates"]["worst_task"]["estimate"]
        means = [r.score.value for r in summarise([run]).results if r.agent == agent["label"] and r.score]
        assert worst["value"] == pytest.approx(min(means))
        assert worst["interval"]["method"] == "bootstrap"
        assert worst["interval"]["low"] <= worst["value"] <= worst["interval"]["high"]
        assert worst["interval"]["doubts"] == ["few episodes", "not simulated"]
        assert "§ Not simulated" in (folder / "index.html").read_text()
    assert ",worst_task," in (folder / "tables/aggregates.csv").read_text()
    for name in ("index.html", "summary.md", "tables/headline.tex"):
        assert "Worst task" in (folder / name).read_text()
    assert "The least of all tasks&#39; means." in (folder / "index.html").read_text()
    again = write_report([run], tmp_path / "again").parent
    assert (again / "summary.json").read_bytes() == (folder / "summary.json").read_bytes()


def test_so_does_a_metric_of_pairs(synthetic: Any, announce: Announce) -> None:
    announce(
        "METRIC = PairMetric('gap', 'Gap', lambda a, b: (a.means - b.means).mean(axis=-1), 'A difference.')\n"
    )
    assert [metric.key for metric in pair_metrics()][-1] == "gap"
    (pair,) = summarise([synthetic.study(agents=2)]).comparisons
    found = pair.aggregates["gap"]
    assert found.interval.low < found.value < found.interval.high


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("METRIC = 3\n", "is no AggregateMetric or PairMetric of lram.reports.aggregates, but a int"),
        ("OTHER = 3\n", "cannot be loaded: AttributeError"),
        ("import does_not_exist\n", "cannot be loaded: ModuleNotFoundError"),
        ("METRIC = AggregateMetric('Worst Task', 'W', lambda s: s.means.min(axis=-1), 'x')\n", "has the key"),
        (
            "METRIC = AggregateMetric('median', 'M', lambda s: s.means.min(axis=-1), 'x')\n",
            "has the key 'median', which another one has",
        ),
        ("METRIC = AggregateMetric('w', '', lambda s: s.means.min(axis=-1), 'x')\n", "has no heading"),
        ("METRIC = AggregateMetric('w', 'W', lambda s: s.means.min(axis=-1), ' ')\n", "has no method"),
        (
            "METRIC = AggregateMetric('w', 'W', lambda s: s.means.min(), 'x')\n",
            "gives one number for an array of 2 of scores; a metric keeps leading axes",
        ),
        ("METRIC = AggregateMetric('w', 'W', lambda s: s.nothing, 'x')\n", "fails on scores of two tasks"),
    ],
)
def test_a_bad_metric_is_refused_in_one_sentence(
    synthetic: Any, announce: Announce, text: str, told: str
) -> None:
    announce(text)
    with pytest.raises(LramError, match=r"^the aggregate mine \(mine_metric:METRIC") as caught:
        summarise([synthetic.study(agents=1)])
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_metric_that_gives_no_finite_number_is_refused(synthetic: Any, announce: Announce) -> None:
    announce("METRIC = AggregateMetric('w', 'W', lambda s: s.means.min(axis=-1) * np.nan, 'x')\n")
    with pytest.raises(LramError, match="the aggregate w gives no finite number for these scores"):
        summarise([synthetic.study(agents=1)])


def test_the_headline_is_the_first_and_means_are_what_they_were() -> None:
    plain, scores = some_scores(11)
    means = plain.mean(axis=0)
    assert registry.HEADLINE == "mean_of_domain_means"
    assert mean_of_domain_means(scores) == pytest.approx((means[:3].mean() + means[3:].mean()) / 2)
    assert iqm_of_task_means(scores) == pytest.approx(np.sort(means)[1:-1].mean())


def test_a_pair_without_noise_has_no_interval() -> None:
    (metric,) = PAIR_AGGREGATES
    first, second = TaskScores((np.ones(4),), ("a",)), TaskScores((np.zeros(4),), ("a",))
    found = metric.estimate(first, second, ("a", "b"), Resampling(0, 100, 0.95))
    said = "the pairs of episodes of the task count alike"
    assert (found.value, found.interval, found.note) == (1.0, None, said)


def test_why_an_aggregate_has_no_interval_is_true_of_its_episodes(synthetic: Any) -> None:
    """Scores that differ, all of one agent above all of the other and above 1: they count alike."""
    agents = [synthetic.agent("above"), synthetic.agent("below"), synthetic.agent("constant")]
    plan = synthetic.plan(agents, [synthetic.task("toy/a"), synthetic.task("toy/b")], 5)
    level = {"above": 2.0, "below": 0.1, "constant": 0.5}
    run = synthetic.run(
        plan, lambda item: level[item.agent] + 0.01 * item.episode * (item.agent != "constant")
    )
    summary = summarise(run)
    notes = {
        agent.label: {key: one.estimate.note for key, one in agent.aggregates.items() if one.estimate}
        for agent in summary.agents
    }
    assert notes["above"]["optimality_gap"] == "the episodes of every task count alike"
    assert notes["above"]["mean_of_domain_means"] == ""
    assert notes["constant"]["mean_of_domain_means"] == "the episodes of every task are all equal"
    pair = next(one for one in summary.comparisons if {one.first, one.second} == {"above", "below"})
    apart = pair.aggregates["probability_of_improvement"]
    assert (apart.interval, apart.note) == (None, "the pairs of episodes of every task count alike")
    [row] = [
        row for row in comparisons(summary).printed.rows if {row[0].text, row[1].text} == {"above", "below"}
    ]
    assert "the pairs of episodes of every task count alike" in [cell.flag for cell in row]


@pytest.mark.parametrize(
    ("numbers", "said"),
    [
        ((1, 1), "one episode a task"),
        ((5, 5), "the episodes of every task are all equal"),
        ((5, 1), "every task has one episode, or its episodes are all equal"),
    ],
)
def test_the_reason_goes_by_the_numbers_of_episodes(numbers: tuple[int, ...], said: str) -> None:
    assert no_noise_note(numbers) == said
