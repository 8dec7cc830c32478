"""What a fair comparison must tell of an agent: what a decision reads, and how it is computed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a report reads ROWS_FACT, and loads nothing that runs
    from lram.agents.acting.model_agent import ModelAgent
    from lram.agents.api import Agent

FOREIGN = "other"

ROWS_FACT = "rows a pass"
"""The fact that tells how many rows a pass has; an agent's details have it by the same name."""


def agent_facts(agent: Agent) -> dict[str, str]:
    """Return what is known of an agent that is not looked into."""
    return {"backbone": FOREIGN, **dict(agent.info.details)}


def model_facts(agent: ModelAgent, *, fitted: bool, held: bool) -> dict[str, str]:
    """Return what a report states of a model at a context.

    Args:
        agent: The variant that is timed.
        fitted: Whether its cache, or its window that is read anew, was made to fit.
        held: Whether the context is the same at every decision.
    """
    config, form = agent.model.config, agent.stepper.form
    past, tokens = config.past, config.pass_tokens
    plain, fused = config.spec.attention
    read, kernel = tokens, fused if form == "fused" else plain
    if past.words:
        words = past.words
    elif past.recurrent:
        words = "recurrent state, float32"
    elif past.anew:
        whole = "the whole context" if fitted else f"the last {past.tokens} tokens"
        words = f"embedded tokens of {whole}, read anew"
        read, kernel = past.tokens or tokens, plain
    elif past.restarts or past.tokens is None:
        most = "all tokens" if past.tokens is None else f"up to {past.tokens} tokens, then restarts"
        whole = "the whole context" if fitted and held else most
        words = f"keys and values of {whole}, float32"
    else:
        words = f"keys and values of the last {past.tokens} tokens, float32"
    return {
        "backbone": config.kind,
        "cache": past.cache,
        "past": words,
        "tokens": str(tokens),
        "tokens read": str(read),
        "passes": "1",
        "attention": kernel,
        "step": agent.stepper.detail,
        "form": form,
        "precision": dict(agent.info.details)["precision"],
        ROWS_FACT: str(agent.rows),
    }
