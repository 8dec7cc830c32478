"""The connection to Ray: the only module that imports it."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

from lram.harness.errors import LramError
from lram.harness.executors.contract import Log

_KNOCK_S = 10.0
PROBE_S = 180.0
"""Seconds for a node to tell what it has; interpreters of its own make it slow."""


@dataclass(frozen=True, slots=True)
class Node:
    """A node that is alive.

    Attributes:
        id: Ray's id of it.
        address: Where it is.
        host: Its name.
        cpus, gpus: What it offers.
        memory: Bytes that it offers.
    """

    id: str
    address: str
    host: str
    cpus: float
    gpus: float
    memory: float

    def __str__(self) -> str:
        return f"{self.host} ({self.id[:8]})"


class JobLost(Exception):  # noqa: N818 (it is news, not a mistake)
    """A task has ended without an answer.

    Attributes:
        why: ``raised``; ``memory``: Ray has ended it because its node had none left; ``ended``: its process
            is gone, and perhaps the whole node; ``process`` or ``node``: which of them, once that is known.
    """

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


class Cluster:
    """A connected cluster. Functions that it runs are importable on the nodes, or given whole."""

    def __init__(self, ray: Any) -> None:
        self._ray = ray
        self._remotes: dict[Any, Any] = {}

    def nodes(self) -> list[Node]:
        """Return the nodes that are alive, by id; LramError when the cluster does not answer."""
        try:
            found = self._ray.nodes()
        except Exception as error:  # whatever Ray raises when its head is gone
            raise _gone(error) from error
        return sorted((_node(one) for one in found if one["Alive"]), key=lambda node: node.id)

    def put(self, value: object) -> Any:
        """Ship ``value`` to the cluster's object store; LramError where that does not take it."""
        try:
            return self._ray.put(value)
        except Exception as error:
            raise _gone(error) from error

    def start(
        self,
        node: Node,
        function: Callable[..., Any],
        *arguments: Any,
        cpus: float = 0.0,
        gpus: float = 0.0,
        memory: float = 0.0,
        stream: bool = False,
    ) -> Any:
        """Start ``function`` on ``node`` and return what :meth:`result` or :meth:`ready` wait for.

        It is tried once. ``stream``: it is a generator whose items come one by one.
        """
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        key = function, gpus > 0
        if key not in self._remotes:
            # A process reads once which graphics processors it has, and would keep a model on them.
            once = {"max_calls": 1} if gpus > 0 else {}
            self._remotes[key] = self._ray.remote(max_retries=0, **once)(function)
        options: dict[str, Any] = {
            "num_cpus": cpus,
            "num_gpus": gpus,
            "memory": int(memory),
            "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False),
            "name": f"lram-{function.__name__}",
        }
        if stream:
            # Nodes wait where the driver cannot keep up with what they send.
            options |= {"num_returns": "streaming", "_generator_backpressure_num_objects": 64}
        return self._remotes[key].options(**options).remote(*arguments)

    def ready(self, streams: Sequence[Any], timeout: float) -> list[Any]:
        """Return those of ``streams`` that have something to say, after at most ``timeout`` seconds."""
        if not streams:
            time.sleep(timeout)
            return []
        try:
            found, _ = self._ray.wait(list(streams), num_returns=1, timeout=timeout, fetch_local=False)
            if found:
                found, _ = self._ray.wait(
                    list(streams), num_returns=len(streams), timeout=0, fetch_local=False
                )
        except Exception as error:
            raise _gone(error) from error
        return list(found)

    def next(self, stream: Any) -> Any:
        """Return the next item of a stream that is ready; JobLost where there is none any more."""
        try:
            return self._ray.get(next(stream))
        except StopIteration as error:
            raise JobLost("ended", "its process ended early") from error
        except Exception as error:
            raise self._lost(error) from error

    def result(self, reference: Any, timeout: float = PROBE_S) -> Any:
        """Return what a function that was started on ``node`` has returned; JobLost where nothing comes."""
        try:
            return self._ray.get(reference, timeout=timeout)
        except Exception as error:
            if isinstance(error, self._ray.exceptions.GetTimeoutError):
                self.cancel(reference)
                raise JobLost("ended", f"no answer within {timeout:.0f} s") from error
            raise self._lost(error) from error

    def cancel(self, reference: Any) -> None:
        """End what was started, and its process."""
        with suppress(Exception):  # it may have ended by itself
            self._ray.cancel(reference, force=True)

    def ping(self, node: Node) -> Any:
        """Start what answers at once where ``node`` is still there; see :meth:`answers`."""
        return self.start(node, _PING)

    def answers(self, reference: Any) -> bool | None:
        """Return whether a ping was answered; None: not yet."""
        if not self.ready([reference], 0.0):
            return None
        try:
            return bool(self._ray.get(reference, timeout=1.0))
        except Exception:  # the node cannot be reached, for one reason or another
            return False

    def _lost(self, error: Exception) -> JobLost:
        exceptions = self._ray.exceptions
        words = " ".join(str(error).split())[:300]
        if isinstance(error, exceptions.RayTaskError):
            cause = getattr(error, "cause", None)
            last = f"{type(cause).__name__}: {cause}" if cause is not None else words
            return JobLost("raised", " ".join(last.split())[:300])
        if isinstance(error, exceptions.OutOfMemoryError):
            return JobLost("memory", "Ray ended a job because the node's memory ran out")
        if isinstance(error, exceptions.WorkerCrashedError):
            return JobLost("ended", "its process died")
        return JobLost("ended", words or type(error).__name__)


@contextmanager
def connected(address: str | None, log: Log) -> Iterator[Cluster]:
    """Connect to the cluster at ``address``, or to the one on this machine; start one where there is none.

    Args:
        address: Such as ``10.0.0.1:6379`` (None: ``RAY_ADDRESS``, else the cluster on this machine).
        log: Told where one is started, and where one is open to whoever reaches it.

    Raises:
        LramError: Ray is not installed, or nobody answers.
    """
    # Ray asks for consent on a terminal and reports home; whoever wants that starts the cluster so.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    requested = address or os.environ.get("RAY_ADDRESS") or ""
    _knock(requested)
    own = not requested and not _runs_here()
    usual: dict[str, Any] = {"log_to_driver": False, "logging_level": "CRITICAL", "configure_logging": True}
    with _own_token() if own else nullcontext():
        try:
            import ray
        except ImportError as error:
            raise LramError("Ray is not installed: pip install 'lram-bench[ray]'") from error
        if ray.is_initialized():
            raise LramError("this process is connected to Ray already; call ray.shutdown() first")
        _divert(ray)
        if own:
            log("no Ray cluster runs here; one is started on this machine for as long as this takes")
            usual["include_dashboard"] = False
        elif os.environ.get("RAY_AUTH_MODE") != "token":
            log(
                "the Ray cluster asks for no token: whoever reaches its ports can run programs on its nodes; "
                "docs/how-to/cluster.md tells how to start one with RAY_AUTH_MODE=token"
            )
        try:
            ray.init(address="local" if own else requested or "auto", **usual)
        except Exception as error:
            raise LramError(
                f"no Ray cluster answers at {requested or 'this machine'} "
                f"({' '.join(str(error).split())[:200]}); "
                "start one with 'ray start --head', or give another --address; one with a token needs "
                "RAY_AUTH_MODE=token here, too"
            ) from error
        try:
            yield Cluster(ray)
        finally:
            ray.shutdown()


def _runs_here() -> bool:
    """Return whether a cluster that 'ray start' has made on this machine answers."""
    file = Path(os.environ.get("RAY_TMPDIR") or "/tmp") / "ray" / "ray_current_cluster"
    try:
        _knock(file.read_text(encoding="utf-8").strip())
    except (OSError, ValueError, LramError):
        return False
    return True


@contextmanager
def _own_token() -> Iterator[None]:
    """Let a cluster of our own have a secret of its own for a while; Ray looks when it is imported.

    Otherwise it would leave one in the user's home, and every cluster that is started there later would
    then ask all its nodes for it.
    """
    names = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    if names[0] in os.environ:
        yield
        return
    os.environ.update({names[0]: "token", names[1]: secrets.token_hex(32)})
    try:
        yield
    finally:
        for name in names:
            os.environ.pop(name, None)


def _knock(address: str) -> None:
    """Raise LramError when nobody listens at ``address``: Ray would wait for minutes."""
    if address in ("", "auto", "local"):
        return
    host, colon, port = address.rpartition(":")
    if "://" in address or not colon or not port.isdigit():
        raise LramError(f"{address} is no address of a Ray cluster; give host:port, as 'ray start' tells it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _KNOCK_S).close()
    except (OSError, OverflowError) as error:
        raise LramError(
            f"no Ray cluster answers at {address} ({error}); start one with 'ray start --head', or give "
            "another --address"
        ) from error


def follow(reference: Any) -> Any:
    """Return what was shipped, on a node."""
    import ray

    return ray.get(reference)


def by_value(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return ``function`` so that Ray sends its code: for nodes that may not have this package."""
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__, {"__builtins__": __builtins__}, function.__name__)
    copy.__module__ = "__main__"
    return copy


def _pong() -> bool:
    return True


_PING = by_value(_pong)


def _divert(ray: Any) -> None:
    """Keep what Ray's own processes report from being printed among a command's output.

    What matters of it, the driver finds out and says.
    """
    worker: Any = getattr(getattr(ray, "_private", None), "worker", None)
    if hasattr(worker, "print_to_stdstream"):
        worker.print_to_stdstream = lambda *_, **__: None


def _node(facts: Mapping[str, Any]) -> Node:
    offers = facts["Resources"]
    return Node(
        facts["NodeID"],
        facts["NodeManagerAddress"],
        facts["NodeManagerHostname"],
        offers.get("CPU", 0.0),
        offers.get("GPU", 0.0),
        offers.get("memory", 0.0),
    )


def _gone(error: Exception) -> LramError:
    words = " ".join(str(error).split())[:200] or type(error).__name__
    return LramError(
        f"the Ray cluster does not answer any more ({words}); what is recorded stands: resume when it is back"
    )
