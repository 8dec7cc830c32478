"""The id of a protocol: the one place where ``procgen:lram@1`` is taken apart and put together.

Plans, records, stores, studies and ``data/random_play.csv`` carry ids as text; whoever needs a
part parses it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from lram.envs.errors import SelectionError
from lram.envs.text import printable

# The last "@" begins the version, so that a name may hold one. A version is written in one way only: equal
# ids are equal texts.
_ID = re.compile(r"(?P<domain>[^:]+):(?P<name>.+)@(?P<version>[1-9][0-9]{0,99})", re.DOTALL)


@dataclass(frozen=True)
class ProtocolId:
    """Which protocol of which domain, in which version; ``str`` gives the text, ``domain:name@version``.

    Attributes:
        domain: Domain name, as in task ids; without a colon.
        name: Short name within the domain, such as ``lram``.
        version: From 1 on.
    """

    domain: str
    name: str
    version: int

    @classmethod
    def parse(cls, text: str) -> ProtocolId:
        """Return the id that ``text`` is; SelectionError where it is none."""
        found = _ID.fullmatch(text)
        if found is None:
            raise SelectionError(
                f"{printable(repr(text), 80)} is no id of a protocol; one is domain:name@version, such as "
                "procgen:lram@1"
            )
        return cls(found["domain"], found["name"], int(found["version"]))

    @property
    def versioned_name(self) -> str:
        """``name@version``, for where the domain stands beside it."""
        return f"{self.name}@{self.version}"

    def __str__(self) -> str:
        return f"{self.domain}:{self.versioned_name}"
