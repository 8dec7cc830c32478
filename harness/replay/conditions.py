"""What may make a replay differ from its record: conditions that are not as they were.

The last digits of floating-point numbers, and from there the course of an episode, depend on the processor
and the C library (which code path a sum takes), on the versions of simulator and tensor library, and on how a
model computes. The provenance of a run tells all of them; what it does not tell is named as not known.
"""

from __future__ import annotations

from collections.abc import Mapping

from lram.harness.storage.records import EpisodeRecord, Provenance

_NO_NUMBERS = frozenset({"lram-bench", "h5py", "msgspec", "safetensors"})
"""Packages that compute nothing of an episode; lram-bench's version is reported separately."""


def conditions(
    record: EpisodeRecord, then: Provenance | None, now: Provenance, *, model: bool
) -> tuple[str, ...]:
    """Return what is not as it was when ``record`` was made, such as ``mujoco 3.3.0 then, 3.2.6 now``.

    Args:
        record: The episode's.
        then: Where it was made; None where that is not recorded.
        now: Where it is replayed.
        model: Whether its agent is a model, which PyTorch computes.
    """
    if then is None:
        return ("where the record was made is not known: its session has no provenance",)
    if record.measured.node:
        return (
            f"the record was made on {record.measured.node}, a node of a cluster, and provenance tells only "
            "of the machine that started the run",
        )
    found = [
        _other("processor", then.cpu, now.cpu),
        _other("C library", _library(then), _library(now)),
        _other("Python", then.python, now.python),
        _other("lram-bench", _version(then), _version(now)),
    ]
    domain = record.task.partition("/")[0]
    found += _others(f"{domain} worker's ", then.workers.get(domain), now.workers.get(domain))
    if model:
        found += _others("", _computing(then), _computing(now))
        before, after = then.compute.get(record.agent), now.compute.get(record.agent)
        found += _others(f"{record.agent}'s ", before, after)
        if before and before.get("threads", "1") != "1":
            found.append(
                f"{record.agent} computed with {before['threads']} threads, which may split a sum in other "
                "ways each time"
            )
        if after and not after.get("device", "cpu").startswith("cpu"):
            found.append(_other("GPU", then.gpu, now.gpu))
    return tuple(filter(None, found))


def _others(prefix: str, then: Mapping[str, str] | None, now: Mapping[str, str] | None) -> list[str]:
    """Return where two tables differ; what only one of them has is not known of the other."""
    if not then or not now:
        return []
    return [
        _other(prefix + name, then.get(name, "not known"), now.get(name, "not known"))
        for name in dict.fromkeys([*then, *now])
    ]


def _other(name: str, then: str, now: str) -> str:
    return "" if then == now else f"{name} {then or 'not known'} then, {now or 'not known'} now"


def _library(provenance: Provenance) -> str:
    """Return the C library, whose mathematics simulators use, such as ``glibc2.36``."""
    return provenance.platform.partition("-with-")[2]


def _version(provenance: Provenance) -> str:
    version = provenance.packages.get("lram-bench", "")
    return f"{version} (git {provenance.git})" if provenance.git else version


def _computing(provenance: Provenance) -> dict[str, str]:
    return {name: version for name, version in provenance.packages.items() if name not in _NO_NUMBERS}
