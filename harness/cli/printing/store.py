"""How ``lram data info`` prints a store."""

from __future__ import annotations

from typing import Any

from lram.agents.trajectories.hdf5 import printable
from lram.harness.cli.printing.output import print_table
from lram.harness.collection.info import Group, StoreInfo

_COLUMNS = (
    "episodes",
    "steps",
    "return",
    "min",
    "max",
    "length",
    "solved",
    "at the end",
    "score",
    "MB",
    "repeated",
    "difference",
)


def show_store(info: StoreInfo) -> None:
    """Print a store: its card, its domains, its tasks, and who acted where several did."""
    print(f"{info.path}: {info.episodes} episodes, {info.steps:,} steps, {info.bytes / 1e6:.1f} MB")
    print(f"digest: {info.digest[:16]}")
    if info.unsigned:
        print(f"without checksums, from an earlier version: {', '.join(info.unsigned)}")
    for addition in info.card.get("additions", []):
        print(f"added: {_said(addition)}")
    for title, groups in (("domain", info.domains), ("task", info.tasks)):
        print()
        print_table((title, *_COLUMNS), [(printable(group.name), *_cells(group)) for group in groups])
    _show_repeats(info)
    several = [(task, group) for task, groups in info.policies.items() for group in groups]
    if any(group.name for _, group in several):
        print()
        rows = [
            (printable(task), printable(group.name) or "not said", *_cells(group)[:9])
            for task, group in several
        ]
        print_table(("task", "policy", *_COLUMNS[:9]), rows)
    print()


def _show_repeats(info: StoreInfo) -> None:
    """Print which trajectories are there more than once."""
    if info.repeats is None:
        print("\nrepeated trajectories were not looked for: the index does not name them (leave out --quick)")
        return
    if info.repeats:
        more = sum(one.episodes - one.different for one in info.repeats)
        print(f"\n{more} of {info.episodes} episodes repeat the trajectory of another, step by step:")
        rows = [(printable(one.task), one.episodes, one.different) for one in info.repeats]
        print_table(("task", "episodes", "different"), rows)
    for path, count in info.shared.items():
        print(f"\n{count} of {info.episodes} episodes are also in {path}")


def _cells(group: Group) -> tuple[Any, ...]:
    facts, alike = group.facts, group.copying
    return (
        facts.episodes,
        facts.steps,
        facts.return_mean,
        facts.return_min,
        facts.return_max,
        round(facts.length_mean, 1),
        _round(facts.success_any),
        _round(facts.success_last),
        _round(group.score),
        None if group.bytes is None else round(group.bytes / 1e6, 2),
        _round(alike.repeated) if alike else None,
        _round(alike.difference, 5) if alike else None,
    )


def _round(value: float | None, digits: int = 3) -> float | None:
    return None if value is None else round(value, digits)


def _said(addition: dict[str, Any]) -> str:
    parts = [f"{name} {value}" for name, value in addition.items() if value and not isinstance(value, dict)]
    return printable(", ".join(parts))
