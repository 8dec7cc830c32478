"""Text of others in tables, Markdown, figures, page and terminal: it is shown, and it does nothing."""

from __future__ import annotations

import csv
import io
import re
from html.parser import HTMLParser

import pytest
from matplotlib.figure import Figure

from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.cli.printing.streams import nothing_hidden
from lram.harness.words import one_line, visible
from lram.reports import write_report
from lram.reports.csv_files import written
from lram.reports.drawing import Drawing, file_word, inline_svg, look, render
from lram.reports.rendering.escaping import block as _block
from lram.reports.rendering.escaping import code as _code
from lram.reports.rendering.escaping import plain as _plain

HOSTILE = (
    "=cmd|'/C calc'!A0",
    "@SUM(1+1)",
    "` ![i](http://evil.example/p.png) `",
    "[a](javascript:alert(1))",
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "$\\frac{$",
    "\x1b]0;owned\x07\x1b[2J",
    "\u202egnp.exe",
    "a|b",
    "# heading",
    "[red]x[/red]",
    "{{ 7*7 }}{% raw %}",
    "../../x",
    "x\n=cmd",
    "x" * 5000,
)


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1+1",
        "-1+1",
        "@SUM(1)",
        " =1",
        "\tx",
        "\rx",
        "\u00a0@x",
        "＝1+1",
        "＋x",
        "－x",
        "＠x",
        "-x",
    ],
)
def test_a_csv_cell_that_would_be_a_formula_is_text(text):
    (row,) = csv.reader(io.StringIO(written(["a"], [[text]]).decode().split("\n", 1)[1], newline=""))
    assert row[0].startswith("'")
    assert row[0].replace("\\u000d", "\r") == f"'{text}"


@pytest.mark.parametrize(
    "value", [-0.5, float("-inf"), -3, "-0.5", "+1e3", "-inf", "a=b", "x@y", "", None, "–"]
)
def test_numbers_and_other_text_stay_what_they_are_in_csv(value):
    assert written(["a", "b"], [[value, 1]]).decode().split("\n")[1] == f"{'' if value is None else value},1"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("x;=1+1", "x;'=1+1"),
        ("\t=1", "'\t'=1"),
        ('x; "@SUM(1)', "x; \"'@SUM(1)"),
        ("x\n=cmd|'/C calc'!A0", "x\n'=cmd|'/C calc'!A0"),
        ("x|-1+1\t+1+1", "x|'-1+1\t'+1+1"),
        ("a; -0.5; +1e3;-inf", "a; -0.5; +1e3;-inf"),
        ("toy/a: it is x-y; toy/b: a=b", "toy/a: it is x-y; toy/b: a=b"),
    ],
)
def test_no_formula_begins_where_a_spreadsheet_may_end_a_cell(text, cell):
    (row,) = csv.reader(io.StringIO(written(["a"], [[text]]).decode().split("\n", 1)[1], newline=""))
    assert row == [cell]


def test_a_carriage_return_makes_no_row_of_a_csv_file():
    assert b"\r" not in written(["a", "=b"], [["x\r=cmd", "y"]])
    assert written(["=b"], [["y"]]).startswith(b"'=b\n")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("![i](http://e.x/p.png)", "!\\[i\\](http\\://e.x/p.png)"),
        ("see HTTPS://e.x", "see HTTPS\\://e.x"),
        ("www.e.x", "www\\.e.x"),
        ("me@e.x", "me@<!-- -->e.x"),
        ("_www.e.x", "_www\\.e.x"),
        ("_mailto:x", "_mailto\\:x"),
        ("me@.e.x", "me@<!-- -->.e.x"),
        ("random@window=50", "random@window=50"),
        ("toy:plain@1", "toy:plain@1"),
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("$\\href{x}{y}$", "\\$\\\\href{x}{y}\\$"),
        ("a|b`c", "a\\|b\\`c"),
        ("a\n\n# b", "a # b"),
        ("\u202ex", "\\\\u202ex"),
    ],
)
def test_markdown_shows_text_as_it_is(text, shown):
    assert _plain(text) == shown


@pytest.mark.parametrize("text", ["# x", "- x", "+ x", "1. x", "12) x", "~~~ x", "=== ", "___", "--- "])
def test_no_block_of_markdown_begins_with_text_of_others(text):
    assert re.match(r"\d*\\[#+=~_.)-]", _block(text))
    assert _block("plain") == "plain"


def test_code_of_markdown_does_not_end_within_a_name():
    assert _code("toy:plain@1") == "`toy:plain@1`"
    assert _code("a` ![i](b) `c") == "a\\` !\\[i\\](b) \\`c"


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures_but_svg")
def test_a_report_of_hostile_names_shows_them_and_does_nothing(synthetic, tmp_path):
    agents = [
        synthetic.agent(
            label if label.isprintable() and "|" not in label else f"agent {place}",
            description=label,
            spec=label,
        )
        for place, label in enumerate((*HOSTILE, "plain"))
    ]
    tasks = [synthetic.task(f"{domain}/{domain}") for domain in ("x/../../../../evil", "$\\frac{$", "<b>")]
    run = synthetic.run(
        synthetic.plan(agents, tasks, 2, protocol="` ![i](http://e.x) `"), lambda item: item.episode / 2
    )
    write_report([run], tmp_path / "deep/er/report")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", run.path.name]
    markdown = (tmp_path / "deep/er/report/summary.md").read_text()
    assert not re.search(r"(?<!\\)!?\[[^\]]*\](?<!\\)\(", markdown)
    assert "http://" not in markdown
    assert not re.search(r"<(?!!-- -->)", markdown)
    page = (tmp_path / "deep/er/report/index.html").read_text()
    assert "\x1b" not in page + markdown
    assert "\u202e" not in page + markdown
    tags = _Tags()
    tags.feed(page)
    assert sum(tag == "script" for tag, _ in tags.found) == 1
    assert not {"img", "iframe", "object", "embed", "form"} & {tag for tag, _ in tags.found}
    assert not [name for _, attributes in tags.found for name in attributes if name.startswith("on")]
    links = [attributes["href"] for tag, attributes in tags.found if tag == "a"]
    assert all(re.fullmatch(r"#[\w-]+|((tables|figures)/)?[\w-]+\.\w+", link) for link in links)
    for file in (tmp_path / "deep/er/report/tables").glob("*.csv"):
        with file.open(newline="") as opened:
            cells = [cell for row in csv.reader(opened) for cell in row]
        assert not [cell for cell in cells if cell.lstrip()[:1] in "=@" and cell.strip()]


def test_a_figure_draws_hostile_text_and_its_name_is_one_word():
    with look():
        figure = Figure()
        axes = figure.subplots()
        axes.set_title("$\\frac{$ \x1b[2J <script>" + "x" * 10_000)
        axes.set_yticks([0], ["$x^$"])
    drawing = Drawing('extrapolation-scores-x/../../"><script>', "t", "c", figure)
    assert re.fullmatch(r"extrapolation-scores-[A-Za-z0-9-]+", drawing.name)
    svg = inline_svg(drawing)
    assert "<script" not in svg
    assert len(svg) < 500_000
    assert render(drawing, "png").startswith(b"\x89PNG")


def test_words_for_files_differ_where_names_do():
    assert file_word("extrapolation-scores-atari") == "extrapolation-scores-atari"
    names = ["a/b", "a-b", "a b", "a\\b", "..", "con", "x" * 300, "x" * 301]
    assert len({file_word(name).lower() for name in names}) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,80}", file_word(name)) for name in names)


def test_the_terminal_gets_no_escape(capsys):
    with nothing_hidden():
        print("a\x1b[2Jb\u202ec\x9b1m\r", "\ud800", flush=True)
        print("\r12 episodes", end="")
        print_table(("name",), [("x\ny",)])
        print_json({"a": "\x9b\u202e\x1b"})
    out = capsys.readouterr().out
    assert out.startswith("a\\u001b[2Jb\\u202ec\\u009b1m\\u000d \\ud800\n\r12 episodes")
    assert "x\\ny\n" in out
    assert '"\\u009b\\u202e\\u001b"' in out


def test_ordinary_text_is_untouched():
    for text in ("normalised score ≥ τ – 5 µs", "名前 naïve\tx\ny", "x\u00a0y"):
        assert visible(text) == text
    assert one_line("a\tb\nc") == "a\\tb\\nc"
    assert visible("\U000e0041") == "\\udb40\\udc41"
