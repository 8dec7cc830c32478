"""Damages samples and has them read, in processes of their own: a reader may crash, or never end."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from support.fuzz.damage import copy, damage
from support.fuzz.formats import FORMATS, Format, Reading

FINE, REFUSED = "read", "refused"
TRACEBACK, CRASH, HANG, LOST, RIDDLE = "traceback", "crash", "hang", "others lost", "no sentence"
FAULTS = (TRACEBACK, CRASH, HANG, LOST, RIDDLE)
OUTCOMES = (FINE, REFUSED, *FAULTS)
LIMIT_S = 20.0
_LONGEST_SENTENCE = 2000


@dataclass(frozen=True)
class Trial:
    """One damaged sample, and how its readers ended.

    Attributes:
        format: Of the sample.
        number: Of the trial; it decides the damage, with the seed.
        outcome: One of ``OUTCOMES``.
        damage: What was damaged, in words.
        told: The sentences, or the traceback.
    """

    format: str
    number: int
    outcome: str
    damage: str
    told: str


@dataclass
class Table:
    """How many trials ended how, by format."""

    counts: dict[str, Counter[str]] = field(default_factory=dict)
    faults: list[Trial] = field(default_factory=list)

    def add(self, trial: Trial) -> None:
        """Count a trial."""
        self.counts.setdefault(trial.format, Counter())[trial.outcome] += 1
        if trial.outcome in FAULTS:
            self.faults.append(trial)

    def rows(self) -> list[tuple[str, ...]]:
        """Return the heading, a row a format, and the sums."""
        total: Counter[str] = Counter()
        rows = [("format", "trials", *OUTCOMES)]
        for name, counts in self.counts.items():
            total += counts
            rows.append((name, str(counts.total()), *(str(counts[one]) for one in OUTCOMES)))
        return [*rows, ("all", str(total.total()), *(str(total[one]) for one in OUTCOMES))]


def make_samples(folder: Path, formats: tuple[Format, ...] = FORMATS) -> dict[str, Path]:
    """Write a sample of each format into ``folder``, and see it read; return where each is."""
    made = {}
    for number, one in enumerate(formats):
        made[one.name] = folder / f"{number:02d}"
        made[one.name].mkdir()
        one.make(made[one.name])
        copy(made[one.name], folder / "sound")
        reading = Reading()
        one.read(folder / "sound", reading)
        assert not reading.sentences, f"a sound {one.name} is refused: {reading.sentences}"
        assert not reading.lost, f"of a sound {one.name}: {reading.lost}"
    return made


def run(one: Format, sample: Path, scratch: Path, seed: int, numbers: range) -> Iterator[Trial]:
    """Damage ``sample`` in each of the ways ``numbers``, and yield how reading it ended.

    Args:
        one: The format.
        sample: A sound one; it is copied.
        scratch: A folder for copies, which is written over.
        seed: With a number, it decides the damage.
        numbers: Of the trials.
    """
    left = list(numbers)
    while left:
        ours, theirs = multiprocessing.Pipe(duplex=False)
        process = multiprocessing.get_context("fork").Process(
            target=_serve, args=(theirs, one, sample, scratch, seed, left)
        )
        process.start()
        theirs.close()
        while left:
            fault = ""
            try:
                if ours.poll(LIMIT_S):
                    trial = Trial(*json.loads(ours.recv_bytes()))
                else:
                    fault = HANG
            except EOFError:
                fault = CRASH
            if fault:
                process.kill()
                process.join()
                told = f"exit code {process.exitcode}" if fault == CRASH else f"more than {LIMIT_S:g} s"
                trial = Trial(one.name, left[0], fault, _damaged(one, sample, scratch, seed, left[0]), told)
            yield trial
            left.pop(0)
            if fault:
                break
        process.join()
        ours.close()


def _damaged(one: Format, sample: Path, scratch: Path, seed: int, number: int) -> str:
    """Put a damaged copy of ``sample`` into ``scratch``; return what is damaged."""
    draw = random.Random(f"{seed} {one.name} {number}")
    copy(sample, scratch)
    files = sorted(file for file in scratch.glob(one.pattern) if file.is_file() and file.stat().st_size)
    file = draw.choice(files)
    told = damage(file, draw)
    return f"{file.relative_to(scratch)}: {told}"


def _serve(pipe: Any, one: Format, sample: Path, scratch: Path, seed: int, numbers: list[int]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)  # threads do not live on in a fork
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 1)
    os.dup2(null, 2)
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - as long as this process
    try:
        for number in numbers:
            trial = read_one(one, sample, scratch, seed, number)
            pipe.send_bytes(
                json.dumps([trial.format, trial.number, trial.outcome, trial.damage, trial.told]).encode()
            )
    finally:
        os._exit(0)


def read_one(one: Format, sample: Path, scratch: Path, seed: int, number: int) -> Trial:
    """Damage a copy of ``sample`` and read it in this process."""
    damaged = _damaged(one, sample, scratch, seed, number)
    reading = Reading()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error", RuntimeWarning)  # such as sums that overflow
        try:
            one.read(scratch, reading)
        except Exception:
            return Trial(one.name, number, TRACEBACK, damaged, traceback.format_exc()[-3000:])
    told = "\n".join(reading.sentences)
    if reading.lost:
        return Trial(one.name, number, LOST, damaged, "; ".join(reading.lost))
    for sentence in reading.sentences:
        if not _is_sentence(sentence, scratch):
            return Trial(one.name, number, RIDDLE, damaged, sentence)
    return Trial(one.name, number, REFUSED if told else FINE, damaged, told)


def _is_sentence(text: str, scratch: Path) -> bool:
    """Return whether ``text`` is one line that can be printed, not too long, and names what it is about."""
    return text.isprintable() and len(text) <= _LONGEST_SENTENCE and str(scratch) in text
