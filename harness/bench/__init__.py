"""How long one decision takes, what bounds it, and against what it is compared.

* :mod:`lram.harness.bench.measure`: times candidates in turns, so that they share the machine's moods.
* :mod:`lram.harness.bench.memory`: the time that memory alone would need, measured in the same rounds.
* :mod:`lram.harness.bench.models`: candidates from model presets, at contexts that were really read.
* :mod:`lram.harness.bench.run`: presets, forms, rows and contexts put together.
* :mod:`lram.harness.bench.record`: the results as a record on disk.

The first two know nothing of models; ``tests/benchmarks`` uses them to compare with public packages.
"""
