"""Commands that list what there is: tasks, suites, domains, agents, and what works here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from lram.envs import registry
from lram.envs.errors import SelectionError
from lram.envs.random_play import RandomPlay, random_play
from lram.envs.scores import HALF, Normaliser, audit, normalise
from lram.envs.task import Task
from lram.harness.cli.output import print_json, print_table
from lram.harness.errors import LramError
from lram.harness.selecting import selected
from lram.harness.waiting import still

if TYPE_CHECKING:
    from lram.harness.doctor import Finding

Json = Annotated[bool, Parameter(name="--json", negative=(), help="Print JSON instead of a table.")]

NormaliserOption = Annotated[
    Normaliser,
    Parameter(
        help="What a score of 0 is: the random return of the paper's implementation, or random play as it "
        "was measured here, where it was measured under the run's protocol."
    ),
]


def terms(selection: Sequence[str], exclude: Sequence[str] | None) -> list[str]:
    """Return the terms of a selection and of its ``--exclude``."""
    return [*selection, *(f"!{term}" for part in exclude or () for term in part.split(","))]


def tasks(
    selection: Annotated[list[str] | None, Parameter(help="Tasks, such as 'metaworld/*' or lram432.")] = None,
    /,
    *,
    exclude: Annotated[list[str] | None, Parameter(help="Tasks to leave out.", negative=())] = None,
    json: Json = False,
) -> None:
    """List tasks with their targets and score references.

    'measured' is the mean return of random play as measured here; docs/explanation/references.md tells more.

    A selection is a comma list of domains (atari), tasks (atari/freeway), patterns (metaworld/door-*),
    splits (@train, @heldout, dmcontrol@heldout) and suites (lram432; see 'lram suites'). A term after
    '!' takes tasks away. Without one, the 469 tasks of the paper are listed.
    """
    chosen = selected(terms(selection or ["*"], exclude))
    if json:
        print_json([task_facts(task) for task in chosen])
        return
    print_table(
        (
            "task",
            "split",
            "horizon",
            "observation",
            "action",
            "target",
            "random",
            "measured",
            "reference",
            "kind",
            "audit",
        ),
        [
            (
                task.id,
                task.split,
                task.horizon,
                task.observation + (f" {task.observation_size}" if task.observation_size else ""),
                f"{task.action} {task.action_size or '?'}",
                task.target_return,
                task.score_random,
                None if (found := _random_play(task)) is None else float(f"{found.mean:.4g}"),
                task.score_reference,
                task.score_kind,
                audit(task) or _weakness(task),
            )
            for task in chosen
        ],
    )
    splits = Counter(task.split for task in chosen)
    unscored = [task.id for task in chosen if audit(task)]
    print(
        f"\n{len(chosen)} tasks ({', '.join(f'{count} {split}' for split, count in splits.items())})", end=""
    )
    print(f"; {len(unscored)} without a usable score reference: {', '.join(unscored)}" if unscored else "")
    weak = [task.id for task in chosen if _weakness(task)]
    if weak:
        reach = "reaches half of the reference or more, so that a score says little of skill"
        print(f"on {len(weak)} of them random play, as measured, {reach}: {', '.join(weak)}")


def task_facts(task: Task) -> dict[str, Any]:
    """Return a task as plain values, with the audit of its score reference and random play as measured.

    ``random_score`` is the normalised score of that play by the task's own references.
    """
    found = _random_play(task)
    return {
        "id": task.id,
        **asdict(task),
        "sources": dict(task.sources),
        "audit": audit(task),
        "random_play": asdict(found) if found else None,
        "random_score": normalise(task, found.mean) if found else None,
    }


def _random_play(task: Task) -> RandomPlay | None:
    """Return random play as measured under the default protocol of the task's domain."""
    try:
        protocol = registry.load_domain(task.domain).protocol()
    except SelectionError:
        return None
    return random_play(task.id, protocol.id(task.domain))


def _weakness(task: Task) -> str:
    """Return what random play reaches of the reference, where that is half of it or more."""
    found = _random_play(task)
    score = normalise(task, found.mean) if found else None
    return f"random play scores {score:.2f}" if score is not None and score >= HALF else ""


def suites(*, json: Json = False) -> None:
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


def domains(*, json: Json = False) -> None:
    """List the domains that can be played, and their protocols; the first is the default."""
    from lram.envs.availability import missing_requirements
    from lram.harness.interpreters import installed
    from lram.harness.interpreters.readiness import ways_to_install

    own = installed()
    adapters, broken = [], []
    for name in registry.domain_names():
        try:
            adapters.append(registry.load_domain(name))
        except SelectionError as error:
            broken.append(str(error))
    if json:
        print_json(
            [
                {
                    "domain": domain.name,
                    "installed": domain.name in own or not missing_requirements(domain),
                    "interpreter": own[domain.name].path if domain.name in own else None,
                    "install": domain.install,
                    "protocols": [
                        {
                            "name": p.name,
                            "version": p.version,
                            "summary": p.summary,
                            "options": dict(p.options),
                            "versions": dict(p.versions),
                        }
                        for p in domain.protocols
                    ],
                }
                for domain in adapters
            ]
        )
        return
    print_table(
        ("domain", "protocol", "what it is"),
        [
            (domain.name, p.id(domain.name).partition(":")[2], p.summary)
            for domain in adapters
            for p in domain.protocols
        ],
    )
    for domain in adapters:
        if domain.name in own:
            print(f"\n{domain.name} has an interpreter of its own: {own[domain.name].path}")
        elif missing_requirements(domain):
            print(f"\n{domain.name} is not installed here: {ways_to_install(domain)}")
    for problem in broken:
        print(f"\n{problem}")


def agents(*, json: Json = False) -> None:
    """List the agents that can be named: baselines, trained and untrained models, other packages'."""
    from lram.agents.factory import list_agents

    rows = list_agents()
    if json:
        print_json([asdict(row) for row in rows])
        return
    print_table(("agent", "kind", "what it is"), [(row.name, row.kind, row.description) for row in rows])
    print(
        "\nAn agent is also a checkpoint folder, or module:factory from your own code."
        "\nGive it a name of your choice with label=specification."
    )


def doctor(
    *,
    backend: Annotated[
        Literal["local", "ray"], Parameter(help="Look at this machine, or at every node of a Ray cluster.")
    ] = "local",
    address: Annotated[str | None, Parameter(help="Address of the Ray cluster, as for 'lram eval'.")] = None,
    json: Json = False,
) -> int:
    """Try out every domain, renderer and device, and say what to install for the rest.

    With --backend ray, every node does so for itself: 'lram eval' sends a node only tasks of domains that are
    installed there.
    """
    if backend == "local":
        if address is not None:
            raise LramError("--address belongs to a cluster: add --backend ray")
        from lram.harness.doctor import examine

        with still("trying out domains and renderers"):
            findings = examine()
        if json:
            print_json([asdict(finding) for finding in findings])
        else:
            _show_findings(findings)
        return 0
    from lram.harness.executors.ray.examining import examine_nodes

    with still("the nodes try out domains and renderers"):
        nodes = examine_nodes(address)
    if json:
        print_json([asdict(node) for node in nodes])
        return 0
    for node in nodes:
        print(f"{'' if node is nodes[0] else chr(10)}{node.name}, {node.offers}")
        if node.problem:
            print(f"not used: {node.problem}")
        else:
            _show_findings(node.findings)
    return 0


def _show_findings(findings: Sequence[Finding]) -> None:
    print_table(
        ("what", "works", "details"),
        [(f.name, {True: "yes", False: "NO", None: "-"}[f.works], f.details) for f in findings],
    )
    for finding in findings:
        if finding.advice:
            print(f"\n{finding.name}: {finding.advice}")


COMMANDS: tuple[tuple[Callable[..., Any], str], ...] = (
    (tasks, "tasks"),
    (suites, "suites"),
    (domains, "domains"),
    (agents, "agents"),
    (doctor, "doctor"),
)
