"""Policies of Stable-Baselines3: equal to the package's ``predict``, and nothing is unpickled."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lram.agents.api import Agent, AgentError, Episode, TaskSpec
from lram.agents.checks.contract import contract_checks
from lram.agents.compute import Compute
from lram.agents.factory import create_agent

DATA = Path(__file__).parents[1] / "data" / "sb3"
WIDE = np.array([-2, -0.5], np.float32), np.array([1, 3], np.float32)
CONTINUOUS = TaskSpec("check/numbers", "check", "vector", (6,), "continuous", 2, None, 1.0)
NAMES = {"ppo": 2, "ppo_elu": 5, "a2c": 2, "sac": 2, "sac_sde": 2, "td3": 2, "dqn": 4, "ppo_cnn": 2}
DISCRETE = ("ppo_elu", "dqn")


def task_of(name: str) -> TaskSpec:
    if name == "ppo_cnn":
        return TaskSpec("check/images", "check", "image", (3, 64, 64), "continuous", 2, None, 1.0)
    kind: Any = "discrete" if name in DISCRETE else "continuous"
    return TaskSpec("check/numbers", "check", "vector", (6,), kind, NAMES[name], None, 1.0)


def filled(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Weights by the formula of tests/benchmarks/record_sb3.py."""
    found = {}
    own = [name.removeprefix("pi_").removeprefix("vf_") for name in shapes]
    for short, (name, shape) in zip(own, shapes.items(), strict=True):
        place = sorted(set(own)).index(short)
        numbers = torch.arange(int(np.prod(shape)), dtype=torch.float64) * (place + 1) * 0.7
        fan = max(int(np.prod(shape[1:])), 1) if len(shape) > 1 else 4
        found[name] = (torch.sin(numbers) * (2.0 / fan) ** 0.5).reshape(shape).float()
    return found


@pytest.fixture(scope="module")
def cnn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cnn")
    with zipfile.ZipFile(DATA / "ppo_cnn.zip") as archive:
        shapes = json.loads(archive.read("shapes.json"))
    torch.save(filled(shapes), folder / "policy.pth")
    shutil.copy(DATA / "ppo_cnn.zip", folder)
    with zipfile.ZipFile(folder / "ppo_cnn.zip", "a") as archive:
        archive.write(folder / "policy.pth", "policy.pth")
    return folder / "ppo_cnn.zip"


@pytest.fixture
def changed(tmp_path: Path) -> Callable[..., Path]:
    """An archive with other data or weights."""

    def change(
        name: str,
        data: Callable[[dict[str, Any]], None] = lambda data: None,
        weights: Callable[[dict[str, Any]], None] = lambda weights: None,
    ) -> Path:
        with zipfile.ZipFile(DATA / f"{name}.zip") as archive:
            found = json.loads(archive.read("data"))
            (tmp_path / "old.pth").write_bytes(archive.read("policy.pth"))
        tensors = torch.load(tmp_path / "old.pth", weights_only=True)
        data(found)
        weights(tensors)
        torch.save(tensors, tmp_path / "policy.pth")
        with zipfile.ZipFile(tmp_path / "changed.zip", "w") as archive:
            archive.writestr("data", json.dumps(found))
            archive.write(tmp_path / "policy.pth", "policy.pth")
        return tmp_path / "changed.zip"

    return change


def actions(agent: Agent, seen: np.ndarray[Any, Any], task: TaskSpec, seed: int = 0) -> np.ndarray[Any, Any]:
    lanes = list(range(len(seen)))
    state = agent.start(len(seen))
    agent.reset(state, lanes, [Episode(task, seed + lane) for lane in lanes])
    return np.array(agent.act(state, list(seen), [0.0] * len(seen), lanes)[0])


def recorded(name: str) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    with np.load(DATA / "expected.npz") as expected:
        seen, given = expected[f"{name}.seen"], expected[f"{name}.actions"]
    if name == "ppo_cnn":
        seen = np.random.default_rng(2).integers(0, 256, (8, 3, 64, 64), dtype=np.uint8)
    if name in ("ppo", "sac"):
        low, high = WIDE
        given = 2 * (given - low) / (high - low) - 1
    return seen, given / 50 if name == "ppo_cnn" else given


@pytest.mark.parametrize("name", NAMES)
def test_a_policy_acts_as_predict_of_the_package(name: str, cnn: Path) -> None:
    file = cnn if name == "ppo_cnn" else DATA / f"{name}.zip"
    seen, expected = recorded(name)
    assert len(np.unique(np.round(expected, 4))) > 1
    found = actions(create_agent(f"sb3:{file}"), seen, task_of(name))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", ["ppo", "sac", "dqn"])
def test_the_contract_is_kept_also_where_actions_are_drawn(name: str) -> None:
    agent = create_agent(f"sb3:{DATA / name}.zip(deterministic=False)")
    checks = contract_checks(agent, (task_of(name),), decisions=3)
    assert {check.name: check.measured for check in checks if check.status != "passed"} == {}


def test_ppo_draws_with_its_own_deviation_from_the_episodes_seed() -> None:
    with zipfile.ZipFile(DATA / "ppo.zip") as archive:
        assert json.loads(archive.read("data"))["policy_kwargs"]["log_std_init"] == -1.0
    wide = "(deterministic=False, low=-100, high=100)"  # nothing is clipped
    agent = create_agent(f"sb3:{DATA / 'ppo.zip'}{wide}")
    seen = np.repeat(recorded("ppo")[0][:1], 600, axis=0)
    found = 100 * actions(agent, seen, CONTINUOUS)
    mean = 100 * actions(create_agent(f"sb3:{DATA / 'ppo.zip'}(low=-100, high=100)"), seen[:1], CONTINUOUS)
    np.testing.assert_allclose(found.std(axis=0), np.exp(-1), rtol=0.1)
    np.testing.assert_allclose(found.mean(axis=0), mean[0], atol=0.06)
    assert np.array_equal(100 * actions(agent, seen[:3], CONTINUOUS), found[:3])
    assert not np.array_equal(100 * actions(agent, seen[:3], CONTINUOUS, seed=9), found[:3])


def test_what_a_discrete_policy_draws_has_the_probabilities_of_its_logits() -> None:
    from lram.agents.adapters.actions import drawn

    rng = np.random.default_rng(0)
    logits = np.log(np.array([0.1, 0.6, 0.3], np.float32)) + 50
    counts = np.bincount([drawn(logits, rng) for _ in range(3000)], minlength=3) / 3000
    np.testing.assert_allclose(counts, [0.1, 0.6, 0.3], atol=0.03)


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_values_that_are_not_finite_choose_no_discrete_action(rng: np.random.Generator | None) -> None:
    from lram.agents.adapters.actions import drawn

    assert drawn(np.array([-np.inf, 0.5, -np.inf], np.float32), rng) == 1, "the others are masked"
    for bad in ([0.0, np.nan], [np.inf, 0.0], [-np.inf, -np.inf]):
        with pytest.raises(AgentError, match="the greatest of the network's 2 values of discrete actions is"):
            drawn(np.array(bad, np.float32), rng)


def test_observations_are_normalised_by_a_file_of_numbers_and_never_by_a_pickle(tmp_path: Path) -> None:
    shutil.copy(DATA / "td3.zip", tmp_path)
    seen, _ = recorded("td3")
    mean, var = np.linspace(-1, 1, 6), np.linspace(0.5, 2, 6)
    np.savez(tmp_path / "numbers.npz", mean=mean, var=var, clip=1.5, epsilon=1e-4)
    plain = create_agent(f"sb3:{tmp_path / 'td3.zip'}")
    normalised = f"sb3:{tmp_path / 'td3.zip'}(normalization='{tmp_path / 'numbers.npz'}')"
    by_hand = np.clip((seen - mean) / np.sqrt(var + 1e-4), -1.5, 1.5).astype(np.float32)
    agent = create_agent(normalised)
    assert np.array_equal(actions(agent, seen, CONTINUOUS), actions(plain, by_hand, CONTINUOUS))
    assert agent.info.digest != plain.info.digest
    (tmp_path / "vecnormalize.pkl").write_bytes(b"never read")
    with pytest.raises(AgentError, match=r"vecnormalize\.pkl lies beside it.*normalization=False"):
        create_agent(f"sb3:{tmp_path / 'td3.zip'}")
    create_agent(f"sb3:{tmp_path / 'td3.zip'}(normalization=False)")
    with pytest.raises(AgentError, match=r"a pickle could run code; write its numbers"):
        create_agent(f"sb3:{tmp_path / 'td3.zip'}(normalization='{tmp_path / 'vecnormalize.pkl'}')")
    np.savez(tmp_path / "numbers.npz", mean=mean[:5], var=var)
    with pytest.raises(AgentError, match=r"mean has the shape \(5,\), and the policy sees \(6,\)"):
        create_agent(normalised)


class Bomb:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("exploded"),))


def test_nothing_pickled_is_run(
    changed: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = base64.b64encode(pickle.dumps(Bomb())).decode()

    def arm(data: dict[str, Any]) -> None:
        for value in data.values():
            if isinstance(value, dict) and ":serialized:" in value:
                value[":serialized:"] = bomb

    file = changed("ppo_elu", arm)
    seen, expected = recorded("ppo_elu")
    assert np.array_equal(actions(create_agent(f"sb3:{file}"), seen, task_of("ppo_elu")), expected)
    with pytest.raises(AgentError, match="so it is refused"):
        create_agent(f"sb3:{changed('ppo_elu', weights=lambda weights: weights.update(bomb=Bomb()))}")
    assert not (tmp_path / "exploded").exists()


def test_what_was_assumed_is_said_and_options_go_before(changed: Callable[..., Path]) -> None:
    def forget(data: dict[str, Any]) -> None:
        data["action_space"] = {":type:": "<class 'gym.spaces.box.Box'>"}
        data["policy_kwargs"] = {}

    seen, _ = recorded("ppo")
    file = changed("ppo", forget)
    agent = create_agent(f"sb3:{file}")
    details = dict(agent.info.details)
    assert details["assumed"] == (
        "activation tanh, the default of PPO; actions in [-1, 1] (low and high say others)"
    )
    told = create_agent(f"sb3:{file}(activation='Tanh', low=[-2, -0.5], high=[1, 3])")
    assert dict(told.info.details)["assumed"] == "nothing"
    assert "[(-2, -0.5), (1, 3)] mapped to [-1, 1]" in told.info.description
    np.testing.assert_allclose(actions(told, seen, CONTINUOUS), recorded("ppo")[1], atol=2e-6)
    other = actions(create_agent(f"sb3:{file}(activation='relu')"), seen, CONTINUOUS)
    assert not np.allclose(other, actions(agent, seen, CONTINUOUS))


def test_the_packages_own_features_extractor_may_be_named(changed: Callable[..., Path]) -> None:
    seen, expected = recorded("ppo")
    file = changed("ppo", extractor("stable_baselines3.common.torch_layers.FlattenExtractor"))
    np.testing.assert_allclose(actions(create_agent(f"sb3:{file}"), seen, CONTINUOUS), expected, atol=2e-6)


def test_a_task_that_does_not_fit_is_refused() -> None:
    agent = create_agent(f"sb3:{DATA / 'dqn.zip'}")
    assert agent.refuses(task_of("dqn")) is None
    assert agent.refuses(CONTINUOUS) == (
        "check/numbers has observations (6,) and 2 continuous actions, and the policy knows "
        "observations (6,) and 4 discrete actions"
    )


def module(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["policy_class"].update(__module__=name)


def extractor(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["policy_kwargs"].update(features_extractor_class=f"<class '{name}'>")


def action_space(**fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda data: data["action_space"].update(fields)


@pytest.mark.parametrize(
    ("name", "data", "weights", "options", "said"),
    [
        ("ppo", module("sb3_contrib.common.recurrent.policies"), None, "", "sb3_contrib.*PPO, A2C, SAC"),
        ("ppo", action_space(low="[-inf -inf]"), None, "", "its actions have no bounds.*low=-1, high=1"),
        (
            "dqn",
            action_space(**{":type:": "<class 'gymnasium.spaces.multi_discrete.MultiDiscrete'>"}),
            None,
            "",
            "a MultiDiscrete space; Box and Discrete are read",
        ),
        (
            "ppo",
            lambda data: data["observation_space"].update({":type:": "<class 'gymnasium.spaces.dict.Dict'>"}),
            None,
            "",
            "a Dict space",
        ),
        (
            "ppo_elu",
            lambda data: data["policy_kwargs"].update(activation_fn="<class 'mine.Swish'>"),
            None,
            "",
            "the activation <class 'mine.Swish'> is not known.*activation='relu'",
        ),
        # Without weights of its own, its name is all that tells of it.
        ("ppo", extractor("mine.Scaler"), None, "", "extractor is <class 'mine.Scaler'>, .*FlattenE"),
        ("sac", extractor("mine.Scaler"), None, "", "extractor is <class 'mine.Scaler'>, .*FlattenE"),
        (
            "sac",
            None,
            lambda weights: weights.update({"actor.latent_pi.1.weight": torch.ones(8)}),
            "",
            "has no actor.latent_pi.4.weight; only plain layers",
        ),
        (
            "ppo",
            None,
            lambda weights: weights.update({"lstm_actor.weight_ih_l0": torch.ones(4, 4)}),
            "",
            "lstm_actor.weight_ih_l0, which is in no plain MlpPolicy",
        ),
        (
            "td3",
            None,
            lambda weights: weights.update({"actor.mu.0.bias": torch.full((8,), torch.nan)}),
            "",
            "actor.mu.0.bias holds values that are no finite numbers",
        ),
        ("td3", None, None, "(deterministic=False)", "TD3 draws nothing"),
        ("sac_sde", None, None, "(deterministic=False)", "gSDE"),
        ("ppo", None, None, "(low=1, high=1)", "low must be below high"),
        ("ppo", None, None, "(low=-1)", "low and high go together"),
        ("dqn", None, None, "(low=-1, high=1)", "its actions are discrete"),
        ("ppo", None, None, "(speed=2)", "unexpected keyword argument 'speed'.*activation"),
    ],
)
def test_what_cannot_be_read_costs_one_sentence(
    name: str, data: Any, weights: Any, options: str, said: str, changed: Callable[..., Path]
) -> None:
    file = changed(name, data or (lambda data: None), weights or (lambda weights: None))
    with pytest.raises(AgentError, match=said) as error:
        create_agent(f"sb3:{file}{options}")
    assert "\n" not in str(error.value)


def test_files_that_are_no_archives_cost_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.zip").write_text("no zip")
    with zipfile.ZipFile(tmp_path / "other (1).zip", "w") as archive:
        archive.writestr("data", "{}")
    for name, said in (
        ("text.zip", "is damaged or incomplete"),
        ("other (1).zip", r"other \(1\).zip has no policy.pth, so it is no archive"),
        ("missing.zip", "does not exist; give a .zip"),
        (".", "is a folder, not a file"),
    ):
        with pytest.raises(AgentError, match=said):
            create_agent(f"sb3:{tmp_path / name}")
    with pytest.raises(AgentError, match="leave --precision bfloat16 out"):
        create_agent(f"sb3:{DATA / 'ppo.zip'}", compute=Compute(precision="bfloat16"))
