import io
import re
import zlib

import matplotlib as mpl
import pytest
from fontTools import subset
from fontTools.ttLib import TTFont
from matplotlib.figure import Figure

from lram.reports import summarise
from lram.reports.drawing import PAPER, Drawing, inline_svg, look, render, style_of
from lram.reports.sections.scores.figures import draw
from lram.reports.sections.scores.task_figures import DOT_PLOT_TASKS


def study(synthetic, tasks, agents=3):
    entries = [synthetic.agent(f"agent-{i}") for i in range(agents)]
    planned = [synthetic.task(f"{'xyz'[i % 3]}/task-{i:03d}") for i in range(tasks)]
    places = {task.id: place for place, task in enumerate(planned)}
    run = synthetic.run(
        synthetic.plan(entries, planned, 2),
        lambda item: places[item.task] / tasks + 0.1 * item.episode + 0.2 * int(item.agent[-1]),
    )
    return summarise([run], resamples=100)


def figure(summary, name):
    return next(drawing for drawing in draw(summary) if drawing.name == name)


@pytest.mark.slow
@pytest.mark.parametrize("tasks", [1, 2, DOT_PLOT_TASKS])
@pytest.mark.usefixtures("no_figures")
def test_every_task_has_a_row_while_they_are_few(synthetic, tasks):
    drawing = figure(study(synthetic, tasks), "tasks")
    rows = [label.get_text() for axes in drawing.figure.axes for label in axes.get_yticklabels()]
    assert sorted(rows) == sorted(f"task-{i:03d}" for i in range(tasks))
    assert drawing.figure.get_size_inches()[1] < 20


@pytest.mark.usefixtures("no_figures")
def test_many_tasks_are_drawn_as_profiles(synthetic):
    summary = study(synthetic, DOT_PLOT_TASKS + 30)
    drawing = figure(summary, "tasks")
    assert "Performance profiles" in drawing.caption
    assert drawing.figure.get_size_inches()[1] < 8
    overall = drawing.figure.axes[0]
    values, edges, _ = overall.patches[0].get_data()
    own = sorted(r.score.value for r in summary.results if r.agent == "agent-0")
    share = dict(zip(edges, values, strict=False))
    for threshold in (own[0], own[40]):
        # The step that begins at a task's score stands for thresholds just above it.
        assert share[threshold] == pytest.approx(sum(v > threshold for v in own) / len(own))


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_an_agent_keeps_its_colour_and_marker_in_every_figure(synthetic):
    summary = summarise([synthetic.study()], resamples=100)
    expert = len(summary.agents) - 1
    colour, marker = style_of(expert)
    for drawing in draw(summary):
        points = [
            line for axes in drawing.figure.axes for line in axes.get_lines() if line.get_marker() == marker
        ]
        assert points, drawing.name
        assert {line.get_markeredgecolor() for line in points} == {colour}


@pytest.mark.usefixtures("no_figures")
def test_both_references_are_in_view(synthetic):
    for drawing in draw(study(synthetic, 3)):
        for axes in drawing.figure.axes:
            low, high = axes.get_xlim()
            assert low < 0
            assert high > 1


def test_far_scores_are_drawn_on_a_compressed_axis(synthetic):
    run = synthetic.run(
        synthetic.plan([synthetic.agent("a")], [synthetic.task("x/1"), synthetic.task("x/2")], 2),
        lambda item: 400.0 + item.episode if item.task == "x/1" else 0.5,
    )
    drawing = figure(summarise([run], resamples=100), "tasks")
    assert drawing.figure.axes[0].get_xscale() == "symlog"


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_points_that_do_not_compare_are_hollow_and_explained(synthetic):
    drawing = figure(summarise([synthetic.study()], resamples=100), "aggregates")
    faces = [
        line.get_markerfacecolor()
        for line in drawing.figure.axes[0].get_lines()
        if line.get_marker() != "None"
    ]
    assert faces[-1] != style_of(5)[0]
    assert faces[0] == style_of(0)[0]
    assert "Hollow" in drawing.caption


def test_hollow_means_the_same_in_the_figure_of_success(synthetic):
    tasks = [synthetic.task("x/1"), synthetic.task("x/2")]
    run = synthetic.run(
        synthetic.plan([synthetic.agent("all"), synthetic.agent("half")], tasks, 2),
        lambda item: None if item.agent == "half" and item.task == "x/2" else (1.0, True, False),
    )
    drawing = figure(summarise([run], resamples=100), "success")
    points = [line for line in drawing.figure.axes[0].get_lines() if line.get_marker() != "None"]
    filled = [line.get_markerfacecolor() == line.get_markeredgecolor() for line in points]
    assert filled == [True, True, False, False]
    assert points[0].get_markersize() > points[1].get_markersize()


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_untrained_agents_are_called_so_beside_the_axis(synthetic):
    for drawing in draw(summarise([synthetic.study()], resamples=100)):
        texts = [label.get_text() for axes in drawing.figure.axes for label in axes.get_yticklabels()]
        texts += [text.get_text() for legend in drawing.figure.legends for text in legend.get_texts()]
        assert "xlstm-1-0-16m (untrained)" in texts, drawing.name
        assert "xlstm-1-0-16m" not in texts


@pytest.mark.slow
def test_any_label_can_be_drawn(synthetic):
    labels = ["_hidden", "$x_", "日本 🙂", "a" * 300, "two  words"]
    run = synthetic.run(
        synthetic.plan([synthetic.agent(label) for label in labels], [synthetic.task("x/1")], 2),
        lambda item: float(item.episode),
    )
    for drawing in draw(summarise([run], resamples=100)):
        assert render(drawing, "svg").startswith(b"<?xml")
        for legend in drawing.figure.legends:
            assert len(legend.get_texts()) == len(labels)


@pytest.mark.slow
def test_drawing_reads_and_leaves_no_setting(synthetic):
    summary = study(synthetic, 2)
    expected = render(figure(summary, "aggregates"), "svg")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "svg.hashsalt": None}):
        before = dict(mpl.rcParams)
        assert render(figure(summary, "aggregates"), "svg") == expected
        assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_files_carry_no_date_and_no_version(synthetic):
    drawing, again = (figure(study(synthetic, 2), "aggregates") for _ in range(2))
    for kind in ("svg", "png", "pdf"):
        content = render(drawing, kind)
        assert content == render(again, kind)
        assert b"Date" not in content
        assert mpl.__version__.encode() not in content


def test_the_inline_drawing_takes_the_colours_of_the_page(synthetic):
    text = inline_svg(figure(study(synthetic, 2), "aggregates"))
    assert "currentColor" in text
    assert "var(--muted)" in text
    assert "#1b1e23" not in text
    assert 'id="aggregates-' in text
    assert ' width="' not in text.partition(">")[0]


def test_a_figure_is_laid_out_once_and_one_svg_serves_file_and_page(monkeypatch):
    with look():
        plain = Figure(figsize=(3, 2), layout="constrained")
        plain.subplots().set_ylabel("a label")
    layout, saved = plain.get_layout_engine(), []
    execute, save = type(layout).execute, Figure.savefig
    monkeypatch.setattr(type(layout), "execute", lambda *told: saved.append("layout") or execute(*told))
    monkeypatch.setattr(
        Figure, "savefig", lambda *told, **more: saved.append(more["format"]) or save(*told, **more)
    )
    draw_once, drawn = Figure.draw, []
    monkeypatch.setattr(Figure, "draw", lambda it, canvas: drawn.append(it) or draw_once(it, canvas))
    drawing = Drawing("figure", "Title", "Caption", plain)
    page, files = inline_svg(drawing), [render(drawing, kind) for kind in ("svg", "png", "pdf")]
    assert saved == ["layout", "layout", "svg", "png", "pdf"]
    assert drawn == [plain] * 3  # once a file, not once more for the layout
    assert plain.axes[0].get_position().x0 > 0.13  # room for the label
    assert files[0].decode().count(f"fill: {PAPER}") == 1
    assert "fill: var(--paper)" not in page


def test_fonts_in_a_pdf_hold_outlines_and_no_rules_of_typesetting():
    with look():
        plain = Figure(figsize=(2, 1))
        plain.text(0.5, 0.5, "fi ffl AV")
    options = subset.Options
    content = render(Drawing("figure", "Title", "Caption", plain), "pdf")
    assert subset.Options is options
    streams = [
        zlib.decompress(part) for part in re.findall(rb"[^d]stream\n(.*?)\nendstream", content, re.DOTALL)
    ]
    fonts = [TTFont(io.BytesIO(stream)) for stream in streams if stream.startswith(b"\0\1\0\0")]
    assert fonts
    for font in fonts:
        assert {"glyf", "hmtx", "head"} <= set(font.keys())
        assert not {"GDEF", "GPOS", "GSUB"} & set(font.keys())
    assert {"A", "V", "space"} <= {name for font in fonts for name in font.getGlyphOrder()}
