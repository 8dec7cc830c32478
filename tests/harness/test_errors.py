"""The tree of errors is drawn as it is, and an error of any room is caught by the roots that are promised."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import lram.agents
import lram.envs
import lram.harness
import lram.reports
from lram.agents.errors import AgentError
from lram.envs.errors import EnvsError, SelectionError
from lram.envs.registry import select
from lram.harness import LramError, Machine, errors, evaluate
from lram.harness.errors import ROOTS, as_lram_error
from lram.harness.plan import build_agent, labelled_specs

ROOMS = (lram.agents, lram.envs, lram.harness, lram.reports)
LINE = re.compile(r"(?P<indent> +)(?P<name>_?[A-Z]\w+)(?: \((?P<also>\w+)\))?(?:  +\S.*)?")


def drawn(text: str) -> Iterator[tuple[str, list[str]]]:
    """Yield the classes of the tree, each with what it derives from."""
    above: list[tuple[int, str]] = []
    for line in text.splitlines():
        found = LINE.fullmatch(line)
        if found is None:
            above = above if line.startswith(" ") or not line else []
            continue
        indent = len(found["indent"])
        above = [one for one in above if one[0] < indent]
        if not hasattr(builtins, found["name"]):
            yield found["name"], [above[-1][1], *filter(None, [found["also"]])]
        above.append((indent, found["name"]))


def defined() -> dict[str, list[str]]:
    """Return the names of what each class of an exception derives from, by its name."""
    classes: dict[str, list[str]] = {}
    twice = set()
    for room in ROOMS:
        for folder in room.__path__:
            for file in Path(folder).rglob("*.py"):
                for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
                    if isinstance(node, ast.ClassDef):
                        bases = [ast.unparse(base).rpartition(".")[2] for base in node.bases]
                        twice |= {node.name} & classes.keys()
                        classes[node.name] = bases

    def is_exception(name: str) -> bool:
        there = getattr(builtins, name, None)
        if isinstance(there, type) and issubclass(there, BaseException):
            return True
        return any(is_exception(base) for base in classes.get(name, []) if base != name)

    found = {name: bases for name, bases in classes.items() if is_exception(name)}
    assert not twice & found.keys(), "a name of an error stands for one class"
    return found


@pytest.mark.slow
def test_the_tree_in_the_docstring_is_that_of_the_code() -> None:
    assert errors.__doc__ is not None
    tree = list(drawn(errors.__doc__))
    assert len(dict(tree)) == len(tree)
    assert dict(tree) == defined()


def test_a_bad_selection_an_unknown_agent_and_a_bad_precision_are_lram_errors(tmp_path: Path) -> None:
    machine = Machine(workers=1)
    for agents, tasks, its in (
        ("random", "no-such-domain/*", machine),
        ("no-such-agent", "toy/reach", machine),
        ({"mine": object()}, "toy/reach", machine),
        ("random", "toy/reach", Machine(workers=1, precision="no-such-precision")),  # type: ignore[arg-type]
    ):
        with pytest.raises(LramError) as caught:
            evaluate(agents, tasks, tmp_path / "run", episodes=1, machine=its)  # type: ignore[arg-type]
        assert str(caught.value)
        assert isinstance(caught.value.__cause__, (EnvsError, AgentError))
    with pytest.raises(LramError, match="has no protocol 'mine'; it has plain"):
        evaluate("random", "toy/reach", tmp_path / "run", episodes=1, protocols={"toy": "mine"})
    assert not (tmp_path / "run").exists()


def test_the_message_and_the_cause_stay_and_other_errors_pass() -> None:
    with pytest.raises(LramError) as caught, as_lram_error():
        raise SelectionError("there is no such thing")
    assert str(caught.value) == "there is no such thing"
    assert isinstance(caught.value.__cause__, SelectionError)
    for other in (LramError("mine"), ValueError("theirs"), KeyboardInterrupt()):
        with pytest.raises(type(other)) as kept, as_lram_error():
            raise other
        assert kept.value is other
        assert kept.value.__cause__ is None


def test_functions_of_the_harness_keep_their_names_and_types() -> None:
    assert build_agent.__name__ == "build_agent"
    assert build_agent.__doc__
    assert labelled_specs("random") == {"random": "random"}


def test_the_roots_are_apart_and_a_rooms_own_functions_raise_its_own() -> None:
    for root in ROOTS:
        assert not any(issubclass(root, other) for other in ROOTS if other is not root)
    with pytest.raises(SelectionError):
        select("no-such-domain/*")
