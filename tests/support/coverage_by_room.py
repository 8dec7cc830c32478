"""Print which share of the lines of each room the tests ran, from the data that pytest-cov left here."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

ROOMS = ("envs", "agents", "harness", "reports")


def main() -> None:
    """Print a line a room, and one for the whole."""
    with tempfile.TemporaryDirectory() as scratch:
        found = Path(scratch) / "coverage.json"
        command = [sys.executable, "-m", "coverage", "json", "--quiet", "-o", str(found)]
        subprocess.run(command, check=True)
        files = json.loads(found.read_text(encoding="utf-8"))["files"]
    lines: Counter[str] = Counter()
    run: Counter[str] = Counter()
    for name, file in files.items():
        parts = Path(name).parts
        room = parts[len(parts) - parts[::-1].index("lram")]
        for place in (room, "all"):
            lines[place] += file["summary"]["num_statements"]
            run[place] += file["summary"]["covered_lines"]
    for place in (*ROOMS, "all"):
        print(f"{place:8} {100 * run[place] / max(1, lines[place]):5.1f}% of {lines[place]:6,} lines")


if __name__ == "__main__":
    main()
