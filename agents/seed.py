"""What a seed may be: what records, PyTorch and NumPy can all carry."""

from __future__ import annotations

from lram.agents.api import AgentError

LARGEST_SEED = 2**63 - 1


def check_seed(seed: int) -> None:
    """Raise AgentError for a seed below 0, or of more than 63 bits."""
    if not 0 <= seed <= LARGEST_SEED:
        shown = str(seed) if abs(seed) < 1 << 100 else f"a number of {seed.bit_length()} bits"
        raise AgentError(f"the seed is {shown}; it must be 0 or more and below 2**63")
