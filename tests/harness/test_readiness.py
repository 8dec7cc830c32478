"""What an interpreter lacks is named, with the command that fixes it, in one sentence."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.ready import ready_python

from lram.envs.availability import Probe
from lram.envs.session import (
    Domain,
    EvaluationProtocol,
    InterpreterRecipe,
    Session,
    SourceTree,
)
from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate
from lram.harness.interpreters import readiness as readiness_module
from lram.harness.interpreters.folder import Interpreter, UsedSource, commit, place
from lram.harness.interpreters.readiness import LackingError, readiness, ways_to_install


def never(task: str, protocol: EvaluationProtocol) -> Session:
    raise AssertionError("no session is made to find out whether one can be")


OLD = EvaluationProtocol("old", 1, "As published.", versions={"arms": "1.4.1", "physics": "2.3.2"})
NEW = EvaluationProtocol("new", 1, "Corrected.", versions={"arms": "1.4.1", "physics": "3.3.0"})
ARMS = Domain(
    name="arms",
    protocols=(OLD, NEW),
    make=never,
    requires=("arms", "physics"),
    install="lram-bench[arms]",
    sources=(
        SourceTree("gadget", "https://git.example/gadget", "1" * 40, "MIT"),
        SourceTree("kitchen", "https://git.example/zoo", "2" * 40, "MIT", ("Kitchen_*",)),
    ),
    interpreter=InterpreterRecipe(("arms==1.4.1", "physics==2.3.2")),
)
PLAIN = Domain(
    name="plain",
    protocols=(EvaluationProtocol("plain", 1, "As it is."),),
    make=never,
    requires=("games",),
    install="lram-bench[plain]",
    interpreter=InterpreterRecipe(("games==1",)),
)


@pytest.fixture
def has(monkeypatch: pytest.MonkeyPatch, home: Path) -> Any:
    """Pretend that the interpreter, whichever is asked, lacks modules and has versions."""

    def pretend(*absent: str, **versions: str) -> None:
        def probe(python: str | None, modules: list[str], distributions: tuple[str, ...] = ()) -> Probe:
            return Probe("3.11.7", tuple(name for name in modules if name in absent), versions)

        monkeypatch.setattr(readiness_module, "probe", probe)

    return pretend


def own(domain: str, *modules: str) -> str:
    """Let ``domain`` have an installed interpreter, with checkouts of ``modules``; return its path."""
    where = place(domain)
    where.folder.mkdir(parents=True, exist_ok=True)
    sources = tuple(UsedSource(module, "/checkouts", "", "MIT") for module in modules)
    commit(where, Interpreter(domain, "3.11.7", str(where.python), (), {}, sources, "pip 25", "now", "0"))
    return str(where.python)


def problem(domain: Domain, *tasks: str, python: str | None = None, protocol: str | None = None) -> str:
    with pytest.raises(LramError) as error:
        readiness(domain, tasks or ("Lift",), python, protocol)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(("physics", "protocol"), [("2.3.2", "old"), ("3.3.0", "new")])
def test_the_default_is_the_first_protocol_that_fits_the_versions(
    has: Any, physics: str, protocol: str
) -> None:
    has(arms="1.4.1", physics=physics)
    assert readiness(ARMS, ["Lift"]).protocol.name == protocol


def test_a_protocol_that_stands_on_no_version_fits_always(has: Any) -> None:
    has()
    assert readiness(PLAIN, ["Pong"]).protocol.name == "plain"


def test_a_missing_simulator_is_named_with_its_commands(has: Any) -> None:
    has("games")
    assert problem(PLAIN) == (
        "not installed: plain (lacks games: pip install 'lram-bench[plain]' or lram env install plain)"
    )


def test_a_domain_with_checkouts_belongs_into_an_interpreter_of_its_own(has: Any) -> None:
    has("arms", "physics", "gadget")
    assert problem(ARMS) == (
        "not installed: arms (lacks arms, physics, gadget: git clone https://git.example/gadget gadget && "
        f"git -C gadget checkout --quiet {'1' * 40} && lram env install arms --source gadget)"
    )
    assert ways_to_install(ARMS) == (
        "git clone https://git.example/gadget gadget && "
        f"git -C gadget checkout --quiet {'1' * 40} && lram env install arms --source gadget"
    )


@pytest.mark.parametrize("absent", [("games",), ("gadget",), ("arms", "gadget")])
def test_another_interpreter_that_lacks_something_is_to_be_left_out(
    has: Any, absent: tuple[str, ...]
) -> None:
    """An install alone changes nothing while --python names another."""
    has(*absent)
    domain = PLAIN if "games" in absent else ARMS
    text = problem(domain, python="/other/bin/python")
    assert text.endswith(f", and leave --python {domain.name}=/other/bin/python out)")
    assert f"lram env install {domain.name}" in text
    assert ("git clone https://git.example/gadget gadget && " in text) == ("gadget" in absent)


def test_what_its_own_interpreter_has_need_not_be_installed(has: Any) -> None:
    has("gadget", arms="1.4.1", physics="2.3.2")
    own("arms")
    for python, told in (("/other/bin/python", "/other/bin/python"), (None, "main")):
        assert "--force" in problem(ARMS, python=python)
        assert f", and leave --python arms={told} out)" in problem(ARMS, python=python)
    own("arms", "gadget")
    for python, told in (("/other/bin/python", "/other/bin/python"), (None, "main")):
        assert problem(ARMS, python=python).endswith(
            f": leave --python arms={told} out: its own interpreter has that)"
        )


def test_a_domain_without_a_recipe_lacks_what_no_install_brings(has: Any) -> None:
    has("games", "gadget")
    bare = replace(PLAIN, interpreter=None)
    assert "install games there, or give another path with --python plain=PATH" in problem(
        bare, python="/o/p"
    )
    assert problem(replace(ARMS, interpreter=None)).endswith(f"{'1' * 40}, and name gadget in PYTHONPATH)")


def test_a_missing_checkout_is_named_with_its_commands(has: Any) -> None:
    has("gadget", arms="1.4.1", physics="3.3.0")
    assert problem(ARMS) == (
        "not installed: arms (lacks the checkout of gadget: git clone https://git.example/gadget gadget && "
        f"git -C gadget checkout --quiet {'1' * 40} && lram env install arms --source gadget)"
    )


def test_a_checkout_that_some_tasks_need_is_asked_for_with_them_only(has: Any) -> None:
    has("kitchen", arms="1.4.1", physics="2.3.2")
    assert readiness(ARMS, ["Lift"]).protocol.name == "old"
    text = problem(ARMS, "Lift", "Kitchen_D0", python=own("arms"))
    assert "lacks the checkout of kitchen that Kitchen_D0 needs in " in text
    assert "git clone https://git.example/zoo zoo && " in text
    assert text.endswith("lram env install arms --source zoo --force)")


def test_wrong_versions_name_both_ways_out(has: Any) -> None:
    has(arms="1.4.1", physics="3.6.0")
    assert problem(ARMS) == (
        "no protocol of arms fits this interpreter, which has physics 3.6.0: "
        "old needs physics 2.3.2 (lram env install arms makes an interpreter with that), "
        "new needs physics 3.3.0 (pip install physics==3.3.0)"
    )


def test_a_protocol_that_does_not_fit_names_the_one_that_does(has: Any) -> None:
    has(arms="1.4.1", physics="3.3.0")
    assert problem(ARMS, protocol="old") == (
        "the protocol arms:old@1 needs physics 2.3.2, and this interpreter has physics 3.3.0: "
        "lram env install arms makes an interpreter with that, or --protocol arms=new fits what is there"
    )
    has(arms="1.4.1", physics="2.3.2")
    assert problem(ARMS, protocol="new", python="/own/python") == (
        "the protocol arms:new@1 needs physics 3.3.0, and the interpreter /own/python has physics 2.3.2: "
        "pip --python /own/python install physics==3.3.0, or --protocol arms=old fits what is there"
    )


def test_main_told_for_a_domain_that_has_its_own_is_sent_back(has: Any) -> None:
    own("arms")
    has(arms="1.4.1", physics="3.3.0")
    assert "leave --python arms=main out: its own interpreter has that" in problem(ARMS, protocol="old")


def test_its_own_interpreter_that_lost_something_is_made_anew(has: Any) -> None:
    has("physics")
    python = own("arms")
    assert problem(ARMS, python=python) == (
        f"not installed: arms (lacks physics in {python}: lram env install arms --force)"
    )


def test_an_unknown_protocol_is_named(has: Any) -> None:
    has()
    assert problem(ARMS, protocol="nope") == "domain arms has no protocol 'nope'; it has old, new"


def test_what_several_domains_lack_is_told_at_once(
    custom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom.write(requires=("no_such_module",))
    monkeypatch.setattr("lram.envs.availability._present", lambda name: False)
    with pytest.raises(LramError) as error:
        evaluate(["random"], "custom,atari/freeway", tmp_path / "run")
    assert not isinstance(error.value, LackingError)
    text = str(error.value)
    assert "atari (lacks ale_py, cv2: pip install 'lram-bench[atari]' or lram env install atari)" in text
    assert "custom (lacks no_such_module: pip install 'custom-domain' or lram env install custom)" in text
    assert text.endswith("; install or select other tasks")
    assert not (tmp_path / "run").exists()


def script(file: Path, text: str) -> str:
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return str(file)


UNUSABLE = {
    "not there": (None, "cannot be run; give another path with --python toy=PATH"),
    "no Python": ("echo hello", "cannot be run; give another path with --python toy=PATH"),
    "too old": (
        """echo '{"python": [3, 8, 18], "absent": [], "versions": {}}'""",
        "is Python 3.8.18, and a worker needs 3.9 or later; give another path with --python toy=PATH",
    ),
    "no numpy": (
        """echo '{"python": [3, 9, 18], "absent": ["numpy"], "versions": {}}'""",
        "has no numpy, which a worker needs: pip --python {python} install numpy",
    ),
}


@pytest.mark.parametrize("case", UNUSABLE)
def test_an_interpreter_of_no_use_is_one_sentence_and_nothing_is_written(tmp_path: Path, case: str) -> None:
    text, words = UNUSABLE[case]
    python = str(tmp_path / "python") if text is None else script(tmp_path / "python", text)
    with pytest.raises(LramError) as error:
        evaluate(["random"], "toy/steps", tmp_path / "run", machine=Machine(interpreters={"toy": python}))
    expected = words.format(python=python)
    assert str(error.value) == f"the interpreter {python} for the domain toy {expected}"
    assert not (tmp_path / "run").exists()


def test_an_interpreter_that_does_not_answer_is_said_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lram.envs import availability
    from lram.envs.errors import InterpreterError

    monkeypatch.setattr(availability, "_ANSWER_S", 0.1)
    with pytest.raises(InterpreterError, match=r"^gave no answer within 0\.1 s$"):
        availability.probe(script(tmp_path / "python", "exec sleep 60"), ["json"])


@pytest.mark.parametrize("minor", ["3.8", "3.7", "3.6", "2.7"])
def test_pythons_that_are_too_old_can_say_so(tmp_path: Path, minor: str) -> None:
    from lram.envs.availability import probe
    from lram.envs.errors import InterpreterError
    from lram.harness.interpreters.pythons import find_python

    python = find_python(minor)
    if python is None:
        pytest.skip(f"there is no python{minor} that runs on PATH")
    with pytest.raises(InterpreterError, match=rf"is Python {minor}\.\d+, and a worker needs 3\.9 or later"):
        probe(python, ["json"])


def test_listings_and_doctor_know_what_is_installed(custom: Any, home: Path) -> None:
    custom.write(requires=("no_such_module",), protocols="EvaluationProtocol('p', 1, 'P.', {}, {'x': '1'}),")

    def lram(*arguments: str) -> str:
        command = [*ready_python(), "-m", "lram.harness.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    text = "custom is not installed here: lram env install custom or pip install 'custom-domain'"
    assert text in lram("domains")
    python = own("custom")
    assert f"custom has an interpreter of its own: {python}" in lram("domains")
    from lram.harness.doctor import _domain

    found = _domain("custom", home)
    assert (found.works, found.details) == (
        False,
        f"the interpreter {python} for the domain custom cannot be run; make it anew: "
        "lram env install custom --force",
    )
