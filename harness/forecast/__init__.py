"""What an evaluation would play, how long and on how much disk: ``lram eval --dry-run``.

:mod:`.costs` says what measured episodes cost, :mod:`.past` finds them in runs of this machine, :mod:`.trial`
plays some where there are none, :mod:`.forecast` puts plan, readiness and costs together.
"""
