"""An agent that plans DMControl tasks on MuJoCo's own model of them."""

from lram.agents.experts.planning.agent import PlanningAgent

__all__ = ["PlanningAgent"]
