"""One word on two checkpoints: when it is given, when it is refused, and what scripts see of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.envs.task import Task
from lram.harness.cli.compare import compare
from lram.harness.cli.exits import VERDICTS
from lram.harness.errors import LramError
from lram.harness.storage.records import DomainSource, WorkItem
from lram.harness.storage.run_folder import Run
from lram.reports.summary.summarise import summarise
from lram.reports.verdict.judging import judge
from lram.reports.verdict.sentences import lines
from lram.reports.verdict.sides import find_side

TASKS = ("metaworld/a", "metaworld/b", "dmcontrol/c")


def returns(shift: dict[str, float], noise: float = 0.1) -> Callable[[WorkItem], float]:
    """Return what gives each agent's episodes its shift, and all agents the same luck, nearly."""

    def outcome(item: WorkItem) -> float:
        luck = np.random.default_rng([len(item.task), ord(item.task[-1]), item.episode]).normal()
        own = np.random.default_rng([ord(item.agent[0]), ord(item.task[-1]), item.episode]).normal()
        return 0.5 + shift[item.agent] + 0.3 * luck + noise * own

    return outcome


def run_of(synthetic: Any, shift: dict[str, float], episodes: int = 10, seed: int = 0, **more) -> Run:
    noise = more.pop("noise", 0.1)
    tasks: list[Task] = more.pop("tasks", None) or [synthetic.task(name) for name in TASKS]
    agents = [synthetic.agent(label) for label in shift]
    return synthetic.run(synthetic.plan(agents, tasks, episodes, seed, **more), returns(shift, noise))


def test_a_true_difference_is_shown_in_both_directions(synthetic: Any) -> None:
    run = run_of(synthetic, {"good": 0.3, "bad": 0.0})
    good, bad = find_side("good", [run]), find_side("bad", [run])
    better, worse = judge(good, bad), judge(bad, good)
    assert (better.word, worse.word) == ("better", "worse")
    assert better.difference is not None
    assert better.difference.value == pytest.approx(0.3, abs=0.08)
    assert better.difference.interval is not None
    assert better.difference.interval.low < 0.3 < better.difference.interval.high
    assert (better.tasks, better.episodes) == (3, 30)
    assert "scores 0.3" in lines(better)[0]


def test_equal_agents_show_no_difference_and_it_is_said_what_would_show_one(synthetic: Any) -> None:
    run = run_of(synthetic, {"one": 0.0, "two": 0.0}, noise=0.3)
    verdict = judge(find_side("one", [run]), find_side("two", [run]))
    assert verdict.word == "no difference shown"
    assert verdict.detectable is not None
    assert verdict.episodes_needed is not None
    assert verdict.difference is not None
    # Twice the effect needs a quarter of the episodes; the one that is just detectable needs those there are.
    ratio = verdict.detectable / abs(verdict.difference.value)
    assert verdict.episodes_needed == pytest.approx(10 * ratio**2, rel=0.2, abs=1)
    assert "episodes a task would show it" in "\n".join(lines(verdict))


def test_sides_are_found_by_label_by_folder_and_by_both(synthetic: Any) -> None:
    run = run_of(synthetic, {"a:b": 0.0, "c": 0.0})
    single = run_of(synthetic, {"c": 0.0})
    assert find_side("a:b", [run]).label == "a:b"
    assert find_side(f"{run.path}:a:b", []).label == "a:b"
    assert find_side(str(single.path), []).label == "c"
    with pytest.raises(LramError, match="has 2 agents"):
        find_side(str(run.path), [])
    with pytest.raises(LramError, match="has no agent 'x'"):
        find_side(f"{run.path}:x", [])
    with pytest.raises(LramError, match="the runs have a:b, c"):
        find_side("x", [run])
    with pytest.raises(LramError, match="--runs"):
        find_side("x", [])


def test_a_label_that_is_also_another_runs_folder_is_refused(
    synthetic: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run_of(synthetic, {"a": 0.0})
    other = run_of(synthetic, {"a": 1.0})
    other.path.rename(other.path.with_name("a"))
    monkeypatch.chdir(first.path.parent)
    with pytest.raises(LramError, match=r"'a' is an agent of .* and also the folder of a run; write "):
        find_side("a", [first])
    assert find_side("./a", [first]).runs[0].path.name == "a"
    assert find_side(f"{first.path}:a", []).runs[0].path == first.path


def test_equal_labels_of_two_runs_are_two_agents(synthetic: Any) -> None:
    tasks = [synthetic.task(name) for name in TASKS]
    first, second = (
        synthetic.run(
            synthetic.plan([synthetic.agent("checkpoint", digest=digest)], tasks, 10),
            returns({"checkpoint": shift}),
        )
        for digest, shift in (("11", 0.3), ("22", 0.0))
    )
    verdict = judge(find_side(str(first.path), []), find_side(str(second.path), []))
    assert verdict.word == "better"
    assert verdict.difference is not None
    assert verdict.difference.value == pytest.approx(0.3)


def test_what_cannot_be_compared_is_said_with_its_reason(synthetic: Any) -> None:
    base = run_of(synthetic, {"one": 0.0})
    other_references = [synthetic.task(name, reference=2.0) for name in TASKS]
    others = {
        "other seeds": run_of(synthetic, {"two": 0.0}, seed=1),
        "was run under": run_of(synthetic, {"two": 0.0}, protocol="other@1"),
        "no task in common": run_of(synthetic, {"two": 0.0}, tasks=[synthetic.task("metaworld/z")]),
        "other score references": run_of(synthetic, {"two": 0.0}, tasks=other_references),
    }
    for reason, other in others.items():
        verdict = judge(find_side(str(base.path), []), find_side(str(other.path), []))
        assert verdict.word == "not comparable"
        assert reason in verdict.reason
        assert verdict.difference is None
        assert lines(verdict)[0].startswith("not comparable: ")


def test_runs_of_two_contents_of_a_domains_file_are_not_compared(synthetic: Any) -> None:
    def side(label: str, digest: str) -> Any:
        plan = synthetic.plan([synthetic.agent(label)], [synthetic.task(name) for name in TASKS], 10)
        source = DomainSource("/x.py", digest)
        run = synthetic.run(replace(plan, domain_files={"dmcontrol": source}), returns({label: 0.0}))
        return find_side(str(run.path), [])

    verdict = judge(side("one", "aa"), side("two", "bb"))
    assert verdict.word == "not comparable"
    assert "the source of domain dmcontrol is not the same in the two runs" in verdict.reason
    assert judge(side("one", "aa"), side("two", "aa")).word != "not comparable"


def test_what_is_missing_is_noted(synthetic: Any) -> None:
    whole = run_of(synthetic, {"one": 0.0})
    plan = synthetic.plan([synthetic.agent("two", trained=False)], [synthetic.task(n) for n in TASKS], 10)
    part = synthetic.run(plan, lambda item: None if item.task == "dmcontrol/c" else 0.1 * item.episode)
    notes = judge(find_side(str(whole.path), []), find_side(str(part.path), [])).notes
    assert any("2 of 3 tasks" in note for note in notes)
    assert any("10 of 60 planned episodes have no record" in note for note in notes)
    assert any("random weights" in note and "(two)" in note for note in notes)


@pytest.mark.slow
def test_the_command_tells_scripts_by_its_exit_code(
    synthetic: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(synthetic, {"good": 0.3, "bad": 0.0})
    folder = Path(run.path)
    assert compare("good", "bad", runs=[folder]) == VERDICTS["better"] == 0
    assert compare("bad", "good", runs=[folder]) == VERDICTS["worse"]
    capsys.readouterr()
    assert compare("bad", "good", runs=[folder], json=True) == VERDICTS["worse"]
    assert json.loads(capsys.readouterr().out)["word"] == "worse"
    other = run_of(synthetic, {"x": 0.0}, seed=5)
    assert compare(str(other.path), "good", runs=[folder]) == VERDICTS["not comparable"]
    assert len(set(VERDICTS.values())) == 4
    assert not set(VERDICTS.values()) & {1, 2, 130}
    with pytest.raises(LramError, match="--level"):
        compare("good", "bad", runs=[folder], level=95)


def test_below_the_fewest_pairs_nothing_can_be_shown_and_no_power_is_claimed(synthetic: Any) -> None:
    tasks = [synthetic.task("metaworld/a")]
    run = run_of(synthetic, {"one": 2.0, "two": 0.0}, episodes=5, noise=0.3, tasks=tasks)
    verdict = judge(find_side("one", [run]), find_side("two", [run]))
    assert (verdict.word, verdict.detectable, verdict.episodes_needed) == ("no difference shown", None, None)
    assert "nothing can be shown below 6 pairs of episodes" in "\n".join(lines(verdict))
    easier = judge(find_side("one", [run]), find_side("two", [run]), level=0.9)
    assert (easier.fewest_pairs, easier.word) == (5, "better")
    stricter = judge(find_side("one", [run]), find_side("two", [run]), level=0.99)
    assert stricter.fewest_pairs == 8
    assert "below 8 pairs" in "\n".join(lines(stricter))


def test_no_power_is_claimed_from_noise_that_was_not_seen(synthetic: Any) -> None:
    tasks = [synthetic.task("metaworld/a")]
    run = run_of(synthetic, {"one": 0.5, "only": 0.3}, episodes=10, noise=0.0, tasks=tasks)
    verdict = judge(find_side("one", [run]), find_side("only", [run]))
    assert (verdict.word, verdict.detectable, verdict.episodes_needed) == ("better", None, None)
    assert "no noise was seen" in "\n".join(lines(verdict))


def test_the_outcomes_that_a_verdict_is_about_stand_beside_it(synthetic: Any) -> None:
    run = run_of(synthetic, {"good": 0.5, "bad": 0.0}, episodes=20)
    verdict = judge(find_side("good", [run]), find_side("bad", [run]))
    assert verdict.unseen_rate == pytest.approx(1 - 0.05 ** (1 / 20))
    assert "comes in fewer than 14 of 100 episodes" in "\n".join(lines(verdict))


def test_a_steady_agent_is_not_better_than_one_whose_rare_successes_may_not_have_come(
    synthetic: Any,
) -> None:
    plan = synthetic.plan(
        [synthetic.agent("steady"), synthetic.agent("rare")], [synthetic.task("metaworld/a")], 10
    )
    run = synthetic.run(plan, lambda item: 0.1 if item.agent == "steady" else 0.0)
    verdict = judge(find_side("steady", [run]), find_side("rare", [run]))
    assert verdict.word == "no difference shown"
    assert "rarer outcomes are not known (steady on 1 task and rare on 1 task)" in verdict.notes[0]


@pytest.mark.slow
def test_what_a_report_warns_of_a_verdict_says_too(synthetic: Any) -> None:
    """Repeated trajectories, files without checksums, splits, notes on scores; of the two agents only."""
    tasks = [
        synthetic.task("metaworld/a", sources=(("score_note", "measured on v2"),)),
        synthetic.task("metaworld/b", split="heldout"),
    ]
    plan = synthetic.plan([synthetic.agent(label) for label in ("one", "two", "three")], tasks, 8)
    run = synthetic.run(plan, lambda item: float(item.episode % 2 if item.agent == "three" else item.episode))
    for path in Path(run.path).glob("records/*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            if row.get("agent") == "one":
                row["trajectory"] = f"{row['episode'] % 3:08x}"
            row.pop("checksum", None)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = Run(run.path)
    warned = {caveat.kind: caveat.text for caveat in summarise([again]).caveats}
    notes = "\n".join(judge(find_side("one", [again]), find_side("two", [again])).notes)
    for kind in ("repeats", "splits", "score note", "no checksums"):
        assert warned[kind] in notes
    assert "one on metaworld/a: 3 different of 8" in notes
    other = "\n".join(judge(find_side("two", [again]), find_side("three", [again])).notes)
    assert "different of 8" not in other


def test_an_agent_is_not_better_than_itself(synthetic: Any) -> None:
    run = run_of(synthetic, {"one": 0.0})
    verdict = judge(find_side("one", [run]), find_side("one", [run]))
    assert verdict.word == "no difference shown"
    assert "all pairs of episodes ended alike" in lines(verdict)
