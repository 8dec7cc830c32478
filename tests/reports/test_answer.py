"""What a report begins with: ranks that say no more than the tests, a sentence, a table, a figure, notes."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import t

from lram.harness.storage.records import Failure
from lram.reports import summarise, write_report
from lram.reports.answer import answer, ranked
from lram.reports.answer.notes import of_agents
from lram.reports.comparison.pairs import read_pairs
from lram.reports.model import ConfidenceInterval, Estimate


def run_of(synthetic, skill, *, episodes=10, tasks=("a/x", "a/y", "b/z"), noise=0.1, lost=(), seed=0):
    agents = [synthetic.agent(label) for label in skill]
    plan = synthetic.plan(agents, [synthetic.task(name) for name in tasks], episodes, seed=seed)
    draws = {
        item.id: skill[item.agent] + noise * np.random.default_rng([seed, number]).normal()
        for number, item in enumerate(plan.items())
    }

    def outcome(item):
        if (item.agent, item.task) in lost:
            return Failure("crash", "it died")
        return float(draws[item.id])

    return synthetic.run(plan, outcome)


def test_agents_are_ranked_by_score_and_ties_are_told(synthetic) -> None:
    skill = {"low": 0.1, "second": 0.6, "best": 0.9, "also second": 0.6}
    ranking = ranked(summarise(run_of(synthetic, skill)))
    assert ranking[0].agent.label == "best"
    assert [one.shown for one in ranking] == ["1", "=2", "=2", "4"]
    assert set(ranking[0].beats) == {"low", "second", "also second"}
    assert ranking[1].open == (ranking[2].agent.label,)
    assert ranking[3].beats == ()


def test_a_warning_goes_to_its_agent_also_where_one_label_begins_another(synthetic) -> None:
    labels = ("mine", "mine on toy", "mine: v2")
    agents = [synthetic.agent(label) for label in labels]
    plan = synthetic.plan(agents, [synthetic.task(name) for name in ("a/x", "b/z")], 10)
    failing = Failure("agent", "NaN")
    flags = of_agents(summarise(synthetic.run(plan, lambda item: 0.5 if item.agent == "mine" else failing)))
    assert "own errors" not in flags["mine"]
    assert "own errors" in flags["mine on toy"]
    assert "own errors" in flags["mine: v2"]


def test_an_agent_without_a_score_on_every_task_has_no_rank(synthetic) -> None:
    run = run_of(synthetic, {"a": 0.9, "b": 0.2, "c": 0.5}, lost={("a", "b/z")})
    summary = summarise(run)
    ranking = ranked(summary)
    assert [(one.agent.label, one.shown) for one in ranking] == [("c", "1"), ("b", "2"), ("a", "–")]
    found = answer(summary)
    assert found is not None
    assert found.verdict.endswith("a has no score on some of the tasks and no rank.")
    row = found.table.printed.rows[-1]
    assert row[0].flag == "10 of 30 errored"
    assert "not comparable" in row[2].flag


@pytest.mark.parametrize(
    ("skill", "words"),
    [
        ({"only": 0.5}, "only scores 0.48 ["),
        ({"a": 0.9, "b": 0.1}, ", and is shown to be better than b."),
        ({"a": 0.5, "b": 0.5}, ", but is not shown to be better than "),
        ({"a": 0.9, "b": 0.9, "c": 0.1}, "; it is shown to be better than c, but not than "),
        ({"a": 0.9, "b": 0.2, "c": 0.1}, ", and is shown to be better than each of the 2 others."),
    ],
)
def test_the_verdict_says_what_was_shown(synthetic, skill, words) -> None:
    found = answer(summarise(run_of(synthetic, skill)))
    assert found is not None
    assert words in found.verdict


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ({"zeta": 0.5, "alpha": 0.5}, "; none of them is shown to be better than another."),
        ({"zeta": 0.5, "alpha": 0.5, "c": 0.1}, "; each of them is shown to be better than c."),
    ],
)
def test_agents_of_one_score_share_the_highest(synthetic, scores, words) -> None:
    found = answer(summarise(run_of(synthetic, scores, noise=0.0)))
    assert found is not None
    begin = "alpha and zeta have the highest score, 0.50 on a scale from random play (0) to the reference (1)"
    assert found.verdict == begin + words


def test_agents_of_one_mean_and_unequal_noise_share_it_too(synthetic) -> None:
    """1, 0, 1, 0, ... and 0.5 throughout: one interval is not the other's."""
    plan = synthetic.plan([synthetic.agent("steady"), synthetic.agent("swings")], [synthetic.task("a/x")], 10)
    run = synthetic.run(plan, lambda item: 0.5 if item.agent == "steady" else float(item.episode % 2))
    found = answer(summarise(run))
    assert found is not None
    assert found.verdict.startswith("steady and swings have the highest score, 0.50 on a scale")


def test_nothing_scored_is_said(synthetic) -> None:
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("a/x")], 2)
    found = answer(summarise(synthetic.run(plan, lambda item: None)))
    assert found is not None
    assert found.verdict == "No score compares yet: no episode has been scored."
    assert [note.kind for note in found.notes] == ["empty"]


@pytest.mark.parametrize("agents", [2, 14])
def test_agents_of_different_rates_are_not_ranked_together(synthetic, agents) -> None:
    """As in ``lram compare``; a report shows them all, and ranks those of each rate."""
    waiting = {"a": 0.2, "b": 0.25, **{f"more {place}": 0.3 for place in range(agents - 2)}}
    first = run_of(synthetic, waiting, noise=0.01)
    tasks = [synthetic.task(name) for name in ("a/x", "a/y", "b/z")]
    runs = [first]
    for hz, levels in ((50.0, {"a (50 Hz)": 0.9, "b (50 Hz)": 0.5}), (2000.0, {"a (2000 Hz)": 0.01})):
        plan = replace(
            synthetic.plan([synthetic.agent(label) for label in levels], tasks, 10), realtime_hz=hz
        )
        runs.append(synthetic.run(plan, lambda item, of=levels: of[item.agent] + 0.001 * item.episode))
    summary = summarise(runs)
    assert [agent.realtime_hz for agent in summary.agents][-3:] == [50.0, 50.0, 2000.0]
    pairs = {frozenset((one.first, one.second)): one for one in summary.comparisons}
    assert bool(pairs) == (agents == 2)
    for pair, one in pairs.items():
        apart = {label.partition(" (")[2] for label in pair}
        assert (one.p is None) == (len(apart) > 1)
        assert bool(one.reason) == (len(apart) > 1)
    if pairs:
        assert pairs[frozenset(("a", "a (50 Hz)"))].reason == "they acted in worlds that waited and at 50 Hz"
    places = {one.agent.label: one for one in ranked(summary)}
    late = list(places)[agents:]
    assert late == ["a (50 Hz)", "b (50 Hz)", "a (2000 Hz)"]
    assert [places[label].shown for label in late] == ["1", "2", "1"]
    assert [places[label].beats for label in late] == [("b (50 Hz)",), (), ()]
    assert not any(places[label].open for label in late)
    waited = [one for one in places.values() if one.agent.label not in late]
    assert not any("Hz" in label for one in waited for label in (*one.beats, *one.open))
    found = answer(summary)
    assert found is not None
    named = "a (50 Hz), b (50 Hz) and a (2000 Hz) acted in worlds at 50 Hz and at 2000 Hz"
    assert f"{named}, and are ranked apart." in found.verdict
    assert "stand apart" in found.table.printed.caption


def test_agents_that_are_not_compared_are_told_apart_by_their_intervals(synthetic) -> None:
    skill = {f"agent {place}": 0.05 * place for place in range(14)}
    run = run_of(synthetic, skill, noise=0.05)
    ranking = ranked(summarise(run))
    assert ranking[0].agent.label == "agent 13"
    assert "agent 0" in ranking[0].beats
    assert "agent 12" in ranking[0].open, "their intervals overlap when widened"
    pairs = read_pairs((), ("agent 12",), list(skill))
    assert "agent 12" in ranked(summarise(run, pairs=pairs))[0].beats, "the paired test tells them apart"


@pytest.mark.parametrize("episodes", [5, 40])
def test_equal_agents_are_seldom_told_apart(synthetic, episodes) -> None:
    """Of 1,000 reports of 14 equal agents, in 5 of 100 (and chance) at most is one called better."""
    summary = summarise(run_of(synthetic, {f"agent {place}": 0.5 for place in range(14)}), resamples=1)
    rng, wrong = np.random.default_rng(0), 0
    quantile = t.ppf(0.975, episodes - 1)
    for _ in range(1_000):
        drawn = rng.normal(size=(14, episodes))
        halves = quantile * drawn.std(axis=1, ddof=1) / np.sqrt(episodes)
        agents = [
            with_score(agent, value, half)
            for agent, value, half in zip(summary.agents, drawn.mean(axis=1), halves, strict=True)
        ]
        wrong += any(one.beats for one in ranked(replace(summary, agents=tuple(agents))))
    assert wrong <= 64, "the 97.5% quantile of a binomial of 1,000 and 0.05"


def with_score(agent, value, half):
    aggregate = agent.mean_of_domain_means
    estimate = Estimate(float(value), ConfidenceInterval(float(value - half), float(value + half), "t"))
    changed = replace(aggregate, estimate=estimate)
    return replace(agent, aggregates={**agent.aggregates, "mean_of_domain_means": changed})


@pytest.mark.usefixtures("no_figures")
def test_the_page_begins_with_the_answer_and_loses_no_note(synthetic, tmp_path) -> None:
    run = run_of(synthetic, {"a": 0.9, "b": 0.2}, lost={("a", "b/z")})
    folder = tmp_path / "report"
    page = write_report([run], folder).read_text()
    order = ['class="verdict"', 'id="table-leaderboard"', 'id="figure-leaderboard"', 'id="read-first"']
    assert [page.index(mark) for mark in order] == sorted(page.index(mark) for mark in order)
    summary = json.loads((folder / "summary.json").read_text())
    notes = page[page.index('id="read-first"') :]
    assert summary["caveats"]
    assert all(caveat["text"].split("'")[0] in notes for caveat in summary["caveats"])
    rows = list(csv.DictReader(io.StringIO((folder / "tables/leaderboard.csv").read_text())))
    assert [(row["agent"], row["rank"]) for row in rows] == [("b", "1"), ("a", "")]
    assert (folder / "tables/leaderboard.tex").is_file()
    assert (folder / "figures/leaderboard.svg").is_file()
    markdown = (folder / "summary.md").read_text()
    assert markdown.index("**b scores") < markdown.index("Before you quote these numbers")


def test_a_note_that_touches_every_number_stands_open(synthetic) -> None:
    run = run_of(synthetic, {"a": 0.9, "b": 0.2})
    found = answer(summarise(run, normaliser="paper"))
    assert found is not None
    assert found.notes == []
    summary = summarise(run)
    told = replace(summary.caveats[0], kind="disagreement") if summary.caveats else None
    assert told is not None
    found = answer(replace(summary, caveats=(told,)))
    assert found is not None
    assert found.notes == [told]
