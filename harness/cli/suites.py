"""``lram suites``: the named suites of tasks."""

from __future__ import annotations

from lram.envs import registry
from lram.harness.cli.options import JsonOption
from lram.harness.cli.printing.output import print_json, print_table


def suites(*, json: JsonOption = False) -> None:
    """List the named suites of tasks."""
    if json:
        print_json(dict(registry.suites()))
        return
    print_table(
        ("suite", "tasks", "what"),
        [(name, len(ids), _suite_text(name, ids)) for name, ids in registry.suites().items()],
    )


def _suite_text(name: str, ids: tuple[str, ...]) -> str:
    chosen = [registry.all_tasks()[task_id] for task_id in ids]
    domains, splits = {task.domain for task in chosen}, {task.split for task in chosen}
    where = next(iter(domains)) if len(domains) == 1 else f"{len(domains)} domains"
    split = f", {next(iter(splits))} tasks" if len(splits) == 1 else ""
    return where + split
