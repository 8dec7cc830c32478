"""Fused steps: each backbone's ``step`` for processors, as a few compiled kernels a block.

A decision reads three tokens a lane, which is little arithmetic on many bytes of weights and state.
Written in plain PyTorch, most of its time goes into temporaries and the dispatch of small operations.
Here matrix products run on weights packed once for oneDNN, and the rest of a block (convolution,
gates, state) is one loop a row, compiled by numba, that reads and writes each state once.

* :mod:`lram.agents.backbones.kernels.compiler`: the ``kernel`` decorator and vectorisable functions for
kernels.
* :mod:`lram.agents.backbones.kernels.linear`: matrix products on packed weights.
* One module a backbone, each with a class that is called like ``Backbone.step``, with the same state.

Everything here needs numba, float32 weights and a processor; ``lram.agents.backbones.stepping`` chooses.
"""
