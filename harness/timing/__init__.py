"""The one way of timing: what ``lram latency``, ``lram bench`` and the timings of studies share.

* :mod:`lram.harness.timing.clock`: a decision between two moments at which the device has nothing to do.
* :mod:`lram.harness.timing.warm_up`: decisions until their times are stable; the rule is a parameter.
* :mod:`lram.harness.timing.sampling`: many decisions of one kind, or of two kinds in turns.
* :mod:`lram.harness.timing.rounds`: many candidates in turns in one process, and what their rounds say.
* :mod:`lram.harness.timing.intervals`: a median with its interval.
* :mod:`lram.harness.timing.crossings`: from which context on one takes less time, with its interval.
* :mod:`lram.harness.timing.memory`: memory of the process or its GPU, free, held and highest.
* :mod:`lram.harness.timing.load`: what other processes did meanwhile.
* :mod:`lram.harness.timing.agents`: what is timed: whole agents at a context that they have really read,
  on :mod:`lram.harness.timing.inputs`, with :mod:`lram.harness.timing.facts`.
* :mod:`lram.harness.timing.backbones`: likewise a model's backbone alone.
* :mod:`lram.harness.timing.fitting`: caches and windows as long as a context needs.
* :mod:`lram.harness.timing.fresh_process`: a measurement in a process of its own, read line by line.

Nothing here knows of a plan, a folder or a command: those are the views' (``harness/latency``,
``harness/bench``, ``harness/studies``). Garbage is not collected while a decision is timed
(:mod:`lram.harness.garbage`).
"""
