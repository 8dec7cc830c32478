"""Records changed by somebody who can write checksums."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lram.agents.checksums import sign_line


def forge(run: Path, changes: Callable[[dict[str, Any]], dict[str, Any] | None]) -> int:
    """Write the segments of ``run`` anew, with right checksums.

    Args:
        run: The run's folder.
        changes: Given each record, returns the fields to change (None or empty: none of them).

    Returns:
        Records that were changed.
    """
    forged = 0
    for segment in sorted((run / "records").glob("*.jsonl")):
        lines = []
        for line in segment.read_bytes().splitlines():
            record = json.loads(line)
            del record["crc32"]
            if changed := changes(dict(record)):
                record |= changed
                forged += 1
            lines.append(sign_line(json.dumps(record, separators=(",", ":")).encode()) + b"\n")
        segment.write_bytes(b"".join(lines))
    return forged
