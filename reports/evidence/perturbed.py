"""Runs under protocols that perturb what agents see, apart from those under the protocols that they perturb.

Returns under two protocols do not add up, so :func:`lram.reports.evidence.collect.collect` refuses them for
one task. A report may hold both all the same: what is perturbed is evidence of its own beside the main, by
protocol, and only the section on it reads both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lram.envs.perturbing import unperturbed
from lram.envs.scores import Normaliser
from lram.harness.domain_files import differing
from lram.harness.errors import LramError
from lram.harness.storage.records import AgentEntry
from lram.harness.storage.run_folder import Run
from lram.reports.evidence.collect import collect, same_agent, with_code
from lram.reports.evidence.evidence import Evidence


def collect_apart(runs: Sequence[Run], normaliser: Normaliser = "paper") -> Evidence:
    """Read ``runs``; those that perturb what others hold unperturbed make the evidence's ``perturbed``.

    A run goes apart where each of its tasks was run under a protocol that perturbs another, and one of
    the other runs has one of them under that other protocol.

    Raises:
        LramError: As :func:`lram.reports.evidence.collect.collect`; or one label stands for another agent in
            what is perturbed, or a domain's file has another content.
    """
    apart = [run for run in runs if _perturbs(run, runs)]
    main = collect([run for run in runs if run not in apart], normaliser)
    groups: dict[tuple[str, ...], list[Run]] = {}
    for run in apart:
        groups.setdefault(tuple(sorted({one.protocol for one in run.plan.tasks})), []).append(run)
    agents = {agent.label: agent for agent in main.agents}
    return replace(
        main, perturbed=tuple(_same(main, agents, collect(group, normaliser)) for group in groups.values())
    )


def _perturbs(run: Run, runs: Sequence[Run]) -> bool:
    bases = {one.task.id: unperturbed(one.protocol) for one in run.plan.tasks}
    return all(bases.values()) and any(
        bases.get(one.task.id) == one.protocol for other in runs for one in other.plan.tasks
    )


def _same(main: Evidence, known: dict[str, AgentEntry], found: Evidence) -> Evidence:
    """Return ``found``; LramError where a label or a domain's file is of something else than in ``main``.

    ``known`` are the agents by label; it is given the code that ``found`` notes of those without.
    """
    if others := differing(main.domain_files, found.domain_files):
        raise LramError(
            f"the source of {', '.join(others)} is not the same under {found.tasks[0].protocol} as under "
            "what that perturbs, whose returns do not compare; report them apart"
        )
    for agent in found.agents:
        if agent.label in known and not same_agent(known[agent.label], agent):
            protocol = found.tasks[0].protocol
            raise LramError(
                f"the label {agent.label!r} stands for another agent under {protocol} than under what that "
                "perturbs; report them apart, or evaluate one of them under another label"
            )
        known[agent.label] = with_code(known.get(agent.label, agent), agent)
    return found
