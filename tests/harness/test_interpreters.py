"""Interpreters of a domain's own: installed for real, used by a run, remembered by it, removed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.files import edit
from support.ready import ready_python

from lram.harness.errors import LramError
from lram.harness.evaluation import Machine, evaluate, resume
from lram.harness.interpreters import install, installed, remove, resolve
from lram.harness.interpreters import installing as installing_module
from lram.harness.interpreters.causes import cause
from lram.harness.interpreters.folder import place, used
from lram.harness.interpreters.locks import locked
from lram.harness.interpreters.pythons import find_python
from lram.harness.interpreters.surroundings import environment_for_uv
from lram.harness.progress import quiet
from lram.harness.storage.records import EpisodeRecord, Measured
from lram.harness.storage.run_folder import Run

TASKS = "toy/reach,toy/steps,toy/image,toy/lives"


def lram(*arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*ready_python(), "-m", "lram.harness.cli", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        **options,  # type: ignore[call-overload]
    )


def sentence(answer: subprocess.CompletedProcess[str]) -> str:
    """Return the one line of an error."""
    assert answer.returncode == 2, answer.stdout + answer.stderr
    (line,) = [line for line in answer.stderr.splitlines() if line.startswith("lram: ")]
    return line


def comparable(run: Run) -> list[EpisodeRecord]:
    """Return the records without what depends on the machine and the moment."""
    return [replace(record, measured=Measured(0, 0, 0, 0, 0, 0)) for record in run.records()]


def installed_with_pip(home: Path, domain: str, *, python: str | None = None) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(installing_module, "_uv", list)
        patch.setenv("LRAM_HOME", str(home))
        return install(domain, python=python).path


@pytest.fixture(scope="module")
def toy_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with toy installed, among settings of the user's that are meant for other installs."""
    folder = tmp_path_factory.mktemp("toy")
    impossible = folder / "constraints.txt"
    impossible.write_text("numpy<1\n")
    shadows = folder / "shadows" / "pip"
    shadows.mkdir(parents=True)
    (shadows / "__init__.py").write_text("raise SystemExit('the wrong pip')\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_CONSTRAINT", str(impossible))
        patch.setenv("PIP_USER", "1")
        patch.setenv("PIP_TARGET", str(folder / "elsewhere"))
        patch.setenv("PYTHONPATH", str(shadows.parent))
        installed_with_pip(folder / "home", "toy")
    return folder / "home"


@pytest.fixture
def toy(toy_home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The path of toy's own Python, with its data folder in use."""
    monkeypatch.setenv("LRAM_HOME", str(toy_home))
    return str(place("toy").python)


@pytest.fixture(scope="module")
def old_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python 3.9 with numpy and nothing else."""
    if find_python("3.9") is None:
        pytest.skip("there is no python3.9 that runs on PATH")
    return installed_with_pip(tmp_path_factory.mktemp("old"), "toy", python="3.9")


def copied(toy_home: Path, home: Path) -> str:
    """Give ``home`` an installed toy; return its Python."""

    def copy(source: str, target: str) -> None:
        # What is installed is deleted or replaced, never written to; the files beside it are, and locks lie
        # on them.
        if Path(source).relative_to(toy_home).parts[2:3] == ("venv",):
            os.link(source, target)
        else:
            shutil.copy2(source, target)

    shutil.copytree(toy_home, home, symlinks=True, copy_function=copy)
    return str(place("toy").python)


LINKING_UV = """#!/bin/sh
set -e
case "$1 $2" in
"--version "*) echo "uv 0.0 that links" ;;
"venv --no-project") exec "$4" -m venv "$5" --without-pip ;;
"pip install") cp -rl {site}/. "$(dirname "$(dirname "$4")")"/lib/python*/site-packages/ ;;
esac
"""


def link(toy_home: Path, patch: pytest.MonkeyPatch) -> None:
    """Let installers that start from now on link what ``toy_home`` has, for tests that are not about them.

    A uv that comes first on PATH does so, for toy and for domains that need the same packages.
    """
    (site,) = (toy_home / "interpreters" / "toy" / "venv" / "lib").glob("python*/site-packages")
    uv = toy_home.parent / "linking" / "uv"
    uv.parent.mkdir(exist_ok=True)
    uv.write_text(LINKING_UV.format(site=site))
    uv.chmod(0o755)
    patch.setenv("PATH", f"{uv.parent}{os.pathsep}{os.environ['PATH']}")
    # It needs no index; where none is named, half a second goes to asking pip for its own.
    patch.setenv("UV_INDEX_URL", "https://mirror.example/simple")


# Installing, listing, removing


@pytest.mark.slow
def test_an_installed_interpreter_holds_the_pins_and_says_so(toy: str) -> None:
    manifest = installed()["toy"]
    assert (manifest.domain, manifest.path) == ("toy", toy)
    assert manifest.requirements == ("numpy==1.26.4",)
    assert manifest.packages["numpy"] == "1.26.4"
    assert manifest.installer.startswith("pip ")
    (row,) = json.loads(lram("env", "list", "--json").stdout)
    assert (row["domain"], row["state"], row["path"]) == ("toy", "installed", toy)
    assert "numpy==1.26.4" in lram("env", "list").stdout


@pytest.mark.slow
def test_installing_again_leaves_it_alone(toy: str) -> None:
    before = (place("toy").folder / "interpreter.json").read_bytes()
    answer = lram("env", "install", "toy")
    assert answer.returncode == 0, answer.stderr
    assert "installed already" in answer.stderr
    assert (place("toy").folder / "interpreter.json").read_bytes() == before


@pytest.mark.slow
def test_an_installed_interpreter_plays_its_domain_and_gives_the_same_records(
    toy: str, tmp_path: Path
) -> None:
    answer = lram("eval", "random", "-t", TASKS, "-n", "2", "-o", str(tmp_path / "own"), "-q")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == f"lram: toy:plain@1 in {toy}\n"
    there = Run(tmp_path / "own")
    assert there.plan.interpreters == {"toy": toy}
    answer = lram(
        "eval", "random", "-t", TASKS, "-n", "2", "-o", str(tmp_path / "main"), "-q", "--python", "toy=main"
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    here = Run(tmp_path / "main")
    assert here.plan.interpreters == {}
    assert comparable(there) == comparable(here)


@pytest.mark.slow
def test_a_killed_install_counts_for_nothing_and_the_next_one_starts_over(
    toy_home: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = subprocess.Popen(
        [*ready_python(), "-m", "lram.harness.cli", "env", "install", "toy"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not (home / "interpreters" / "toy" / "venv" / "pyvenv.cfg").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert installed() == {}
    assert resolve(["toy"]) == {}
    (row,) = json.loads(lram("env", "list", "--json").stdout)
    assert row["state"] == "unfinished"
    litter = home / "interpreters" / "toy" / "litter"
    litter.write_text("")
    link(toy_home, monkeypatch)
    # A step of the killed install may still be running, and keeps the lock.
    while "by another process" in (answer := lram("env", "install", "toy")).stderr:
        time.sleep(0.1)
    assert answer.returncode == 0, answer.stderr
    assert not litter.exists()
    assert list(installed()) == ["toy"]
    assert resolve(["toy", "atari"]) == {"toy": str(home / "interpreters/toy/venv/bin/python")}
    answer = lram("env", "remove", "toy")
    assert answer.returncode == 0, answer.stderr
    assert not (home / "interpreters" / "toy").exists()
    assert "no interpreter of its own; installed: none" in sentence(lram("env", "remove", "toy"))


def test_a_domain_is_not_installed_twice_at_once(home: Path) -> None:
    with locked(place("toy").folder):
        assert "is being installed or removed by another process" in sentence(lram("env", "install", "toy"))
        (home / "interpreters" / "toy").mkdir()
        assert "is being installed or removed by another process" in sentence(lram("env", "remove", "toy"))


def test_ctrl_c_leaves_no_process_and_nothing_that_counts(home: Path) -> None:
    process = subprocess.Popen(
        [*ready_python(), "-m", "lram.harness.cli", "env", "install", "toy"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not (home / "interpreters" / "toy" / "venv" / "pyvenv.cfg").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "toy is not installed; the same command starts over" in output
    with locked(place("toy").folder):  # so no step of it is left
        assert installed() == {}


@pytest.mark.slow
def test_an_interpreter_that_lost_its_python_is_called_broken_and_is_installed_anew(
    toy_home: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied(toy_home, home)
    link(toy_home, monkeypatch)
    assert list(installed()) == ["toy"]
    lost = place("toy").python
    lost.unlink()
    (row,) = json.loads(lram("env", "list", "--json").stdout)
    assert row["state"] == "broken: its Python is gone"
    answer = lram("eval", "random", "-t", "toy/steps", "-o", str(home / "run"))
    assert sentence(answer).endswith("cannot be run; make it anew: lram env install toy --force")
    assert not (home / "run").exists()
    answer = lram("env", "install", "toy")
    assert answer.returncode == 0, answer.stderr
    assert "toy is broken (its Python is gone); it is installed anew" in answer.stderr
    (row,) = json.loads(lram("env", "list", "--json").stdout)
    assert (row["state"], row["path"]) == ("installed", str(place("toy").python))
    assert lost.parent.parent != place("toy").venv
    assert not lost.parent.parent.exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", ".", "..", "../precious", "{folder}", "toy/../../precious", "toy.lock"])
def test_only_what_is_listed_is_removed(home: Path, tmp_path: Path, name: str) -> None:
    precious = tmp_path / "home" / "precious"
    precious.mkdir(parents=True)
    (precious / "thesis.tex").write_text("years of work\n")
    (home / "interpreters" / "toy").mkdir(parents=True)
    before = sorted(tmp_path.rglob("*"))
    line = sentence(lram("env", "remove", name.format(folder=precious), cwd=precious))
    assert "has no interpreter of its own; installed: toy" in line
    assert sentence(lram("env", "install", name.format(folder=precious), cwd=precious))
    assert sorted(tmp_path.rglob("*")) == before


def test_a_place_is_one_folder_of_the_data_folder(home: Path) -> None:
    for name in ("", ".", "..", "/", "/etc", "a/b", "a/"):
        with pytest.raises(LramError, match="is no name of a domain"):
            place(name)
    assert place("toy").folder == home / "interpreters" / "toy"


# Installing anew


@pytest.mark.slow
@pytest.mark.parametrize("how", ["failed step", "failed trial", "interrupt"])
def test_an_install_that_fails_leaves_the_one_before(
    toy_home: Path, home: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    python = copied(toy_home, home)
    manifest = (home / "interpreters" / "toy" / "interpreter.json").read_bytes()
    if how == "failed step":
        monkeypatch.setattr(installing_module, "_uv", list)  # whose cache makes up for a lost network
        monkeypatch.setenv("PIP_NO_INDEX", "1")
        monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    elif how == "failed trial":
        link(toy_home, monkeypatch)
        monkeypatch.setattr("lram.harness.interpreters.trial.try_task", lambda *_: "no picture")
    else:
        link(toy_home, monkeypatch)

        def interrupt(*_: object) -> str:
            raise KeyboardInterrupt

        monkeypatch.setattr("lram.harness.interpreters.trial.try_task", interrupt)
    with pytest.raises((LramError, KeyboardInterrupt)) as error:
        install("toy", force=True)
    assert how == "interrupt" or str(error.value).endswith("; the one that was installed before stays")
    assert (home / "interpreters" / "toy" / "interpreter.json").read_bytes() == manifest
    assert sorted(path.name for path in place("toy").folder.glob("venv*")) == ["venv"]
    assert "$ " in place("toy").log.read_text()
    assert resolve(["toy"]) == {"toy": python}
    (row,) = json.loads(lram("env", "list", "--json").stdout)
    assert (row["state"], row["folder"]) == ("installed", str(home / "interpreters" / "toy"))
    assert lram("eval", "random", "-t", "toy/steps", "-n", "1", "-o", str(home / "run"), "-q").returncode == 0


@pytest.mark.slow
def test_a_killed_install_leaves_the_one_before_and_the_next_one_cleans_up(
    toy_home: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = copied(toy_home, home)
    run = interrupted(tmp_path / "run", python)
    process = subprocess.Popen(
        [*ready_python(), "-m", "lram.harness.cli", "env", "install", "toy", "--force"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    folder = home / "interpreters" / "toy"
    while not (folder / "venv-2" / "pyvenv.cfg").exists():
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    assert resolve(["toy"]) == {"toy": python}
    (row,) = json.loads(lram("env", "list", "--json").stdout)
    assert row["state"] == "installed"
    link(toy_home, monkeypatch)
    while "by another process" in (answer := lram("env", "install", "toy", "--force")).stderr:
        time.sleep(0.1)
    assert answer.returncode == 0, answer.stderr
    assert sorted(path.name for path in folder.glob("venv*")) == ["venv-2"]
    assert installed()["toy"].path == str(folder / "venv-2" / "bin" / "python")
    # What remembers the earlier one plays in what took its place.
    assert resolve(["toy"], {"toy": python}) == resolve(["toy"])
    resumed = resume(run)
    assert not resumed.missing()
    assert str(folder / "venv-2") in resumed.provenance()[-1].settings["interpreters"]


@pytest.mark.slow
def test_what_a_run_plays_in_is_neither_removed_nor_replaced_under_it(
    toy_home: Path, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = copied(toy_home, home)
    refusals = []

    def removing(*_: object, **__: object) -> object:
        with pytest.raises(LramError) as error:
            remove("toy")
        refusals.append(str(error.value))
        return quiet([], 0)

    evaluate(["random"], "toy/steps", tmp_path / "run", episodes=1, progress=removing)  # type: ignore[arg-type]
    assert refusals == ["the interpreter of toy is in use by a run; wait for it, or stop it"]
    link(toy_home, monkeypatch)
    with used([python]):
        answer = lram("env", "install", "toy", "--force")
        assert answer.returncode == 0, answer.stderr
        assert "note: the interpreter of toy is in use by a run" in answer.stderr
        assert Path(python).exists()
        assert place("toy").venv.name == "venv-2"
        assert "in use by a run" in sentence(lram("env", "remove", "toy"))
        assert list(installed()) == ["toy"]
    assert lram("env", "install", "toy").returncode == 0  # installed already: only cleans up
    assert sorted(path.name for path in place("toy").folder.glob("venv*")) == ["venv-2"]
    remove("toy")
    assert installed() == {}


@pytest.mark.slow
def test_a_data_folder_that_only_can_be_read_does_not_stop_a_run(
    toy_home: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python = copied(toy_home, home)
    (home / "interpreters" / "toy.used").unlink(missing_ok=True)

    def read_only(file: Path, mode: str = "r", *_: object, **__: object) -> object:
        raise OSError(30, "Read-only file system", str(file))

    monkeypatch.setattr("pathlib.Path.open", read_only)
    with used([python, sys.executable]):
        assert not (home / "interpreters" / "toy.used").exists()


def test_a_path_outside_needs_no_lock(tmp_path: Path) -> None:
    (tmp_path / "a" / "venv" / "bin").mkdir(parents=True)
    with used([str(tmp_path / "a" / "venv" / "bin" / "python"), "/usr/bin/python3"]):
        assert [path.name for path in tmp_path.iterdir()] == ["a"]


# Which Python


def command(folder: Path, name: str, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / name
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def test_a_python_on_path_that_does_not_run_is_passed_by(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command(tmp_path / "broken", "python3.77", "echo not chosen >&2; exit 127")
    working = command(tmp_path / "working", "python3.77", "echo 3.77")
    monkeypatch.setenv("PATH", f"{tmp_path / 'broken'}:{tmp_path / 'working'}")
    assert find_python("3.77") == str(working)
    working.unlink()
    assert find_python("3.77") is None


def test_the_python_behind_a_pyenv_command_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(tmp_path / "shims", "python3.77", "echo not chosen >&2; exit 127")
    behind = command(tmp_path / "versions" / "3.77.1" / "bin", "python3.77", "echo 3.77")
    monkeypatch.setenv("PATH", str(tmp_path / "shims"))
    assert find_python("3.77") == str(behind)


def test_a_domain_without_a_python_it_was_proven_with_names_them(
    custom: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom.write(recipe="InterpreterRecipe((), pythons=('3.77', '3.78'))")
    monkeypatch.setattr(installing_module, "_uv", list)
    with pytest.raises(LramError, match=r"needs Python 3\.77 or 3\.78, and none of them is on PATH"):
        install("custom")


@pytest.mark.slow
def test_another_python_than_the_installed_one_is_not_passed_over(
    toy_home: Path, home: Path, old_python: str
) -> None:
    copied(toy_home, home)
    line = sentence(lram("env", "install", "toy", "--python", old_python))
    version = installed()["toy"].python
    assert line == (
        f"lram: toy is installed with Python {version}, and not made from {old_python}; "
        f"'lram env install toy --python {old_python} --force' installs it anew"
    )
    assert "'lram env install toy --python 3.9 --force'" in sentence(
        lram("env", "install", "toy", "--python", "3.9")
    )
    for same in (sys.executable, "{}.{}".format(*sys.version_info[:2])):
        answer = lram("env", "install", "toy", "--python", same)
        assert (answer.returncode, "installed already" in answer.stderr) == (0, True), answer.stderr


@pytest.mark.parametrize("told", ["/no/such/python", "3.77"])
def test_a_python_that_is_not_there_is_named(home: Path, told: str) -> None:
    line = sentence(lram("env", "install", "toy", "--python", told))
    assert f"the Python {told} cannot be run" in line
    assert not (home / "interpreters" / "toy" / "venv").exists()


# When it fails


@pytest.fixture
def failing(custom: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The domain ``custom``, whose install is to fail; the log must tell, and nothing must count."""
    yield custom
    there = place("custom")
    assert there.interpreter is None
    assert there.log.is_file()
    assert not there.venv.exists()
    assert resolve(["custom"]) == {}


@pytest.mark.slow
def test_a_package_that_does_not_exist_is_named(failing: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(installing_module, "_uv", list)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    failing.write(recipe="InterpreterRecipe(('there-is-no-such-package==1.0',))")
    with pytest.raises(
        LramError, match=r"there is no there-is-no-such-package==1\.0 for this Python"
    ) as error:
        install("custom")
    assert str(place("custom").log) in str(error.value)
    assert "no-such-package" in place("custom").log.read_text()


@pytest.mark.slow
def test_a_simulator_that_cannot_be_played_there_is_a_failed_install(
    failing: Any, toy_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link(toy_home, monkeypatch)
    failing.write(made="raise RuntimeError('no assets')")
    with pytest.raises(LramError, match=r"custom/steady cannot be played in it: RuntimeError: no assets"):
        install("custom")


SILENT = {
    "one that says why": ("echo 'broken pipe' >&2; echo 'no such library' >&2; exit 1", "no such library"),
    "one that says nothing": ("exit 3", "its Python cannot be run: exit code 3"),
    "one that hangs": ("sleep 60", r"its Python gave no answer within 1 s"),
    "one that talks": ("echo hello", "its Python does not tell what it holds"),
}


@pytest.mark.parametrize("case", SILENT)
def test_a_python_that_does_not_answer_is_one_sentence(
    custom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    text, words = SILENT[case]
    custom.write(recipe="InterpreterRecipe((), pythons=('3.77',))")
    made = f"""if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit; fi
case "$*" in *version_info*) echo 3.77; exit;; *pip*) echo pip 25; exit;; esac
exec {text}""".replace("exec echo 'b", "echo 'b").replace("exec exit", "exit")
    fake = command(tmp_path / "bin", "python3.77", made)
    monkeypatch.setattr(installing_module, "_uv", list)
    monkeypatch.setattr(installing_module, "_ANSWER_TIMEOUT_S", 1)
    with pytest.raises(LramError, match=rf"custom cannot be installed: .*{words} \(see ") as error:
        install("custom", python=str(fake))
    assert "[" not in str(error.value)


def test_where_no_pip_of_here_runs_with_that_python_it_gets_its_own(
    custom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom.write(recipe="InterpreterRecipe((), pythons=('3.77',))")
    made = """if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit; fi
case "$*" in *version_info*) echo 3.77;; *ensurepip*) touch "$0.pip";; *__pip-runner__*) exit 1;;
"-m pip --version") if [ -e "$0.pip" ]; then echo pip 25; else exit 1; fi;; *) echo its pip is there;; esac"""
    fake = command(tmp_path / "bin", "python3.77", made)
    monkeypatch.setattr(installing_module, "_uv", list)
    with pytest.raises(LramError, match="its Python does not tell what it holds"):  # which comes after pip
        install("custom", python=str(fake))
    assert "-m ensurepip" in place("custom").log.read_text()


def test_an_installer_that_does_not_answer_is_named(
    custom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom.write()
    slow = command(tmp_path / "bin", "uv", 'if [ "$1" = --version ]; then exec sleep 60; fi')
    monkeypatch.setattr(installing_module, "_uv", lambda: [str(slow)])
    monkeypatch.setattr(installing_module, "_ANSWER_TIMEOUT_S", 1)
    with pytest.raises(LramError, match=r"'.*/uv --version' gives no answer \(see "):
        install("custom", python=sys.executable)


def test_a_data_folder_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LRAM_HOME", str(tmp_path / "file"))
    line = sentence(lram("env", "install", "toy"))
    assert f"cannot write to {tmp_path / 'file'}" in line
    assert "LRAM_HOME" in line


OUTPUTS = {
    "evdev without a compiler": (
        "  Building wheel for evdev (pyproject.toml): finished with status 'error'\n"
        "      unable to execute 'gcc': No such file or directory\n"
        "      error: command 'gcc' failed: No such file or directory\n"
        "  ERROR: Failed building wheel for evdev\n"
        "ERROR: Failed to build installable wheels for some pyproject.toml based projects (evdev)\n",
        "apt-get install gcc linux-libc-dev python3-dev",
    ),
    "evdev without the kernel's headers": (
        "Collecting evdev\n      The 'linux/input.h' and 'linux/input-event-codes.h' include files\n"
        "      are missing. You will have to install the kernel header files\n",
        "apt-get install gcc linux-libc-dev python3-dev",
    ),
    "another package without a compiler": (
        "error: command '/usr/bin/gcc' failed with exit code 1\nERROR: Failed to build labmaze\n",
        "needs a C compiler: apt-get install gcc g++ python3-dev",
    ),
    "pip without a network": (
        "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError: Failed to "
        "establish a new connection: [Errno -2] Name or service not known': /simple/numpy/\n"
        "ERROR: Could not find a version that satisfies the requirement numpy==1.26.4 (from versions: none)\n"
        "ERROR: No matching distribution found for numpy==1.26.4\n",
        "the package registry cannot be reached",
    ),
    "uv without a network": (
        "error: Request failed after 3 retries\n  Caused by: Failed to fetch: `https://pypi.org/simple/numpy/`\n"
        "  Caused by: error sending request for url\n  Caused by: dns error: failed to lookup address\n",
        "the package registry cannot be reached",
    ),
    "pip without a version": (
        "ERROR: Could not find a version that satisfies the requirement mujoco==2.3.2 (from versions: 3.3)\n"
        "ERROR: No matching distribution found for mujoco==2.3.2\n",
        "there is no mujoco==2.3.2 for this Python",
    ),
    "uv without a version": (
        "  × No solution found when resolving dependencies:\n"
        "  ╰─▶ Because there is no version of mujoco==2.3.99 and you require\n      mujoco==2.3.99, we can "
        "conclude\n      that your requirements are unsatisfiable.\n",
        "there is no version of mujoco==2.3.99 and you require mujoco==2.3.99",
    ),
    "uv without a compiler for evdev": (
        "  × Failed to build `evdev==1.7.1`\n         error: [Errno 2] No such file or directory: 'gcc'\n\n"
        "hint: Build failures usually indicate a problem with the package or the build environment\n",
        "apt-get install gcc linux-libc-dev python3-dev",
    ),
    "a package that is too old for this Python": (
        "      RuntimeError: MUJOCO_PATH environment variable is not set\n"
        "  ERROR: Failed building wheel for mujoco\nFailed to build mujoco\n"
        "\n[notice] A new release of pip is available: 23.2.1 -> 26.3\n",
        "mujoco has no wheel for this Python and machine, and building it failed: give another Python",
    ),
    "a full disk": (
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device\n",
        "the disk is full",
    ),
    "a Python without venv": (
        "The virtual environment was not created successfully because ensurepip is not available.\n",
        "apt-get install python3-venv",
    ),
    "anything else": (
        "Collecting numpy\nsomething new went wrong\n\n[notice] a new pip\n",
        "something new went wrong",
    ),
    "nothing": ("", "printed nothing"),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_the_cause_is_found_in_what_the_installer_said(case: str) -> None:
    output, words = OUTPUTS[case]
    assert words in cause(output)


def test_a_run_and_its_disk_are_not_shared_with_uvs_other_settings(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """uv reads none of pip's settings; the places of packages must reach it all the same."""
    for name in [name for name in os.environ if name.startswith(("UV_", "PIP_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_FIND_LINKS", "/wheels /more")
    monkeypatch.setenv("PIP_CONSTRAINT", "/constraints.txt")
    monkeypatch.setenv("UV_CONSTRAINT", "/constraints.txt")
    monkeypatch.setenv("HOME", str(home))
    variables = environment_for_uv()
    assert variables["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert variables["UV_FIND_LINKS"] == "/wheels,/more"
    assert not {"PIP_CONSTRAINT", "UV_CONSTRAINT"} & variables.keys()
    monkeypatch.setenv("UV_INDEX_URL", "https://own.example/simple")
    assert "UV_DEFAULT_INDEX" not in environment_for_uv()


# Python 3.9, and folders that lie in wait


@pytest.mark.slow
def test_a_worker_on_python_3_9_gives_the_same_records(old_python: str, tmp_path: Path) -> None:
    old = evaluate(
        ["random"], TASKS, tmp_path / "old", episodes=3, machine=Machine(interpreters={"toy": old_python})
    )
    new = evaluate(["random"], TASKS, tmp_path / "new", episodes=3)
    assert comparable(old) == comparable(new)
    assert old.provenance()[-1].workers["toy"]["python"].startswith("3.9.")
    assert len({record.trajectory for record in old.records()}) == 12


@pytest.mark.slow
@pytest.mark.parametrize("python", ["toy", "old_python"])
def test_folders_in_the_working_directory_do_not_reach_a_worker(
    python: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    for name in ("numpy", "lram", "argparse", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise SystemExit('the wrong package')\n")
    start = [*ready_python(), "-P", "-c", "from lram.harness.cli import main; main()"]
    path = request.getfixturevalue(python)
    told = ["--python", f"toy={path}"]
    arguments = ["eval", "random", "-t", "toy/steps", "-n", "1", "-o", "run", "-q", *told]
    answer = subprocess.run(
        [*start, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert answer.returncode == 0, answer.stderr
    assert [record.status for record in Run(tmp_path / "run").records()] == ["scored"]


# What a run remembers


def interrupted(folder: Path, python: str) -> Run:
    """Return a run of four episodes, played by ``python``, that misses two."""
    run = evaluate(["random"], "toy/steps", folder, episodes=4, machine=Machine(interpreters={"toy": python}))
    (segment,) = (run.path / "records").iterdir()
    segment.write_bytes(b"".join(segment.read_bytes().splitlines(keepends=True)[:2]))
    assert len(Run(folder).missing()) == 2
    return Run(folder)


@pytest.mark.slow
def test_a_run_goes_on_in_the_interpreters_that_it_was_started_with(
    old_python: str, toy: str, tmp_path: Path
) -> None:
    run = resume(interrupted(tmp_path / "run", old_python))
    assert run.plan.interpreters == {"toy": old_python}
    assert [session.workers["toy"]["python"][:4] for session in run.provenance()] == ["3.9.", "3.9."]
    whole = evaluate(["random"], "toy/steps", tmp_path / "whole", episodes=4)
    assert whole.plan.interpreters == {"toy": toy}
    assert comparable(run) == comparable(whole)


def test_a_run_started_here_is_not_taken_over_by_what_is_installed_since(
    toy_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = interrupted(tmp_path / "run", "main")
    assert run.plan.interpreters == {}
    monkeypatch.setenv("LRAM_HOME", str(toy_home))
    finished = resume(run)
    assert finished.provenance()[-1].settings["interpreters"] == "{}"
    assert not finished.missing()


def test_a_resumed_run_can_be_told_another_interpreter(toy: str, tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run", toy)
    assert "given for the domain atari" in sentence(lram("resume", str(run.path), "--python", "atari=main"))
    answer = lram("resume", str(run.path), "-q", "--python", "toy=main")
    assert (answer.returncode, answer.stderr) == (0, "")


@pytest.mark.slow
def test_a_run_whose_interpreter_is_gone_says_so_and_is_not_touched(toy: str, tmp_path: Path) -> None:
    shutil.copytree(Path(toy).parent.parent, tmp_path / "venv", symlinks=True, copy_function=os.link)
    python = str(tmp_path / "venv" / "bin" / "python")
    run = interrupted(tmp_path / "run", python)
    shutil.rmtree(tmp_path / "venv")
    line = sentence(lram("resume", str(run.path)))
    assert line == (
        f"lram: the interpreter {python} for the domain toy cannot be run; give another path with "
        "--python toy=PATH"
    )
    assert len(Run(run.path).missing()) == 2


def test_a_run_of_a_version_that_knew_no_interpreters_still_opens(tmp_path: Path) -> None:
    run = interrupted(tmp_path / "run", "main")
    edit(run.path / "run.json", lambda plan: plan.pop("interpreters"))
    assert Run(run.path).plan.interpreters == {}
    assert not resume(run.path).missing()


@pytest.mark.slow
def test_a_collection_remembers_and_can_be_told_otherwise(toy: str, tmp_path: Path) -> None:
    store = str(tmp_path / "store")
    answer = lram("collect", "random", "-t", "toy/steps", "-n", "2", "-o", store, "-q")
    assert answer.returncode == 0, answer.stderr
    run = Run(tmp_path / "store" / "runs" / "0001")
    assert run.plan.interpreters == {"toy": toy}
    answer = lram("collect", "--resume", store, "-q", "--python", "toy=main")
    assert answer.returncode == 0, answer.stderr
    told = lram("collect", "--resume", store, "-q", "--python", "atari=main")
    assert "no run has one of its tasks" in sentence(told)


def test_a_folder_of_a_virtual_environment_is_as_good_as_its_python(toy: str) -> None:
    folder = str(Path(toy).parent.parent)
    assert resolve(["toy"], {"toy": folder}) == {"toy": toy}
    assert resolve(["toy"], {"toy": "main"}) == {}


@pytest.mark.slow
def test_remove_keeps_what_is_not_the_domains(toy_home: Path, home: Path) -> None:
    copied(toy_home, home)
    (home / "sources" / "gadget").mkdir(parents=True)
    remove("toy")
    assert {path.name for path in home.iterdir()} - {"begun"} == {"interpreters", "sources"}
    assert installed() == {}
