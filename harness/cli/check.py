"""``lram check``: whether agents keep their contract, and models act as they were trained."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from lram.agents.compute import ROWS, Compute
from lram.agents.seed import check_seed
from lram.harness.cli.exits import EXIT_FAILED
from lram.harness.cli.options import (
    AGENTS,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    RowsOption,
    StepOption,
    terms,
)
from lram.harness.cli.printing.output import print_json, print_table
from lram.harness.errors import LramError
from lram.harness.waiting import still

if TYPE_CHECKING:
    from lram.agents.api import Agent, TaskSpec
    from lram.agents.checks.contract import Check


def check(
    agents: Annotated[list[str], AGENTS],
    /,
    *,
    tasks: Annotated[
        list[str] | None,
        Parameter(
            name=["--tasks", "-t"], help="Try these tasks' shapes besides the made-up ones.", negative=()
        ),
    ] = None,
    tokens: Annotated[
        int,
        Parameter(
            help="Tokens of the longest stream on which a model's step is compared with its parallel form."
        ),
    ] = 450,
    long: Annotated[
        bool, Parameter(help="Also try streams of eight times the trained context.", negative=())
    ] = False,
    seed: Annotated[
        int, Parameter(name=["--seed", "-s"], help="Seed of weights, observations and rewards.")
    ] = 0,
    device: DeviceOption = "cpu",
    precision: PrecisionOption = "float32",
    step: StepOption = "auto",
    rows: RowsOption = ROWS,
    json: JsonOption = False,
) -> int:
    """Check that agents keep their contract, and that models act as they were trained.

    Any agent: short episodes with made-up observations must give the same actions alone, beside others,
    in any lane and after a reset. A model: its step must equal the parallel form that is trained, with
    true rewards, exact resets and rows that do not influence each other. Exits with 1 when a check failed, or
    when an agent could not be tried at all.

    Example: lram check my_module:make_agent 'xlstm[7:1]-16M'
    """
    from lram.harness.gate.equivalence import check_agent
    from lram.harness.plan import build_agent, labelled_specs

    if tokens < 1:
        raise LramError("--tokens must be 1 or more")
    check_seed(seed)
    specs, shapes = labelled_specs(agents), _shapes(tasks)
    compute, found = Compute(device, precision, step, rows), {}
    for label, spec in specs.items():
        with still(f"checking {label}"):
            agent = build_agent(spec, seed, compute)
            _one_thread()
            checks = check_agent(agent, shapes, tokens=tokens, long=long, seed=seed)
        found[label] = checks
        if not json:
            _show(label, agent, checks)
    if json:
        print_json([_facts(label, checks) for label, checks in found.items()])
    return EXIT_FAILED if not all(map(_passed, found.values())) else 0


def _shapes(tasks: Sequence[str] | None) -> list[TaskSpec]:
    from lram.harness.rollout.translation import task_spec
    from lram.harness.selecting import selected
    from lram.harness.storage.records import PlannedTask

    return [task_spec(PlannedTask(task, "")) for task in selected(terms(tasks, None))] if tasks else []


def _one_thread() -> None:
    """Bit for bit is promised for one thread; the tensor library is there once a model is built."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


def _passed(checks: Sequence[Check]) -> bool:
    """Return whether no check failed and the agent was tried on something."""
    return _tried(checks) and all(one.status != "failed" for one in checks)


def _tried(checks: Sequence[Check]) -> bool:
    """Return whether a check passed for which the agent did something, beyond having a description."""
    from lram.agents.checks.contract import DESCRIPTION

    return any(one.status == "passed" and one.subject != DESCRIPTION for one in checks)


def _facts(label: str, checks: Sequence[Check]) -> dict[str, Any]:
    return {"agent": label, "passed": _passed(checks), "checks": [asdict(one) for one in checks]}


def _show(label: str, agent: Agent, checks: Sequence[Check]) -> None:
    from lram.harness.gate.equivalence import as_model, remedy

    print(f"{label}: {agent.info.description}\n")
    shown = {"passed": "passed", "failed": "FAILED", "skipped": "skipped"}
    print_table(
        ("result", "check", "on", "measured", "allowed"),
        [
            (
                shown[one.status],
                one.name,
                one.subject,
                one.reason if one.status == "skipped" else one.measured,
                one.allowed if one.status != "skipped" else "",
            )
            for one in checks
        ],
    )
    failed = [one for one in checks if one.status == "failed"]
    if not _tried(checks) and not failed:
        print(
            f"\nNOT CHECKED: {label} could not be tried on any task; name tasks that it plays, such as "
            "--tasks metaworld/reach-v3\n"
        )
        return
    if not failed:
        passed = sum(one.status == "passed" for one in checks)
        print(f"\nchecks: {passed} passed, {len(checks) - passed} skipped\n")
        return
    names = ", ".join(dict.fromkeys(one.name for one in failed))
    advice = "fix it before you trust its numbers; lram.agents.api says what the contract is"
    model = as_model(agent)
    if model is not None:
        advice = f"'lram eval' refuses a model without step/forward equivalence; {remedy(model, failed)}"
    print(f"\n{len(failed)} of {len(checks)} checks FAILED ({names}): {advice}\n")
