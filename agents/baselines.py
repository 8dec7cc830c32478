"""The baselines by a short path, for agents of one's own that build on them: ``RandomAgent`` and its like."""

from __future__ import annotations

from lram.agents.experts.baselines import ConstantAgent, RandomAgent, ScriptedAgent

__all__ = ["ConstantAgent", "RandomAgent", "ScriptedAgent"]
