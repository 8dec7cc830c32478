"""Reading batches ahead, in processes of their own, and how long one had to wait for them."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from time import perf_counter
from types import TracebackType
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from lram.agents.api import AgentError
from lram.agents.signals import ENDING
from lram.agents.training.batches import Batch


class WorkerDiedError(AgentError):
    """A process that prepares batches is no more."""


class Batches(Protocol):
    """What has batches by number: :class:`lram.agents.training.windows.Windows` or ``FixedBatches``."""

    def __getitem__(self, item: int, /) -> Batch:
        """Return batch ``item``."""
        ...


class Loader:
    """Batches ``start`` .. ``stop - 1`` in this order; a context manager, to end the workers early.

    ::

        with Loader(windows, done, updates * len(windows.cycle), workers=4) as loader:
            for batch in loader: ...
            print(loader.waited / loader.batches)

    Workers hand over batches in shared memory: with images of 20 MB a batch, ``workers`` x ``prefetch`` of
    them must fit into ``/dev/shm``. They are made by ``multiprocessing``'s default way of starting processes.

    Args:
        source: What to read from.
        start: The first batch.
        stop: The batch after the last.
        workers: Processes that build batches ahead; 0: they are built when they are asked for.
        prefetch: Batches that each worker holds ready.
        pin_memory: Put batches into page-locked memory, for a GPU.

    Attributes:
        waited: Seconds for which batches were waited for, the start of the workers included; with 0
            workers, the seconds that building them took.
        batches: How many were handed out.

    Raises:
        AgentError: While iterating: a batch cannot be read, or (WorkerDiedError) a worker died.
    """

    def __init__(
        self,
        source: Batches,
        start: int,
        stop: int,
        *,
        workers: int = 0,
        prefetch: int = 2,
        pin_memory: bool = False,
    ) -> None:
        if workers < 0 or prefetch < 1:
            raise AgentError(
                f"workers must be 0 or more and prefetch 1 or more, not {workers} and {prefetch}"
            )
        self.waited, self.batches = 0.0, 0
        self._workers = workers
        self._loader = DataLoader(
            _Caught(source),
            batch_size=None,
            sampler=range(start, stop),
            num_workers=workers,
            prefetch_factor=prefetch if workers else None,
            pin_memory=pin_memory,
            worker_init_fn=_Beginning(os.getpid()),
            # A DataLoader draws a seed for its workers, by default from torch's global generator.
            generator=torch.Generator().manual_seed(0),
        )
        self._iterator: Iterator[Batch | AgentError] | None = None

    def __iter__(self) -> Iterator[Batch]:
        self.close()
        began = perf_counter()
        self._iterator = iterator = iter(self._loader)
        try:
            for batch in self._checked(iterator):
                self.waited += perf_counter() - began
                self.batches += 1
                yield batch
                began = perf_counter()
        finally:
            self.close()

    def _checked(self, iterator: Iterator[Batch | AgentError]) -> Iterator[Batch]:
        while True:
            try:
                batch = next(iterator, None)
            except (RuntimeError, OSError, EOFError) as error:
                # What a worker raised says so; all else is a connection to one that is no more.
                if not self._workers or "Caught " in str(error):
                    raise
                raise self._died() from error
            if batch is None:
                return
            if isinstance(batch, AgentError):
                raise batch
            yield batch

    def close(self) -> None:
        """End the workers, if any; iterating again starts new ones from the first batch."""
        # There is no public way; without it they would live as long as any traceback refers to them, and
        # torch's signal handler would tell of a dead one wherever the program is by then.
        end = getattr(self._iterator, "_shutdown_workers", None)
        workers = getattr(self._iterator, "_workers", ())
        self._iterator = None
        try:
            if end is not None:
                with suppress(RuntimeError):  # that handler's
                    end()
        finally:  # also when a second Ctrl-C ends the wait: they heed no other signal
            for worker in workers:  # one that is amid a long batch: it does not heed the request to end
                if worker.is_alive():
                    with suppress(RuntimeError):
                        worker.kill()

    def __enter__(self) -> Loader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        # torch's signal handler raises wherever the program is when a worker dies.
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker"):
            raise self._died() from error

    def _died(self) -> WorkerDiedError:
        return WorkerDiedError(
            f"one of the {self._workers} processes that prepare batches died; memory or shared memory "
            "(/dev/shm) may be too small for so many: use fewer workers, or 0"
        )


_PR_SET_PDEATHSIG = 1


class _Beginning:
    """What a worker does first."""

    def __init__(self, trainer: int) -> None:
        self._trainer = trainer

    def __call__(self, worker: int) -> None:
        # Terminals and schedulers signal all processes at once; whether to stop is for the one that trains to
        # say, which waits for a batch meanwhile.
        for number in ENDING:
            signal.signal(number, signal.SIG_IGN)
        # A trainer that is killed takes its workers with it at once; torch's own watch takes seconds.
        with suppress(OSError, AttributeError):  # where the system has no such call
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != self._trainer:
            os._exit(1)


class _Caught(Dataset["Batch | AgentError"]):
    """Hands errors over as values: a DataLoader would put a worker's whole traceback into the message."""

    def __init__(self, source: Batches) -> None:
        self._source = source

    def __getitem__(self, item: int) -> Batch | AgentError:
        try:
            return self._source[item]
        except AgentError as error:
            return error
