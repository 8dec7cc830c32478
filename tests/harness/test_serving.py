"""``lram serve`` and its client: the same actions as here, and what goes wrong on the way."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import BoundedSemaphore, Event, Timer
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("websockets", reason="served policies need websockets")
pytest.importorskip("msgpack", reason="served policies need msgpack")

import websockets.exceptions
import websockets.sync.client
from support.ready import ready_python

from lram.agents.acting.model_agent import ModelAgent
from lram.agents.adapters.served.token import VARIABLE
from lram.agents.adapters.served.wire import pack, unpack
from lram.agents.api import Action, Agent, AgentError, AgentInfo, Episode, Observation, TaskSpec
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checks.contract import VECTOR_TASK, contract_checks
from lram.agents.experts.baselines import RandomAgent
from lram.agents.factory import create_agent
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.harness import evaluate, resume
from lram.harness.cli import give
from lram.harness.errors import LramError
from lram.harness.machine import Machine
from lram.harness.plan import labelled_specs
from lram.harness.serving import AgentServer
from lram.harness.storage.run_folder import Run
from lram.harness.trust import NONE, Trust, foreign

MACHINE = Machine(lanes=4, workers=1)
TOKEN = "a-token-of-this-test-1234"
WAIT_S = 60.0
"""Longest wait for anything: a busy machine passes, and nothing waits for ever."""
HEED_CTRL_C = (
    "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    "from lram.harness.cli import main; main()"
)


class CountingAgent(Agent):
    """Acts by what it remembers: the seed, the rewards and the last action of a lane."""

    rows = 2

    def __init__(self, slow_s: float = 0.0) -> None:
        self.slow_s = slow_s
        self.acted = 0

    @property
    def info(self) -> AgentInfo:
        return AgentInfo("baseline", "counts", digest="d1", details=(("a", "b"),), training_tasks=("x/y",))

    def refuses(self, task: TaskSpec) -> str | None:
        return "no images here" if task.observation == "image" else None

    def start(self, lanes: int) -> dict[int, list[float]]:
        return {}

    def reset(self, state: dict[int, list[float]], lanes: Sequence[int], episodes: Sequence[Episode]) -> None:
        for lane, episode in zip(lanes, episodes, strict=True):
            state[lane] = [episode.seed % 1000 / 1000, 0.0, float(episode.task.action_size)]

    def act(
        self,
        state: dict[int, list[float]],
        observations: Sequence[Observation],
        rewards: Sequence[float],
        lanes: Sequence[int],
    ) -> tuple[list[Action], dict[int, list[float]]]:
        time.sleep(self.slow_s)
        self.acted += 1
        found: list[Action] = []
        for lane, seen, reward in zip(lanes, observations, rewards, strict=True):
            memory = state[lane]
            memory[0] = float(np.tanh(memory[0] + (reward if memory[1] else 0.0) + float(seen.mean())))
            memory[1] += 1
            found.append(np.full(int(memory[2]), memory[0], np.float32))
        return found, state

    def took(self, state: dict[int, list[float]], lanes: Sequence[int], actions: Sequence[Action]) -> None:
        for lane, action in zip(lanes, actions, strict=True):
            state[lane][0] = float(np.mean(action))

    def state_bytes(self, state: dict[int, list[float]]) -> int:
        return 24 * len(state)


@pytest.fixture(autouse=True)
def _token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, TOKEN)


@contextmanager
def serving(agent: Agent, **options: Any) -> Iterator[str]:
    """Serve ``agent``; yield what names it."""
    with AgentServer(agent, **{"token": TOKEN, **options}) as server:
        yield f"ws://127.0.0.1:{server.port}(connect_s={WAIT_S}, answer_s={WAIT_S}, retries=2)"


def played(folder: Path) -> list[tuple[Any, ...]]:
    records = Run(folder).records()
    found = [
        (one.task, one.episode, one.trajectory, one.episode_return, one.length, one.status) for one in records
    ]
    return sorted(found, key=str)


def test_a_served_agent_is_the_agent_and_keeps_its_contract() -> None:
    agent = CountingAgent()
    with serving(agent) as name:
        there = create_agent(name)
        assert there.rows == 2
        assert there.info.digest == "d1"
        assert there.info.training_tasks == ("x/y",)
        assert there.info.details[:2] == (("a", "b"), ("served kind", "baseline"))
        assert there.info.description.startswith("counts, served at ws://127.0.0.1:")
        assert TOKEN not in str(there.info)
        found = contract_checks(there, decisions=3)
        assert {check.status for check in found if check.subject == VECTOR_TASK.id} == {"passed"}, found
        assert [check.reason for check in found if check.status == "skipped"] == [
            "not played: no images here"
        ]
        here, states = agent, []
        for one in (here, there, create_agent(name + "~0.5"), create_agent(name + "~0.5")):
            state = one.start(2)
            one.reset(state, [0, 1], [Episode(VECTOR_TASK, 1 << 100), Episode(VECTOR_TASK, 5)])
            actions: list[Any] = []
            for step in range(6):
                seen = [np.full(39, step + lane, np.float32) / 50 for lane in (1, 0)]
                given, state = one.act(state, seen, [0.1 * step, -step], [1, 0])
                actions += given
            states.append(np.array(actions).tobytes())
            assert one.state_bytes(state) >= 48
        assert states[0] == states[1] != states[2] == states[3]


def model_agent() -> Agent:
    config = ModelConfig(32, 2, backbone=XLSTMConfig(slstm_at=(1,)))
    return ModelAgent(build_model(config, 3), trained=False, description="tiny", digest="d2")


def test_a_model_acts_alike_here_and_served_bit_for_bit(tmp_path: Path) -> None:
    """The runs' records hold a checksum over every observation, action and reward."""
    evaluate({"a": model_agent()}, "toy/reach", tmp_path / "here", episodes=6, machine=MACHINE)
    with serving(model_agent()) as name:
        evaluate({"a": name}, "toy/reach", tmp_path / "there", episodes=6, machine=MACHINE)
    assert len(played(tmp_path / "here")) == 6
    assert played(tmp_path / "here") == played(tmp_path / "there")
    files = [file for file in (tmp_path / "there").rglob("*") if file.is_file()]
    assert files
    assert not [file for file in files if TOKEN.encode() in file.read_bytes()]


def test_a_server_that_leaves_costs_a_sentence_and_the_run_is_resumed(tmp_path: Path) -> None:
    class LeavingAgent(CountingAgent):
        def act(self, *given: Any) -> Any:
            if self.acted == 9:
                raise RuntimeError("out of memory")
            return super().act(*given)

    with serving(LeavingAgent()) as name:
        with pytest.raises(LramError, match="the agent raised RuntimeError: out of memory"):
            evaluate({"a": name}, "toy/reach", tmp_path / "run", episodes=6, machine=MACHINE)
        port = int(re.search(r":(\d+)\(", name)[1])  # type: ignore[index]
    before = len(played(tmp_path / "run"))
    assert before < 6
    with serving(CountingAgent(), port=port):
        resume(tmp_path / "run", trust=Trust(specs=[name]))
    with serving(CountingAgent()) as other:
        evaluate({"a": other}, "toy/reach", tmp_path / "whole", episodes=6, machine=MACHINE)
    assert played(tmp_path / "run") == played(tmp_path / "whole")


def test_a_connection_is_made_again_between_episodes_and_not_within_one() -> None:
    agent = CountingAgent()
    seen = [np.ones(39, np.float32)]
    with AgentServer(agent, token=TOKEN) as server:
        port = server.port
        there = create_agent(f"ws://127.0.0.1:{port}(connect_s={WAIT_S}, answer_s={WAIT_S}, retries=2)")
        state = there.start(2)
        there.reset(state, [0, 1], [Episode(VECTOR_TASK, 1), Episode(VECTOR_TASK, 2)])
        first, state = there.act(state, seen, [0.0], [0])
    with AgentServer(agent, token=TOKEN, port=port):
        with pytest.raises(AgentError, match="closed the connection"):
            there.act(state, seen, [0.0], [0])  # in the middle of lane 0's episode
        second, state = there.act(state, seen, [0.0], [1])  # lane 1 only begins
        with pytest.raises(AgentError, match=r"lost in the middle of 1 episodes, .*resume the run"):
            there.act(state, seen, [0.0], [0])
        there.reset(state, [0], [Episode(VECTOR_TASK, 1)])
        again, state = there.act(state, seen, [0.0], [0])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_another_agent_behind_the_same_address_is_noticed() -> None:
    with AgentServer(CountingAgent(), token=TOKEN) as server:
        port = server.port
        there = create_agent(f"ws://127.0.0.1:{port}")
    with AgentServer(RandomAgent(), token=TOKEN, port=port), pytest.raises(AgentError, match="another agent"):
        there.start(1)


def test_a_decisions_time_holds_the_network(tmp_path: Path) -> None:
    with serving(CountingAgent(slow_s=0.01)) as name:
        evaluate({"a": name}, "toy/reach", tmp_path / "run", episodes=1, machine=MACHINE)
    (record,) = Run(tmp_path / "run").records()
    assert record.measured is not None
    assert record.measured.agent_s >= 0.01 * record.length


def connect(name: str, token: str = TOKEN, **options: Any) -> Any:
    headers = {"Authorization": f"Api-Key {token}"} if token else {}
    url = name.partition("(")[0]
    return websockets.sync.client.connect(
        url, additional_headers=headers, proxy=None, open_timeout=WAIT_S, close_timeout=5, **options
    )


def test_nobody_is_answered_without_the_token_and_no_browser_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(CountingAgent()) as name:
        for token in ("", "a-token-of-somebody-else"):
            with pytest.raises(websockets.exceptions.InvalidStatus, match="401"), connect(name, token):
                pass
        with (
            pytest.raises(websockets.exceptions.InvalidStatus, match="403"),
            connect(name, origin="http://127.0.0.1"),
        ):
            pass
        monkeypatch.setenv(VARIABLE, "a-token-of-somebody-else")
        with pytest.raises(AgentError, match="refuses the token, or wants one; set LRAM_SERVE_TOKEN"):
            create_agent(name)


def test_a_client_of_openpi_plays_the_servers_task() -> None:
    agent = CountingAgent()
    state = agent.start(1)
    agent.reset(state, [0], [Episode(VECTOR_TASK, 4)])
    seen = np.ones(39, np.float32)
    expected = [agent.act(state, [seen], [reward], [0])[0][0] for reward in (0.0, 0.5)]
    with serving(agent, task=VECTOR_TASK, seed=4) as name, connect(name) as client:
        assert "lram" in unpack(client.recv(WAIT_S))
        for reward, wanted in zip((0.0, 0.5), expected, strict=True):
            client.send(pack({"observation/state": seen, "prompt": "go", "reward": reward}))
            answer = unpack(client.recv(WAIT_S))
            assert answer["actions"].shape == (1, 4)
            assert np.array_equal(answer["actions"][0], wanted)
            assert answer["server_timing"]["infer_ms"] >= 0
        plain = create_agent(name.replace("(", "(protocol='openpi', "))
        other = plain.start(1)
        plain.reset(other, [0], [Episode(VECTOR_TASK, 0)])
        assert np.array_equal(plain.act(other, [seen], [0.0], [0])[0][0], expected[0])
        client.send(pack({"prompt": "go"}))
        assert "there is no observation" in client.recv(WAIT_S)
        with pytest.raises(websockets.exceptions.ConnectionClosed):
            client.recv(WAIT_S)


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({"lram": "explode"}, "there is no question 'explode'"),
        ({"lram": 3}, "the field 'lram' of a message is a int"),
        ({"lram": "start", "lanes": 1 << 20}, "1 to 4096 lanes"),
        ({"lram": "start", "lanes": True}, "'lanes' of a message is a bool"),
        ({"lram": "act", "before": [], "lanes": [0], "observations": [], "rewards": []}, "holds no episode"),
        ({"lram": "act", "before": [], "lanes": [], "observations": [], "rewards": []}, "one at least"),
        ({"lram": "act", "before": [], "lanes": [0, 0]}, "names a lane twice"),
        ({"lram": "act", "before": [{"reset": [0], "episodes": []}]}, "an episode for each"),
        ({"lram": "act", "before": [{"reset": [0], "episodes": [{"seed": "-1"}]}]}, "is no number"),
        (
            {"lram": "act", "before": [{"reset": [0], "episodes": [{"seed": "1", "task": {}}]}]},
            "observation_shape",
        ),
        ({"lram": "act"}, "no field 'before'"),
        ({"lram": "refuses", "task": {"observation_shape": [3]}}, "the task is none"),
    ],
)
def test_a_bad_question_is_answered_with_a_sentence(question: dict[str, Any], words: str) -> None:
    from lram.agents.adapters.served.messages import MessageError
    from lram.harness.serving.session import ServedSession

    session = ServedSession(CountingAgent())
    session.answer({"lram": "start", "lanes": 2})
    with pytest.raises(MessageError, match=words):
        session.answer(question)


def test_bad_messages_cost_their_client_alone() -> None:
    with serving(CountingAgent()) as name, connect(name) as good:
        good.recv(WAIT_S)
        with connect(name) as bad:
            bad.recv(WAIT_S)
            bad.send(b"\xc1\xc1")
            assert "is no msgpack" in unpack(bad.recv(WAIT_S))["error"]
        with connect(name) as openpi:
            openpi.recv(WAIT_S)
            openpi.send(pack({"observation": 1}))
            assert "--task" in openpi.recv(WAIT_S)
        with connect(name) as gone:
            gone.recv(WAIT_S)
            gone.socket.shutdown(socket.SHUT_RDWR)  # both sides see the end; a close would wake nobody
        good.send(pack({"lram": "bang"}))
        assert "no question" in unpack(good.recv(WAIT_S))["error"]
        good.send(pack({"lram": "state_bytes"}))
        assert unpack(good.recv(WAIT_S)) == {"bytes": 0}


def test_a_label_stands_before_an_address() -> None:
    given = ["mine=ws://host:8000~0.1", "ws://host:8000(token_file='t', answer_s=3)", "ws://host:8001"]
    specs = labelled_specs(given)
    assert specs == {"mine": given[0].partition("=")[2], given[1]: given[1], given[2]: given[2]}


def test_a_folder_of_others_sends_no_token_to_its_server() -> None:
    (named,) = foreign(["random", "ws://example.org:80~0.1"], {}, NONE)
    assert "the server ws://example.org:80" in named
    assert foreign(["ws://example.org:80"], {}, Trust(specs=["ws://example.org:80"])) == []


@contextmanager
def command(folder: Path, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Start ``lram``; it is killed after two minutes, or when the block ends, so that no wait is for ever."""
    # Where the tests run in the background of a shell, Ctrl-C is ignored by all that they start.
    with subprocess.Popen(
        [*ready_python(), "-c", HEED_CTRL_C, *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != VARIABLE},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        end = Timer(120, process.kill)
        end.start()
        try:
            yield process
        finally:
            end.cancel()
            process.kill()


def test_the_command_serves_until_it_is_stopped(tmp_path: Path) -> None:
    with command(tmp_path, "serve", "random", "--port", "0") as server:
        assert server.stdout is not None
        first, second = server.stdout.readline(), server.stdout.readline()
        (url,) = re.findall(r"ws://127\.0\.0\.1:\d+", first)
        token = second.strip().removeprefix(f"{VARIABLE}=")
        (tmp_path / "token").write_text(f"{token}\n")
        with pytest.raises(AgentError, match="refuses the token"):
            create_agent(f"{url}(connect_s={WAIT_S})")
        there = create_agent(f"{url}(token_file={str(tmp_path / 'token')!r}, connect_s={WAIT_S})")
        assert there.info.description.startswith("uniform") or "random" in there.info.description
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=WAIT_S)
    assert server.returncode == 0, said
    assert "was refused" in said
    assert said.splitlines()[-1].endswith(("stopped", "went"))
    assert token not in said
    for words, refusal in (
        (["--no-token", "--host", "0.0.0.0"], "--no-token goes with"),
        (["--port", "99999"], "0 to 65535"),
    ):
        with pytest.raises(LramError, match=refusal):
            give(["serve", "random", *words])


def test_a_client_costs_the_server_no_more_than_the_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    from lram.harness.serving import server

    monkeypatch.setattr(server, "MAX_BYTES", 1 << 16)
    monkeypatch.setattr(server, "MOST_CLIENTS", 2)
    left = Event()
    with (
        serving(CountingAgent(), say=lambda text: left.set() if text.endswith("went") else None) as name,
        connect(name) as good,
    ):
        good.recv(WAIT_S)
        with connect(name) as big:
            big.recv(WAIT_S)
            big.send(bytes(1 << 17))
            with pytest.raises(websockets.exceptions.ConnectionClosed) as closed:
                big.recv(WAIT_S)
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009
        assert left.wait(WAIT_S)  # the server counts a client until its thread has ended
        with connect(name) as second:
            assert isinstance(second.recv(WAIT_S), bytes)
            with connect(name) as third:
                assert third.recv(WAIT_S) == "there are 2 clients already; close one"
        good.send(pack({"lram": "state_bytes"}))
        assert unpack(good.recv(WAIT_S)) == {"bytes": 0}


def test_a_client_that_is_gone_at_once_leaves_its_place() -> None:
    room, said = BoundedSemaphore(1), []
    server = SimpleNamespace(_room=room, _say=said.append)
    AgentServer._handle(server, SimpleNamespace(remote_address=None))  # as of a connection that was reset
    assert room.acquire(blocking=False)
    assert said[-1] == "a client went"


def test_clients_do_not_share_a_state() -> None:
    with serving(CountingAgent()) as name:
        agents = [create_agent(name), create_agent(name)]
        found: list[list[bytes]] = [[], []]
        states = [agent.start(1) for agent in agents]
        for agent, state in zip(agents, states, strict=True):
            agent.reset(state, [0], [Episode(VECTOR_TASK, 3)])
        for step in range(3):
            for number, agent in enumerate(agents):
                seen = [np.full(39, step / 10, np.float32)]
                (action,), _ = agent.act(states[number], seen, [0.5], [0])
                found[number].append(np.asarray(action).tobytes())
        assert found[0] == found[1]
