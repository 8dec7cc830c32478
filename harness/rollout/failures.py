"""What has failed so far, and what is therefore not worth trying any more."""

from __future__ import annotations

from collections import Counter

from lram.harness.storage.records import Failure, WorkItem, given_up_words


class Tally:
    """Gives up tasks whose first episodes all errored, and domains whose workers never come to life.

    The first episodes of the plan count, not the first to fail: an episode that has to be repeated
    because a neighbour crashed must not find its task given up for the crashes alone. A bad action is
    the agent's failure and gives up the task for that agent only.
    """

    def __init__(self, limit: int, worker_slots: int) -> None:
        """Give up a task after its first ``limit`` episodes, a domain after more than ``limit`` deaths
        a worker slot (of ``worker_slots``) before any of its episodes began.
        """
        self._limit = limit
        self._most_deaths = limit * worker_slots
        self._errored: dict[tuple[str | None, str], set[int]] = {}
        self._scored: set[tuple[str | None, str]] = set()
        self._reasons: dict[tuple[str | None, str], Failure] = {}
        self._begun: set[str] = set()
        self._deaths: Counter[str] = Counter()

    def begun(self, domain: str) -> None:
        """Take note that an episode of ``domain`` has begun: its workers can live."""
        self._begun.add(domain)

    def died(self, domain: str) -> None:
        """Take note that a worker of ``domain`` has died."""
        if domain not in self._begun:
            self._deaths[domain] += 1

    def count(self, item: WorkItem, failure: Failure | None) -> None:
        """Take note that an episode is settled: scored (None), or errored by ``failure``."""
        for key in ((None, item.task), (item.agent, item.task)):
            if failure is None:
                self._scored.add(key)
                continue
            if failure.kind == "quarantine" or (failure.kind == "agent") != (key[0] is not None):
                continue
            errored = self._errored.setdefault(key, set())
            errored.add(item.episode)
            if errored.issuperset(range(self._limit)) and key not in self._scored:
                self._reasons.setdefault(
                    key,
                    Failure(
                        "quarantine",
                        f"{given_up_words(item.task, key[0])}its first {self._limit} episodes errored and "
                        f"none scored, the last by: {failure.message}",
                        by_agent=key[0] is not None,
                    ),
                )

    def dead(self, domain: str) -> str | None:
        """Return why ``domain`` is given up; None when it is not."""
        if domain not in self._begun and self._deaths[domain] > self._most_deaths:
            return f"the domain {domain} was given up: {self._deaths[domain]} workers died, none began"
        return None

    def given_up(self, item: WorkItem) -> Failure | None:
        """Return why an episode is not worth trying; None when it is."""
        if dead := self.dead(item.task.partition("/")[0]):
            return Failure("quarantine", dead, by_agent=False)
        return self._reasons.get((None, item.task)) or self._reasons.get((item.agent, item.task))
