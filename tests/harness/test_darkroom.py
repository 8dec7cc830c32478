"""Dark-Room through the harness: trials are recorded part by part, scored by protocol, and trained on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from lram.agents.training.recipe import model_config
from lram.agents.training.recipe_text import read_recipe
from lram.envs.scores import normalise
from lram.harness.collection.collect import collect
from lram.harness.evaluation import Machine, evaluate
from lram.harness.storage.run_folder import Run

ONE = Machine(lanes=8, workers=1)
SHORT = {"darkroom": "short"}
TASKS = "darkroom/sparse-80,darkroom/dense-81"
RECIPES = Path(__file__).parents[2] / "agents" / "recipes"  # of the checkout: they are not installed


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "rooms"
    return evaluate(["learner", "random"], TASKS, folder, episodes=4, protocols=SHORT, machine=ONE)


def test_a_trial_is_recorded_part_by_part(run: Run) -> None:
    for record in run.records():
        assert record.status == "scored"
        assert len(record.parts) == 10
        assert sum(record.parts) == record.episode_return
        assert record.length is not None
        assert record.length <= 200


def test_the_plan_has_the_rows_of_its_protocol(run: Run) -> None:
    for planned in run.plan.tasks:
        assert planned.protocol == "darkroom:short@1"
        assert planned.task.horizon == 200
        assert planned.task.score_reference is not None
        assert planned.task.score_reference <= 200


def test_the_learner_scores_between_random_and_one_that_knows_the_goal(run: Run) -> None:
    tasks = {planned.task.id: planned.task for planned in run.plan.tasks}
    scores: dict[str, list[float]] = {"learner": [], "random": []}
    for record in run.records():
        assert record.episode_return is not None
        score = normalise(tasks[record.task], record.episode_return)
        assert score is not None
        scores[record.agent].append(score)
    assert abs(math.fsum(scores["random"]) / 8) < 0.15
    assert 0.3 < math.fsum(scores["learner"]) / 8 < 1


def test_learning_histories_are_collected_whole(tmp_path: Path) -> None:
    from lram.agents.trajectories import TrajectoryStore

    collect(
        ["learner~0.1"], "darkroom/sparse-00", tmp_path / "data", episodes=2, protocols=SHORT, machine=ONE
    )
    for episode in TrajectoryStore(tmp_path / "data").episodes:
        assert episode.context_starts == (0,)
        assert episode.length <= 200


@pytest.mark.parametrize(("name", "at"), [("darkroom-xlstm-1-0", ()), ("darkroom-xlstm-7-1", (1,))])
def test_the_recipes_differ_in_the_slstm_alone(name: str, at: tuple[int, ...]) -> None:
    recipe = read_recipe(RECIPES / f"{name}.toml")
    recipe.check()
    config = model_config(recipe.model)
    assert config.backbone.slstm_at == at
    assert config.actions_in_context
    assert not config.returns_in_context
    assert recipe.sampling.context == 200
