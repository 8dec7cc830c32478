"""What a fair comparison must tell of an agent: what a decision reads, and how it is computed."""

from __future__ import annotations

from lram.agents.api import Agent
from lram.agents.model_agent import ModelAgent
from lram.harness.latency.records import Windows

FOREIGN = "other"


def agent_facts(agent: Agent) -> dict[str, str]:
    """Return what is known of an agent that is not looked into."""
    return {"backbone": FOREIGN, **dict(agent.info.details)}


def model_facts(agent: ModelAgent, cache: str | None, windows: Windows, *, held: bool) -> dict[str, str]:
    """Return what is to be told of a model at a context.

    Args:
        agent: The variant that is timed.
        cache: A Transformer's, as its configuration names it.
        windows: Whether it was made to fit.
        held: Whether the context is the same at every decision.
    """
    config, form = agent.model.config, agent.stepper.form
    tokens = config.pass_tokens
    section = config.transformer
    fitted = windows == "whole"
    if section is None:
        past, read, kernel = "recurrent state, float32", tokens, "none"
    elif cache == "ring":
        past = f"keys and values of the last {section.window} tokens, float32"
        read, kernel = tokens, _kernel(form)
    elif cache == "full":
        whole = "the whole context" if fitted and held else f"up to {section.window} tokens, then restarts"
        past, read, kernel = f"keys and values of {whole}, float32", tokens, _kernel(form)
    else:
        whole = "the whole context" if fitted else f"the last {section.window} tokens"
        past = f"embedded tokens of {whole}, read anew"
        read, kernel = section.window or tokens, "PyTorch, scaled_dot_product_attention"
    return {
        "backbone": config.kind,
        "cache": cache or "",
        "past": past,
        "tokens": str(tokens),
        "tokens read": str(read),
        "passes": "1",
        "attention": kernel,
        "step": agent.stepper.detail,
        "form": form,
        "precision": dict(agent.info.details)["precision"],
        "rows a pass": str(agent.rows),
    }


def _kernel(form: str) -> str:
    if form == "fused":
        return "own kernel over the keys in use (numba)"
    return "PyTorch, scaled_dot_product_attention"
