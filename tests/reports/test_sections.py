"""Sections: how records of other kinds than episodes come into a report."""

from __future__ import annotations

import json
import subprocess
import sys
from operator import itemgetter
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure

from lram.harness.errors import LramError
from lram.harness.storage.run_folder import Run
from lram.reports.drawing import Drawing, look
from lram.reports.model import Caveat
from lram.reports.section import Section, SectionSpec
from lram.reports.sections import registry
from lram.reports.sections.registry import SECTIONS, load_folders, make_sections
from lram.reports.table import Column, Table, words
from lram.reports.writing import export

COLUMNS = [words("Agent", "agent", itemgetter(0)), Column("ms", "ms", itemgetter(1))]


def a_section(key: str = "latency") -> Section:
    with look():
        figure = Figure(figsize=(3, 2))
        figure.subplots().plot([1, 2], [1, 4])
    return Section(
        key=key,
        title="Latency",
        lead=("What was <measured>.",),
        tables=(Table("latency-points", "All points.", COLUMNS, [("a|b", 1.5)], "latency_points"),),
        drawings=(Drawing("latency-curves", "Latency", "How to read it", figure),),
        summary={"points": [1.5]},
        caveats=(Caveat("noisy", "The machine was busy."),),
        methods=(("Clock", "It ticks."),),
    )


def small_run(synthetic: Any, episodes: int) -> Run:
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("toy/a")], episodes)
    return synthetic.run(plan, lambda item: 1.0)


@pytest.fixture
def one_section(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let every folder of latencies make :func:`a_section`, and evaluations none."""
    made = SectionSpec("latency", "latency.json", lambda folders, settings: a_section())
    none = SectionSpec("parts", "", lambda runs, settings: None)
    monkeypatch.setattr(registry, "SECTIONS", (none, made))
    return Path("somewhere")


def test_a_folder_tells_its_kind_by_its_marker(tmp_path: Path, synthetic: Any) -> None:
    markers = {spec.marker: spec.key for spec in SECTIONS if spec.marker}
    assert set(markers) == {
        *("latency.json", "extrapolation.json", "embedding.json", "study.json", "precision-study.json"),
        *("watch.json", "films.json"),
    }
    for marker in markers:
        (tmp_path / marker).mkdir()
        (tmp_path / marker / marker).touch()
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a")], [synthetic.task("toy/a")], 1), lambda item: 1.0
    )
    runs, others = load_folders([run.path, *(tmp_path / marker for marker in markers)])
    assert [found.path for found in runs] == [run.path]
    assert others == {key: [tmp_path / marker] for marker, key in markers.items()}


def test_what_is_no_record_is_refused_in_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(LramError, match="is not a run"):
        load_folders([tmp_path])
    (tmp_path / "recipe.toml").touch()
    with pytest.raises(LramError, match="give it with --training"):
        load_folders([tmp_path])


def test_no_section_without_its_records() -> None:
    assert make_sections((), {}) == []


def test_a_section_stands_in_every_form_of_the_report(tmp_path: Path, one_section: Path) -> None:
    index = export.write_report((), tmp_path / "report", others={"latency": [one_section]})
    page = index.read_text()
    assert "What was &lt;measured&gt;." in page
    assert 'id="figure-latency-curves"' in page
    assert "a|b" in page
    assert "The machine was busy." in page
    assert "It ticks." in page
    summary = json.loads((index.parent / "summary.json").read_text())
    assert summary["chapters"] == {"latency": {"points": [1.5]}}
    assert summary["caveats"][-1]["kind"] == "noisy"
    markdown = (index.parent / "summary.md").read_text()
    assert markdown.startswith("# Latency\n")
    assert "| a\\|b | 1.5 |" in markdown
    assert (index.parent / "tables" / "latency_points.csv").read_bytes() == b"agent,ms\na|b,1.5\n"
    assert {file.suffix for file in (index.parent / "figures").glob("latency-curves.*")} == {
        ".svg",
        ".png",
        ".pdf",
    }


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_section_stands_beside_scores_and_the_report_can_be_replaced(
    tmp_path: Path, synthetic: Any, one_section: Path
) -> None:
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a")], [synthetic.task("toy/a")], 2), lambda item: 1.0
    )
    place = tmp_path / "report"
    for _ in range(2):
        index = export.write_report([run], place, others={"latency": [one_section]})
        text = index.read_text()
        assert 'id="scores"' in text
        assert 'id="latency"' in text
    # A name like those of sections, that this report did not write.
    (place / "tables" / "latency_notes.csv").touch()
    with pytest.raises(LramError, match="latency_notes"):
        export.write_report([run], place)
    assert (place / "tables" / "latency_notes.csv").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_report_without_sections_has_no_word_of_them(tmp_path: Path, synthetic: Any) -> None:
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a")], [synthetic.task("toy/a")], 1), lambda item: 1.0
    )
    index = export.write_report([run], tmp_path / "report")
    assert "chapters" not in json.loads((index.parent / "summary.json").read_text())


def test_what_commands_print_of_sections_loads_no_matplotlib() -> None:
    code = (
        "import sys\n"
        "from lram.reports.sections.latency.analysis import summarise\n"
        "from lram.reports.sections.learning.section import best_words\n"
        "from lram.reports.sections.study.section import effects_table\n"
        "sys.exit('matplotlib' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
