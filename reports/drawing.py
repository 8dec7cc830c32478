"""How figures look and how they become bytes: the same bytes every time.

Matplotlib's object interface only, so that drawing a report neither reads nor leaves anything in the
caller's pyplot. The four inks are named colours of the page: inside it, :func:`inline_svg` replaces
them with style variables, so that one drawing serves the light and the dark scheme.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import matplotlib as mpl
from fontTools import subset
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from lram.harness.words import visible
from lram.reports.model import AgentResult, Estimate, Summary

WIDTH = 7.2
"""Of every figure, in inches: a full text width."""

SCORE_LABEL = "normalised score"

INK, MUTED, RULE, PAPER = "#1b1e23", "#5f6672", "#d9dde2", "#fefefe"
_IN_PAGE = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)", PAPER: "var(--paper)"}

# Okabe and Ito (2008), less yellow and black, which vanish on one of the two papers; then greys and
# browns of other lightness. The marker changes with the colour: no agent is identified by colour alone.
_COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8c6d5a", "#858b94")
_MARKERS = "osD^v<>p"

_SETTINGS: dict[Any, Any] = {
    "svg.hashsalt": "lram",
    "svg.fonttype": "path",
    "pdf.fonttype": 42,
    "font.family": ["DejaVu Sans"],
    "font.size": 8.5,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.6,
    "axes.titlesize": 9.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    # Where it stands anyway: with None, each drawing looks for ticks above the panel, to avoid them.
    "axes.titley": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "axes.facecolor": "none",
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.5,
    "ytick.major.size": 0.0,
    "figure.facecolor": "none",
    "legend.frameon": False,
    "savefig.dpi": 200,
}


Kind = Literal["svg", "png", "pdf"]
KINDS: tuple[Kind, ...] = ("svg", "png", "pdf")


@dataclass(frozen=True)
class Drawing:
    """One figure: its file name, what it shows, how to read it, and the figure itself."""

    name: str
    title: str
    caption: str
    figure: Figure

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", file_word(self.name))
        for text in self.figure.findobj(Text):
            text.set_parse_math(False)
            if text.get_text():
                text.set_text(_shown(text.get_text()))

    @cached_property
    def svg(self) -> str:
        """The figure as SVG without ground: drawn once, for the file and for the page."""
        return _saved(self, "svg", {"transparent": True}).decode()


def file_word(name: str, limit: int = 80) -> str:
    """Return ``name`` as a word for a file and an identifier, other names as other words.

    A name of letters, digits, ``_`` and ``-`` stays; of any other such signs are left, with a digest of it.
    """
    if re.fullmatch(r"[A-Za-z0-9_-]+", name) and len(name) <= limit:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:10]
    return f"{re.sub(r'[^A-Za-z0-9_-]+', '-', name)[: limit - 11]}-{digest}"


_LONGEST = 120  # characters of a text in a figure: longer ones would make it unreadable, and slow


def _shown(text: str) -> str:
    """Return a text of a figure with nothing hidden in it, its lines not too long."""
    return "\n".join(visible(short(line, _LONGEST)) for line in text.split("\n", 3)[:3])


@contextmanager
def look() -> Iterator[None]:
    """Draw and save inside this: the house's settings, whatever the user's matplotlibrc says."""
    with mpl.rc_context(), warnings.catch_warnings():
        mpl.rcdefaults()
        mpl.rcParams.update(_SETTINGS)
        # A label may hold signs that the font lacks; a box in its place is all there is to do.
        warnings.filterwarnings("ignore", message=".*Glyph.*missing", category=UserWarning)
        yield


def render(drawing: Drawing, kind: Kind) -> bytes:
    """Return the figure as a file on white paper, without a date or a program's name."""
    if kind == "svg":  # its first patch is the ground
        white = rf"\g<1>fill: {PAPER}"
        return re.sub(
            r'(<g id="patch_1">.*?)fill: none', white, drawing.svg, count=1, flags=re.DOTALL
        ).encode()
    return _saved(drawing, kind, {"facecolor": PAPER})


def _saved(drawing: Drawing, kind: Kind, ground: dict[str, Any]) -> bytes:
    metadata: dict[str, dict[str, str | None]] = {
        "svg": {"Date": None, "Creator": None, "Format": None, "Type": None},
        "png": {"Software": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    }
    buffer = io.BytesIO()
    with look(), _glyphs_only():
        settle(drawing.figure)
        drawing.figure.savefig(buffer, format=kind, metadata=metadata[kind], **ground)
    return buffer.getvalue()


@contextmanager
def _glyphs_only() -> Iterator[None]:
    """Embed fonts in a PDF without their tables of ligatures and of positions, which no PDF reader uses.

    A PDF says which glyph stands where; to reduce those tables takes three quarters of the time of a PDF.
    """
    options = subset.Options

    class Glyphs(options):  # type: ignore[misc,valid-type]
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            self.drop_tables += ["GDEF", "GPOS", "GSUB"]

    subset.Options = Glyphs
    try:
        yield
    finally:
        subset.Options = options


def settle(figure: Figure, passes: int = 2) -> None:
    """Lay ``figure`` out for good: every file would do it anew, which takes as long as to draw it.

    Rows and columns of panels settle in several passes. Call it inside :func:`look`.
    """
    engine = figure.get_layout_engine()
    if engine is not None:
        for _ in range(passes):
            engine.execute(figure)
        # With None, in place of "none", a file is not drawn once more beforehand, for its layout.
        figure.set_layout_engine(None)


def inline_svg(drawing: Drawing) -> str:
    """Return the figure as an SVG element for the page.

    Its identifiers carry the drawing's name, since a page holds several drawings, and its inks are
    the page's style variables.
    """
    text = drawing.svg[drawing.svg.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\b(id="|href="#|url\(#)', rf"\g<1>{drawing.name}-", text)
    text = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", text, count=1)
    text = re.sub(r'(<svg[^>]*?) height="[^"]*"', r'\1 aria-hidden="true"', text, count=1)
    for ink, variable in _IN_PAGE.items():
        text = text.replace(ink, variable)
    return text


def style_of(place: int) -> tuple[str, str]:
    """Return the colour and marker of the agent at ``place`` in the summary."""
    return _COLOURS[place % len(_COLOURS)], _MARKERS[place % len(_MARKERS)]


def short(label: str, limit: int = 34) -> str:
    """Return a label that fits beside an axis, on one line."""
    label = visible(" ".join(label.split()))
    return label if len(label) <= limit else f"{label[: limit - 1]}…"


def agent_rows(axes: Axes, agents: Sequence[AgentResult]) -> None:
    """Give ``axes`` one row an agent, the first on top."""
    axes.set_yticks(range(len(agents)), [short(agent.name) for agent in agents])
    axes.set_ylim(len(agents) - 0.4, -0.6)


def point(
    axes: Axes,
    estimate: Estimate,
    row: float,
    place: int,
    *,
    hollow: bool = False,
    small: bool = False,
    scale: float = 1.0,
) -> None:
    """Draw an estimate and its interval at height ``row``, as the agent at ``place``.

    In every figure ``hollow`` means that the estimate does not compare with the others, and a dashed
    interval that it is in doubt.
    """
    colour, marker = style_of(place)
    if estimate.interval is not None:
        ends = [estimate.interval.low * scale, estimate.interval.high * scale]
        axes.plot(
            ends,
            [row, row],
            color=colour,
            linewidth=0.8 if small else 1.6,
            alpha=0.75,
            linestyle=(0, (1.6, 0.8)) if estimate.interval.doubts else "solid",
            solid_capstyle="butt",
            dash_capstyle="butt",
            zorder=2,
        )
    axes.plot(
        [estimate.value * scale],
        [row],
        marker=marker,
        markersize=2.8 if small else 4.6,
        markerfacecolor=PAPER if hollow else colour,
        markeredgecolor=colour,
        markeredgewidth=0.8 if small else 1.1,
        linestyle="none",
        zorder=3,
    )


DASHED = " A dashed interval is in doubt (few episodes, or borrowed noise; the tables' signs say which)."


def in_doubt(estimates: Iterable[Estimate | None]) -> str:
    """Return the sentence of a caption on dashed intervals; empty where none of ``estimates`` is in doubt."""
    found = (estimate.interval for estimate in estimates if estimate is not None)
    return DASHED if any(interval.doubts for interval in found if interval is not None) else ""


def reference_lines(axes: Axes, *, gap: bool = False) -> None:
    """Draw the lines of the random reference (0) and of the reference (1), and keep both in view.

    Where the axis has a ``gap`` to the reference, the reference is at 0.
    """
    for value, dashes in ((0.0, (5, 2) if gap else (1, 2)), (1.0, (1, 2) if gap else (5, 2))):
        axes.axvline(value, color=MUTED, linewidth=0.8, linestyle=(0, dashes), zorder=0)
    left, right = axes.get_xlim()
    margin = 0.04 * (max(right, 1.0) - min(left, 0.0))
    axes.set_xlim(min(left, -margin), max(right, 1.0 + margin))


def compress(axes: Axes, low: float, high: float) -> None:
    """Make the score axis linear in [-1, 1] and logarithmic outside, where scores reach far out."""
    if high > 5 or low < -2:
        axes.set_xscale("symlog", linthresh=1.0, linscale=1.0)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}".replace("-", "−"))


def legend(figure: Figure, summary: Summary, *, lines: bool = False) -> None:
    """Name the agents above the panels."""
    named = [(place, agent.name) for place, agent in enumerate(summary.agents)]
    legend_of(figure, named, lines=lines, markers=not lines)


def legend_of(
    figure: Figure, named: Sequence[tuple[int, str]], *, lines: bool, markers: bool, title: str = ""
) -> None:
    """Name what is drawn as at these places, above the panels; ``title`` says what the names are of."""
    handles = []
    for place, _ in named:
        colour, marker = style_of(place)
        handles.append(
            Line2D(
                [],
                [],
                color=colour,
                linewidth=1.6,
                linestyle="solid" if lines else "none",
                marker=marker if markers else None,
                markersize=4.6,
            )
        )
    figure.legend(
        handles,
        [short(name) for _, name in named],
        loc="outside upper left",
        ncols=3,
        title=short(title) or None,
        title_fontsize=8.0,
        alignment="left",
    )


def log_axes(axes: Axes, values: Sequence[int], base: int) -> None:
    """Make both axes logarithmic, the horizontal one with a tick at each of ``values`` only."""
    axes.set_xscale("log", base=base)
    axes.set_yscale("log")
    axes.xaxis.set_major_locator(FixedLocator(list(values)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.grid(axis="y", color=RULE, linewidth=0.6, zorder=0)
    axes.set_axisbelow(True)
