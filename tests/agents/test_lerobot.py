"""``lerobot:FOLDER``: a policy in another Python, its features, lanes, draws, and what becomes of bad ones.

LeRobot itself is played by a small package of the same calls (tests/support/fake_lerobot);
tests/benchmarks/compare_lerobot.py compares with the real one.
"""

from __future__ import annotations

import ast
import gc
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.lerobot import IMAGE, STATE, WEIGHT, fake_python, program, save

from lram.agents.adapters.lerobot import child
from lram.agents.adapters.lerobot.folder import LeRobotOptions, files_of, read_folder
from lram.agents.adapters.lerobot.process import PolicyProcess
from lram.agents.adapters.lerobot.pythons import VARIABLE
from lram.agents.api import AgentError, Episode, TaskSpec
from lram.agents.checks.contract import contract_checks
from lram.agents.factory import create_agent

TASK = TaskSpec("check/go-there", "check", "vector", (6,), "continuous", 2, None, 1.0)
IMAGES = TaskSpec("check/see", "check", "image", (3, 64, 64), "continuous", 2, None, 1.0)


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> str:
    return fake_python(tmp_path_factory.mktemp("python"))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory, python: str) -> Iterator[Any]:
    """A policy that draws, and acts in [-0.5, 1.5] and [-0.5, 1] and beyond."""
    folder = save(tmp_path_factory.mktemp("policies") / "noisy", noise=0.25)
    agent = create_agent(f"lerobot:{folder}(python={python!r}, low=-0.5, high=[1.5, 1])")
    yield agent
    agent.close()  # type: ignore[attr-defined]


def observations(count: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)


def by_hand(seen: Any, seed: int, noise: float = 0.25) -> Any:
    """Actions of one episode in [-1, 1], float64."""
    torch.manual_seed(seed)
    found, queue = [], []
    for number, one in enumerate(torch.from_numpy(seen)):
        if not queue:
            action = (one[None] / 2) @ WEIGHT.T + (number + 1) / 8
            queue = [action + noise * torch.randn(1, 2) for _ in range(3)]
        found.append(queue.pop(0)[0].double().numpy() * 2)
    low, high = np.array([-0.5, -0.5]), np.array([1.5, 1.0])
    return 2 * (np.clip(np.array(found), low, high) - low) / (high - low) - 1


def test_actions_are_those_of_the_policy_through_its_processors_and_bounds(noisy: Any) -> None:
    state = noisy.start(3)
    seen = {0: observations(7, 1), 2: observations(7, 2)}
    noisy.reset(state, [0, 2], [Episode(TASK, 5), Episode(TASK, (1 << 64) + 6)])
    found: dict[int, list[Any]] = {0: [], 2: []}
    for step in range(7):  # the lanes' chunks and draws interleave
        for lanes in ([0], [2]) if step % 2 else ([2, 0],):
            actions, state = noisy.act(state, [seen[lane][step] for lane in lanes], [0.0] * len(lanes), lanes)
            for lane, action in zip(lanes, actions, strict=True):
                assert action.dtype == np.float32
                found[lane].append(action)
    np.testing.assert_allclose(found[0], by_hand(seen[0], 5), atol=3e-6)
    np.testing.assert_allclose(found[2], by_hand(seen[2], ((1 << 64) + 6) % (1 << 63)), atol=3e-6)
    assert (np.abs([*found[0], *found[2]]) == 1).any()  # some are put on a bound


def test_it_keeps_the_contract(noisy: Any) -> None:
    checks = contract_checks(noisy, (TASK,), decisions=5)
    assert [check.name for check in checks if check.status == "failed"] == []
    assert len(checks) > 8


def test_reports_are_told_what_it_sees_and_who_computes(noisy: Any) -> None:
    details = dict(noisy.info.details)
    assert noisy.info.description.startswith("LeRobot fake")
    assert noisy.info.parameters == 12
    assert details["sees"] == "observations (6,): numbers 0 to 5 as observation.state"
    assert "put within [(-0.5, -0.5), (1.5, 1)], mapped to [-1, 1]" in details["actions"]
    assert "lerobot 0.4.99" in details["interpreter"]
    assert torch.__version__ in details["interpreter"]


def test_states_that_are_gone_are_forgotten_by_the_process(noisy: Any) -> None:
    first, second = noisy.start(4), noisy.start(1)
    noisy.reset(first, range(4), [Episode(TASK, 1)] * 4)
    noisy.act(first, list(observations(4)), [0.0] * 4, range(4))
    assert noisy.state_bytes(first) > 4 * 5000
    number = first.number
    del first
    gc.collect()
    assert noisy.state_bytes(second) == 0
    second.number = number
    assert noisy.state_bytes(second) == 0


def test_the_files_that_decide_are_in_the_digest(tmp_path: Path) -> None:
    assert files_of(save(tmp_path / "it")) == (
        "config.json",
        "model.safetensors",
        "policy_preprocessor.json",
        "policy_postprocessor.json",
        "policy_preprocessor_step_1.safetensors",
    )


@pytest.mark.slow
def test_images_are_read_divided_and_resized(tmp_path: Path, python: str) -> None:
    small = {"observation.images.top": {"type": "VISUAL", "shape": [3, 8, 4]}}
    weight = torch.zeros(2, 96)
    weight[0, :32], weight[1, 64:] = 1 / 32, 1 / 32  # means of the first and the last channel
    folder = save(tmp_path / "it", small, weight, text="look")
    with pytest.raises(AgentError, match=r"images of shape \(3, 8, 4\), and tasks show .* resize=True"):
        create_agent(f"lerobot:{folder}(python={python!r})")
    agent = create_agent(f"lerobot:{folder}(python={python!r}, resize=True, prompt='look')")
    assert agent.refuses(IMAGES) is None
    assert "check/go-there has observations (6,)" in (agent.refuses(TASK) or "")
    assert "made 8 x 4 bilinearly" in dict(agent.info.details)["sees"]
    image = np.zeros((3, 64, 64), np.uint8)
    image[0], image[2, :, :32] = 51, 102
    state = agent.start(1)
    agent.reset(state, [0], [Episode(IMAGES, 0)])
    (action,), _ = agent.act(state, [image], [0.0], [0])
    np.testing.assert_allclose(action, [0.2 + 0.25, 0.2 + 0.25], atol=0.01)
    agent.close()  # type: ignore[attr-defined]


TWO = {**STATE, "observation.environment_state": {"type": "ENV", "shape": [2]}}


def test_two_vectors_are_parts_of_an_observation(tmp_path: Path, python: str) -> None:
    folder = save(tmp_path / "it", {**STATE, "observation.environment_state": {"type": "ENV", "shape": [2]}})
    parts = {"observation.state": [1, 7], "observation.environment_state": [6, 8]}
    read = read_folder(folder, LeRobotOptions(features=parts))
    assert read.fit.shape == (8,)
    assert read.vectors == {"observation.state": (1, 7), "observation.environment_state": (6, 8)}


@pytest.mark.parametrize(
    ("change", "arguments", "words"),
    [
        ({"type": None}, {}, "names no type of policy"),
        ({"use_peft": True}, {}, "adapter of PEFT"),
        ({"input_features": {}}, {}, "tells no input_features"),
        ({"input_features": {"x": {"type": "STATE", "shape": [0]}}}, {}, "no type and shape of x"),
        ({"input_features": {**STATE, **IMAGE}}, {}, "a task shows one of them"),
        ({"input_features": {"t": {"type": "LANGUAGE", "shape": [3]}}}, {}, "reads t, which no task shows"),
        (
            {"input_features": {**IMAGE, "observation.images.left": IMAGE["observation.images.top"]}},
            {},
            "2 images",
        ),
        ({"input_features": {"x": {"type": "VISUAL", "shape": [1, 64, 64]}}}, {}, r"shape \(1, 64, 64\)"),
        ({"input_features": TWO}, {}, "say which numbers of it each is"),
        ({"input_features": TWO}, {"features": {"observation.state": [0, 6]}}, "name just these"),
        ({}, {"features": {"observation.state": [0, 5]}}, "end - first = 6"),
        ({"input_features": IMAGE}, {"features": {"x": [0, 1]}}, "leave features out"),
        ({"output_features": {"action": {"type": "ACTION", "shape": [2, 2]}}}, {}, "one vector of actions"),
        ({}, {"processors": False}, "without which it acts otherwise"),
        ({}, {"low": 2}, "low must be below high"),
        ({}, {"threads": 0}, "threads is 0"),
        ({}, {"answer_s": -1}, "answer_s is -1"),
        ({}, {"resize": 1}, "resize is 1"),
    ],
)
def test_what_does_not_fit_costs_one_sentence(
    tmp_path: Path, change: dict[str, Any], arguments: dict[str, Any], words: str
) -> None:
    folder = save(tmp_path / "it", **change)
    with pytest.raises(AgentError, match=words) as raised:
        read_folder(folder, LeRobotOptions(**arguments))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["policy_preprocessor.json", "policy_postprocessor.json"])
def test_a_policy_without_its_processors_is_not_guessed_at(tmp_path: Path, name: str) -> None:
    folder = save(tmp_path / "it")
    (folder / name).unlink()
    with pytest.raises(AgentError, match=f"has no {name}, and without it nobody knows"):
        read_folder(folder, LeRobotOptions())
    for other in folder.glob("policy_*"):
        other.unlink()
    assert not read_folder(folder, LeRobotOptions(processors=False)).processors
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(
        json.dumps({**config, "normalization_mapping": {"STATE": "IDENTITY", "ACTION": "IDENTITY"}})
    )
    assert not read_folder(folder, LeRobotOptions()).processors


def test_damaged_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match=r"does not exist; give the folder that save_pretrained"):
        create_agent(f"lerobot:{tmp_path / 'none'}")
    folder = save(tmp_path / "it")
    with pytest.raises(AgentError, match=r"config.json is a file, not a folder"):
        create_agent(f"lerobot:{folder / 'config.json'}")
    (folder / "config.json").write_text("{")
    with pytest.raises(AgentError, match=r"config.json cannot be read"):
        create_agent(f"lerobot:{folder}")
    (folder / "config.json").unlink()
    with pytest.raises(AgentError, match=r"has no config.json"):
        create_agent(f"lerobot:{folder}")


def test_the_python_is_told_by_name_or_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = save(tmp_path / "it")
    monkeypatch.delenv(VARIABLE, raising=False)
    with pytest.raises(AgentError, match=f"LeRobot is not installed here.*set {VARIABLE}="):
        create_agent(f"lerobot:{folder}")
    with pytest.raises(AgentError, match=r"give an absolute path"):
        create_agent(f"lerobot:{folder}(python='venv/bin/python')")
    monkeypatch.setenv(VARIABLE, str(tmp_path / "no-python"))
    with pytest.raises(AgentError, match=rf"the environment variable {VARIABLE} names .*no-python"):
        create_agent(f"lerobot:{folder}")
    monkeypatch.setenv(VARIABLE, program(tmp_path / "bad", f'exec {sys.executable} -S "$@"'))
    with pytest.raises(AgentError, match=r"ended with exit code 1 \(.*No module named 'numpy'\)"):
        create_agent(f"lerobot:{folder}")


def test_a_python_without_lerobot_is_told_what_to_install(tmp_path: Path) -> None:
    folder = save(tmp_path / "it")
    with pytest.raises(
        AgentError, match=r"has no LeRobot, and 0.4 or newer is needed: .*pip install lerobot"
    ):
        create_agent(f"lerobot:{folder}(python={sys.executable!r})")


def talking(folder: Path, code: str) -> str:
    """Return a program that speaks at the socket, in Python, as ``sock``."""
    before = "import socket, sys, time; sock = socket.socket(fileno=int(sys.argv[2])); "
    return program(folder, f'exec {sys.executable} -S -c {shlex.quote(before + code)} "$@"')


FACTS = child.packed({"parameters": 1, "python": "3", "lerobot": "0", "torch": "2"})
NUMBERS = child.packed({}, [np.zeros(3, np.float32)])


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("time.sleep(60)", r"gave no whole answer within 1 s; give it longer with \(load_s=...\)"),
        ("sock.send(b'abc'); time.sleep(60)", r"gave no whole answer within 1 s; .*load_s="),
        ("print('the reason'); sys.exit(4)", r"ended with exit code 4 \(the reason\)"),
        ("import os; os.kill(os.getpid(), 9)", r"died of SIGKILL"),
        (
            "import os; os.kill(os.getpid(), 40)",
            r"died of signal 40",
        ),  # of the real-time ones, without a name
        ("sock.send(b'x' * 64); time.sleep(60)", r"announces a message of an impossible size"),
        ("sock.send(bytes([0, 0, 0, 2, 0, 0, 0, 0]) + b'[]'); time.sleep(60)", r"no JSON object with arrays"),
        (f"sock.send({child.packed({'python': '3'})!r}); time.sleep(60)", r"does not tell what it loaded"),
        (
            f"sock.send({FACTS!r}); sock.recv(9999); sock.send({NUMBERS!r}); time.sleep(60)",
            r"gave actions of shape \(3,\) for 1 lanes",
        ),
        (f"sock.send({FACTS!r}); sock.recv(9999); time.sleep(60)", r"within 1 s; .*answer_s="),
        (f"sock.send({FACTS!r}); sock.recv(9999); sock.close(); time.sleep(60)", r"closed its connection"),
    ],
)
def test_a_process_that_dies_is_silent_or_talks_nonsense_costs_one_sentence(
    tmp_path: Path, code: str, words: str
) -> None:
    folder, executable = save(tmp_path / "it"), talking(tmp_path / "python", code)
    load = 1 if "load_s" in words else 30
    name = f"lerobot:{folder}(python={executable!r}, load_s={load}, answer_s=1)"
    with pytest.raises(AgentError, match=words) as raised:
        act_once(name)
    assert "\n" not in str(raised.value)


def act_once(name: str) -> None:
    agent = create_agent(name)
    state = agent.start(1)
    agent.reset(state, [0], [Episode(TASK, 0)])
    agent.act(state, [observations(1)[0]], [0.0], [0])


def test_a_process_that_cannot_start_leaves_no_folder_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(AgentError, match="cannot be started"):
        PolicyProcess(str(tmp_path / "no-python"), "it", 1)
    assert list(tmp_path.iterdir()) == []


def test_the_process_ends_with_the_agent(tmp_path: Path) -> None:
    mark = tmp_path / "pid"
    noted = f"open({str(mark)!r}, 'w').write(str(__import__('os').getpid()))"
    told = f"{noted}; sock.send({FACTS!r}); time.sleep(60)"
    agent = create_agent(f"lerobot:{save(tmp_path / 'it')}(python={talking(tmp_path / 'python', told)!r})")
    pid = int(mark.read_text())
    os.kill(pid, 0)
    del agent
    gc.collect()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    ("described", "content", "words"),
    [
        ([["<f4", [2]]], b"1234", "fewer bytes"),
        ([["<f4", [1]]], b"12345678", "more bytes"),
        ([["|O", [1]]], b"12345678", "none"),
        ([["<f4", [-1]]], b"", "shape is none"),
        ("<f4", b"", "none"),
    ],
)
def test_frames_that_lie_are_refused(described: Any, content: bytes, words: str) -> None:
    text = json.dumps({"arrays": described}).encode()
    frame = len(text).to_bytes(4, "big") + len(content).to_bytes(4, "big") + text + content
    with pytest.raises(child.PolicyFrameError, match=words):
        child.received(reader(frame))


def reader(frame: bytes) -> Callable[[int], bytes]:
    left = bytearray(frame)

    def read(count: int) -> bytes:
        part = bytes(left[:count])
        del left[:count]
        return part

    return read


def test_frames_hold_what_was_put_into_them() -> None:
    arrays = [observations(2), np.arange(4, dtype=np.uint8).reshape(2, 2), np.zeros((0, 3), np.float64)]
    fields, found = child.received(reader(child.packed({"a": [1, "b"]}, arrays)))
    assert fields == {"a": [1, "b"]}
    assert [one.dtype for one in found] == [one.dtype for one in arrays]
    assert all(np.array_equal(one, other) for one, other in zip(found, arrays, strict=True))


@pytest.mark.slow
def test_the_script_is_python_that_lerobot_s_oldest_can_read() -> None:
    text = Path(child.__file__).read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 10))
    assert "lram" not in [word.partition(".")[0] for word in text.replace("\n", " ").split(" ")]
