import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.undrawn import undrawn

import lram.reports
from lram.harness.cli import report as report_command
from lram.harness.errors import LramError
from lram.harness.storage.records import Failure
from lram.reports import summarise, summary_json, write_report
from lram.reports.rendering.markdown import markdown
from lram.reports.sections.registry import make_sections
from lram.reports.text import setting

HOSTILE = "--></title><script>alert(1)</script>*`$x_1$&amp;\"'"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def without_measured(page: bytes) -> str:
    return re.sub(r'<section id="measured".*?</section>', "", page.decode(), flags=re.DOTALL)


class Reader(HTMLParser):
    """Collects what a page would load, run or repeat."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.scopes: list[str | None] = []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        facts = dict(attrs)
        self.tags.append(tag)
        if "id" in facts:
            self.ids.append(facts["id"])
        self.links += [facts[name] for name in ("src", "href", "xlink:href") if name in facts]
        if tag == "th":
            self.scopes.append(facts.get("scope"))


@pytest.fixture(scope="module")
def report(tmp_path_factory, request):
    """One report of the realistic study, shared by the tests that only read it."""
    make = request.getfixturevalue("make_synthetic")
    folder = tmp_path_factory.mktemp("report")
    run = make(folder).study()
    return run, write_report([run], folder / "report").parent


@pytest.mark.slow
def test_a_report_has_its_files(report):
    _, folder = report
    assert set(contents(folder)) == {
        "index.html",
        "summary.json",
        "summary.md",
        *(
            f"tables/{name}.csv"
            for name in ("leaderboard", "per_task", "per_domain", "per_group", "aggregates")
        ),
        *(f"tables/{name}.csv" for name in ("comparisons", "pair_aggregates", "episodes", "audit", "timing")),
        *(f"tables/{name}.tex" for name in ("headline", "counts", "success", "errors", "domains", "scores")),
        *(f"tables/{name}.tex" for name in ("comparisons", "agents", "leaderboard")),
        *(f"tables/literature_{name}.csv" for name in ("means", "tasks", "not_shown")),
        *(f"tables/literature-{name}.tex" for name in ("means", "tasks", "sources", "not-shown")),
        *(f"tables/tasks-{name}.tex" for name in ("metaworld", "dmcontrol", "procgen", "atari")),
        *(
            f"figures/{name}.{kind}"
            for name in ("leaderboard", "aggregates", "domains", "success", "tasks")
            for kind in ("svg", "png", "pdf")
        ),
    }


@pytest.mark.slow
def test_a_second_report_has_the_same_bytes(report, tmp_path):
    run, folder = report
    again = write_report([run], tmp_path / "again").parent
    first, second = contents(folder), contents(again)
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []


@pytest.mark.slow
def test_the_order_and_segments_of_records_leave_no_trace(report, synthetic):
    """Of figures the SVG says it: equal SVGs are equal drawings, and those give equal bytes (above)."""
    _, folder = report
    shuffled = synthetic.study(
        order=lambda items: sorted(items, key=lambda item: item.id[::-1]), segments=3, name="resumed"
    )
    with undrawn(svg=True):
        again = write_report([shuffled], synthetic.folder / "again").parent
    first, second = contents(folder), contents(again)
    assert first.keys() == second.keys()
    assert without_measured(first.pop("index.html")) == without_measured(second.pop("index.html"))
    looked_at = [name for name in first if not name.endswith((".png", ".pdf"))]
    assert [name for name in looked_at if first[name] != second[name]] == []


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures_but_svg")
def test_only_the_timing_depends_on_what_was_measured(synthetic, tmp_path):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 2)
    reports = []
    for wall_s in (1.0, 9.0):
        original = synthetic.record
        synthetic.record = lambda *args, w=wall_s, make=original: make(*args, wall_s=w)
        run = synthetic.run(plan, lambda item: float(item.episode), name=f"{wall_s}/run")
        synthetic.record = original
        reports.append(contents(write_report([run], tmp_path / f"report-{wall_s}").parent))
    assert [name for name in reports[0] if reports[0][name] != reports[1][name]] == ["tables/timing.csv"]


@pytest.mark.slow
def test_summary_json_is_what_the_command_prints(report):
    run, folder = report
    sections = make_sections([run], {})
    assert (folder / "summary.json").read_bytes() == summary_json(summarise([run]), sections)
    assert json.loads((folder / "summary.json").read_text())["agents"][0]["label"] == "xlstm-7-1-16m"


def test_the_page_loads_nothing_and_repeats_no_identifier(report):
    _, folder = report
    page = Reader((folder / "index.html").read_text())
    outside = [
        link for link in page.links if not link.startswith(("#", "figures/", "tables/", "summary.", "data:,"))
    ]
    assert outside == []
    assert len(page.ids) == len(set(page.ids))
    assert set(page.links) - {"data:,"} - {f"#{name}" for name in page.ids} == {
        link for link in page.links if (folder / link).is_file() and not link.startswith("#")
    }, "every link leads somewhere"


def test_tables_are_accessible(report):
    _, folder = report
    page = Reader((folder / "index.html").read_text())
    assert page.scopes
    assert set(page.scopes) <= {"col", "row"}
    assert page.tags.count("caption") == page.tags.count("table") > 5


def test_the_page_has_its_parts_in_order(report):
    _, folder = report
    text = (folder / "index.html").read_text()
    order = [
        "<h1",
        'class="verdict"',
        'id="table-leaderboard"',
        'id="read-first"',
        'id="table-headline"',
        'id="figure-aggregates"',
        'id="table-domains"',
    ]
    order += [
        'id="table-scores"',
        'id="table-comparisons"',
        'id="methods"',
        'id="provenance"',
        'id="measured"',
    ]
    places = [text.index(mark) for mark in order]
    assert places == sorted(places)


def test_untrained_agents_are_called_so_in_every_table(report):
    _, folder = report
    label = "xlstm-1-0-16m"
    page = (folder / "index.html").read_text()
    for heading in re.findall(r"<th[^>]*>([^<]*)<|<td>([^<]*)<", page):
        text = "".join(heading)
        assert label != text.strip()
    assert page.count(f"{label} (untrained)") > 5
    for name in ("per_task", "per_domain", "aggregates"):
        rows = list(csv.DictReader(io.StringIO((folder / f"tables/{name}.csv").read_text())))
        assert {row["trained"] for row in rows if row["agent"] == label} == {"false"}


def test_csv_tables_hold_every_episode_and_result(report):
    run, folder = report
    rows = list(csv.DictReader(io.StringIO((folder / "tables/episodes.csv").read_text())))
    assert len(rows) == len(run.records()) == 125
    errored = [row for row in rows if row["status"] == "errored"]
    assert [(row["agent"], row["failure_kind"], row["return"]) for row in errored] == [
        ("mamba-16m", "crash", "")
    ]
    per_task = list(csv.DictReader(io.StringIO((folder / "tables/per_task.csv").read_text())))
    assert len(per_task) == 48
    assert sum(int(row["missing"]) for row in per_task) == 1
    audit = list(csv.DictReader(io.StringIO((folder / "tables/audit.csv").read_text())))
    assert {row["note"] != "" for row in audit if row["task"].startswith("metaworld")} == {True}


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures_but_svg")
def test_a_hostile_label_stays_text(synthetic, tmp_path):
    agents = [synthetic.agent(HOSTILE), synthetic.agent("_b")]
    tasks = [synthetic.task("metaworld/<img src=x onerror=alert(1)>")]
    failure = Failure("session", "<script>alert(2)</script>")
    run = synthetic.run(
        synthetic.plan(agents, tasks, 3), lambda item: failure if item.episode == 2 else (1.0, True, False)
    )
    folder = write_report([run], tmp_path / "report").parent
    page = Reader((folder / "index.html").read_text())
    assert page.tags.count("script") == 1
    assert "img" not in page.tags
    assert "<script" not in (folder / "summary.md").read_text()
    assert "<img" not in (folder / "summary.md").read_text()
    for figure in (folder / "figures").glob("*.svg"):
        assert "<script" not in figure.read_text()


def test_errors_and_settings_are_on_the_page_as_text(report):
    _, folder = report
    page = (folder / "index.html").read_text()
    assert "worker died (signal 11)" in page[page.index('id="errors"') :]
    assert "lanes: 8" in page
    assert setting("{'begin_s': 180.0, 'step_s': 60.0}") == "begin_s 180.0, step_s 60.0"
    assert setting("{}") == "none"
    assert setting("{broken") == "{broken"


def test_markdown_tables_keep_their_columns(synthetic):
    run = synthetic.run(
        synthetic.plan([synthetic.agent(HOSTILE, description="a|b\n| c |")], [synthetic.task("x/a")], 2),
        lambda item: 1.0,
    )
    lines = markdown(summarise([run])).decode().splitlines()
    tables = [line for line in lines if line.startswith("|")]
    assert tables
    columns = 0
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if not line.startswith("|"):
            columns = 0
            continue
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1
        columns = columns or cells
        assert cells == columns, line
        assert after == "" or after.startswith("|")


def test_a_run_without_records_gives_a_report_that_says_so(synthetic, tmp_path):
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 2), lambda item: None)
    folder = write_report([run], tmp_path / "report").parent
    assert "No episode has been recorded yet" in (folder / "index.html").read_text()
    assert "No episode has been recorded yet" in (folder / "summary.md").read_text()
    assert not (folder / "figures").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_an_earlier_report_is_replaced_whole(synthetic, tmp_path):
    plan = synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 2)
    full = synthetic.run(plan, lambda item: float(item.episode))
    empty = synthetic.run(plan, lambda item: None)
    folder = write_report([full], tmp_path / "report").parent
    assert (folder / "figures").exists()
    write_report([empty], folder)
    assert not (folder / "figures").exists()
    assert [entry.name for entry in tmp_path.iterdir() if "report" in entry.name] == ["report"]


def test_an_empty_folder_and_new_parents_are_fine(synthetic, tmp_path):
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1), lambda item: None)
    (tmp_path / "empty").mkdir()
    assert write_report([run], tmp_path / "empty") == tmp_path / "empty" / "index.html"
    assert write_report([run], tmp_path / "new" / "deep").is_file()
    for name in (".DS_Store", "._index.html"):  # the desktop looked at it
        (tmp_path / "new" / "deep" / name).touch()
    assert write_report([run], tmp_path / "new" / "deep").is_file()


@pytest.mark.parametrize(
    "files", [["notes.txt"], ["index.html"], ["index.html", "summary.json", "thesis.tex"]]
)
def test_a_folder_that_is_no_report_is_left_alone(synthetic, tmp_path, files):
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1), lambda item: None)
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in files:
        (folder / name).write_text("mine")
    with pytest.raises(LramError, match="not a report"):
        write_report([run], folder)
    assert {file.name: file.read_text() for file in folder.iterdir()} == dict.fromkeys(files, "mine")


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["tables/analysis.csv", "figures/talk.svg", "figures/old/aggregates.svg", "tables/.keep"]
)
@pytest.mark.usefixtures("no_figures")
def test_a_users_file_inside_an_earlier_report_is_left_alone_and_named(synthetic, tmp_path, name):
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1), lambda item: 1.0)
    folder = write_report([run], tmp_path / "report").parent
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("mine")
    before = contents(folder)
    strange = name if name.count("/") == 1 else "figures/old"
    with pytest.raises(LramError, match=f"not a report .it holds {re.escape(strange)}.;"):
        write_report([run], folder)
    assert contents(folder) == before


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_link_inside_an_earlier_report_is_left_alone(synthetic, tmp_path):
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1), lambda item: 1.0)
    folder = write_report([run], tmp_path / "report").parent
    (folder / "figures").rename(tmp_path / "mine")
    (folder / "figures").symlink_to(tmp_path / "mine")
    with pytest.raises(LramError, match="holds figures"):
        write_report([run], folder)
    assert (tmp_path / "mine" / "tasks.svg").is_file()


def test_a_run_is_not_overwritten_by_its_report(synthetic):
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1), lambda item: None)
    with pytest.raises(LramError, match="not a report"):
        write_report([run], run.path)


def test_a_place_that_cannot_be_written_is_an_error_and_leaves_nothing(synthetic, tmp_path):
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1), lambda item: None)
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "report"):
        with pytest.raises(LramError, match="folder"):
            write_report([run], place)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_failure_while_writing_keeps_the_earlier_report(synthetic, tmp_path, monkeypatch):
    run = synthetic.run(synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1")], 1), lambda item: None)
    folder = write_report([run], tmp_path / "report").parent
    before = contents(folder)
    write_bytes = Path.write_bytes

    def full_disk(self, data):
        if self.name == "summary.md":
            raise OSError(28, "No space left on device")
        return write_bytes(self, data)

    monkeypatch.setattr(Path, "write_bytes", full_disk)
    with pytest.raises(LramError, match="No space left"):
        write_report([run], folder)
    assert contents(folder) == before
    assert [entry.name for entry in tmp_path.iterdir() if "report" in entry.name] == ["report"]


@pytest.mark.slow
def test_the_public_names_exist_and_cost_nothing_until_used():
    for name in lram.reports.__all__:
        assert getattr(lram.reports, name) is not None
    code = (
        "import sys, lram.reports\n"
        "print([m for m in ('numpy', 'matplotlib', 'jinja2', 'pandas') if m in sys.modules])\n"
        "from lram.reports import summarise, write_report\n"
        "print('matplotlib.pyplot' in sys.modules)"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split("\n")[:2] == ["[]", "False"]


def test_reports_load_nothing_that_runs():
    code = (
        "import sys, lram.reports.writing.export\n"
        "print([m for m in ('torch', 'gymnasium', 'mujoco', 'lram.envs.workers.pool') if m in sys.modules])"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.strip() == "[]"


def test_a_page_that_is_not_opened_is_said(synthetic, capsys) -> None:
    """Neither where --json makes no page, nor where no terminal is there."""
    run = synthetic.study(agents=1)
    report_command.report([str(run.path)], json=True, show=True)
    printed = capsys.readouterr()
    assert json.loads(printed.out)["agents"]
    assert "--open did nothing: --json without -o makes no page; give a folder for it with -o" in printed.err
    report_command.report([str(run.path)], json=True)
    assert not capsys.readouterr().err


@pytest.mark.parametrize(("terminal", "browser"), [(True, True), (True, False), (False, True)])
def test_a_page_is_opened_from_a_terminal_with_a_browser(
    tmp_path, monkeypatch, capsys, terminal: bool, browser: bool
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda page: opened.append(page) or browser)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal, raising=False)
    report_command._open(tmp_path / "index.html")
    told = capsys.readouterr().err
    assert opened == [(tmp_path / "index.html").as_uri()] * terminal
    assert (f"open {tmp_path / 'index.html'} in" in told) == (not terminal or not browser)
