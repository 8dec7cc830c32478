"""What the command line says of arguments that it does not know, and of itself."""

from __future__ import annotations

import pytest
from cyclopts import App, CycloptsError

from lram.harness.cli import _usage, app
from lram.harness.cli.training import COMMANDS, field_rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tsks"], "lram has no command 'tsks'; did you mean 'lram tasks'?"),
        (["data", "foo"], "lram data has no command 'foo'; it has import, info, rebuild, verify"),
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


def test_help_is_whole_and_in_plain_words() -> None:
    helps = documented(app)
    assert {"import", "verify", "finetune", "model"} <= {name for name, _ in helps}
    for name, text in helps:
        assert text.strip(), name
        for riddle in ("gone on with", "fields above", "Goes on", "come along", "told"):
            assert riddle not in text, (name, riddle)
    (finetune,) = [command for command, name in COMMANDS if name == "finetune"]
    for row in field_rows(defaults=False):
        assert row in str(finetune.__doc__)
