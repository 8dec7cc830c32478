"""One word on two checkpoints: when it is given, when it is refused, and what scripts see of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lram.envs.task import Task
from lram.harness.cli.comparing import EXITS, compare, lines
from lram.harness.errors import LramError
from lram.harness.records import WorkItem
from lram.harness.store import Run
from lram.reports.verdict import find_side, judge

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


def test_what_is_needed_suffices(synthetic: Any) -> None:
    """Of runs as large as was asked for, four in five show a difference of the size seen."""
    shown = 0
    for trial in range(20):
        tasks = [synthetic.task(f"metaworld/{trial}{name}") for name in "abc"]
        shift, noise = {"one": 0.1, "two": 0.0}, 0.2
        run = run_of(synthetic, shift, episodes=22, tasks=tasks, noise=noise)
        verdict = judge(find_side("one", [run]), find_side("two", [run]), resamples=400)
        shown += verdict.word == "better"
    # Two own noises of 0.2 in 66 pairs: an error of 0.035, and 0.1 is 2.9 of it: power 0.82.
    assert 12 <= shown <= 20


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


def test_what_is_missing_is_noted(synthetic: Any) -> None:
    whole = run_of(synthetic, {"one": 0.0})
    plan = synthetic.plan([synthetic.agent("two", trained=False)], [synthetic.task(n) for n in TASKS], 10)
    part = synthetic.run(plan, lambda item: None if item.task == "dmcontrol/c" else 0.1 * item.episode)
    notes = judge(find_side(str(whole.path), []), find_side(str(part.path), [])).notes
    assert any("2 of 3 tasks" in note for note in notes)
    assert any("10 episodes of two are missing" in note for note in notes)
    assert any("two has random weights" in note for note in notes)


def test_the_command_tells_scripts_by_its_exit_code(
    synthetic: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(synthetic, {"good": 0.3, "bad": 0.0})
    folder = Path(run.path)
    assert compare("good", "bad", runs=[folder]) == EXITS["better"] == 0
    assert compare("bad", "good", runs=[folder]) == EXITS["worse"]
    capsys.readouterr()
    assert compare("bad", "good", runs=[folder], json=True) == EXITS["worse"]
    assert json.loads(capsys.readouterr().out)["word"] == "worse"
    other = run_of(synthetic, {"x": 0.0}, seed=5)
    assert compare(str(other.path), "good", runs=[folder]) == EXITS["not comparable"]
    assert len(set(EXITS.values())) == 4
    assert not set(EXITS.values()) & {1, 2, 130}
    with pytest.raises(LramError, match="--level"):
        compare("good", "bad", runs=[folder], level=95)


def test_what_is_needed_is_never_less_than_the_test_can_show(synthetic: Any) -> None:
    """Two pairs never give p below 0.5, however far apart two agents are."""
    run = run_of(synthetic, {"one": 2.0, "two": 0.0}, episodes=1, noise=0.3)
    verdict = judge(find_side("one", [run]), find_side("two", [run]))
    assert verdict.word == "no difference shown"
    assert verdict.episodes_needed is None or verdict.episodes_needed >= 2  # six pairs of three tasks


def test_an_agent_is_not_better_than_itself(synthetic: Any) -> None:
    run = run_of(synthetic, {"one": 0.0})
    verdict = judge(find_side("one", [run]), find_side("one", [run]))
    assert verdict.word == "no difference shown"
    assert "all episodes ended alike" in lines(verdict)
