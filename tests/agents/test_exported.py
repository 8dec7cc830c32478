"""Exported networks with a sidecar: TorchScript and ONNX, with memory by lane, scaling and draws."""

from __future__ import annotations

import shutil
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lram.agents.api import Agent, AgentError, Episode, TaskSpec
from lram.agents.checks.contract import contract_checks
from lram.agents.factory import create_agent, list_agents

DATA = Path(__file__).parents[1] / "data" / "exported"
TASK = TaskSpec("check/numbers", "check", "vector", (6,), "continuous", 2, None, 1.0)
DISCRETE = TaskSpec("check/discrete", "check", "vector", (6,), "discrete", 2, None, 1.0)
IMAGES = TaskSpec("check/images", "check", "image", (3, 8, 8), "discrete", 3, None, 1.0)

PLAIN = """
observation = [6]
action = "continuous"
size = 2
output = "mean"
low = -4
high = [2, 4]
"""
MEMORY = """
[[memory]]
shape = [5]
axis = 0
input = "h"
output = "h_new"
"""


class Recurrent(torch.nn.Module):
    def __init__(self, axis: int = 0) -> None:
        super().__init__()
        with np.load(DATA / "weights.npz") as weights:
            self.W, self.U, self.V = (torch.from_numpy(weights[name]) for name in "WUV")
        self.axis = axis

    def forward(self, obs: torch.Tensor, h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        h = torch.tanh(obs @ self.W + h.movedim(self.axis, 0) @ self.U)
        return h @ self.V, h.movedim(0, self.axis)


class Flat(torch.nn.Module):
    """Logits from the first numbers of an observation, or their index."""

    def __init__(self, size: int, index: bool = False) -> None:
        super().__init__()
        self.size, self.index = size, index

    def forward(self, obs: torch.Tensor) -> torch.Tensor:
        logits = obs.flatten(1)[:, : self.size].float()
        return logits.argmax(dim=1) if self.index else logits


@pytest.fixture
def script(tmp_path: Path) -> Callable[..., str]:
    """Save a module as TorchScript with a sidecar; return the agent's name."""

    def save(module: torch.nn.Module, sidecar: str, *given: torch.Tensor) -> str:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.jit.save(torch.jit.trace(module, given), str(tmp_path / "net.pt"))
        (tmp_path / "net.pt.toml").write_text(sidecar)
        return f"torchscript:{tmp_path / 'net.pt'}"

    return save


@pytest.fixture
def onnx(tmp_path: Path) -> Callable[..., str]:
    pytest.importorskip("onnxruntime")

    def copy(name: str = "recurrent.onnx", sidecar: str = PLAIN + MEMORY) -> str:
        for file in DATA.glob(f"{name}*"):
            shutil.copy(file, tmp_path)
        (tmp_path / f"{name}.toml").write_text(sidecar)
        return f"onnx:{tmp_path / name}"

    return copy


def episode(agent: Agent, seen: np.ndarray[Any, Any], task: TaskSpec = TASK, seed: int = 0) -> list[Any]:
    state = agent.start(3)
    agent.reset(state, [1], [Episode(task, seed)])
    found = []
    for one in seen:
        actions, state = agent.act(state, [one], [0.0], [1])
        found.append(actions[0])
    return found


def observations(count: int = 5) -> np.ndarray[Any, Any]:
    return np.random.default_rng(1).normal(size=(count, 6)).astype(np.float32)


def by_hand(seen: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Actions of one episode, in [-1, 1], in float64."""
    h, found, low, high = np.zeros(5), [], np.array([-4, -4]), np.array([2, 4])
    with np.load(DATA / "weights.npz") as weights:
        for one in seen:
            h = np.tanh(one @ weights["W"] + h @ weights["U"])
            found.append(2 * (np.clip(h @ weights["V"], low, high) - low) / (high - low) - 1)
    return np.array(found)


def failed(agent: Agent, task: TaskSpec) -> dict[str, str]:
    checks = contract_checks(agent, (task,), decisions=4)
    assert any(check.status == "passed" for check in checks)
    return {check.name: check.measured for check in checks if check.status != "passed"}


@pytest.mark.parametrize("axis", [0, 1])
def test_a_torchscript_network_remembers_by_lane(axis: int, script: Callable[..., str]) -> None:
    memory = torch.zeros(8, 5) if axis == 0 else torch.zeros(5, 8)
    sidecar = PLAIN + MEMORY.replace("axis = 0", f"axis = {axis}")
    agent = create_agent(script(Recurrent(axis), sidecar, torch.zeros(8, 6), memory))
    np.testing.assert_allclose(episode(agent, observations()), by_hand(observations()), atol=1e-6)
    assert failed(agent, TASK) == {}
    assert agent.state_bytes(agent.start(3)) == 3 * 5 * 4


@pytest.mark.parametrize("name", ["recurrent.onnx", "beside.onnx"])
def test_an_onnx_network_remembers_by_lane(name: str, onnx: Callable[..., str]) -> None:
    agent = create_agent(onnx(name))
    np.testing.assert_allclose(episode(agent, observations()), by_hand(observations()), atol=1e-6)
    assert failed(agent, TASK) == {}
    assert "[(-4, -4), (2, 4)] mapped to [-1, 1]" in agent.info.description


def test_the_digest_covers_network_sidecar_and_weights_beside(
    onnx: Callable[..., str], tmp_path: Path
) -> None:
    def digest() -> str:
        return create_agent(f"onnx:{tmp_path / 'beside.onnx'}").info.digest

    onnx("beside.onnx")
    digests = [digest()]
    weights = tmp_path / "beside.onnx.data"
    content = bytearray(weights.read_bytes())
    content[3] ^= 1
    weights.write_bytes(content)
    digests.append(digest())
    with (tmp_path / "beside.onnx.toml").open("a") as sidecar:
        sidecar.write("# other\n")
    digests.append(digest())
    assert len(set(digests)) == 3


def test_a_mean_is_drawn_around_with_the_sidecars_deviation(script: Callable[..., str]) -> None:
    sidecar = PLAIN.replace("low = -4", "low = [-100, -100]").replace("[2, 4]", "100\ndraw = true\nstd = 0.5")
    agent = create_agent(script(Flat(2), sidecar, torch.zeros(8, 6)))
    seen = np.repeat(observations(1), 500, axis=0)
    found = 100 * np.array(episode(agent, seen))
    np.testing.assert_allclose(found.std(axis=0), 0.5, rtol=0.1)
    np.testing.assert_allclose(found.mean(axis=0), seen[0, :2], atol=0.1)
    assert failed(agent, TASK) == {}


def test_discrete_actions_by_index_logits_or_draw(script: Callable[..., str]) -> None:
    logits = 'observation = [6]\naction = "discrete"\nsize = 2\noutput = "logits"\n'
    seen = observations(40)
    best = list(seen[:, :2].argmax(axis=1))
    agent = create_agent(script(Flat(2), logits, torch.zeros(8, 6)))
    assert episode(agent, seen, DISCRETE) == best
    assert agent.rows == 1
    index = logits.replace("logits", "actions") + "batch = 8\n"
    agent = create_agent(script(Flat(2, index=True), index, torch.zeros(8, 6)))
    assert agent.rows == 8
    assert episode(agent, seen, DISCRETE) == best
    agent = create_agent(script(Flat(2), logits + "draw = true\n", torch.zeros(8, 6)))
    drawn = episode(agent, seen, DISCRETE)
    assert drawn != best
    assert drawn == episode(agent, seen, DISCRETE)
    assert drawn != episode(agent, seen, DISCRETE, seed=1)


def test_an_index_of_an_action_that_is_no_whole_number_is_refused(script: Callable[..., str]) -> None:
    index = 'observation = [6]\naction = "discrete"\nsize = 2\noutput = "actions"\n'
    agent = create_agent(script(Flat(1), index, torch.zeros(8, 6)))
    with pytest.raises(AgentError, match="which is no whole number"):
        episode(agent, observations(3), DISCRETE)


def test_images_are_given_as_the_sidecar_says(script: Callable[..., str]) -> None:
    seen = np.random.default_rng(0).integers(0, 256, (1, 3, 8, 8), dtype=np.uint8)
    sidecar = 'observation = [3, 8, 8]\naction = "discrete"\nsize = 3\noutput = "logits"\npixels = "unit"\n'

    class Bright(torch.nn.Module):
        def forward(self, obs: torch.Tensor) -> torch.Tensor:
            brightest = obs.flatten(1).amax(dim=1).float() * 0.99
            return torch.stack([torch.ones(len(obs)), brightest, torch.zeros(len(obs))], 1)

    for pixels, dtype, action in (
        ("unit", torch.float32, 0),
        ("float", torch.float32, 1),
        ("raw", torch.uint8, 1),
    ):
        name = script(
            Bright(), sidecar.replace("unit", pixels) + "batch = 8\n", torch.zeros(8, 3, 8, 8, dtype=dtype)
        )
        assert episode(create_agent(name), seen, IMAGES) == [action]


def test_observations_are_normalised_by_the_sidecar(script: Callable[..., str]) -> None:
    table = f"[normalization]\nmean = {[1.0] * 6}\nvar = {[4.0] * 6}\nepsilon = 0\nclip = 1\n"
    agent = create_agent(script(Flat(2), PLAIN + table, torch.zeros(8, 6)))
    seen = observations()
    expected = np.clip((seen[:, :2] - 1) / 2, -1, 1)
    low, high = np.array([-4, -4]), np.array([2, 4])
    np.testing.assert_allclose(episode(agent, seen), 2 * (expected - low) / (high - low) - 1, atol=1e-6)


def test_an_action_outside_of_the_bounds_is_not_hidden(script: Callable[..., str]) -> None:
    sidecar = PLAIN.replace("mean", "actions").replace("-4", "-0.1").replace("[2, 4]", "0.1")
    agent = create_agent(script(Flat(2), sidecar, torch.zeros(8, 6)))
    assert np.abs(episode(agent, observations())).max() > 1
    assert "actions are valid" in failed(agent, TASK)


@pytest.mark.parametrize(
    ("sidecar", "said"),
    [
        ("", r"net.pt.toml: Object missing required field `observation`.*policies.md"),
        (PLAIN + "speed = 1\n", "unknown field `speed`"),
        (PLAIN.replace("[6]", "[3, 8, 8]"), "observations are images; say pixels"),
        (PLAIN.replace("mean", "logits"), "logits are of discrete actions"),
        (PLAIN + "draw = true\n", "draw = true and std go together"),
        (PLAIN.replace("low = -4", "low = 5"), "low must be below high"),
        (
            PLAIN.replace("size = 2", "size = 3\n").replace("[2, 4]", "2"),
            r"shape \(1, 2\); mean of 3 continuous",
        ),
        (PLAIN + MEMORY, "fails on"),
        (PLAIN.replace("[6]", "[1]"), r"shape \(1, 1\)"),
        (PLAIN + "[normalization]\nmean = [0.0]\n", "lacks mean and var"),
    ],
)
def test_a_sidecar_that_does_not_fit_costs_one_sentence(
    sidecar: str, said: str, script: Callable[..., str]
) -> None:
    with pytest.raises(AgentError, match=said) as error:
        create_agent(script(Flat(2), sidecar, torch.zeros(8, 6)))
    assert "\n" not in str(error.value)


def test_files_that_are_none_cost_one_sentence(
    onnx: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for scheme in ("onnx", "torchscript"):
        (tmp_path / "text").write_text("no network")
        with pytest.raises(AgentError, match=r"text\.toml is missing"):
            create_agent(f"{scheme}:{tmp_path / 'text'}")
        (tmp_path / "text.toml").write_text(PLAIN)
        with pytest.raises(AgentError, match="cannot be loaded") as error:
            create_agent(f"{scheme}:{tmp_path / 'text'}")
        assert "\n" not in str(error.value)
        (tmp_path / "text.toml").unlink()
    with pytest.raises(AgentError, match=r"has the inputs h, obs and the outputs h_new, mean; name each"):
        create_agent(onnx(sidecar=PLAIN))
    with pytest.raises(AgentError, match="takes no arguments"):
        create_agent(f"{onnx()}(low=2)")
    (tmp_path / "beside.onnx.toml").write_text(PLAIN + MEMORY)
    shutil.copy(DATA / "beside.onnx", tmp_path)
    with pytest.raises(AgentError, match="cannot be loaded"):  # its weights are not beside it
        create_agent(f"onnx:{tmp_path / 'beside.onnx'}")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(AgentError, match=r"pip install 'lram-bench\[onnx\]'"):
        create_agent(onnx())


def test_adapters_are_listed() -> None:
    listed = [row.name for row in list_agents() if row.kind == "adapter"]
    assert {"sb3:FILE.zip", "torchscript:FILE", "onnx:FILE"} <= set(listed)
