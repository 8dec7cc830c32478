"""Decision Transformers of transformers: equal to the package's own answers, step by step in each lane."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from lram.agents.adapters import with_absolute_file, without_folder
from lram.agents.api import Agent, AgentError, Episode, TaskSpec
from lram.agents.checks.contract import contract_checks
from lram.agents.compute import Compute
from lram.agents.factory import create_agent

DATA = Path(__file__).parents[1] / "data" / "hf_dt"
TASK = TaskSpec("check/numbers", "check", "vector", (5,), "continuous", 3, 90.0, 10.0)
"""Its return and scale are those that tests/benchmarks/record_hf_dt.py asked for."""
WIDE = "low=-3, high=3"  # the recorded actions of the model without tanh are within


def with_target(target: float | None, scale: float = 10.0) -> TaskSpec:
    return TaskSpec("check/numbers", "check", "vector", (5,), "continuous", 3, target, scale)


def spec(name: str, *arguments: str, folder: Path = DATA) -> str:
    return f"hf-dt:{folder / name}({', '.join(('context=5', *arguments))})"


def recorded(name: str) -> tuple[Any, Any, Any]:
    with np.load(DATA / "expected.npz") as expected:
        return tuple(expected[f"{name}.{what}"] for what in ("states", "rewards", "actions"))  # type: ignore[return-value]


def played(
    agent: Agent, states: Any, rewards: Any, task: TaskSpec = TASK, lane: int = 0, lanes: int = 1
) -> np.ndarray[Any, Any]:
    """The actions of an episode in one of several lanes; the others stand still."""
    state = agent.start(lanes)
    agent.reset(state, [lane], [Episode(task, 0)])
    given = []
    for step, seen in enumerate(states):
        actions, state = agent.act(state, [seen], [rewards[step - 1] if step else np.nan], [lane])
        given.append(actions[0])
    return np.array(given)


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """A folder with another configuration or other weights."""

    def change(
        name: str = "plain",
        config: dict[str, Any] | None = None,
        weights: Callable[[dict[str, Any]], None] = lambda weights: None,
    ) -> Path:
        folder = Path(shutil.copytree(DATA / name, tmp_path / name, dirs_exist_ok=True))
        plain = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**plain, **(config or {})}))
        tensors = load_file(folder / "model.safetensors")
        weights(tensors)
        save_file(tensors, folder / "model.safetensors")
        return folder

    return change


@pytest.mark.parametrize("name", ["plain", "other"])
def test_an_episode_is_played_as_by_transformers(name: str) -> None:
    states, rewards, expected = recorded(name)
    assert np.ptp(expected, axis=0).min() > 0.5
    agent = create_agent(spec(name, WIDE) if name == "other" else spec(name))
    found = played(agent, states, rewards)
    np.testing.assert_allclose(found * (3 if name == "other" else 1), expected, rtol=0, atol=2e-6)


def test_return_and_scale_are_the_arguments_or_the_tasks() -> None:
    states, rewards, expected = recorded("plain")
    told = create_agent(spec("plain", "target_return=90", "scale=10"))
    np.testing.assert_allclose(played(told, states, rewards, with_target(1.0, 3.0)), expected, atol=2e-6)
    bare = create_agent(spec("plain"))
    assert np.abs(played(bare, states, rewards, with_target(50.0)) - expected).max() > 0.01
    assert np.abs(played(bare, states, rewards, with_target(90.0, 20.0)) - expected).max() > 0.01
    assert "names no return to ask for" in str(bare.refuses(with_target(None)))
    assert told.refuses(with_target(None)) is None


def test_the_context_is_the_configurations_or_the_arguments(changed: Any) -> None:
    states, rewards, expected = recorded("plain")
    folder = changed(config={"max_length": 5})
    found = played(create_agent(f"hf-dt:{folder}"), states, rewards)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    whole = played(create_agent(f"hf-dt:{DATA / 'plain'}"), states, rewards)  # 20
    np.testing.assert_allclose(whole[:5], expected[:5], atol=2e-6)
    assert np.abs(whole[5:] - expected[5:]).max() > 0.01


def test_lanes_do_not_depend_on_each_other_and_an_episode_begins_fresh() -> None:
    agent = create_agent(spec("plain"))
    states, rewards, _ = recorded("plain")
    alone = played(agent, states, rewards)
    state = agent.start(3)
    agent.reset(state, [0, 1, 2], [Episode(TASK, n) for n in range(3)])
    rng = np.random.default_rng(0)
    for _ in range(2):  # an episode before, in the lane too
        agent.act(state, list(rng.normal(size=(3, 5)).astype(np.float32)), [1.0, 2.0, 3.0], [2, 0, 1])
    agent.reset(state, [1], [Episode(TASK, 5)])
    for step, seen in enumerate(states):
        reward = rewards[step - 1] if step else np.nan
        others = rng.normal(size=(2, 5)).astype(np.float32)
        actions, state = agent.act(state, [others[0], seen], [0.5, reward], [2, 1])
        assert np.array_equal(actions[1], alone[step])


def test_what_was_done_instead_is_remembered_in_the_policys_own_bounds() -> None:
    states, rewards, _ = recorded("other")
    agent, narrow = (create_agent(spec("other", bounds)) for bounds in (WIDE, "low=-6, high=6"))
    instead = np.random.default_rng(1).uniform(-0.4, 0.4, (len(states), 3)).astype(np.float32)

    def disturbed(one: Agent, scale: float) -> Any:
        state, given = one.start(1), []
        one.reset(state, [0], [Episode(TASK, 0)])
        for step, seen in enumerate(states):
            actions, state = one.act(state, [seen], [rewards[step - 1] if step else 0.0], [0])
            given.append(actions[0])
            one.took(state, [0], [instead[step] / scale])
        return np.array(given)

    first, second = disturbed(agent, 1), disturbed(narrow, 2)
    np.testing.assert_allclose(first, 2 * second, atol=1e-5)
    assert np.abs(first[1:] - played(agent, states, rewards)[1:]).max() > 0.01


def test_states_are_normalised_by_mean_and_std(changed: Any) -> None:
    states, rewards, expected = recorded("plain")
    folder = changed()
    mean, std = np.linspace(-1, 1, 5), np.linspace(0.5, 20, 5)
    (folder / "states.json").write_text(json.dumps({"mean": mean.tolist(), "std": std.tolist()}))
    np.savez(folder / "states.npz", mean=mean, var=std * std)
    for file in ("states.json", "states.npz"):
        agent = create_agent(spec("plain", f"normalization={file!r}", folder=folder.parent))
        found = played(agent, (states * std + mean).astype(np.float32), rewards)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    plain = create_agent(spec("plain", folder=folder.parent))
    assert plain.info.digest != agent.info.digest
    (folder / "states.json").write_text(json.dumps({"mean": mean.tolist(), "std": [0.0] * 5}))
    with pytest.raises(AgentError, match="not above 0"):
        create_agent(spec("plain", "normalization='states.json'", folder=folder.parent))
    with pytest.raises(AgentError, match=r"does not exist; give a .npz or .json with mean and std"):
        create_agent(spec("plain", "normalization='other.json'", folder=folder.parent))


def test_the_contract_is_kept() -> None:
    for name in ("plain", "other"):
        checks = contract_checks(create_agent(spec(name)), (TASK,), decisions=7)
        assert {check.name: check.measured for check in checks if check.status != "passed"} == {}


def test_it_says_what_it_sees_and_how_actions_map() -> None:
    info = create_agent(spec("other", WIDE, "target_return=7")).info
    details = dict(info.details)
    assert details["sees"].startswith("observations (5,) and 3 continuous actions, the last 5 steps")
    assert details["actions"] == "put within the bounds, [-3, 3] mapped to [-1, 1]"
    assert details["longest episode"].startswith("16 steps")
    assert (info.trained, info.kind) == (True, "model")


def test_tasks_that_do_not_fit_and_longer_episodes_are_refused() -> None:
    agent = create_agent(spec("plain"))
    wide = TaskSpec("check/wide", "check", "vector", (6,), "continuous", 3, 1.0, 1.0)
    discrete = TaskSpec("check/discrete", "check", "vector", (5,), "discrete", 3, 1.0, 1.0)
    assert "observations (6,)" in str(agent.refuses(wide))
    assert "3 discrete actions" in str(agent.refuses(discrete))
    with pytest.raises(AgentError, match="longer than the 16 steps"):
        played(agent, np.zeros((17, 5), np.float32), np.zeros(17))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("scale=0", "scale is 0"),
        ("target_return='much'", "target_return is 'much'"),
        ("context=0", "context is 0"),
        ("low=1", "low must be below high"),
        ("normalization=3", "normalization is 3"),
        ("depth=3", "unexpected keyword argument 'depth'"),
    ],
)
def test_arguments_that_mean_nothing_are_refused(arguments: str, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        create_agent(f"hf-dt:{DATA / 'plain'}({arguments})")


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"model_type": "gpt2"}, "of a model of the type gpt2"),
        ({"activation_function": "mish"}, "the activation mish is not known"),
        ({"n_head": 3}, "is no multiple of n_head 3"),
        ({"n_layer": 3}, "the weights have 2 blocks, and config.json tells 3"),
        ({"state_dim": 6}, "embed_state.weight has the shape"),
        ({"hidden_size": -1}, "hidden_size is -1"),
        ({"hidden_size": 1 << 40}, "hidden_size is 1099511627776"),
        ({"action_tanh": "yes"}, "action_tanh is yes"),
        ({"add_cross_attention": True}, "cross attention"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(changed: Any, config: Any, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        create_agent(f"hf-dt:{changed(config=config)}")


def test_weights_that_do_not_fit_are_refused(changed: Any) -> None:
    def drop(weights: dict[str, Any]) -> None:
        del weights["embed_ln.bias"]

    def spoil(weights: dict[str, Any]) -> None:
        weights["embed_ln.bias"][0] = float("nan")

    def add(weights: dict[str, Any]) -> None:
        weights["wte.weight"] = torch.zeros(2, 2)

    for change, words in (
        (drop, "lack embed_ln.bias"),
        (spoil, "no finite numbers"),
        (add, "have wte.weight"),
    ):
        with pytest.raises(AgentError, match=words):
            create_agent(f"hf-dt:{changed(weights=change)}")
    file = changed() / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(AgentError, match="is damaged or incomplete"):
        create_agent(f"hf-dt:{file.parent}")
    file.unlink()
    with pytest.raises(AgentError, match=r"has no model.safetensors"):
        create_agent(f"hf-dt:{file.parent}")


class Evil:
    def __reduce__(self) -> Any:
        return print, ("this would have run",)


def test_a_pickle_is_read_for_its_tensors_and_never_run(
    changed: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    states, rewards, expected = recorded("plain")
    folder = changed()
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    # Older versions of transformers saved masks of attention with the weights.
    masks = {
        "encoder.h.0.attn.bias": torch.ones(1, 1, 4, 4, dtype=torch.uint8),
        "encoder.h.0.attn.masked_bias": torch.tensor(-1e4),
    }
    torch.save({**weights, **masks}, folder / "pytorch_model.bin")
    found = played(create_agent(spec("plain", folder=folder.parent)), states, rewards)
    np.testing.assert_allclose(found, expected, atol=2e-6)
    for content in ({**weights, "evil": Evil()}, [1, 2]):
        torch.save(content, folder / "pytorch_model.bin")
        with pytest.raises(AgentError, match=r"refused|no state dict"):
            create_agent(f"hf-dt:{folder}")
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(AgentError, match="so it is refused"):
        create_agent(f"hf-dt:{folder}")
    assert "this would have run" not in capsys.readouterr().out


def test_folders_are_found_from_anywhere_and_called_by_their_name(tmp_path: Path) -> None:
    assert with_absolute_file("hf-dt:hopper(scale=2)", "/runs") == "hf-dt:/runs/hopper(scale=2)"
    assert without_folder("hf-dt:/runs/hopper/(scale=2)") == "hf-dt:hopper(scale=2)"
    with pytest.raises(AgentError, match=r"hopper does not exist; give a folder"):
        create_agent("hf-dt:hopper(scale=2)")
    (tmp_path / "file").touch()
    with pytest.raises(AgentError, match="is a file, not a folder"):
        create_agent(f"hf-dt:{tmp_path / 'file'}")
    with pytest.raises(AgentError, match=r"no config\.json"):
        create_agent(f"hf-dt:{tmp_path}")
    with pytest.raises(AgentError, match="float32"):
        create_agent(spec("plain"), compute=Compute(precision="bfloat16"))
