"""Checkouts: known by what they hold, used where they lie, cloned only when asked to."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.ready import ready_python

from lram.envs.checkouts import commit_of, git_environment, version_text
from lram.harness.errors import LramError
from lram.harness.interpreters import SourcesNeededError, UsedSource, install, installed
from lram.harness.interpreters.readiness import adapter
from lram.harness.interpreters.sources import FoundTree, find_sources
from lram.harness.storage.run_folder import Run

NOBODY = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")


def git(folder: Path, *arguments: str) -> str:
    command = ["git", *NOBODY, "-C", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def checkout(folder: Path, *modules: str) -> str:
    """Make a repository in ``folder`` with ``modules``; return its commit."""
    for module in modules:
        (folder / module).mkdir(parents=True)
        (folder / module / "__init__.py").write_text("ANSWER = 42\n")
    git(folder, "init", "--quiet")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "-m", "all of it")
    return git(folder, "rev-parse", "HEAD")


def tree(module: str, commit: str = "0" * 40, url: str = "", tasks: tuple[str, ...] = ()) -> str:
    url = url or f"https://git.example/{module}.git"
    return f"SourceTree({module!r}, {url!r}, {commit!r}, 'MIT', {tasks!r}),"


def sources(*given: Path, clone: bool = False) -> FoundTree:
    return find_sources(adapter("custom"), given, (), clone=clone, say=lambda text: None)


def listing(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("given", [".", "gadget", "../place/gadget/.."])
def test_a_checkout_is_known_by_what_it_holds(custom: Any, tmp_path: Path, given: str) -> None:
    commit = checkout(tmp_path / "place", "gadget")
    custom.write(sources=tree("gadget", commit))
    found = sources(tmp_path / "place" / given)
    (used,) = found.used
    assert (Path(used.path).resolve(), used.commit) == (tmp_path / "place", commit)
    assert (found.absent, found.warnings) == ((), ())


def test_one_folder_may_hold_two_packages(custom: Any, tmp_path: Path) -> None:
    checkout(tmp_path / "place", "gadget", "widget")
    custom.write(sources=tree("gadget") + tree("widget"))
    assert [used.module for used in sources(tmp_path / "place").used] == ["gadget", "widget"]


def test_a_folder_without_the_package_says_what_was_looked_for(custom: Any, tmp_path: Path) -> None:
    custom.write(sources=tree("gadget"))
    (tmp_path / "place" / "gadget").mkdir(parents=True)  # no __init__.py
    with pytest.raises(LramError) as error:
        sources(tmp_path / "place")
    assert str(error.value) == (
        f"{tmp_path / 'place'} holds no gadget/__init__.py; --source takes a checkout of "
        "https://git.example/gadget.git"
    )
    with pytest.raises(LramError, match="nowhere does not exist"):
        sources(tmp_path / "nowhere")


def test_two_checkouts_of_one_package_are_one_too_many(custom: Any, tmp_path: Path) -> None:
    custom.write(sources=tree("gadget"))
    for name in ("one", "two"):
        checkout(tmp_path / name, "gadget")
    with pytest.raises(LramError, match=r"one and .*two hold the package gadget; give one of them"):
        sources(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("name", ["two\nimport os", "two\u2028lines", "spaced "])
def test_a_path_that_python_would_not_read_as_one_is_refused(custom: Any, tmp_path: Path, name: str) -> None:
    """A line of a .pth file that begins with import is executed."""
    custom.write(sources=tree("gadget"))
    checkout(tmp_path / name, "gadget")
    with pytest.raises(LramError, match="its path must have no line break") as error:
        sources(tmp_path / name)
    assert len(str(error.value).splitlines()) == 1


def test_a_remembered_path_that_python_would_execute_is_refused(
    custom: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    custom.write(sources=tree("gadget"))
    checkout(tmp_path / "import os", "gadget")
    monkeypatch.chdir(tmp_path)
    earlier = [UsedSource("gadget", "import os", "", "MIT")]
    with pytest.raises(LramError, match="not begin with 'import'"):
        find_sources(adapter("custom"), (), earlier, clone=False, say=lambda text: None)


def test_git_runs_without_what_points_it_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = checkout(tmp_path / "place", "gadget")
    checkout(tmp_path / "other", "widget")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in ("GIT_DIR", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -i key")
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    variables = git_environment()
    assert {name: variables[name] for name in variables if name.startswith(("GIT_", "LC_ALL"))} == {
        "GIT_SSH_COMMAND": "ssh -i key",
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    assert commit_of(tmp_path / "place" / "gadget") == commit


def test_a_clone_within_a_hook_is_of_the_repository_that_was_named(
    custom: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proven = checkout(tmp_path / "place", "gadget")
    checkout(tmp_path / "other", "widget")
    custom.write(sources=tree("gadget", proven, (tmp_path / "place").as_uri()))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(tmp_path / "other" / ".git" / "objects"))
    before = listing(tmp_path / "other" / ".git")
    (used,) = sources(clone=True).used
    assert used.commit == proven
    assert listing(tmp_path / "other" / ".git") == before


def test_a_domain_without_source_trees_takes_no_source(home: Path, tmp_path: Path) -> None:
    with pytest.raises(LramError, match="the domain toy uses no checkout; leave --source out"):
        install("toy", [tmp_path])


def test_what_differs_from_the_proven_commit_is_told(custom: Any, tmp_path: Path) -> None:
    commit = checkout(tmp_path / "place", "gadget")
    custom.write(sources=tree("gadget"))
    (warning,) = sources(tmp_path / "place").warnings
    assert f"is {commit[:7]}; proven is 0000000 of https://git.example/gadget.git" in warning
    custom.write(sources=tree("gadget", commit))
    (tmp_path / "place" / "gadget" / "__init__.py").write_text("ANSWER = 43\n")
    (warning,) = sources(tmp_path / "place").warnings
    assert f"is {commit[:7]}+changes; proven" in warning


def test_a_copy_within_another_repository_has_no_known_commit(custom: Any, tmp_path: Path) -> None:
    checkout(tmp_path / "work", "other")
    (tmp_path / "work" / "gadget").mkdir()
    (tmp_path / "work" / "gadget" / "__init__.py").write_text("")
    custom.write(sources=tree("gadget"))
    (warning,) = sources(tmp_path / "work").warnings
    assert "of no known commit" in warning
    assert version_text(tmp_path / "work" / "gadget") == "unknown (checkout)"


def test_a_version_is_told_without_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = checkout(tmp_path / "place", "gadget")
    assert version_text(tmp_path / "place" / "gadget") == f"{commit[:7]} (checkout)"
    monkeypatch.setenv("PATH", str(tmp_path))
    assert version_text(tmp_path / "place" / "gadget") == "unknown (checkout)"


def test_without_a_checkout_the_commands_are_told_and_nothing_is_built(
    custom: Any, home: Path, tmp_path: Path
) -> None:
    custom.write(sources=tree("gadget") + tree("extra", tasks=("hard",)))
    with pytest.raises(SourcesNeededError):
        install("custom")
    answer = subprocess.run(
        [*ready_python(), "-m", "lram.harness.cli", "env", "install", "custom"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 2
    assert answer.stdout.splitlines() == [
        "# gadget (licence: MIT)",
        "git clone https://git.example/gadget.git gadget",
        f"git -C gadget checkout --quiet {'0' * 40}",
        "# extra (licence: MIT; for hard only)",
        "git clone https://git.example/extra.git extra",
        f"git -C extra checkout --quiet {'0' * 40}",
        "lram env install custom --source gadget --source extra",
    ]
    (line,) = answer.stderr.splitlines()
    assert line.startswith("lram: the domain custom needs a checkout of gadget")
    assert not home.exists()


def test_a_clone_is_at_the_proven_commit_and_is_found_again(custom: Any, home: Path, tmp_path: Path) -> None:
    proven = checkout(tmp_path / "place", "gadget")
    git(tmp_path / "place", "commit", "--quiet", "--allow-empty", "-m", "newer")
    custom.write(sources=tree("gadget", proven, (tmp_path / "place").as_uri()))
    said: list[str] = []
    found = find_sources(adapter("custom"), (), (), clone=True, say=said.append)
    assert said == [f"cloning {(tmp_path / 'place').as_uri()} (licence: MIT)"]
    (used,) = found.used
    assert (used.path, used.commit) == (str(home / "sources" / "gadget"), proven)
    assert sources().used == found.used
    assert [path.name for path in (home / "sources").iterdir()] == ["gadget"]


@pytest.mark.parametrize("problem", ["no repository", "no commit", "no package", "no git"])
def test_a_clone_that_fails_leaves_nothing_and_tells_what_to_run(
    custom: Any, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, problem: str
) -> None:
    url = (tmp_path / "place").as_uri()
    commit = "0" * 40
    if problem != "no repository":
        commit = checkout(tmp_path / "place", "other" if problem == "no package" else "gadget")
    if problem == "no commit":
        commit = "0" * 40
    custom.write(sources=tree("gadget", commit, url))
    if problem == "no git":
        monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LramError) as error:
        sources(clone=True)
    text = str(error.value)
    assert "\n" not in text
    if problem == "no package":
        assert text == f"{url} at {commit[:7]} holds no gadget/__init__.py"
    else:
        assert f"run: git clone {url} place && git -C place checkout --quiet {commit}" in text
    if problem == "no repository":
        # Not the advice on access rights that git ends with.
        assert (
            f"cannot be cloned (fatal: '{tmp_path / 'place'}' does not appear to be a git repository)" in text
        )
    assert list((home / "sources").iterdir()) == []


@pytest.mark.slow
def test_a_domain_plays_with_its_checkout_where_it_lies(custom: Any, tmp_path: Path) -> None:
    """Installed for real; the checkout is read and never written."""
    commit = checkout(tmp_path / "place", "gadget")
    custom.write(
        sources=tree("gadget", commit) + tree("extra", tasks=("hard*",)),
        tasks=("hard-one", "steady"),
        made="import gadget; assert gadget.ANSWER == 42",
    )
    before = listing(tmp_path / "place")
    said: list[str] = []
    manifest = install("custom", [tmp_path / "place"], progress=said.append)
    assert [(used.module, used.path) for used in manifest.sources] == [("gadget", str(tmp_path / "place"))]
    assert said[-1].startswith("note: without extra (MIT) 1 task of custom is left out (hard-one): git clone")
    assert any("trying custom/steady" in text for text in said)

    def lram(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [*ready_python(), "-m", "lram.harness.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    answer = lram("eval", "random", "-t", "custom/steady", "-n", "1", "-o", str(tmp_path / "run"), "-q")
    assert answer.returncode == 0, answer.stderr
    versions = Run(tmp_path / "run").provenance()[-1].workers["custom"]
    assert versions["gadget"] == f"{commit[:7]} (checkout)"
    answer = lram("eval", "random", "-t", "custom", "-o", str(tmp_path / "more"), "-q")
    assert answer.returncode == 2
    assert "custom (lacks the checkout of extra that hard-one needs in " in answer.stderr
    assert "lram env install custom --source extra --force" in answer.stderr
    assert "gadget" in lram("env", "list").stdout
    kept = {name: text for name, text in listing(tmp_path / "place").items() if "__pycache__" not in name}
    assert kept == before
    assert installed()["custom"] == manifest
    # Again, and what it uses need not be told again.
    assert install("custom", progress=said.append) == manifest
    checkout(tmp_path / "moved", "gadget")
    with pytest.raises(LramError, match=r"custom is installed with .*place; .*--force"):
        install("custom", [tmp_path / "moved"])
