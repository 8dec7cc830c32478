"""A domain whose simulators do what they should not, beside tasks that behave: whole runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.ready import ready_python

from lram.envs import registry
from lram.envs.errors import SelectionError
from lram.envs.workers.output import HEAD, TAIL
from lram.harness.evaluation import Machine, evaluate
from lram.harness.storage.records import EpisodeRecord
from lram.harness.storage.run_folder import Run

_MODULE = """
import os, sys, threading, time
import numpy as np
from lram.envs.workers import wire
from lram.envs.workers import worker
from lram.envs.session import Domain, EvaluationProtocol, Step
from lram.envs.simulator import SimulatorSession, vector_spec
from lram.envs.task import Task

OBSERVATION = np.zeros(2, np.float32)
stepped, begun = wire.pack_stepped, wire.pack_begun


class Hostile(SimulatorSession):
    def __init__(self, name):
        super().__init__("hostile/" + name, vector_spec(2, "continuous", 1), limit=6)
        self.name, self.made = name, 0

    def _begin(self, seed):
        self.made = 0
        return OBSERVATION + np.float32(seed % 5)

    def _advance(self, action):
        self.made += 1
        reward = 0.5
        if self.name == "drips" and self.made == 4:
            time.sleep(0.5)
        if self.made == (6 if self.name == "last" else 3):
            reward = getattr(self, self.name.replace("-", "_"), lambda: 0.5)()
        return Step(OBSERVATION.copy(), reward, False, False, None, reward)

    def answers(self, change):
        def pack(*given):
            wire.pack_stepped = stepped
            return change(*given)
        wire.pack_stepped = pack
        return 0.5

    def twice(self):
        return self.answers(lambda *given: stepped(*given) * 2)

    last = twice

    def other_slot(self):
        return self.answers(lambda slot, *rest: stepped((slot + 1) % 3, *rest))

    def seconds(self):
        return self.answers(lambda slot, step, _, *rest: stepped(slot, step, float("nan"), *rest))

    def garbage(self):
        return self.answers(lambda *given: bytes(range(256)))

    def length(self):
        return self.answers(lambda *given: wire.HEADER.pack(0xFFFFFFFF, 5) + bytes(1 << 20))

    def huge(self):
        return 1.7e308

    def leaves(self):
        raise SystemExit("it leaves")

    def escapes(self):
        raise RuntimeError("\\x1b]0;owned\\x07\\x1b[2J")

    def prints(self):
        for _ in range(20):
            sys.stderr.write("x" * (1 << 20))
        print("its last words", file=sys.stderr, flush=True)
        os._exit(3)

    def orphans(self):
        if os.fork() == 0:
            time.sleep(300)
        os._exit(4)

    def forks(self):
        if os.fork() == 0:
            os.setsid()
            time.sleep(300)
            os._exit(0)
        time.sleep(300)


    def drips(self):
        # Its thread writes into the connection whoever's turn it is.
        connection = next(int(name) for name in os.listdir("/proc/self/fd")
                          if os.path.exists("/proc/self/fd/" + name)
                          and os.readlink("/proc/self/fd/" + name).startswith("socket:"))
        writes = lambda: [os.write(connection, bytes(8)) for _ in range(9)]
        threading.Thread(target=writes, daemon=True).start()
        return 0.5


class Endless(Hostile):
    def __init__(self, name):
        super().__init__(name)
        self._limit = None


def task(name):
    return Task("hostile", name, "extra", 6, "vector", 2, "continuous", 1, 1.0, 1.0)


NAMES = ("good", "last", "twice", "other-slot", "seconds", "garbage", "length", "huge", "leaves", "escapes",
         "prints", "endless", "forks", "orphans", "drips")
DOMAIN = Domain(
    name="hostile",
    protocols=(EvaluationProtocol("plain", 1, "As it is."),),
    make=lambda name, protocol: Endless(name) if name == "endless" else Hostile(name),
    tasks=tuple(map(task, NAMES)),
)
"""
# What the failure's sentence says, by task.
WORDS = {
    "twice": "that was not asked for",
    "other-slot": "where slot",
    "seconds": "nan s in the simulator",
    "garbage": "a STEP frame where STEPPED was due",
    "length": "4294967295 bytes where",
    "huge": "scale the task's rewards",
    "leaves": "SystemExit: it leaves",
    "escapes": r"RuntimeError: \x1b]0;owned\x07\x1b[2J",
    "orphans": "the hostile worker died (exit code 4)",
    "prints": "exit code 3); its last words: ",
    "drips": "the hostile worker sent ",
    "endless": "has not ended the episode after 1000 decisions",
}


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a package with the domain ``hostile``, on the path of this process and of workers."""
    folder = tmp_path / "site"
    announced = folder / "hostile-1.0.dist-info"
    announced.mkdir(parents=True)
    (announced / "METADATA").write_text("Metadata-Version: 2.1\nName: hostile\nVersion: 1.0\n")
    (announced / "entry_points.txt").write_text("[lram.domains]\nhostile = hostile:DOMAIN\n")
    (folder / "hostile.py").write_text(_MODULE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    functions = (registry._entry_points, registry.load_domain, registry.all_tasks)
    for function in functions:
        function.cache_clear()
    yield folder  # type: ignore[misc]
    monkeypatch.undo()
    sys.modules.pop("hostile", None)
    for function in functions:
        function.cache_clear()


def settled(run: Run) -> dict[str, tuple[object, ...]]:
    """Return what is measured of the episodes that scored, by id."""
    return {
        r.item.id: (r.episode_return, r.length, r.trajectory) for r in run.records() if r.status == "scored"
    }


@pytest.mark.slow
def test_hostile_simulators_end_in_sentences_and_cost_no_other_episode_anything(
    site: Path, tmp_path: Path
) -> None:
    good = "hostile/good,hostile/last,toy/steps,toy/reach"
    machine = Machine(lanes=8, workers=2)
    alone = evaluate("random", good, tmp_path / "alone", episodes=2, machine=machine)
    assert len(settled(alone)) == 8
    bad = ",".join(f"hostile/{name}" for name in WORDS)
    run = evaluate("random", f"{good},{bad}", tmp_path / "run", episodes=2, machine=machine)
    last = settled(run)
    assert {item: last[item] for item in settled(alone)} == settled(alone)
    errored: dict[str, list[EpisodeRecord]] = {}
    for record in run.records():
        if record.status == "errored":
            errored.setdefault(record.task.partition("/")[2], []).append(record)
    assert errored.keys() == WORDS.keys()
    for name, records in errored.items():
        kinds = [record.failure.kind for record in records if record.failure]
        assert len(kinds) == 2
        for record in records:
            assert record.failure is not None
            assert record.failure.message.isprintable()
            assert len(record.failure.message) < 1500
            assert WORDS[name] in record.failure.message, name
    for log in (tmp_path / "run").glob("logs/*/*"):
        assert log.stat().st_size < HEAD + TAIL + 1000
    assert run.missing() == []


@pytest.mark.slow
def test_what_a_simulator_has_forked_ends_with_lram_after_kill_9(site: Path, tmp_path: Path) -> None:
    mark = str(tmp_path / "mark")
    command = [sys.executable, "-m", "lram.harness.cli", "eval", "random", "-t", "hostile/forks", "-n", "2"]
    with subprocess.Popen(
        [*command, "-o", str(tmp_path / "run"), "-w", "1"],
        env={**os.environ, "LRAM_TEST_MARK": mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as lram:
        # lram, the reaper, a worker, and the child of its simulator in a session of its own.
        assert until(lambda: len(living(mark)) == 4)
        lram.send_signal(signal.SIGKILL)
    assert until(lambda: not living(mark))


def living(mark: str) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:
            continue
    return found


def until(condition: object) -> bool:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        if condition():  # type: ignore[operator]
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("raise SystemExit(3)", "cannot be loaded: SystemExit: 3"),
        ("raise KeyboardInterrupt", "cannot be loaded: KeyboardInterrupt"),
        ("class Odd(BaseException): pass\nraise Odd('\\x1b[2J')", r"cannot be loaded: Odd: \x1b[2J"),
        ("def f(): f()\nf()", "cannot be loaded: RecursionError"),
        ("class E(Exception):\n    def __str__(self): raise E\nraise E", "its message cannot be read"),
        ("DOMAIN = 5", "is a int, not a lram.envs.session.Domain"),
        ("DOMAIN = replace(DOMAIN, name='toy')", "holds the domain 'toy'"),
        ("DOMAIN = replace(DOMAIN, protocols=None)", "without a sequence of protocols"),
        ("DOMAIN = replace(DOMAIN, protocols=())", "without a sequence of protocols"),
        ("DOMAIN = replace(DOMAIN, make=None)", "make cannot be called"),
        ("DOMAIN = replace(DOMAIN, tasks=None)", "tasks are no sequence"),
        ("DOMAIN = replace(DOMAIN, tasks=('good',))", "tasks are no sequence"),
        ("DOMAIN = replace(DOMAIN, tasks=DOMAIN.tasks * 2)", "two tasks of one name"),
        ("DOMAIN = replace(DOMAIN, step_s=0)", "step_s is 0"),
        ("DOMAIN = replace(DOMAIN, start_s=float('nan'))", "start_s is nan"),
        (
            "T = DOMAIN.tasks[0]\nDOMAIN = replace(DOMAIN, tasks=(replace(T, domain='toy'),))",
            "of the domain 'toy'",
        ),
        (
            "T = DOMAIN.tasks[0]\nDOMAIN = replace(DOMAIN, tasks=(replace(T, action_size='5'),))",
            "action_size",
        ),
        (
            "T = DOMAIN.tasks[0]\nDOMAIN = replace(DOMAIN, tasks=(replace(T, split='mine'),))",
            "split is none of",
        ),
    ],
)
def test_a_package_that_cannot_be_loaded_is_named_and_takes_no_other_away(
    site: Path, content: str, words: str
) -> None:
    with (site / "hostile.py").open("a") as file:
        file.write("from dataclasses import replace\n" + content + "\n")
    assert "toy/steps" in registry.all_tasks()
    assert not any(name.startswith("hostile/") for name in registry.all_tasks())
    with pytest.raises(SelectionError) as caught:
        registry.load_domain("hostile")
    assert words in str(caught.value)
    assert str(caught.value).isprintable()
    with pytest.raises(SelectionError, match="package that brings it"):
        registry.select("hostile/good")


def test_ctrl_c_while_a_package_is_loaded_is_no_fault_of_the_package(site: Path) -> None:
    with (site / "hostile.py").open("a") as file:
        file.write("import signal\nsignal.raise_signal(signal.SIGINT)\ntime.sleep(5)\n")
    # A shell that starts the tests in the background has them ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            registry.load_domain("hostile")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)


def test_commands_live_with_a_package_that_exits(site: Path) -> None:
    (site / "hostile.py").write_text("import sys\nsys.exit('goodbye')\n")
    for arguments in (["tasks", "toy/steps"], ["domains"]):
        command = [*ready_python(), "-m", "lram.harness.cli", *arguments]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        assert answer.returncode == 0, answer.stderr
        assert "Traceback" not in answer.stderr
    assert "cannot be loaded: SystemExit: goodbye" in answer.stdout
