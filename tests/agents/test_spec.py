"""One parser reads how agents are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from lram.agents.spec import AgentSpec, Suffix, parse_agent


@pytest.mark.parametrize(
    ("text", "base", "suffixes"),
    [
        ("random", "random", ""),
        ("xlstm[7:1]-16M", "xlstm[7:1]-16M", ""),
        ("constant=0.5~0.3x5", "constant=0.5", "~0.3x5"),
        ("small-mamba@window=50~0.1", "small-mamba", "@window=50 ~0.1"),
        ("learner~0.5~0.1", "learner", "~0.5 ~0.1"),
        ("runs@home/checkpoint@carry", "runs@home/checkpoint", "@carry"),
        ("~/runs/checkpoint", "~/runs/checkpoint", ""),
        ("mine:make('a~b@c=1')", "mine:make('a~b@c=1')", ""),
        ("mine:make(3)~0.1", "mine:make(3)", "~0.1"),
    ],
)
def test_a_name_is_a_base_and_its_suffixes(text: str, base: str, suffixes: str) -> None:
    parsed = parse_agent(text)
    assert parsed.base == base
    assert [suffix.mark + suffix.text for suffix in parsed.suffixes] == suffixes.split()
    assert parsed.text == text


def test_heads_are_what_is_left_as_suffixes_are_taken_off() -> None:
    parsed = AgentSpec("a", (Suffix("@", "window=5"), Suffix("~", "0.1")))
    assert parsed.heads == ("a@window=5~0.1", "a@window=5", "a")


def test_a_folder_is_found_whatever_its_name_has_in_it(tmp_path: Path) -> None:
    (tmp_path / "run~1").mkdir()
    assert parse_agent(f"{tmp_path / 'run~1'}~0.1").folder == str(tmp_path / "run~1")
    assert parse_agent(str(tmp_path / "run~1")).folder == str(tmp_path / "run~1")
    assert parse_agent("random").folder == ""


def test_what_is_literal_keeps_its_marks() -> None:
    assert parse_agent("a~1~0.5", lambda text: text == "a~1") == AgentSpec("a~1", (Suffix("~", "0.5"),))


@pytest.mark.parametrize(
    ("text", "module"),
    [("mine:make(size=3)~0.1@window=4", "mine"), ("a.b:c", "a.b"), ("random", ""), ("mine:", "")],
)
def test_the_module_of_a_factory_is_named(text: str, module: str) -> None:
    assert parse_agent(text).module == module
