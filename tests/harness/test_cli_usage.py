"""What the command line says of arguments that it does not know, and of itself."""

from __future__ import annotations

import ast
import inspect
import io
import re
from pathlib import Path

import pytest
from cyclopts import App, CycloptsError
from rich.console import Console
from rich.markdown import Markdown

from lram.harness.cli import COMMANDS, _usage, app
from lram.harness.cli.train import field_rows

FOLDER = Path(__file__).parents[2] / "harness/cli"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tsks"], "lram has no command 'tsks'; did you mean 'lram tasks'?"),
        (["data", "foo"], "lram data has no command 'foo'; it has export, import, info, rebuild, verify"),
        (["env", "foo"], "lram env has no command 'foo'; it has check, install, list, remove"),
        (["env", "chek"], "lram env has no command 'chek'; did you mean 'lram env check'?"),
        (["bench", "foo"], "lram bench has no command 'foo'; it has model, train"),
        (["train", "--sett"], "Unknown option: --sett. Did you mean --set?; see 'lram train --help'"),
        (["eval"], "Command \"eval\" parameter AGENTS requires an argument; see 'lram eval --help'"),
        (
            ["resume", "a", "b"],
            "lram resume takes no more arguments: 'b' is too much; see 'lram resume --help'",
        ),
    ],
)
def test_an_argument_that_is_not_known_is_answered_with_what_is(arguments: list[str], message: str) -> None:
    with pytest.raises(CycloptsError) as error:
        app(arguments, exit_on_error=False, print_error=False)
    assert _usage(error.value) == message


def test_an_unknown_command_is_answered_with_all_that_there_are() -> None:
    with pytest.raises(CycloptsError) as error:
        app(["foo"], exit_on_error=False, print_error=False)
    known = [name for name in app if not name.startswith("-")]
    assert len(known) > 20
    assert _usage(error.value) == f"lram has no command 'foo'; it has {', '.join(sorted(known))}"


NO_COMMANDS = {"__main__", "exits", "options", "printing"}
"""What commands share."""


def test_each_command_is_one_module_that_has_its_name() -> None:
    there = {Path(place.name).stem for place in FOLDER.iterdir() if place.name[0] not in "_."}
    modules = {name.replace("-", "_") for name, _ in COMMANDS}
    assert there | {"__main__"} == modules | NO_COMMANDS
    for name, command in COMMANDS:
        if not isinstance(command, App):
            assert command.__module__ == f"lram.harness.cli.{name.replace('-', '_')}"
            continue
        below = [inner for inner in command if not inner.startswith("-")]
        files = {file.stem for file in (FOLDER / name).glob("*.py")} - {"__init__"}
        assert {file.removesuffix("_") for file in files} == set(below)  # import_: import is a keyword
        for inner in below:
            default = command[inner].default_command
            assert default is not None
            assert default.__module__.removesuffix("_") == f"lram.harness.cli.{name}.{inner}"


def test_commands_are_registered_in_the_order_of_the_help() -> None:
    names = [name for name, _ in COMMANDS]
    assert names == sorted(names) == [name for name in app if not name.startswith("-")]


def test_an_option_with_the_same_words_is_declared_once() -> None:
    """In options.py, and not again by each command."""
    places: dict[str, set[str]] = {}
    for file in sorted(FOLDER.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Parameter":
                text = ast.unparse(node)
                places.setdefault(text, set()).add(str(file.relative_to(FOLDER)))
    assert {text: files for text, files in places.items() if len(files) > 1} == {}


def documented(level: App) -> list[tuple[str, str]]:
    """Return every command below a level, with its help."""
    found = []
    for name in level:
        if name.startswith("-"):
            continue
        if list(below := level[name]) and any(not inner.startswith("-") for inner in below):
            found += documented(below)
        found.append((name, str(below.help)))
    return found


def test_no_star_of_a_help_is_taken_for_emphasis() -> None:
    for name, text in documented(app):
        console = Console(file=io.StringIO(), width=100)
        console.print(Markdown(inspect.cleandoc(text)))
        # Stars that begin the line of a list are shown as bullets.
        assert console.file.getvalue().count("*") == len(re.findall(r"(?m)(?<!^    )\*", text)), name


def test_help_is_whole_and_in_plain_words() -> None:
    helps = documented(app)
    assert {"import", "verify", "finetune", "model"} <= {name for name, _ in helps}
    for name, text in helps:
        assert text.strip(), name
        for riddle in ("gone on with", "fields above", "Goes on", "come along", "told"):
            assert riddle not in text, (name, riddle)
    finetune = dict(COMMANDS)["finetune"]
    for row in field_rows(defaults=False):
        assert row in str(finetune.__doc__)
