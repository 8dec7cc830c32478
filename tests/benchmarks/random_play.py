"""Make the table of measured random play (envs/data/random_play.csv) from runs of the random agent.

    for domain in atari procgen dmcontrol metaworld; do
        lram eval random -t "$domain/*" -n 100 -s 1000 -o random/$domain
    done
    python tests/benchmarks/random_play.py random/*

Everything is read with the product's own functions: records with their checksums, means and intervals
as a report has them. Tasks whose episodes are not all there are left out and named, and rows of the file on
other tasks or protocols stay, so the table can be made again while a run is under way. With ``--markdown``
the domain means of random play under the paper's references, and the tasks where it reaches half of the
reference, are written as a page.
"""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections import Counter
from dataclasses import fields
from pathlib import Path

import numpy as np

from lram.envs.random_play import RandomPlay, parse
from lram.envs.registry import all_tasks
from lram.envs.scores import HALF, audit, normalise
from lram.harness.storage.run_folder import Run
from lram.reports import summarise
from lram.reports.model import Estimate, Summary

ROOT = Path(__file__).resolve().parents[2]
TABLE = ROOT / "envs" / "data" / "random_play.csv"
PAGE = ROOT / "docs" / "results" / "random-play.md"
COLUMNS = (
    "task",
    "protocol",
    "episodes",
    "seed",
    "mean_return",
    "standard_deviation",
    "low",
    "high",
    "source",
)
_NAMES = {"mean": "mean_return", "deviation": "standard_deviation"}


def main() -> int:
    """Read runs, merge their rows into the table, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of 'lram eval random ...'")
    parser.add_argument(
        "-o", "--output", type=Path, default=TABLE, help="the table (default: the shipped one)"
    )
    parser.add_argument("--markdown", type=Path, help=f"the page, such as {PAGE.relative_to(ROOT)}")
    parser.add_argument("--episodes", type=int, default=100, help="least episodes of a task that count")
    asked = parser.parse_args()
    rows = _existing(asked.output)
    pages: list[str] = []
    for folder in asked.runs:
        if not (folder / "run.json").is_file():
            print(f"{folder}: no run yet, left out", file=sys.stderr)
            continue
        run = Run(folder)
        summary = summarise([run])
        found = _rows(run, summary, asked.episodes)
        rows |= {(one.task, one.protocol): one for one in found}
        pages += _lines(run, summary, found)
        print(f"{folder}: {len(found)} of {len(summary.tasks)} tasks", file=sys.stderr)
    asked.output.write_text(_csv(rows), encoding="utf-8")
    if asked.markdown:
        asked.markdown.parent.mkdir(parents=True, exist_ok=True)
        asked.markdown.write_text(_page(pages, rows), encoding="utf-8")
    return 0


def _existing(file: Path) -> dict[tuple[str, str], RandomPlay]:
    return parse(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _rows(run: Run, summary: Summary, least: int) -> list[RandomPlay]:
    """Return the measurements of a run, of tasks whose episodes are all there and scored."""
    labels = [agent.label for agent in run.plan.agents if agent.spec == "random"]
    if labels != ["random"]:
        raise SystemExit(f"{run.path} has not the agent random, once and under that name")
    source = _source(run)
    protocols = {planned.task.id: planned.protocol for planned in run.plan.tasks}
    returns: dict[str, list[float]] = {}
    for record in run.records():
        if record.status == "scored" and record.agent == "random" and record.episode_return is not None:
            returns.setdefault(record.task, []).append(record.episode_return)
    found, lacking = [], []
    for task, protocol in protocols.items():
        result = summary.result("random", task)
        if result.scored < max(least, run.plan.episodes) or result.errored or result.mean_return is None:
            lacking.append(f"{task} ({result.scored} of {run.plan.episodes})")
            continue
        interval = result.mean_return.interval
        found.append(
            RandomPlay(
                task=task,
                protocol=protocol,
                episodes=result.scored,
                seed=run.plan.seed,
                mean=_six(result.mean_return.value),
                deviation=_six(float(np.std(returns[task], ddof=1))),
                low=_six(interval.low) if interval else None,
                high=_six(interval.high) if interval else None,
                source=source,
            )
        )
    if lacking:
        print(f"{run.path}: not all episodes are there: {', '.join(lacking)}", file=sys.stderr)
    return found


def _source(run: Run) -> str:
    """Return the command and the versions behind a run in one text; SystemExit where versions changed."""
    versions: dict[str, set[str]] = {}
    for session in run.provenance():
        versions.setdefault("lram-bench", set()).add(
            session.packages.get("lram-bench", "of an unknown version")
        )
        # Known when a session has ended: one that was killed has none.
        for packages in session.workers.values():
            for name, version in packages.items():
                versions.setdefault(name, set()).add(version)
    if several := [name for name, found in versions.items() if len(found) > 1]:
        raise SystemExit(f"{run.path} was played with several versions of {', '.join(several)}")
    command = f"lram eval random -t '{_selection(run)}' -n {run.plan.episodes} -s {run.plan.seed}"
    return f"{command} ({', '.join(f'{name} {found.pop()}' for name, found in versions.items())})"


def _selection(run: Run) -> str:
    """Return the shortest selection that names the tasks of a run."""
    chosen: dict[str, list[str]] = {}
    for planned in run.plan.tasks:
        chosen.setdefault(planned.task.domain, []).append(planned.task.id)
    sizes = Counter(task.domain for task in all_tasks().values())
    return ",".join(
        f"{domain}/*" if len(tasks) == sizes[domain] else ",".join(tasks) for domain, tasks in chosen.items()
    )


def _csv(rows: dict[tuple[str, str], RandomPlay]) -> str:
    order = {task: place for place, task in enumerate(all_tasks())}
    raw = io.StringIO()
    writer = csv.DictWriter(raw, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for _, row in sorted(rows.items(), key=lambda item: (order.get(item[0][0], len(order)), item[0])):
        values = {field.name: getattr(row, field.name) for field in fields(row)}
        writer.writerow(
            {_NAMES.get(name, name): _text(value) for name, value in values.items()},
        )
    return raw.getvalue()


def _text(value: object) -> str:
    return "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _six(value: float) -> float:
    return float(f"{value:.6g}")


def _lines(run: Run, summary: Summary, found: list[RandomPlay]) -> list[str]:
    """Return a row for each domain of a run whose tasks are all measured."""
    measured = {one.task for one in found}
    (agent,) = summary.agents
    lines = []
    for domain in agent.domains:
        tasks = [task for task in summary.tasks if task.domain == domain.domain]
        whole = all(task.id in measured for task in tasks)
        score = _span(domain.score.estimate) if whole else "unfinished"
        lines.append(
            f"| {domain.domain} | {tasks[0].protocol} | {domain.score.rests_on.tasks} of {len(tasks)} "
            f"| {domain.score.rests_on.episodes} | {score} |"
        )
    return lines


def _span(estimate: Estimate | None) -> str:
    if estimate is None:
        return "no score reference"
    if estimate.interval is None:
        return f"{estimate.value:.3f} ({estimate.note})"
    return f"{estimate.value:.3f} [{estimate.interval.low:.3f}, {estimate.interval.high:.3f}]"


def _page(lines: list[str], rows: dict[tuple[str, str], RandomPlay]) -> str:
    table = all_tasks()
    weak = []
    for one in rows.values():
        task = table.get(one.task)
        score = None if task is None or audit(task) else normalise(task, one.mean)
        if task is not None and score is not None and score >= HALF and task.score_reference is not None:
            ends = [
                "" if value is None else f"{normalise(task, value) or 0:.2f}" for value in (one.low, one.high)
            ]
            weak.append(
                (
                    -score,
                    f"| {one.task} | {one.span} | {task.score_reference:g} | {score:.2f} "
                    f"[{ends[0]}, {ends[1]}] |",
                )
            )
    listed = [line for _, line in sorted(weak)]
    return "\n".join(
        [
            "# Random play, measured",
            "",
            "Made by `python tests/benchmarks/random_play.py RUN... --markdown docs/results/random-play.md`; "
            "the returns of every task, with intervals and versions, are in `envs/data/random_play.csv`. "
            "[references.md](../explanation/references.md) tells what they are for.",
            "",
            "Mean normalised score of random play under the paper's references, where 0 would be random play "
            "if the references were (95% intervals of the noise between episodes):",
            "",
            "| domain | protocol | tasks with a score | episodes | mean score of random play |",
            "|---|---|---|---|---|",
            *lines,
            "",
            f"Tasks where random play reaches half of the reference or more ({len(listed)}):",
            "",
            "| task | mean return of random play | reference | its normalised score |",
            "|---|---|---|---|",
            *listed,
            "",
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main())
