"""Domains that other packages bring: loaded and checked before anything of them is used.

Loading runs the package's code, which may do anything but end the program or take other domains away.
"""

from __future__ import annotations

import math
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, get_args

from lram.envs.errors import AnnouncedError, SelectionError
from lram.envs.session import Domain, EvaluationProtocol, InterpreterRecipe, SourceTree
from lram.envs.task import ActionKind, Dial, ObservationKind, ScoreKind, Split, Task
from lram.envs.task_ids import RULE, is_task_name
from lram.envs.text import message_of, printable, type_of

GROUP = "lram.domains"
_LONGEST_NAME = 200
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")  # it goes into task ids and the names of files


def load(name: str, point: Any) -> Domain:
    """Return the domain of an entry point; AnnouncedError where it cannot be loaded or is none."""
    value = printable(str(point.value), _LONGEST_NAME)
    if not NAME.fullmatch(name):
        raise AnnouncedError(
            f"the entry point {name!r} of group {GROUP} ({value}) has a name that is no domain's: letters, "
            "digits, dots, dashes and underscores, at most 100; fix or remove the package that brings it"
        )
    with noting_interrupts() as interrupts:
        try:
            domain = point.load()
        except BaseException as error:  # also SystemExit: the other domains are to be played all the same
            if interrupts:
                raise
            raise AnnouncedError(
                f"the domain {name} ({value}) cannot be loaded: {described(error)}; "
                "fix or remove the package that brings it"
            ) from error
        try:
            wrong = flaw(name, domain)
        except BaseException as error:
            if interrupts:
                raise
            wrong = f"cannot be read: {described(error)}"
    if wrong:
        raise AnnouncedError(
            f"the entry point {name!r} of group {GROUP} ({value}) {wrong}; fix the package that brings it"
        )
    return domain  # type: ignore[no-any-return]  # flaw has seen that it is one


def made_on_demand(domain: Domain, name: str) -> Task:
    """Return the task that ``domain``, which makes tasks on demand, makes from ``name``.

    Raises:
        SelectionError: It says that there is none.
        AnnouncedError: It raises something else, or gives what is no task of its own of that name.
    """
    assert domain.on_demand is not None
    with noting_interrupts() as interrupts:
        try:
            task: object = domain.on_demand(name)
        except SelectionError:
            raise
        except BaseException as error:
            if interrupts:
                raise
            wrong = f"raised {described(error)}"
            task = None
        else:
            wrong = _made_flaw(domain.name, name, task)
    if wrong:
        raise AnnouncedError(
            f"the domain {domain.name}, asked for its task {printable(repr(name), 80)}, {wrong}; fix the "
            "package that brings it"
        )
    return task  # type: ignore[return-value]  # _made_flaw has seen that it is one


@contextmanager
def noting_interrupts() -> Iterator[list[int]]:
    """Yield a list that is filled when Ctrl-C comes: a package may raise KeyboardInterrupt by itself."""
    came: list[int] = []
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield came
        return
    handler = before

    def note(number: int, frame: Any) -> Any:
        came.append(number)
        return handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield came
    finally:
        signal.signal(signal.SIGINT, before)


def described(error: BaseException) -> str:
    """Return an error's type and message as one line."""
    return printable(f"{type_of(error)}: {message_of(error)}", 300)


def flaw(name: str, domain: object) -> str:
    """Return what keeps ``domain`` from being one that is called ``name``; empty when nothing does."""
    if not isinstance(domain, Domain):
        return f"is a {type(domain).__name__}, not a lram.envs.session.Domain"
    if domain.name != name:
        return f"holds the domain {domain.name!r}, and both names must be the same"
    if not callable(domain.make):
        return "holds a domain whose make cannot be called"
    if not _is_sequence(domain.protocols, EvaluationProtocol) or not domain.protocols:
        return "holds a domain without a sequence of protocols"
    names = [protocol.name for protocol in domain.protocols]
    if not all(_is_name(one) for one in names) or len(set(names)) < len(names):
        return "holds a domain whose protocols have no names, or the same"
    for what in ("requires", "packages"):
        if not _is_sequence(getattr(domain, what), str):
            return f"holds a domain whose {what} is no sequence of names"
    for what in ("start_s", "worker_mb", "session_mb", "idle_sessions"):
        if not _is_number(getattr(domain, what)) or getattr(domain, what) < 0:
            return f"holds a domain whose {what} is {getattr(domain, what)!r:.60}"
    if not _is_number(domain.step_s) or domain.step_s <= 0:
        return f"holds a domain whose step_s is {domain.step_s!r:.60}"
    if wrong := _parts_flaw(domain):
        return wrong
    if not _is_sequence(domain.tasks, Task):
        return "holds a domain whose tasks are no sequence of lram.envs.task.Task"
    for task in domain.tasks:
        if wrong := _task_flaw(name, task):
            return f"holds a task {printable(repr(task.name), 80)} {wrong}"
    if len({task.name for task in domain.tasks}) < len(domain.tasks):
        return "holds two tasks of one name"
    return _answers_flaw(domain)


def _parts_flaw(domain: Domain) -> str:
    """Return what keeps a protocol, a source tree or the interpreter of ``domain`` from being one."""
    if not isinstance(domain.install, str):
        return f"holds a domain whose install is {domain.install!r:.60}, not a text"
    for what in ("under", "on_demand"):
        if getattr(domain, what) is not None and not callable(getattr(domain, what)):
            return f"holds a domain whose {what} cannot be called"
    for protocol in domain.protocols:
        which = f"holds a protocol {printable(repr(protocol.name), 80)} whose"
        if type(protocol.version) is not int or protocol.version < 1:
            return f"{which} version is {protocol.version!r:.60}, no whole number above 0"
        if not isinstance(protocol.summary, str):
            return f"{which} summary is no text"
        if not isinstance(protocol.options, Mapping) or not all(map(_is_name, protocol.options)):
            return f"{which} options are no mapping by name"
        versions = protocol.versions
        if not isinstance(versions, Mapping) or not all(map(_is_name, [*versions, *versions.values()])):
            return f"{which} versions are no mapping of versions by distribution"
        base = next((one for one in domain.protocols if one.name == protocol.perturbs), None)
        if protocol.perturbs != "" and (base is None or base.perturbs != ""):
            return f"{which} perturbs is {protocol.perturbs!r:.60}, no unperturbed protocol of the domain"
    if not _is_sequence(domain.sources, SourceTree):
        return "holds a domain whose sources are no sequence of lram.envs.session.SourceTree"
    for source in domain.sources:
        for what in ("module", "url", "commit", "licence"):
            if not _is_name(getattr(source, what)):
                return f"holds a source tree whose {what} is {getattr(source, what)!r:.60}, not a text"
        if not _is_sequence(source.tasks, str):
            return (
                f"holds a source tree {printable(source.module, 80)} whose tasks are no sequence of patterns"
            )
    recipe = domain.interpreter
    if recipe is not None and not isinstance(recipe, InterpreterRecipe):
        return f"holds a domain whose interpreter is a {type(recipe).__name__}, not an InterpreterRecipe"
    if recipe is not None:
        for what in ("requirements", "pythons"):
            if not _is_sequence(getattr(recipe, what), str):
                return f"holds a domain whose interpreter has {what} that are no sequence of texts"
    return ""


def _answers_flaw(domain: Domain) -> str:
    """Return what is wrong with what ``domain`` tells of its tasks, asked for each of them."""
    if type(domain.clipped_data) is not bool:
        return f"holds a domain whose clipped_data is {domain.clipped_data!r:.60}, not True or False"
    names = {task.name for task in domain.tasks}
    # The tasks of a built-in domain may stand in the table.
    if not isinstance(domain.trial_task, str) or (names and domain.trial_task not in {"", *names}):
        return f"holds a domain whose trial_task {domain.trial_task!r:.60} is none of its tasks"
    for what in ("attributes", "least_return", "greatest_return", "dial"):
        ask = getattr(domain, what)
        if ask is not None and not callable(ask):
            return f"holds a domain whose {what} cannot be called"
    for task in domain.tasks:
        which = f"holds a domain whose {{}} of the task {printable(repr(task.name), 80)}"
        if domain.attributes is not None and (wrong := _attributes_flaw(domain.attributes(task.name))):
            return f"{which.format('attributes')} {wrong}"
        if domain.dial is not None and (wrong := _dial_flaw(domain.dial(task.name))):
            return f"{which.format('dial')} {wrong}"
        least = domain.least_return(task) if domain.least_return is not None else None
        if least is not None and not _is_number(least):
            return f"{which.format('least_return')} is {least!r:.60}, no finite number"
        for protocol in domain.protocols if domain.greatest_return is not None else ():
            greatest = domain.greatest_return(task, protocol.name)  # type: ignore[misc]  # it is not None
            if greatest is None:
                continue
            if not _is_number(greatest):
                return f"{which.format('greatest_return')} is {greatest!r:.60}, no finite number"
            if least is None or greatest < least:
                return f"{which.format('greatest_return')} is {greatest!r:.60}, the least {least!r:.60}"
    return ""


def _made_flaw(domain: str, name: str, task: object) -> str:
    if not isinstance(task, Task):
        return f"gave a {type_of(task)}, not a lram.envs.task.Task"
    wrong = _task_flaw(domain, task)
    if not wrong and task.name != name:
        wrong = f"that was not asked for: {printable(repr(task.name), 80)}"
    return f"gave a task {wrong}" if wrong else ""


def _attributes_flaw(attributes: object) -> str:
    if not isinstance(attributes, Mapping) or not all(map(_is_name, [*attributes, *attributes.values()])):
        return "are no mapping of texts by name"
    if "split" in attributes:
        return "hold a split, which every task has already"
    return ""


def _dial_flaw(dial: object) -> str:
    if dial is None:
        return ""
    if not isinstance(dial, Dial):
        return f"is a {type_of(dial)}, not a lram.envs.task.Dial"
    if not _is_name(dial.family) or not _is_name(dial.unit) or not isinstance(dial.theory, str):
        return "has a family, a unit or a theory that is no text"
    return "" if type(dial.value) is int else f"has the value {dial.value!r:.60}, no whole number"


def _task_flaw(domain: str, task: Task) -> str:
    if not is_task_name(task.name):
        return f"whose name is no {RULE}"
    if task.domain != domain:
        return f"of the domain {printable(repr(task.domain), 80)}"
    for what, kinds in (
        ("split", Split),
        ("observation", ObservationKind),
        ("action", ActionKind),
        ("score_kind", ScoreKind),
    ):
        if getattr(task, what) not in get_args(kinds):
            return f"whose {what} is none of {', '.join(get_args(kinds))}"
    for what in ("horizon", "observation_size", "action_size"):
        value = getattr(task, what)
        if value is not None and (type(value) is not int or value < 1):
            return f"whose {what} is no whole number above 0"
    for what in ("target_return", "score_random", "score_reference"):
        value = getattr(task, what)
        if value is not None and not _is_number(value):
            return f"whose {what} is no finite number"
    if not isinstance(task.reference_name, str):
        return "whose reference_name is no text"
    if not _is_pairs(task.sources):
        return "whose sources are no pairs of texts"
    if not _is_number(task.reward_scale) or task.reward_scale <= 0:
        return "whose reward_scale is no finite number above 0"
    return ""


def _is_sequence(value: object, kind: type) -> bool:
    return (
        isinstance(value, Sequence)
        and not isinstance(value, (str, bytes))
        and all(isinstance(one, kind) for one in value)
    )


def _is_pairs(value: object) -> bool:
    return _is_sequence(value, tuple) and all(
        len(pair) == 2 and all(isinstance(one, str) for one in pair)
        for pair in value  # type: ignore[attr-defined]
    )


def _is_name(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
