"""Evaluation files: what ``lram eval`` is to play, as TOML that is kept beside the results.

:mod:`.content` says what stands in one, :mod:`.reading` reads and locates it, :mod:`.writing` prints it.
"""
