"""A table declared once: cells for people, CSV for programs, LaTeX for papers."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lram.harness.errors import LramError
from lram.reports import forms, text, write_report
from lram.reports.csv_files import csv_of
from lram.reports.model import FEW, ConfidenceInterval, Estimate
from lram.reports.rendering.latex import MARK, escaped, latex, latex_files
from lram.reports.table import Column, PrintedTable, Table, TableCell, hidden, words


@dataclass(frozen=True)
class Line:
    name: str
    estimate: Estimate | None
    number: int


LINES = [
    Line("a & b", Estimate(0.5, ConfidenceInterval(0.25, 0.75, "t", (FEW,))), 1),
    Line("[c]", None, 2),
]
COLUMNS: list[Column[Line]] = [
    hidden("id", lambda line: line.name.lower()),
    words("Name", "name", lambda line: line.name),
    Column("Score", "score", lambda line: line.estimate, forms.estimates(forms.two), parts=forms.INTERVAL),
    Column("Number, doubled", "", lambda line: 2 * line.number, flag=lambda line: "odd" * (line.number == 1)),
    hidden("number", lambda line: line.number),
]
TABLE = Table("lines", "All lines.", COLUMNS, LINES, "lines", first=("Number, doubled",))


def test_people_see_headings_and_programs_keys() -> None:
    assert [column.heading for column in TABLE.printed.columns] == ["Number, doubled", "Name", "Score"]
    assert [column.numeric for column in TABLE.printed.columns] == [True, False, True]
    assert TABLE.printed.rows[0] == (
        TableCell("2", flag="odd", value=2),
        TableCell("a & b"),
        TableCell("0.50", "[0.25, 0.75]†", value=0.5),
    )
    assert TABLE.printed.rows[1][2] == forms.EMPTY
    assert csv_of(TABLE).decode() == (
        "id,name,score,score_low,score_high,score_interval,score_doubt,number\n"
        "a & b,a & b,0.5,0.25,0.75,t,few episodes,1\n"
        "[c],[c],,,,,,2\n"
    )
    assert next(TABLE.records())["score_low"] == 0.25


def test_signs_of_doubt_are_explained_wherever_they_stand() -> None:
    assert "† Few episodes" in TABLE.printed.caption
    assert Table("x", "All lines.", COLUMNS, LINES[1:]).printed.caption == "All lines."


def test_a_table_without_rows_is_an_empty_file() -> None:
    assert csv_of(Table("", "", COLUMNS, [], "lines")) == b""


def cells_of(line: str) -> list[str]:
    """The cells of a row of LaTeX."""
    assert line.endswith(r" \\")
    return [cell.strip() for cell in re.split(r"(?<!\\)&", line[:-3])]


def check_latex(text: str) -> None:
    """Assert what makes a file valid: its structure, closed groups and mathematics, no bare sign."""
    assert text.isascii()
    lines = text.splitlines()
    assert lines[0] + "\n" == MARK
    assert lines[1].startswith("% ")
    layout = re.fullmatch(r"\\begin\{tabular\}\{([lr]+)\}", lines[2])
    assert layout is not None
    assert (lines[3], lines[5], lines[-2], lines[-1]) == (
        r"\toprule",
        r"\midrule",
        r"\bottomrule",
        r"\end{tabular}",
    )
    for line in [lines[4], *lines[6:-2]]:
        assert len(cells_of(line)) == len(layout[1])
        assert not line.startswith(("[", "*")), "it would be taken for an option of the row before"
        bare = re.sub(r"\\[\\{}$&#%_~^]", "", line)
        depth = 0
        for sign in bare:
            depth += {"{": 1, "}": -1}.get(sign, 0)
            assert depth >= 0
        assert depth == 0
        assert bare.count("$") % 2 == 0
        assert not re.search(r"[#%|\"<>]", re.sub(r"\$[^$]*\$|\\\"", "", bare))
        assert not re.search(r"(?<!\\)[_^~]", re.sub(r"\\[a-zA-Z]+|\\[~^]", "", bare))


HOSTILE = [
    r"\input{/etc/passwd} $x_1^2$ 50% #1 {a} ~ a & b",
    "[2cm] *",
    "50 µs × 2 – 3 — „x” “y” ‘z’ `a`",
    'é ö ç ñ å ß Ł 中 🙂 "q" <tag> | --- <> −−',
    "a\nb\tc\\\\",
    "\\",
    "%",
    "^^M ^^5c",
    "!`?`",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_set_as_it_is(text: str) -> None:
    table = Table(text, text, [words(text, "", str), Column(text, "", str)], [text, text]).printed
    check_latex(latex(table).decode())


def test_what_latex_says_of_signs() -> None:
    assert escaped("a_b & 5% of $x") == r"a\_b \& 5\% of \$x"
    assert escaped("é Č 中") == r"\'{e} \v{C} U+4E2D"
    assert escaped("−0.5 [1, 2]†") == r"$-$0.5 [1, 2]$\dagger$"
    assert escaped("a--b,,c") == "a-{}-b,{},c"


def test_two_tables_never_share_a_file() -> None:
    empty = PrintedTable("tasks-a/b", "", TABLE.printed.columns, ())
    other = PrintedTable("tasks-a b", "", TABLE.printed.columns, ())
    assert set(latex_files([empty, other])) == {"tasks-a-b.tex", "tasks-a-b-2.tex"}


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_every_table_of_a_report_is_there_for_latex(synthetic: Any, tmp_path: Path) -> None:
    folder = write_report([synthetic.study()], tmp_path / "report").parent
    page = (folder / "index.html").read_text()
    ids = set(re.findall(r'<table id="table-([^"]+)"', page))
    files = sorted((folder / "tables").glob("*.tex"))
    assert {file.stem for file in files} == ids
    for file in files:
        check_latex(file.read_text())
    inputs = "\n".join(rf"\input{{tables/{file.stem}}}" for file in files)
    document = folder / "all.tex"
    document.write_text(
        f"\\documentclass{{article}}\n\\usepackage{{booktabs}}\n\\begin{{document}}\n{inputs}\n\\end{{document}}\n"
    )
    if engine := shutil.which("pdflatex"):
        done = subprocess.run(
            [engine, "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=folder, capture_output=True
        )
        assert done.returncode == 0, done.stdout[-2000:]


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_a_report_is_replaced_with_its_latex_but_takes_nobody_elses(synthetic: Any, tmp_path: Path) -> None:
    run = synthetic.study(agents=2)
    place = tmp_path / "report"
    write_report([run], place)
    (place / "tables" / "tasks-gone.tex").write_text(MARK + "% of an earlier report\n")
    write_report([run], place)
    assert not (place / "tables" / "tasks-gone.tex").exists()
    mine = place / "tables" / "mine.tex"
    mine.write_text("\\begin{tabular}{l}\n\\end{tabular}\n")
    with pytest.raises(LramError, match=r"tables/mine\.tex"):
        write_report([run], place)
    assert mine.exists()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0.000"),
        (0.00012, "0.0001200"),
        (0.01234567, "0.01235"),
        (0.99996, "1.000"),
        (-99.6, "−99.60"),
        (999.96, "1000"),
        (123456.7, "123457"),
        (1234567.0, "1.235e+06"),
        (-0.0000123456, "−1.235e−05"),
        (float("inf"), "inf"),
        (float("nan"), "nan"),
    ],
)
def test_figures_are_four_significant_digits(value: float, shown: str) -> None:
    assert text.figures(value) == shown


@pytest.mark.parametrize(
    ("share", "shown"),
    [
        (0.0, "0"),
        (1.0, "100"),
        (0.5, "50"),
        (199 / 200, "99.5"),
        (1 / 400, "0.2"),
        (0.99991, "99.99"),
        (1e-13, "0"),
        (-0.0, "0"),
    ],
)
def test_a_share_is_0_or_100_per_cent_only_where_it_is(share: float, shown: str) -> None:
    assert text.percent(share) == shown


def test_so_are_the_ends_of_a_rates_interval_and_shares_with_a_decimal() -> None:
    rate = Estimate(0.999, ConfidenceInterval(0.9951, 0.9996, "score"))
    cell = forms.estimates(text.percent)(rate)
    assert isinstance(cell, TableCell)
    assert (cell.text, cell.small) == ("99.9", "[99.5, 99.96]")
    shown = forms.percentages(1)(0.9999)
    assert isinstance(shown, TableCell)
    assert shown.text == "99.99"
