"""``README.md`` and ``.eval_results/`` of a publication, as the Hugging Face hub reads them.

Sources, in https://github.com/huggingface/hub-docs: ``modelcard.md`` (commit 0d37e0c), ``datasetcard.md``
(0923adf) and the page on evaluation results (064c754). Results in ``model-index`` belong to
model cards; the specification of dataset cards has none. A file of ``.eval_results/`` names a data set of the
hub that is registered as a benchmark, so there is one only where the user names that.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lram.harness.words import count
from lram.reports import text
from lram.reports.answer import answer
from lram.reports.comparison.worlds import waiting
from lram.reports.forms import not_comparable
from lram.reports.model import AgentResult, Aggregate, RestsOn, Summary
from lram.reports.publishing.manifest import MANIFEST, PublishedCheckpoint, PublishedRun
from lram.reports.publishing.yaml_text import Plain, yaml_text
from lram.reports.rendering.escaping import block, code, plain
from lram.reports.rendering.markdown import markdown_table

EVAL_RESULTS = ".eval_results/lram-bench.yaml"
LIBRARY = "lram-bench"
_TASK = "reinforcement-learning"
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"))
_METRIC = "Mean of domain means of normalised scores"


@dataclass(frozen=True, slots=True)
class CardFacts:
    """What a card tells.

    Attributes:
        summary: What was measured.
        runs: The runs.
        checkpoint: Of a model card; None for a data set.
        title: In the heading; empty for one that is made.
        licence: Identifier of a licence that the user gives; empty for none.
        started: When the first session began, ISO 8601; empty where that is not known.
        cleaned: Places by what was taken out of them.
        tables: Names of the report's CSV files that are not empty.
    """

    summary: Summary
    runs: tuple[PublishedRun, ...]
    checkpoint: PublishedCheckpoint | None
    title: str
    licence: str
    started: str
    cleaned: Mapping[str, int]
    tables: frozenset[str]


def card(facts: CardFacts) -> bytes:
    """Return ``README.md``."""
    head = _model_head(facts) if facts.checkpoint else _dataset_head(facts)
    body = "\n\n".join(_body(facts))
    return f"---\n{yaml_text(head)}---\n\n{body}\n".encode()


def eval_results(facts: CardFacts, benchmark: str, task: str) -> bytes:
    """Return ``.eval_results/*.yaml`` of a model on a benchmark of the hub.

    Args:
        facts: Of a model card.
        benchmark: Id of a data set that is registered as a benchmark.
        task: Id of a task in that data set's ``eval.yaml``.
    """
    results = []
    for agent in _agents(facts):
        headline = agent.mean_of_domain_means
        assert headline.estimate is not None  # _agents() has none without
        entry: dict[str, Plain] = {
            "dataset": {"id": benchmark, "task_id": task},
            "value": headline.estimate.value,
        }
        if facts.started:
            entry["date"] = facts.started[:10]
        entry["notes"] = (
            f"{LIBRARY}, {_METRIC.lower()}; {_rests_on(headline)}{_doubtful(facts, headline)}; "
            f"normaliser {facts.summary.normaliser}; protocols {text.names(_protocols(facts, headline))}; "
            f"a world {waiting(agent.realtime_hz)}"
        )
        results.append(entry)
    return yaml_text(results).encode()


def _agents(facts: CardFacts) -> list[AgentResult]:
    """Return the agents that a model card is about, those that have a score."""
    labels = facts.checkpoint.labels if facts.checkpoint else ()
    return [
        agent
        for agent in facts.summary.agents
        if agent.label in labels and agent.mean_of_domain_means.estimate is not None
    ]


def _licence(facts: CardFacts) -> dict[str, Plain]:
    return {"license": facts.licence} if facts.licence else {}


def _model_head(facts: CardFacts) -> dict[str, Plain]:
    assert facts.checkpoint is not None
    results = [result for agent in _agents(facts) for result in _results(facts, agent)]
    return {
        **_licence(facts),
        "library_name": LIBRARY,
        "pipeline_tag": _TASK,
        "tags": ["reinforcement-learning", "robotics", LIBRARY],
        **({"model-index": [{"name": facts.checkpoint.name, "results": results}]} if results else {}),
    }


def _dataset_head(facts: CardFacts) -> dict[str, Plain]:
    episodes = sum(agent.scored + agent.errored for agent in facts.summary.agents)
    size = next((name for below, name in _SIZES if episodes < below), "1M<n<10M")
    configs: list[Plain] = [
        {"config_name": name, "data_files": f"report/tables/{name}.csv"}
        for name in ("leaderboard", "episodes", "per_task")
        if f"{name}.csv" in facts.tables
    ]
    return {
        **_licence(facts),
        "pretty_name": _title(facts),
        "task_categories": [_TASK],
        "tags": ["evaluation", "benchmark", LIBRARY],
        "size_categories": [size],
        **({"configs": configs} if configs else {}),
    }


def _results(facts: CardFacts, agent: AgentResult) -> Iterator[Plain]:
    """Yield entries of ``model-index``: over all tasks, then by domain."""
    rests = agent.mean_of_domain_means.rests_on
    whole = f"{_tasks(rests)} of {text.names(rests.domains)}"
    under = f" ({agent.name})" if len(_agents(facts)) > 1 else ""
    headline, shown = agent.mean_of_domain_means, _METRIC + _scale(facts, agent)
    yield _result(whole + under, LIBRARY, "mean_of_domain_means", shown, headline, facts, agent)
    for domain in agent.domains:
        if domain.score.estimate is not None:
            name = f"{domain.domain}, {_tasks(domain.score.rests_on)}{under}"
            mean = "Mean normalised score" + _scale(facts, agent)
            yield _result(name, domain.domain, "mean_normalised_score", mean, domain.score, facts, agent)


def _scale(facts: CardFacts, agent: AgentResult) -> str:
    """Return by whose references scores are, and what the world did; empty of what is usual.

    It belongs to the metric's name, as the hub's pages show no arguments.
    """
    said = "" if facts.summary.normaliser == "paper" else f", normaliser {facts.summary.normaliser}"
    return said + (f", in a world {waiting(agent.realtime_hz)}" if agent.realtime_hz else "")


def _protocols(facts: CardFacts, aggregate: Aggregate) -> list[str]:
    domains = set(aggregate.rests_on.domains)
    return sorted({task.protocol for task in facts.summary.tasks if task.domain in domains})


def _result(
    name: str,
    kind: str,
    metric: str,
    metric_name: str,
    aggregate: Aggregate,
    facts: CardFacts,
    agent: AgentResult,
) -> Plain:
    assert aggregate.estimate is not None
    args: dict[str, Plain] = {
        "tasks": aggregate.rests_on.tasks,
        "of_tasks": aggregate.rests_on.of_tasks,
        "episodes": aggregate.rests_on.episodes,
        "comparable": aggregate.rests_on.comparable,
        "protocols": _protocols(facts, aggregate),
        "normaliser": facts.summary.normaliser,
        **({"realtime_hz": agent.realtime_hz} if agent.realtime_hz else {}),
    }
    return {
        "task": {"type": _TASK, "name": "Control"},
        "dataset": {"type": kind, "name": name, "args": args},
        "metrics": [
            {
                "type": metric,
                "value": aggregate.estimate.value,
                "name": f"{metric_name}{_doubtful(facts, aggregate)}",
                "verified": False,
            }
        ],
    }


def _doubtful(facts: CardFacts, aggregate: Aggregate) -> str:
    """Return the interval with its doubts, or why there is none; and why the number does not compare."""
    assert aggregate.estimate is not None
    found, note = aggregate.estimate.interval, aggregate.estimate.note
    if found is None:
        said = [f"no interval: {note}" if note else "no interval"]
    else:
        doubts = f" ({', '.join(found.doubts)})" if found.doubts else ""
        said = [f"{facts.summary.level:.0%} interval {found.low:.3f} to {found.high:.3f}{doubts}"]
    if reason := not_comparable(aggregate.rests_on):
        said.append(reason)
    return "".join(f", {part}" for part in said)


def _rests_on(aggregate: Aggregate) -> str:
    rests = aggregate.rests_on
    return f"{rests.tasks} of {count(rests.of_tasks, 'task')}, {count(rests.episodes, 'episode')}"


def _tasks(rests: RestsOn) -> str:
    """Return how many tasks a number rests on, of those that it could rest on."""
    of_tasks = count(rests.of_tasks, "task")
    return of_tasks if rests.comparable else f"{rests.tasks} of {of_tasks}"


def _title(facts: CardFacts) -> str:
    if facts.title:
        return facts.title
    if facts.checkpoint:
        return facts.checkpoint.name
    return f"Evaluation of {text.names_up_to([agent.name for agent in facts.summary.agents])}"


def _body(facts: CardFacts) -> Iterator[str]:
    from lram.reports.rendering import words

    summary = facts.summary
    yield f"# {plain(_title(facts))}"
    if first := answer(summary):
        yield f"**{plain(first.verdict)}**"
        yield markdown_table(first.table.printed)
    yield block(words.lead(summary))
    if summary.caveats:
        yield "## Before you quote these numbers"
        yield "\n".join(f"- {block(caveat.text)}" for caveat in summary.caveats)
    if facts.checkpoint:
        yield "## The weights"
        yield (
            f"The results are of the checkpoint with the digest `{facts.checkpoint.digest}`, evaluated as "
            f"{text.names([plain(label) for label in facts.checkpoint.labels])}. SHA-256 of its files:"
        )
        yield "\n".join(f"- {code(name)} `{sums}`" for name, sums in facts.checkpoint.files.items())
    yield "## What is in here"
    yield "\n".join(f"- {line}" for line in _contents(facts))
    yield "## Digests of the agents"
    yield "\n".join(
        f"- {plain(agent.label)}: {f'`{plain(agent.digest)}`' if agent.digest else 'none'} "
        f"({plain(agent.description)})"
        for agent in {agent.label: agent for run in facts.runs for agent in run.agents}.values()
    )
    if not facts.licence:
        yield "No licence was given for these files."


def _contents(facts: CardFacts) -> Iterator[str]:
    yield "`report/index.html`: the report, one page that needs no network, with its tables and figures"
    for run in facts.runs:
        yield (
            f"{code(run.folder)}: a run of {count(len(run.agents), 'agent')} on {count(run.tasks, 'task')}, "
            f"{count(run.episodes, 'episode')} each, seed {run.seed}; `lram report` reads it"
        )
    cleaned = ", ".join(f"{what} ({places})" for what, places in facts.cleaned.items())
    yield (
        f"`{MANIFEST}`: SHA-256 of every file, digests of the agents, and what is not as it was recorded: "
        + (f"{cleaned} were taken out" if cleaned else "nothing had to be taken out")
    )
    yield "no weights, and no logs of simulators"
