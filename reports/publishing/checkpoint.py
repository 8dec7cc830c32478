"""Which weights a model card is about: those that the runs evaluated, and no others."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lram.agents.spec import acts_with_noise
from lram.agents.sums import file_sum
from lram.harness.errors import LramError
from lram.harness.storage.run_folder import Run
from lram.reports.publishing.manifest import PublishedCheckpoint


def evaluated_checkpoint(folder: Path, runs: Sequence[Run]) -> PublishedCheckpoint:
    """Return the digests of the checkpoint in ``folder``, and which agents of ``runs`` acted by it alone.

    An agent with noise has the digest of the weights behind it, and is not what they are worth.

    Raises:
        AgentError: It is no checkpoint, or damaged.
        LramError: No agent of the runs has its digest, or only agents with noise have it.
    """
    from lram.agents.checkpoints.description import FILES
    from lram.agents.checkpoints.folder import load_checkpoint

    _, meta = load_checkpoint(folder)
    agents = {agent.label: agent for run in runs for agent in run.plan.agents}
    known = {label: agent.info.digest for label, agent in agents.items()}
    these = [label for label, digest in known.items() if digest == meta.digest]
    labels = tuple(label for label in these if not acts_with_noise(agents[label].spec))
    if these and not labels:
        raise LramError(
            f"the checkpoint {folder} was played with random actions among its own only "
            f"({', '.join(f'{label}: {agents[label].spec}' for label in these)}); evaluate it as it is, then "
            "publish that run"
        )
    if not labels:
        have = "; ".join(f"{label}: {digest[:12] or 'none'}" for label, digest in known.items())
        raise LramError(
            f"no agent is the checkpoint {folder}, whose digest is {meta.digest[:12]} ({have}); "
            "evaluate it as it is, then publish that run"
        )
    files = {name: file_sum(folder / name) for name in FILES}
    return PublishedCheckpoint(meta.config.name or folder.resolve().name, labels, meta.digest, files)
