"""Domains from plain files: one file is enough, and what is wrong with it is one sentence."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lram.envs import domain_files, registry
from lram.envs.conformance import check_session
from lram.envs.errors import AnnouncedError, SelectionError
from lram.envs.registry import add_file, domain_names, file_of, file_problems, load_domain, select

PAGE = (Path(__file__).parents[2] / "docs" / "how-to" / "extending.md").read_text(encoding="utf-8")
[EXAMPLE] = re.findall(r"^```python\n(# number_line.py\n.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def forget() -> None:
    for cached in (registry.all_tasks, registry.load_domain, registry._faulty, registry._read_files):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the page's example, and a process that knows no file."""
    monkeypatch.setattr(registry, "_in_files", {})
    monkeypatch.setattr("sys.path", [*__import__("sys").path])
    monkeypatch.delenv(domain_files.VARIABLE, raising=False)
    (tmp_path / "number_line.py").write_text(EXAMPLE)
    forget()
    yield tmp_path
    forget()


def test_a_file_makes_its_domain_known(home: Path) -> None:
    with pytest.raises(SelectionError, match="no domain 'number_line'"):
        load_domain("number_line")
    found = add_file(home / "number_line.py")
    assert [domain.name for domain in found.domains] == ["number_line"]
    assert "number_line" in domain_names()
    assert [task.id for task in select("number_line")] == ["number_line/stay"]
    assert file_of("number_line") == found
    assert file_of("toy") is None
    domain = load_domain("number_line")
    check_session(lambda: domain.make("stay", domain.protocol()), limit=50)


def test_the_variable_names_files_and_a_broken_one_takes_nothing_away(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "broken.py").write_text("x = (\n")
    monkeypatch.setenv(domain_files.VARIABLE, f"{home}/broken.py:{home}/number_line.py")
    assert [task.id for task in select("number_line/*")] == ["number_line/stay"]
    assert select("toy/reach")
    [problem] = file_problems()
    assert problem.endswith("broken.py, line 1, is no Python: '(' was never closed; correct it")
    for term in ("elsewhere/*", "elsewhere"):  # it may be the broken file's
        with pytest.raises(AnnouncedError, match="never closed"):
            select(term)
    with pytest.raises(AnnouncedError, match="never closed"):
        load_domain("elsewhere")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = (\n", r"line 1, is no Python: '\(' was never closed"),
        ("import os\n\nfoo()\n", r"line 3, cannot be run: NameError: name 'foo' is not defined"),
        ("raise SystemExit(3)", "line 1, cannot be run: SystemExit: 3"),
        ("import no_such_module_x", "line 1, cannot be run: ModuleNotFoundError"),
        ("x = 1", "neither DOMAIN nor DOMAINS"),
        ("DOMAIN = DOMAINS = 1", "both DOMAIN and DOMAINS"),
        ("DOMAIN = 1", "holds something of type int where a lram.envs.session.Domain should be"),
        ("DOMAINS = 'ab'", "DOMAINS that are no sequence"),
        ("DOMAINS = ()", "DOMAINS that are no sequence"),
        (EXAMPLE.replace('"number_line"', '"toy"'), "a domain called toy, and so does lram-bench itself"),
        (EXAMPLE.replace('"number_line"', '"a b"'), "whose name is 'a b'"),
        (EXAMPLE.replace("tasks=(STAY,)", "tasks=STAY"), "whose tasks are no sequence"),
        (EXAMPLE + "\nDOMAINS = (DOMAIN, DOMAIN)\ndel DOMAIN\n", "two domains called number_line"),
        (None, "is not there"),
        ("", "is empty"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence(text: str | None, sentence: str, home: Path) -> None:
    file = home / "mine.py"
    if text is not None:
        file.write_text(text)
    with pytest.raises(AnnouncedError, match=sentence) as refused:
        add_file(file)
    assert str(file) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not registry._in_files


def test_two_files_cannot_hold_one_domain(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(domain_files.VARIABLE, str(home / "number_line.py"))
    (home / "other.py").write_text(EXAMPLE)
    with pytest.raises(AnnouncedError, match=r"number_line, and so does .*number_line\.py"):
        add_file(home / "other.py")


def test_several_domains_and_what_lies_beside_a_file(home: Path) -> None:
    (home / "rules_of_mine.py").write_text("LENGTH = 7\n")
    second = (
        "from dataclasses import replace\nfrom rules_of_mine import LENGTH\n"
        'TASK = replace(STAY, domain="two", horizon=LENGTH)\n'
    )
    (home / "number_line.py").write_text(
        EXAMPLE + second + 'DOMAINS = [DOMAIN, replace(DOMAIN, name="two", tasks=(TASK,))]\ndel DOMAIN\n'
    )
    add_file(home / "number_line.py")
    assert [(task.id, task.horizon) for task in select("two,number_line")] == [
        ("number_line/stay", 50),
        ("two/stay", 7),
    ]


def test_a_file_that_was_changed_is_run_again(home: Path) -> None:
    file = home / "number_line.py"
    first = add_file(file)
    assert add_file(file) is first
    file.write_text(EXAMPLE.replace("horizon=50", "horizon=40"))
    assert add_file(file).digest != first.digest
    assert select("number_line")[0].horizon == 40
    with pytest.raises(AnnouncedError, match="has changed since the run began"):
        add_file(file, "0" * 64)


def test_a_selection_from_a_file_runs_no_other_file(home: Path) -> None:
    marker = home / "mark"
    (home / "evil.py").write_text(f"open({str(marker)!r}, 'w')\n")
    for term in (f"{home}/evil.py", f"{home}/evil.py:stay"):
        with pytest.raises(SelectionError, match="names the file of a domain"):
            select(term)
    assert not marker.exists()
