"""What an interpreter has is found out in the surroundings in which a worker would run."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lram.envs.availability import environment, probe, required_modules
from lram.envs.checkouts import package_folder
from lram.envs.errors import InterpreterError
from lram.envs.session import Domain, EvaluationProtocol, Session, SourceTree


def never(task: str, protocol: EvaluationProtocol) -> Session:
    raise AssertionError


ARMS = Domain(
    name="arms",
    protocols=(EvaluationProtocol("plain", 1, "As it is."),),
    make=never,
    requires=("physics",),
    sources=(
        SourceTree("gadget", "https://git.example/gadget", "1" * 40, "MIT"),
        SourceTree("kitchen", "https://git.example/zoo", "2" * 40, "MIT", ("Kitchen_*", "Hammer_*")),
    ),
)


@pytest.fixture
def another(tmp_path: Path) -> str:
    """This Python under another name, so that it is asked from outside."""
    link = tmp_path / "python"
    link.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    link.chmod(0o755)
    return str(link)


def test_another_interpreter_tells_the_same_as_this_one(another: str) -> None:
    asked = (["numpy", "no_such_module", "no.such.module"], ["numpy", "no-such-distribution"])
    here, there = probe(None, *asked), probe(another, *asked)
    assert here == there
    assert here.absent == ("no_such_module", "no.such.module")
    assert list(here.versions) == ["numpy"]
    assert here.python == "{}.{}.{}".format(*sys.version_info[:3])


def test_the_working_directory_is_not_searched_and_pythonpath_is(
    another: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder / f"from_{folder}").mkdir(parents=True)
        (tmp_path / folder / f"from_{folder}" / "__init__.py").write_text("")
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "there"))
    assert probe(another, ["from_here", "from_there"]).absent == ("from_here",)


def test_a_mere_folder_is_no_package(another: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``git clone .../gadget`` makes one that is called like the package in it."""
    (tmp_path / "gadget" / "gadget").mkdir(parents=True)
    (tmp_path / "gadget" / "gadget" / "__init__.py").write_text("")
    asked = ["gadget", "sys", "_frozen_importlib", "math", "json", "numpy"]
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(tmp_path)
    assert probe(None, asked).absent == probe(another, asked).absent == ("gadget",)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "gadget"))
    monkeypatch.syspath_prepend(tmp_path / "gadget")
    assert probe(None, asked).absent == probe(another, asked).absent == ()


_ASK = """
import sys
from lram.envs.availability import probe
found = probe(None, ["gadget"], ["gadget"])
print(found.absent, found.versions)
"""
LACKS, HAS = "('gadget',) {}\n", "() {'gadget': '7'}\n"


@pytest.mark.parametrize(
    ("start", "told", "said"),
    [
        (("-c", _ASK), None, LACKS),
        (("-m", "ask"), None, LACKS),
        (("ask.py",), None, LACKS),
        (("-c", _ASK), ".", HAS),
        (("-m", "ask"), ".", HAS),
        (("-P", "-c", _ASK), ".", HAS),
        (("-c", _ASK.replace("found =", "sys.path.append(sys.argv[1]); found =")), None, HAS),
    ],
)
def test_this_interpreter_is_asked_for_what_a_worker_would_find(
    tmp_path: Path, start: tuple[str, ...], told: str | None, said: str
) -> None:
    """Where Python was started, and the script's folder, are on its own path only."""
    (tmp_path / "ask.py").write_text(_ASK)
    (tmp_path / "gadget").mkdir()
    (tmp_path / "gadget" / "__init__.py").write_text("")
    (tmp_path / "gadget-7.dist-info").mkdir()
    (tmp_path / "gadget-7.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: gadget\nVersion: 7\n"
    )
    variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    if told is not None:
        variables["PYTHONPATH"] = str(tmp_path / told)
    answer = subprocess.run(
        [sys.executable, *start, str(tmp_path)],
        cwd=tmp_path,
        env=variables,
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout == said


def test_what_a_start_file_prints_does_not_disturb(another: str, tmp_path: Path) -> None:
    noisy = tmp_path / "noisy"
    noisy.write_text(f'#!/bin/sh\necho welcome\nexec "{another}" "$@"\n')
    noisy.chmod(0o755)
    assert probe(str(noisy), ["numpy"]).absent == ()


def test_a_home_of_this_python_is_not_forced_on_another(
    another: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONHOME", "/no/such/home")
    assert "PYTHONHOME" not in environment(another)
    assert probe(another, ["numpy"]).absent == ()


def test_an_interpreter_that_is_not_there_cannot_be_run(tmp_path: Path) -> None:
    with pytest.raises(InterpreterError, match="cannot be run"):
        probe(str(tmp_path / "python"), [])


def test_tasks_need_the_source_trees_that_name_them() -> None:
    assert required_modules(ARMS) == ["physics", "gadget"]
    assert required_modules(ARMS, ["Stack_D0"]) == ["physics", "gadget"]
    assert required_modules(ARMS, ["Stack_D0", "Hammer_D1"]) == ["physics", "gadget", "kitchen"]


def test_a_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gadget").mkdir()
    (tmp_path / "gadget" / "__init__.py").write_text("raise SystemExit\n")
    (tmp_path / "empty").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert package_folder("gadget") == tmp_path / "gadget"
    assert package_folder("empty") is None
    assert package_folder("no_such_module") is None
    assert "gadget" not in sys.modules


def test_what_a_worker_imports_needs_the_standard_library_and_numpy_only() -> None:
    """Before the first episode; a simulator comes with that."""
    script = (
        "import sys\nbefore = set(sys.modules)\nimport lram.envs.workers.worker\n"
        "from lram.envs.registry import domain_names, load_domain\n"
        "[load_domain(name) for name in domain_names()]\n"
        "names = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*(name for name in names - set(sys.stdlib_module_names) if 'cython' not in name))"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert set(answer.stdout.split()) <= {"lram", "numpy"}


@pytest.mark.parametrize(
    "answer",
    [
        "null",
        "[]",
        "{}",
        '{"python": [3, 11, 7], "absent": [], "versions": []}',
        '{"python": "3.11", "absent": [], "versions": {}}',
        '{"python": [3, 11, true], "absent": [], "versions": {}}',
        '{"python": [3, 11, 7], "absent": [5], "versions": {}}',
        '{"python": [3, 11, 7], "absent": [], "versions": {"numpy": 2}}',
        "[" * 100_000,
        "",
    ],
)
def test_an_interpreter_that_tells_something_else_is_of_no_use(tmp_path: Path, answer: str) -> None:
    (tmp_path / "answer").write_text(answer)
    link = tmp_path / "python"
    link.write_text(f'#!/bin/sh\ncat "{tmp_path}/answer"\n')
    link.chmod(0o755)
    with pytest.raises(InterpreterError, match="cannot be run"):
        probe(str(link), ["numpy"])
