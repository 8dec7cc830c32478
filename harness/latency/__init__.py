"""Latency and memory of whole agents as the context grows.

* :mod:`lram.harness.latency.records`: what is planned, and what one process measured at one context.
* :mod:`lram.harness.latency.folder`: a sweep's folder on disk.
* :mod:`lram.harness.latency.inputs`: observations of a real task, recorded once (by ``recording``).
* :mod:`lram.harness.latency.feed`: which of them each lane is shown when, none twice.
* :mod:`lram.harness.latency.subject`: an agent at a context that it has really read.
* :mod:`lram.harness.latency.clocks`: the timing itself.
* :mod:`lram.harness.latency.child`: one process: an agent, a batch, its contexts upward.
* :mod:`lram.harness.latency.sweep`: all processes, one after the other, in an order that mixes them.

``docs/how-to/latency.md`` tells the protocol and what its numbers do and do not show.
"""
