"""What a sample without a finding says of the records that were not looked at."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lram.harness.errors import LramError


@dataclass(frozen=True, slots=True)
class Detection:
    """What replaying ``sampled`` of ``episodes`` records, all equal, would have found.

    Attributes:
        sampled: Records that were replayed, chosen at random without regard to what they hold.
        episodes: Records that they were chosen from.
        forged: The least number of forged ones of which the sample holds one with ``wanted`` or more.
        probability: With which it does, for just so many.
        wanted: The probability that was asked for.
    """

    sampled: int
    episodes: int
    forged: int
    probability: float
    wanted: float

    @property
    def share(self) -> float:
        """``forged`` as a share of ``episodes``."""
        return self.forged / self.episodes


def found_with(sampled: int, episodes: int, forged: int) -> float:
    """Return the probability that a random sample holds at least one forged record.

    It is 1 - C(N - K, n) / C(N, n), the hypergeometric distribution's, for n of N records with K forged.
    """
    if sampled + forged > episodes:
        return 1.0
    few, many = sorted((sampled, forged))  # the formula is the same with the two exchanged
    missed = math.fsum(math.log1p(-many / (episodes - place)) for place in range(few))
    return -math.expm1(missed)


def detection(sampled: int, episodes: int, wanted: float = 0.95) -> Detection:
    """Return the least number of forged records that a sample would have shown with probability ``wanted``.

    Raises:
        LramError: There is no such sample.
    """
    if not 0 < sampled <= episodes:
        raise LramError(f"{sampled} of {episodes} episodes are no sample; replay at least one")
    least, most = 1, episodes
    while least < most:  # the probability grows with the number of forged records
        middle = (least + most) // 2
        if found_with(sampled, episodes, middle) >= wanted:
            most = middle
        else:
            least = middle + 1
    return Detection(sampled, episodes, least, found_with(sampled, episodes, least), wanted)
