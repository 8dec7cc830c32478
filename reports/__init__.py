"""Statistics, tables, figures and pages made from records."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lram.reports.aggregate import summarise
    from lram.reports.export import summary_json, write_report
    from lram.reports.model import Summary
    from lram.reports.sections.training.folder import load_trainings

__all__ = ["Summary", "load_trainings", "summarise", "summary_json", "write_report"]

# Loaded when first asked for: numpy, matplotlib and Jinja2 are not needed to list tasks.
_HOMES = {
    "Summary": "lram.reports.model",
    "load_trainings": "lram.reports.sections.training.folder",
    "summarise": "lram.reports.aggregate",
    "summary_json": "lram.reports.export",
    "write_report": "lram.reports.export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
