"""lram in a working directory that a stranger filled: nothing of what lies there runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from lram.harness.storage.commits import commit_of

_NAMES = ("typing", "json", "numpy", "torch", "msgspec", "signal", "multiprocessing", "pip", "uv", "venv")


@pytest.fixture
def strange(tmp_path: Path) -> Path:
    """Return a folder whose modules shadow others, and leave a mark when they run."""
    folder = tmp_path / "strange"
    folder.mkdir()
    for name in _NAMES:
        (folder / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'a').write({name!r})\n1 / 0\n")
    return folder


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_processes_of_a_sweep_import_nothing_from_the_working_directory(
    strange: Path, tmp_path: Path
) -> None:
    command = [str(Path(sys.executable).with_name("lram")), "latency", "random", "-t", "toy/blink"]
    done = subprocess.run(
        [*command, "--contexts", "2", "--batch", "1", "--repeats", "1", "-o", str(tmp_path / "sweep")],
        cwd=strange,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not (tmp_path / "ran").exists()
    assert done.returncode == 0, done.stderr


def _repository(folder: Path, *settings: str) -> str:
    def git(*arguments: str) -> str:
        told = ["-c", "user.name=a", "-c", "user.email=a@b", *arguments]
        return subprocess.run(
            ["git", *told], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()

    folder.mkdir(exist_ok=True)
    git("init", "-q")
    (folder / "file").write_text("one")
    (folder / ".gitattributes").write_text("file filter=own\n")
    git("add", ".")
    git("commit", "-q", "-m", "first")
    (folder / "file").write_text("two")
    for setting in settings:
        git("config", *setting.split("=", 1))
    return git("rev-parse", "HEAD")


@pytest.mark.parametrize("name", ["core.fsmonitor", "filter.own.clean", "filter.own.process"])
def test_a_checkout_runs_none_of_the_programs_that_it_names(name: str, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    commit = _repository(tmp_path / "work", f"{name}=touch {mark}; cat")
    assert commit_of(tmp_path / "work") == f"{commit}+unchecked"
    assert not mark.exists()


def test_a_hook_of_a_checkout_does_not_run(tmp_path: Path) -> None:
    work = tmp_path / "work"
    _repository(work)
    hook = work / ".git" / "hooks" / "post-index-change"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tmp_path / 'ran'}\n")
    hook.chmod(0o755)
    assert commit_of(work).endswith("+changes")
    assert not (tmp_path / "ran").exists()


def test_an_ordinary_checkout_tells_its_changes(tmp_path: Path) -> None:
    work = tmp_path / "work"
    commit = _repository(work, "remote.origin.url=https://example.org/x", "branch.main.remote=origin")
    assert commit_of(work) == f"{commit}+changes"
    (work / "file").write_text("one")
    assert commit_of(work) == commit
    assert commit_of(tmp_path) == ""
