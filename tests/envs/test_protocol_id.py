"""The id of a protocol is taken apart and put together without loss."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lram.envs.errors import SelectionError
from lram.envs.protocol_id import ProtocolId
from lram.envs.random_play import measurements
from lram.envs.registry import domain_names, load_domain

IDS = st.builds(
    ProtocolId,
    domain=st.text(min_size=1).filter(lambda text: ":" not in text),
    name=st.text(min_size=1),
    version=st.integers(1, 10**30),
)


@pytest.mark.slow
@given(IDS)
def test_what_is_put_together_is_read_back(one: ProtocolId) -> None:
    assert ProtocolId.parse(str(one)) == one


@given(st.one_of(st.text(), st.from_regex(r"[a-z:@]*:[a-z:@]*@[0-9]{1,3}", fullmatch=True)))
def test_what_is_read_is_put_together_again(text: str) -> None:
    try:
        parsed = ProtocolId.parse(text)
    except SelectionError:
        return
    assert str(parsed) == text


def test_every_protocol_has_an_id_that_is_read_back() -> None:
    for name in domain_names():
        for protocol in load_domain(name).protocols:
            text = protocol.id(name)
            assert text == f"{name}:{protocol.name}@{protocol.version}"
            assert ProtocolId.parse(text) == ProtocolId(name, protocol.name, protocol.version)


def test_every_measurement_of_random_play_is_of_a_protocol() -> None:
    for task, protocol in measurements():
        assert ProtocolId.parse(protocol).domain == task.partition("/")[0]


def test_a_name_may_hold_the_signs_between_the_parts() -> None:
    assert ProtocolId.parse("a:b@c:d@2") == ProtocolId("a", "b@c:d", 2)
    assert ProtocolId.parse("a:b@c:d@2").versioned_name == "b@c:d@2"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "lram",
        "procgen",
        "procgen:lram",
        "lram@1",
        ":lram@1",
        "procgen:@1",
        "procgen:lram@",
        "procgen:lram@x",
        "procgen:lram@0",
        "procgen:lram@01",
        "procgen:lram@-1",
        "procgen:lram@1 ",
        "procgen:lram@\u0661",
        "procgen:lram@1\n",
        "procgen:lram@" + "9" * 5000,
    ],
)
def test_what_is_no_id_is_refused_with_one_sentence(text: str) -> None:
    with pytest.raises(
        SelectionError, match=r"is no id of a protocol; one is domain:name@version"
    ) as refusal:
        ProtocolId.parse(text)
    assert len(str(refusal.value)) < 200
    assert str(refusal.value).isprintable()


def test_only_one_module_takes_ids_apart(pytestconfig: pytest.Config) -> None:
    by_hand = re.compile(
        r"""partition\(["']:["']\)\[2\]\.r?partition\(["']@|partition\(["']@["']\)\[0\]\.partition"""
    )
    rooms = (pytestconfig.rootpath / room for room in ("envs", "agents", "harness", "reports"))
    files = [file for room in rooms for file in room.rglob("*.py")]
    assert files
    assert [str(file) for file in files if by_hand.search(file.read_text(encoding="utf-8"))] == []
