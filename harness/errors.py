"""Errors of all rooms: the tree, and the root of those that the harness and the reports raise.

In brackets stands what else a class derives from::

    Exception
        LramError               harness, reports: one clear sentence, what, why, and what to do next
            AgentRaisedError            an agent raised, or acted for other lanes than it was asked for
            InterpreterInUseError       a run uses the interpreter that is to be changed
            LackingError                a simulator, checkout or protocol's versions are not installed
            SourcesNeededError          an install needs checkouts that are not there
        EnvsError               envs: tasks, domains, sessions, workers
            SelectionError (ValueError)         no such task, split, domain or protocol
                AnnouncedError                  a package's domain cannot be loaded, or is none
            SessionError (RuntimeError)         a simulator broke its contract, or cannot do it
            ConformanceError (AssertionError)   what lram.envs.conformance has found
            InterpreterError (RuntimeError)     an interpreter of no use; a clause about it
            WorkerStartError (RuntimeError)     the system lets no worker start
            FrameError (ValueError)             a worker sent what was not asked for; caught in the pool
        RuntimeError
            AgentError          agents: agents, models, trajectories, training
                LostServerError             the connection to a served policy has ended
                MissingBackboneError        the code of a backbone from outside is not here
                SourceError                 a file or episode to import cannot be read
                DamagedCardError            a store's card is missing or damaged
                WorkerDiedError             a process that prepares batches is no more

Catch a root to catch all of a room. The command line prints the message of each of the three ``ROOTS`` and
exits with code 2. ``envs`` and ``agents`` know nothing of the harness and of each other, so there is no root
of roots; what they raise inside a function of the harness that promises LramError leaves it as one
(:func:`as_lram_error`), with the first error as its cause.

The others never reach a user: whoever catches them knows which file or agent they are about, and says it::

    ValueError
        ChecksumError           content is not what was written
        ExampleError            a record of an RLDS data set is no message
        Hdf5Error               a part of an HDF5 file is missing or not read
        MessageError            a served policy, or its client, sent what does not belong there
        PolicyFrameError        a policy's own Python and this one do not understand each other
        WeightsError            no sound file of weights
        WireError               bytes of a connection are no message
        WrongRecordError        a record contradicts its plan, or another record
    OSError
        InUseError              another process holds a lock
        NoLocksError            the file system has no locks
    Exception
        JobFailedError          a job of an executor cannot be done; an update tells of it
        JobLost                 a task of a cluster has ended without an answer
        _ContractBrokenError    an agent under check gave not even one action a lane
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lram.agents.errors import AgentError
from lram.envs.errors import EnvsError


class LramError(Exception):
    """Something the user can fix; the message is one sentence."""


ROOTS = (LramError, EnvsError, AgentError)
"""What the command line prints as a sentence."""


@contextmanager
def as_lram_error() -> Iterator[None]:
    """Let what ``envs`` and ``agents`` tell the user leave a block or a decorated function as LramError."""
    try:
        yield
    except (EnvsError, AgentError) as error:
        raise LramError(str(error)) from error
