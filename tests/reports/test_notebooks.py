"""What a notebook shows of runs and summaries, and the notebook that comes with the package."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from lram.harness import Machine, Run, evaluate
from lram.harness.storage.run_folder import EPISODE_COLUMNS
from lram.reports import summarise, write_report

NOTEBOOK = Path(__file__).parents[2] / "docs" / "tutorial" / "first-run.ipynb"
HOSTILE = "<script>alert('x')</script>&"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return evaluate(
        {HOSTILE: "random", "low": "constant=-0.5"},
        "toy/reach,toy/steps,toy/noscore,toy/raise",
        tmp_path_factory.mktemp("notebook") / "a<b>&",
        episodes=3,
        seed=7,
        machine=Machine(lanes=4, workers=1),
    )


class Elements(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attributes: Any) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def parsed(html: str) -> Elements:
    made = Elements()
    made.feed(html)
    return made


TABLE = {"table", "caption", "thead", "tbody", "tr", "th", "td", "p"}


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_frame_of_episodes_is_the_reports_table(run: Run, tmp_path: Path) -> None:
    frame = run.episodes()
    assert tuple(frame.columns[: len(EPISODE_COLUMNS)]) == EPISODE_COLUMNS
    write_report([run], tmp_path / "report")
    table = pd.read_csv(tmp_path / "report" / "tables" / "episodes.csv", keep_default_na=True)
    assert tuple(table.columns) == EPISODE_COLUMNS
    order = ["task", "agent", "episode"]
    ours = frame.sort_values(order).reset_index(drop=True)
    theirs = table.sort_values(order).reset_index(drop=True)
    assert len(ours) == len(theirs) == 3 * 4 + 3  # the constant can play one of the tasks
    for name in (
        "agent",
        "task",
        "run_seed",
        "episode",
        "seed",
        "protocol",
        "status",
        "failed_by_agent",
        "normaliser",
    ):
        assert list(ours[name]) == list(theirs[name]), name
    for name in ("return", "score", "length"):
        pd.testing.assert_series_equal(
            ours[name].astype(float), theirs[name].astype(float), check_names=False, rtol=1e-11
        )
    assert ours["score"].notna().any()
    assert ours[ours.task == "toy/noscore"]["score"].isna().all()
    assert ours[ours.status == "errored"]["return"].isna().all()
    assert (frame["return"].dropna() == frame["episode_return"].dropna()).all()


def test_scores_are_those_of_the_summary(run: Run) -> None:
    frame = run.episodes()
    mean = frame[(frame.agent == "low") & (frame.task == "toy/reach")]["score"].mean()
    estimate = summarise(run).result("low", "toy/reach").score
    assert estimate is not None
    assert estimate.value == pytest.approx(mean)
    assert summarise(run) == summarise([run]) == summarise(run.path)
    assert set(run.episodes("measured-random")["normaliser"]) == {"measured-random"}


def test_a_run_without_records_has_a_frame_with_all_columns(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((run.path / "run.json").read_bytes())
    (tmp_path / "records").mkdir()
    frame = Run(tmp_path).episodes()
    assert len(frame) == 0
    assert set(frame.columns) == set(run.episodes().columns)
    shown = parsed(Run(tmp_path)._repr_html_())
    assert f"to continue: lram resume {tmp_path}" in shown.text


def test_what_a_notebook_shows_of_a_run_is_text(run: Run) -> None:
    shown = parsed(run._repr_html_())
    assert shown.tags <= TABLE
    assert "<script>alert('x')</script>&" in shown.text
    assert "a<b>&" in shown.text
    assert re.search(r"low\s*3\s*0\s*0\s*constant", shown.text), shown.text


def test_what_a_notebook_shows_of_a_damaged_run_is_what_is_wrong(run: Run, tmp_path: Path) -> None:
    (tmp_path / "run.json").write_bytes((run.path / "run.json").read_bytes())
    (tmp_path / "records").mkdir()
    (tmp_path / "records" / "0001.jsonl").write_text("{}\n")
    assert "0001.jsonl" in parsed(Run(tmp_path)._repr_html_()).text


def test_what_a_notebook_shows_of_a_summary_is_text_with_caveats(run: Run) -> None:
    summary = summarise(run)
    shown = parsed(summary._repr_html_())
    assert shown.tags <= TABLE
    assert "<script>alert('x')</script>&" in shown.text
    assert summary.caveats[0].text in shown.text
    value = summary.agent("low").mean_of_domain_means.estimate
    assert value is not None
    assert f"{value.value:.3f}" in shown.text


def cells(kind: str) -> Iterator[str]:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    for cell in notebook["cells"]:
        if cell["cell_type"] == kind:
            yield "".join(cell["source"])


def execute(cell: str, names: dict[str, Any]) -> Any:
    """Run a cell as a notebook does; return what its last expression gives."""
    tree = ast.parse(cell)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, "<cell>", "exec"), names)
    if last is None:
        return None
    assert isinstance(last, ast.Expr)
    return eval(compile(ast.Expression(last.value), "<cell>", "eval"), names)


def test_the_notebook_is_shipped_without_results() -> None:
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])


@pytest.mark.slow
def test_the_notebook_runs_from_its_first_cell_to_its_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process and without Jupyter: its cells are plain Python, run in order in one namespace."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = [execute(cell, names) for cell in cells("code")]
    assert any(isinstance(one, Run) for one in shown)
    assert any(isinstance(one, pd.DataFrame) and len(one) for one in shown)
    assert all(parsed(one._repr_html_()).tags for one in shown if hasattr(one, "_repr_html_"))
    assert names["run"].missing() == []
    assert (tmp_path / "first-run-report" / "index.html").is_file()
