"""The templates of pages: one environment, so that every page escapes what it prints."""

from __future__ import annotations

from importlib.resources import files

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from lram.harness.words import visible
from lram.reports import bounds, text

_LONG = 25
"""A table with more rows scrolls by itself, below headings that stay."""


def environment() -> Environment:
    """Return what renders ``reports/templates``, with the filters and bounds that they use."""
    made = Environment(
        loader=FunctionLoader(_template),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    made.filters["setting"] = text.setting
    made.filters["listing"] = text.listing
    made.filters["shown"] = bounds.shown
    made.globals["most_items"] = bounds.ITEMS
    made.globals["long_rows"] = _LONG
    return made


def _shown(value: object) -> object:
    """Return what the page prints for ``value``: text with nothing hidden in it."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _template(name: str) -> str:
    return files("lram.reports").joinpath("templates", name).read_text(encoding="utf-8")
