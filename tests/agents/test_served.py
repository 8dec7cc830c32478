"""Served policies: messages, addresses, servers of other projects, and servers that misbehave."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("websockets", reason="served policies need websockets")
pytest.importorskip("msgpack", reason="served policies need msgpack")

from support.serving import openpi_server, raw_server, shake_hands, websocket_server

from lram.agents.adapters.served.address import parse_address
from lram.agents.adapters.served.messages import KEY
from lram.agents.adapters.served.wire import WireError, pack, unpack
from lram.agents.api import Agent, AgentError, Episode, TaskSpec
from lram.agents.checks.contract import contract_checks
from lram.agents.compute import Compute
from lram.agents.factory import create_agent
from lram.agents.spec import parse_agent

VECTOR = TaskSpec("check/reach-it-v1", "check", "vector", (3,), "continuous", 2, 100.0, 10.0)
IMAGE = TaskSpec("check/seen", "check", "image", (3, 64, 64), "discrete", 5, 100.0, 10.0)
SEEN = np.arange(3, dtype=np.float32)


def test_arrays_and_plain_values_come_back_bit_for_bit() -> None:
    arrays = [
        np.arange(6).reshape(2, 3).astype(dtype)
        for dtype in ("f4", "f8", "f2", "i1", "u1", "i8", "?", ">f4", ">i2")
    ]
    values = {"a": [*arrays, np.array(np.nan), np.zeros((0, 4), np.float32)], "n": None, "x": 0.1, b"k": b"v"}
    for text_keys in (False, True):
        back = unpack(pack(values, text_keys=text_keys))
        for one, other in zip(values["a"], back.pop("a"), strict=True):
            assert (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
            assert other.flags.writeable
        assert back == {name: value for name, value in values.items() if name != "a"}
    assert unpack(pack(np.float32(0.1))) == np.float32(0.1)
    assert type(unpack(pack(np.int16(3)))) is np.int16
    transposed = np.arange(6).reshape(2, 3).T
    assert np.array_equal(unpack(pack(transposed)), transposed)


def test_an_array_is_written_as_openpi_and_vla_evaluation_harness_write_it() -> None:
    import msgpack

    fields = {"__ndarray__": True, "data": SEEN.tobytes(), "dtype": "<f4", "shape": [3]}
    assert msgpack.unpackb(pack(SEEN, text_keys=True)) == fields
    assert msgpack.unpackb(pack(SEEN)) == {key.encode(): value for key, value in fields.items()}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"dtype": "|O"}, "only booleans, integers and floats"),
        ({"dtype": "<c16"}, "only booleans, integers and floats"),
        ({"dtype": "<f16"}, "only booleans, integers and floats"),
        ({"dtype": "i4,f4"}, "only booleans, integers and floats"),
        ({"dtype": "nonsense"}, "no name of one"),
        ({"dtype": ["f4"]}, "no name of one"),
        ({"dtype": "f4" * 20}, "no name of one"),
        ({"shape": [1 << 40, 1 << 40]}, "do not fit"),
        ({"shape": [-3]}, "description is wrong"),
        ({"shape": [1] * 40}, "description is wrong"),
        ({"shape": [True, 3]}, "description is wrong"),
        ({"shape": [4]}, "do not fit"),
        ({"data": "text"}, "description is wrong"),
        ({"data": None}, "description is wrong"),
    ],
)
def test_an_array_that_is_not_what_it_says_is_refused(change: dict[str, Any], words: str) -> None:
    fields = {"__ndarray__": True, "data": SEEN.tobytes(), "dtype": "<f4", "shape": [3], **change}
    with pytest.raises(WireError, match=words):
        unpack(pack({"deep": [fields]}))


def test_objects_and_garbage_are_refused() -> None:
    for value in (np.array([object()]), np.zeros(2, "c8"), object(), {1, 2}):
        with pytest.raises(WireError):
            pack(value)
    for garbage in (
        b"",
        b"\xc1",
        b"\x80garbage",
        b"\x91" * 100_000,
        b"\xdf\xff\xff\xff\xff",
        b"\xdd\xff\xff\xff\xff",
    ):
        with pytest.raises(WireError, match="is no msgpack"):
            unpack(garbage)


@pytest.mark.parametrize(
    ("text", "base", "suffixes"),
    [
        ("ws://host:8000", "ws://host:8000", ""),
        ("ws://host:8000~0.3", "ws://host:8000", "~0.3"),
        ("ws://host:8000/~user/p@1/x", "ws://host:8000/~user/p@1/x", ""),
        ("wss://[::1]:8000(token_file='~/a@b')", "wss://[::1]:8000(token_file='~/a@b')", ""),
        ("ws://h:1(answer_s=3)~0.3x5", "ws://h:1(answer_s=3)", "~0.3x5"),
    ],
)
def test_an_address_keeps_to_the_grammar_of_names(text: str, base: str, suffixes: str) -> None:
    parsed = parse_agent(text)
    assert (parsed.base, "".join(one.mark + one.text for one in parsed.suffixes)) == (base, suffixes)
    assert not parsed.module


def test_an_address_and_its_options_are_read() -> None:
    address = parse_address("wss", "//[::1]:8000/a/b(token_file='t', answer_s=3, play='all', max_mb=2)")
    assert (address.url, address.host, address.port) == ("wss://[::1]:8000/a/b", "::1", 8000)
    assert (address.token_file, address.answer_s, address.play) == ("t", 3.0, 0)
    assert address.max_bytes == 2 << 20


@pytest.mark.parametrize(
    ("where", "words"),
    [
        ("//host", "no address of a server"),
        ("host:8000", "no address of a server"),
        ("//host:none", "no address of a server"),
        ("//host:0", "no address of a server"),
        ("//host:99999", "no address of a server"),
        ("//user:secret@host:8000", "no user, password"),
        ("//host:8000/?token=secret", "no user, password"),
        ("//host:8000(token='secret')", "holds no token"),
        ("//host:8000(3)", "no values without a name"),
        ("//host:8000(wait=3)", "no option 'wait'"),
        ("//host:8000(answer_s=0)", "answer_s is 0; give seconds"),
        ("//host:8000(answer_s=1e999)", "give seconds"),
        ("//host:8000(protocol='http')", "give one of auto, openpi, vla-eval"),
        ("//host:8000(play=-1)", "play is -1; give a whole number"),
        ("//host:8000(answer_s=open('x'))", "no plain values"),
    ],
)
def test_a_bad_address_costs_a_sentence(where: str, words: str) -> None:
    with pytest.raises(AgentError, match=words):
        parse_address("ws", where)


def play(agent: Agent, task: TaskSpec = VECTOR, decisions: int = 1, seen: Any = SEEN) -> list[Any]:
    """Return the actions of one episode that always shows ``seen``."""
    state = agent.start(1)
    agent.reset(state, [0], [Episode(task, 7)])
    found = []
    for _ in range(decisions):
        (action,), state = agent.act(state, [seen], [0.0], [0])
        found.append(action)
    return found


def served(port: int, options: str = "") -> Agent:
    return create_agent(f"ws://127.0.0.1:{port}(connect_s=5, answer_s=5, retries=1{options})")


def test_a_policy_of_openpi_sees_a_dictionary_and_its_first_action_is_played() -> None:
    asked: list[dict[str, Any]] = []

    def infer(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        chunk = np.array([[0.25, -3.0], [0.5, 0.5], [1.0, 1.0]])
        return {"actions": chunk + 0.01 * len(asked), "server_timing": {"infer_ms": 1.0}}

    with openpi_server(infer) as port:
        actions = play(served(port), decisions=2)
        assert [action.dtype for action in actions] == [np.float32] * 2
        np.testing.assert_allclose(actions, [[0.26, -1.0], [0.27, -1.0]])
        assert asked[0].keys() == {"observation/state", "prompt"}
        assert asked[0]["prompt"] == "reach it v1"
        assert asked[0]["observation/state"].tobytes() == SEEN.tobytes()
        asked.clear()
        whole = play(served(port, ", play='all', prompt='go', state_key='s'"), decisions=4)
        assert len(asked) == 2
        assert asked[0].keys() == {"s", "prompt"}
        np.testing.assert_allclose([action[1] for action in whole], [-1.0, 0.51, 1.0, -1.0])
        assert len(play(served(port, ", play=2"), decisions=4)) == 4
        assert len(asked) == 4


def test_an_image_goes_with_its_channels_last_and_a_discrete_action_is_a_whole_number() -> None:
    asked: list[dict[str, Any]] = []

    def infer(question: dict[str, Any]) -> dict[str, Any]:
        asked.append(question)
        return {"actions": np.array([[3], [4]])}

    image = np.arange(3 * 64 * 64, dtype=np.int64).astype(np.uint8).reshape(3, 64, 64)
    with openpi_server(infer) as port:
        assert play(served(port, ", play=2"), IMAGE, 2, image) == [3, 4]
    assert asked[0]["observation/image"].shape == (64, 64, 3)
    assert np.array_equal(asked[0]["observation/image"][..., 1], image[1])


def test_a_stateless_policy_by_openpi_keeps_the_contract() -> None:
    def infer(question: dict[str, Any]) -> dict[str, Any]:
        return {"actions": np.tanh(question["observation/state"][:4])[None]}

    task = TaskSpec("check/vector", "check", "vector", (39,), "continuous", 4, 100.0, 10.0)
    with openpi_server(infer) as port:
        found = contract_checks(served(port), [task], decisions=3)
    assert {check.status for check in found} == {"passed"}, found


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        (b"\xc1garbage", "is no msgpack"),
        ([1], "has no 'actions', but no dictionary"),
        ({"action": 1}, "has no 'actions', but action"),
        ({"actions": np.zeros((1, 3))}, r"of shape \(3,\), not of shape \(2,\)"),
        ({"actions": np.zeros((2, 1, 2))}, r"the actions are of shape \(2, 1, 2\)"),
        ({"actions": np.zeros((0, 2))}, "the actions are of shape"),
        ({"actions": np.full((1, 2), np.nan)}, "is not finite"),
        ({"actions": "left"}, "of the type <U4"),
        ({"actions": [[1.0], [1.0, 2.0]]}, "gave no action of check/reach-it-v1"),
    ],
)
def test_an_answer_that_is_none_costs_a_sentence(reply: Any, words: str) -> None:
    with openpi_server(lambda question: reply) as port, pytest.raises(AgentError, match=words):
        play(served(port))


def test_one_value_an_action_is_no_chunk_of_a_discrete_task() -> None:
    size = IMAGE.action_size
    image = np.zeros((3, 64, 64), np.uint8)
    for values, played in (
        (np.eye(size)[2], None),
        (np.zeros(size, np.float32), None),
        (np.arange(size) % 2, [0, 1]),
        (np.arange(size - 1) % 2 * 1.0, [0, 1]),
        ((np.arange(size) % 2 * 1.0)[:, None], [0, 1]),
        (np.float64(1), [1, 1]),
    ):
        with openpi_server(lambda question, values=values: {"actions": values}) as port:
            if played is None:
                with pytest.raises(AgentError, match=f"{size} floating-point numbers may be one value"):
                    play(served(port, ", play=2"), IMAGE, 2, image)
            else:
                assert play(served(port, ", play=2"), IMAGE, 2, image) == played


def test_an_error_of_openpis_server_is_quoted() -> None:
    def infer(question: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("observation/wrist")

    with openpi_server(infer) as port, pytest.raises(AgentError, match=r"reports an error: KeyError.*wrist"):
        play(served(port))


def test_a_lost_connection_is_made_again_for_a_policy_that_remembers_nothing() -> None:
    connections: list[int] = []

    def handle(connection: Any) -> None:
        connections.append(1)
        connection.send(pack({}))
        unpack(connection.recv())
        connection.send(pack({"actions": np.zeros((1, 2))}))  # and leaves

    with websocket_server(handle) as port:
        assert len(play(served(port), decisions=3)) == 3
    assert len(connections) == 3


def test_a_server_of_vla_evaluation_harness_is_greeted_and_told_of_episodes() -> None:
    heard: list[dict[str, Any]] = []

    def handle(connection: Any) -> None:
        for message in connection:
            given = unpack(message)
            heard.append(given)
            kinds = {"hello": "hello", "observation": "action"}
            if given["type"] in kinds:
                payload = {"actions": np.array([0.5, len(heard) / 100], np.float32)}
                answer = {**given, "type": kinds[given["type"]], "payload": payload}
                connection.send(pack(answer, text_keys=True))

    with websocket_server(handle) as port:
        agent = served(port, ", protocol='vla-eval'")
        actions = play(agent, decisions=2)
        play(
            agent,
            IMAGE.__class__("check/seen", "check", "image", (3, 64, 64), "continuous", 2, None, 1.0),
            seen=np.zeros((3, 64, 64), np.uint8),
        )
    kinds = [one["type"] for one in heard]
    assert kinds == [
        "hello",
        "episode_start",
        "observation",
        "observation",
        "hello",
        "episode_start",
        "observation",
    ]
    assert heard[2]["payload"].keys() == {"state", "task_description"}
    assert heard[-1]["payload"]["images"]["agentview"].shape == (64, 64, 3)
    np.testing.assert_allclose(actions, [[0.5, 0.03], [0.5, 0.04]], rtol=1e-6)


def test_an_error_of_vla_evaluation_harness_is_quoted() -> None:
    def handle(connection: Any) -> None:
        for message in connection:
            given = unpack(message)
            kind = "hello" if given["type"] == "hello" else "error"
            connection.send(
                pack({**given, "type": kind, "payload": {"error": "no such robot"}}, text_keys=True)
            )

    with websocket_server(handle) as port, pytest.raises(AgentError, match="reports an error: no such robot"):
        play(served(port, ", protocol='vla-eval'"))


def test_an_answer_of_vla_evaluation_harness_to_another_question_is_no_answer() -> None:
    def handle(connection: Any) -> None:
        for message in connection:
            given = unpack(message)
            kind = "hello" if given["type"] == "hello" else "action"
            late = {**given, "type": kind, "seq": given["seq"] - (kind == "action")}
            connection.send(pack({**late, "payload": {"actions": np.zeros(2)}}, text_keys=True))

    with websocket_server(handle) as port, pytest.raises(AgentError, match=r"message \d+ was answered as"):
        play(served(port, ", protocol='vla-eval'"))


def test_an_episode_of_vla_evaluation_harness_is_not_continued_on_another_connection() -> None:
    connections: list[int] = []

    def handle(connection: Any) -> None:
        connections.append(1)
        for message in connection:
            given = unpack(message)
            if given["type"] == "observation" and len(connections) == 1:
                return  # lost at the first decision: nothing is lost with it
            kinds = {"hello": "hello", "observation": "action"}
            if given["type"] in kinds:
                answer = {**given, "type": kinds[given["type"]], "payload": {"actions": np.zeros(2)}}
                connection.send(pack(answer, text_keys=True))
            if given["type"] == "observation":
                return  # and in the middle of the episode

    with websocket_server(handle) as port:
        agent = served(port, ", protocol='vla-eval'")
        assert len(play(agent)) == 1
        assert len(connections) == 2
        with pytest.raises(AgentError, match="closed the connection"):
            play(agent, decisions=2)


def silent(sock: socket.socket) -> None:
    sock.recv(1 << 16)
    time.sleep(0.6)


def without_facts(sock: socket.socket) -> None:
    shake_hands(sock)
    time.sleep(0.6)


def other_service(sock: socket.socket) -> None:
    sock.sendall(b"220 mail.example.org ESMTP\r\n")
    time.sleep(0.1)


def web_page(sock: socket.socket) -> None:
    sock.recv(1 << 16)
    sock.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")


def closes_in_a_frame(sock: socket.socket) -> None:
    shake_hands(sock)
    sock.sendall(b"\x82\x7e" + struct.pack("!H", 5000) + b"\x80" * 100)


def huge_frame(sock: socket.socket) -> None:
    shake_hands(sock)
    sock.sendall(b"\x82\x7f" + struct.pack("!Q", 1 << 30) + b"\x00" * 1000)
    sock.recv(1 << 16)


def many_parts(sock: socket.socket) -> None:
    """One message of parts that never ends."""
    shake_hands(sock)
    part = b"\x7f" + struct.pack("!Q", 1 << 18) + bytes(1 << 18)
    sock.sendall(b"\x02" + part)
    for _ in range(8):
        sock.sendall(b"\x00" + part)


def slow(sock: socket.socket) -> None:
    """A frame byte by byte: each is in time, the whole is not."""
    shake_hands(sock)
    sock.sendall(b"\x82\x7e" + struct.pack("!H", 5000))
    for _ in range(10):
        sock.sendall(b"\x80")
        time.sleep(0.05)


def breaks_the_protocol(sock: socket.socket) -> None:
    shake_hands(sock)
    sock.sendall(b"\xff\xff\xff\xff")
    sock.recv(1 << 16)


def garbage_in_a_frame(sock: socket.socket) -> None:
    shake_hands(sock)
    sock.sendall(b"\x82\x03\xc1\xc1\xc1")
    sock.recv(1 << 16)


@pytest.mark.parametrize(
    ("handle", "words"),
    [
        (silent, "did not answer as a websocket server within 0.3 s"),
        (without_facts, "gave no whole answer within 0.3 s"),
        (other_service, "did not answer as a websocket server"),
        (web_page, "HTTP status 404"),
        (closes_in_a_frame, "closed the connection"),
        (huge_frame, "sent a message of more than 1 MiB"),
        (many_parts, "sent a message of more than 1 MiB"),
        (slow, "gave no whole answer within 0.3 s"),
        (breaks_the_protocol, "breaks the websocket protocol"),
        (garbage_in_a_frame, "is no msgpack"),
    ],
)
def test_a_bad_server_costs_a_sentence_and_little_time(
    handle: Callable[[socket.socket], None], words: str
) -> None:
    with raw_server(handle) as port:
        began = time.monotonic()
        with pytest.raises(AgentError, match=words) as caught:
            create_agent(f"ws://127.0.0.1:{port}(connect_s=0.3, answer_s=0.3, max_mb=1)")
        assert time.monotonic() - began < 5
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there_costs_a_sentence() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
    with pytest.raises(AgentError, match=r"no server can be reached at ws://127.*\(Connection refused\)"):
        create_agent(f"ws://127.0.0.1:{port}")


def test_only_what_looks_like_a_token_is_sent_from_a_file(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.write_text("-----BEGIN PRIVATE KEY-----\nMIIEvQ\n")
    with openpi_server(lambda question: {}) as port:
        with pytest.raises(AgentError, match="holds no token"):
            create_agent(f"ws://127.0.0.1:{port}(token_file={str(private)!r})")
        with pytest.raises(AgentError, match="cannot be read"):
            create_agent(f"ws://127.0.0.1:{port}(token_file={str(tmp_path / 'none')!r})")


def test_options_of_other_protocols_are_refused_for_an_agent_of_lram_serve() -> None:
    def handle(connection: Any) -> None:
        connection.send(pack({KEY: {}}))
        connection.recv()

    with websocket_server(handle) as port, pytest.raises(AgentError, match="leave play, prompt out of the"):
        served(port, ", play=4, prompt='go'")


def test_a_precision_is_refused_since_the_server_computes() -> None:
    with pytest.raises(AgentError, match="leave --precision int8 out, and give it to 'lram serve'"):
        create_agent("ws://127.0.0.1:1", compute=Compute(precision="int8"))
