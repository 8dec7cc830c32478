"""Recorded episodes played again, exactly: to check a run's records, and to film them.

An episode's seed comes from what it is and agents are deterministic, so a record can be checked by playing
it again: the same machinery as an evaluation (:func:`replay`) must give the same trajectory checksum, return,
length and success. Nothing is written to the run's folder.

A replay may differ although nobody changed the record, and :mod:`.conditions` says when: on another
processor or C library, with other versions of the simulator, of PyTorch or of lram-bench, and where a model
computes otherwise (device, form of the step, rows of a pass, threads). A lane's place in the batch, the
number of lanes and of workers make no difference. Episodes played in real time cannot be replayed at all.
"""

from __future__ import annotations

from lram.harness.replay.comparison import Replayed, differences
from lram.harness.replay.detection import Detection, detection
from lram.harness.replay.replaying import replay
from lram.harness.replay.sampling import sample, scored

__all__ = ["Detection", "Replayed", "detection", "differences", "replay", "sample", "scored"]
