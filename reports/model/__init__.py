"""What a summary says: frozen dataclasses that msgspec writes as ``summary.json``."""

from __future__ import annotations

from lram.reports.model.estimates import (
    ALL_EQUAL,
    BORROWED,
    FEW,
    NO_IQM_INTERVAL,
    NOT_ESTIMABLE,
    UNSEEN,
    UNSIMULATED,
    Aggregate,
    ConfidenceInterval,
    Doubt,
    Estimate,
    LeftOut,
    RestsOn,
    rounded,
)
from lram.reports.model.results import (
    AgentResult,
    AgentSplit,
    Comparison,
    DomainResult,
    FailureCount,
    GroupResult,
    MeasuredRandom,
    TaskEntry,
    TaskResult,
)
from lram.reports.model.summary import LAYOUT, Caveat, Summary
from lram.reports.model.training import HeldOut, Measures, TrainingResult, Validation

__all__ = [
    "ALL_EQUAL",
    "BORROWED",
    "FEW",
    "LAYOUT",
    "NOT_ESTIMABLE",
    "NO_IQM_INTERVAL",
    "UNSEEN",
    "UNSIMULATED",
    "AgentResult",
    "AgentSplit",
    "Aggregate",
    "Caveat",
    "Comparison",
    "ConfidenceInterval",
    "DomainResult",
    "Doubt",
    "Estimate",
    "FailureCount",
    "GroupResult",
    "HeldOut",
    "LeftOut",
    "MeasuredRandom",
    "Measures",
    "RestsOn",
    "Summary",
    "TaskEntry",
    "TaskResult",
    "TrainingResult",
    "Validation",
    "rounded",
]
