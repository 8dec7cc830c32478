"""Statistics, tables, figures and pages made from records."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lram.reports.evidence.trainings import load_trainings
    from lram.reports.model import Summary
    from lram.reports.summary.summarise import summarise
    from lram.reports.writing.export import summary_json, write_report

__all__ = ["Summary", "load_trainings", "summarise", "summary_json", "write_report"]

# Loaded when first asked for: numpy, matplotlib and Jinja2 are not needed to list tasks.
_HOMES = {
    "Summary": "lram.reports.model",
    "load_trainings": "lram.reports.evidence.trainings",
    "summarise": "lram.reports.summary.summarise",
    "summary_json": "lram.reports.writing.export",
    "write_report": "lram.reports.writing.export",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *__all__]
