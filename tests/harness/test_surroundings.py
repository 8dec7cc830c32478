"""What surrounds a command changes neither what it does nor the code that it ends with: the working
directory, standard output and error, their encoding, file systems without locks, the
environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults import Outcome, Server

from lram.harness.storage.run_folder import Run

READER_GONE = "import os\nread, write = os.pipe()\nos.close(read)\nos.dup2(write, {0})"
CLOSED = "import os, sys\nos.close({0})\nsys.{1} = None"
FULL = "import os\nos.dup2(os.open('/dev/full', os.O_WRONLY), 1)"
ENCODED = (
    "import io, sys\n"
    "sys.stdout = io.TextIOWrapper(io.FileIO(1, 'w', closefd=False), '{0}', line_buffering=True)\n"
    "sys.stderr = io.TextIOWrapper(io.FileIO(2, 'w', closefd=False), '{0}', line_buffering=True)"
)
NO_LOCKS = "import fcntl, os\ndef flock(*_):\n    raise OSError({0}, os.strerror({0}))\nfcntl.flock = flock"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    imports = (
        "import torch, lram.harness.evaluation, lram.reports.writing.export, lram.reports.verdict.judging"
    )
    with Server(tmp_path_factory.mktemp("server"), imports) as made:
        yield made


@pytest.fixture(scope="module")
def made(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a run of two agents and a store."""
    folder = tmp_path_factory.mktemp("made")
    play = ("-t", "toy/reach", "-n", 3, "-q", "-w", 1)
    for words in (
        ("eval", "constant=-0.5", "constant=0.5", *play, "-o", folder / "run"),
        ("collect", "random", *play, "-o", folder / "store"),
    ):
        done = server.run(*words)
        assert done.code == 0, done.errors
    return folder


COMMANDS = (
    ("tasks", "toy"),
    ("--help",),
    ("compare", "constant=0.5", "constant=-0.5", "-r", "MADE/run"),
    ("report", "MADE/run", "--json"),
    ("data", "verify", "MADE/store"),
    ("data", "import", "MADE/store", "-o", "HERE/imported"),
    ("eval", "nobody", "-t", "toy/reach", "-o", "HERE/none"),
    ("eval", "random", "-t", "toy/steps", "-n", "1", "-w", "1", "-o", "HERE/played"),
)


def run(server: Server, made: Path, here: Path, words: tuple[str, ...], setup: str = "") -> Outcome:
    here.mkdir()
    told = [word.replace("MADE", str(made)).replace("HERE", str(here)) for word in words]
    return server.run(*told, setup=setup)


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_streams_and_encodings_change_no_exit_code(
    server: Server, made: Path, tmp_path: Path, words: tuple[str, ...]
) -> None:
    code = run(server, made, tmp_path / "plain", words).code
    setups = {
        "no reader": f"{READER_GONE.format(1)}\n{READER_GONE.format(2)}",
        "closed": f"{CLOSED.format(1, 'stdout')}\n{CLOSED.format(2, 'stderr')}",
        "ascii": ENCODED.format("ascii"),
    }
    for name, setup in setups.items():
        done = run(server, made, tmp_path / name, words, setup)
        assert done.code == code, f"{name}: {done.errors}"
        assert "Traceback" not in done.errors, f"{name}: {done.errors}"


@pytest.mark.slow
def test_what_an_encoding_lacks_is_written_as_its_escape(server: Server, made: Path, tmp_path: Path) -> None:
    words = ("compare", "constant=0.5", "constant=-0.5", "-r", "MADE/run")
    plain = run(server, made, tmp_path / "plain", words, ENCODED.format("utf-8"))
    ascii_only = run(server, made, tmp_path / "ascii", words, ENCODED.format("ascii"))
    assert not plain.output.isascii()
    assert ascii_only.output == plain.output.decode().encode("ascii", "backslashreplace")


@pytest.mark.slow
def test_files_are_utf_8_whatever_the_locale(server: Server, made: Path, tmp_path: Path) -> None:
    words = ("report", "MADE/run", "-o", "HERE/report")
    posix = "import locale\nlocale.getencoding = lambda: 'ascii'\n" + ENCODED.format("ascii")
    for name, setup in (("plain", ENCODED.format("utf-8")), ("posix", posix)):
        assert run(server, made, tmp_path / name, words, setup).code == 0
    plain, posix = (
        {file.name: file.read_bytes() for file in (tmp_path / name).rglob("*") if file.is_file()}
        for name in ("plain", "posix")
    )
    assert plain.keys() == posix.keys()
    assert {name for name in plain if plain[name] != posix[name]} <= {"timing.csv"}


def test_output_that_a_full_disk_has_cut_short_is_an_error(server: Server) -> None:
    done = server.run("tasks", "--json", setup=FULL)
    assert done.code == 2
    assert done.errors.count("\n") == 1
    assert "standard output" in done.errors


HYDRA = """
import os
from lram.agents.experts.baselines import RandomAgent
def make():
    os.chdir("other")
    return RandomAgent()
class Late(RandomAgent):
    def act(self, *told):
        os.chdir("/")
        return super().act(*told)
"""


@pytest.mark.slow
@pytest.mark.parametrize("agent", ["hyd:make", "hyd:Late"])
@pytest.mark.parametrize("command", ["eval", "collect"])
def test_an_agent_that_changes_the_directory_moves_no_output(
    server: Server, tmp_path: Path, command: str, agent: str
) -> None:
    (tmp_path / "hyd.py").write_text(HYDRA)
    (tmp_path / "other").mkdir()
    words = (command, f"x={agent}", "-t", "toy/blink", "-n", 1, "-q", "-w", 1, "-o", "made/a run")
    done = server.run(*words, setup=f"import os\nos.chdir({str(tmp_path)!r})")
    assert done.code == 0, done.errors
    assert list((tmp_path / "other").iterdir()) == []
    made = tmp_path / "made" / "a run"
    assert made.is_dir()
    # As it was typed and as a shell reads it, so that the line can be copied.
    next_words = "'made/a run'" if command == "eval" else "'made/a run/runs/0001' -o 'made/a run-report'"
    assert f"next: lram report {next_words}\n" in done.output.decode()
    folder = made / ("" if command == "eval" else "runs/0001")
    assert "-o 'made/a run'" in Run(folder).provenance()[0].command


def test_an_agent_object_that_changes_the_directory_moves_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from lram.agents.experts.baselines import RandomAgent
    from lram.harness.evaluation import evaluate

    class Mover(RandomAgent):
        def act(self, *told: object) -> object:
            os.chdir(tmp_path / "other")
            return super().act(*told)  # type: ignore[arg-type]

    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    found = evaluate({"mover": Mover()}, "toy/blink", "run", episodes=1)
    assert found.path == tmp_path / "run"
    assert [record.status for record in found.records()] == ["scored"]


@pytest.mark.slow
def test_a_file_system_without_locks_is_told_as_one(server: Server, made: Path, tmp_path: Path) -> None:
    setup = "import errno\n" + NO_LOCKS.format("errno.ENOLCK")
    for name, words in (
        ("eval", ("eval", "random", "-t", "toy/blink", "-n", "1", "-q", "-o", "HERE/run")),
        ("collect", ("collect", "random", "-t", "toy/blink", "-n", "1", "-q", "-o", "HERE/store")),
        (
            "train",
            ("train", "--set", "data.stores=MADE/store", "--set", "model.preset=mamba-1M", "-o", "HERE/run"),
        ),
        ("import", ("data", "import", "MADE/store", "-o", "HERE/store")),
        ("remove", ("env", "remove", "toy")),
    ):
        done = run(server, made, tmp_path / name, words, setup)
        assert done.code == 2, done.errors
        assert done.errors.count("\n") == 1, done.errors
        assert "another process;" not in done.errors
        if name != "remove":  # a domain that is not installed needs no lock
            assert "has no locks" in done.errors


@pytest.mark.slow
def test_a_report_needs_no_lock(server: Server, made: Path, tmp_path: Path) -> None:
    setup = "import errno\n" + NO_LOCKS.format("errno.ENOLCK")
    done = run(server, made, tmp_path / "here", ("report", "MADE/run", "-o", "HERE/report"), setup)
    assert done.code == 0, done.errors
    assert [entry.name for entry in (tmp_path / "here").iterdir()] == ["report"]


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 4])
@pytest.mark.parametrize("command", ["create", "import"])
def test_a_full_disk_is_one_sentence_with_the_path_and_leaves_nothing_half_written(
    server: Server, made: Path, tmp_path: Path, command: str, at: int
) -> None:
    place = tmp_path / "here"
    place.mkdir()
    source = ("create", "mamba-1M") if command == "create" else ("data", "import", made / "store")
    words = (*source, "-o", place / "out")
    done = server.run(*words, folder=place, kind="ENOSPC", at=at)
    assert done.hit
    assert done.code == 2
    assert done.errors.count("\n") == 1, done.errors
    assert str(place / "out") in done.errors
    assert not [file for file in place.rglob(".*") if file.name != "."]
    assert server.run(*words).code == 0
