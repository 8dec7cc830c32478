"""The gate before anything is played: a model that does not act as it was trained is not trusted.

Its numbers would look like any others, so there is no way around it; ``lram check`` shows what is wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from lram.agents.api import Agent, TaskSpec
from lram.agents.experts.noise import NoisyAgent
from lram.harness.errors import LramError

if TYPE_CHECKING:
    from lram.agents.acting.model_agent import ModelAgent
    from lram.agents.checks.contract import Check


def pass_gate(agents: Mapping[str, Agent]) -> dict[str, str]:
    """Check the action models among ``agents``; return by label what to note of each.

    Other agents are not run here: what that does beside acting, their owners know. No state and no
    generator that an evaluation uses is touched.

    Raises:
        LramError: A check failed; the sentence names agent, check, what was measured and allowed.
    """
    noted = {}
    found: dict[tuple[object, ...], list[Check]] = {}
    for label, agent in agents.items():
        model = as_model(agent)
        if model is not None:
            from lram.agents.checks.equivalence import model_checks

            # One model may be there many times, with contexts of several lengths or with noise.
            same = (model.info.digest, model.info.details) if model.info.digest else (label,)
            if same not in found:
                found[same] = model_checks(model)
            noted[label] = _summary(label, model, found[same])
    return noted


def check_agent(
    agent: Agent, tasks: Sequence[TaskSpec], *, tokens: int = 450, long: bool = False, seed: int = 0
) -> list[Check]:
    """Return what all checks find that there are for ``agent``; a failed one raises nothing.

    Args:
        agent: Any agent; an action model is also checked for step/forward equivalence.
        tasks: Played by the contract's checks, besides the made-up ones.
        tokens: Longest stream on which a model's step is compared with ``forward``.
        long: Compare on eight times the trained context, too.
        seed: Of all that is random.
    """
    from lram.agents.checks.contract import IMAGE_TASK, VECTOR_TASK, contract_checks

    checks = contract_checks(agent, (VECTOR_TASK, IMAGE_TASK, *tasks), seed)
    model = as_model(agent)
    if model is not None:
        from lram.agents.checks.equivalence import model_checks, thorough

        checks += model_checks(model, thorough(tokens, long), seed)
    return checks


def as_model(agent: Agent) -> ModelAgent | None:
    """Return the action model that ``agent`` is, puts noise on, or limits the context of.

    What only models need is not loaded for other agents.
    """
    while isinstance(agent, NoisyAgent):
        agent = agent.inner
    if "lram.agents.acting.model_agent" not in sys.modules:
        return None
    from lram.agents.acting.context_agent import ContextAgent
    from lram.agents.acting.model_agent import ModelAgent

    if isinstance(agent, ContextAgent):
        return agent.inner
    return agent if isinstance(agent, ModelAgent) else None


def remedy(agent: ModelAgent, failed: Sequence[Check] = ()) -> str:
    """Return what to do about a model that ``failed`` checks: from the fastest form to the plainest."""
    plainer = [] if agent.stepper.form == "torch" else ["--step torch"]
    raised = bool(failed) and all(check.raised for check in failed)
    if agent.precision != "float32" and not raised:
        plainer.append("--precision float32")
    last = "see to what was raised" if raised else "fix its code"
    return f"try {' and '.join(plainer)}, or {last}" if plainer else last


def _summary(label: str, agent: ModelAgent, checks: Sequence[Check]) -> str:
    from lram.agents.checks.equivalence import COMPARED, NAME

    failed = [check for check in checks if check.status == "failed"]
    if failed:
        raise LramError(f"{_refusal(label, failed)}; {remedy(agent, failed)} ('lram check' shows all checks)")
    passed = sum(check.status == "passed" for check in checks)
    skipped = f", {len(checks) - passed} skipped" if passed < len(checks) else ""
    compared = [check for check in checks if check.name in COMPARED and check.limit]
    nearest = max(compared, key=lambda check: (check.difference or 0.0) / (check.limit or 1.0))
    return (
        f"{NAME}: {passed} checks passed{skipped}; step ({agent.stepper.form}) and forward come nearest to "
        f"what is allowed on {nearest.subject}: {nearest.difference or 0.0:.1e} of the output's scale "
        f"(allowed {nearest.limit:.1g})"
    )


def _refusal(label: str, failed: Sequence[Check]) -> str:
    """Return what is wrong; where something raised, only that is known."""
    known = [check for check in failed if not check.raised]
    first = (known or failed)[0]
    others = f", and {len(failed) - 1} more checks failed" if len(failed) > 1 else ""
    if not known:
        return (
            f"whether agent {label} acts as its model was trained could not be checked, so nothing was "
            "played: "
            f"'{first.name}' on {first.subject} {first.measured}{others}"
        )
    allowed = f" (allowed: {first.allowed})" if first.allowed else ""
    return (
        f"agent {label} does not act as its model was trained, so nothing was played: "
        f"'{first.name}' failed on {first.subject}: {first.measured}{allowed}{others}"
    )
