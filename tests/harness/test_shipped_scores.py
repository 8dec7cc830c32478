"""The trained models that come with the package solve, in the simulator, what they were trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from lram.harness.evaluation import evaluate

pytest.importorskip("metaworld", reason="needs the extra metaworld")


@pytest.mark.slow
def test_every_small_model_solves_tasks_that_random_play_does_not(tmp_path: Path) -> None:
    models = ["small-xlstm[1:0]", "small-xlstm[7:1]", "small-mamba", "small-transformer"]
    tasks = "metaworld/window-close-v3,metaworld/drawer-close-v3,metaworld/door-close-v3"
    # The models solve all of these, random play a sixth.
    run = evaluate(["random", *models], tasks, tmp_path / "run", episodes=2)
    solved = run.episodes().groupby("agent")["success_any"].mean()
    assert solved["random"] <= 3 / 6
    assert all(solved[model] >= 4 / 6 for model in models), solved.to_dict()
