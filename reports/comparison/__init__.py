"""Agents against each other, in pairs of episodes that began alike."""
