"""Whether each extra, alone and as ``all``, resolves with today's packages and no constraints file.

Run by ``tox run -e extras``, as ``python resolve_extras.py FOLDER_OF_PROJECT [NAME...]``. Nothing is
installed: ``pip install --dry-run`` finds the versions. PyTorch alone is held at the version of the
constraints file, so that nobody downloads its newest CUDA libraries, which have no say in what extras need.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

NEEDS_TORCH_TO_BUILD = {"mamba"}
"""Extras whose package imports torch while it is built, so that pip cannot even ask it what it needs."""

PROCESSES = 2


def resolve(wheel: Path, extra: str, constraint: Path) -> bool:
    """Say whether ``wheel[extra]`` resolves, in how many seconds and to how many packages."""
    begun = time.monotonic()
    command = [sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"]
    command += ["-c", str(constraint), f"{wheel}[{extra}]"]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.monotonic() - begun
    found = re.search(r"^Would install (.*)$", answer.stdout, re.MULTILINE)
    if answer.returncode or not found:
        print(f"{extra}: does not resolve ({seconds:.0f} s)\n{answer.stdout}\n{answer.stderr}", flush=True)
        return False
    print(f"{extra}: {len(found[1].split())} packages ({seconds:.0f} s)", flush=True)
    return True


def main(project: Path, names: list[str]) -> int:
    """Try the extras ``names`` (all that pip can ask, where there are none); return the exit code."""
    declared = tomllib.loads((project / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = names or sorted(set(declared["optional-dependencies"]) - NEEDS_TORCH_TO_BUILD)
    pins = (project / "constraints" / "py311.txt").read_text(encoding="utf-8").splitlines()
    with tempfile.TemporaryDirectory() as scratch:
        constraint = Path(scratch) / "torch.txt"
        constraint.write_text("".join(f"{line}\n" for line in pins if line.startswith("torch==")))
        wheels = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", scratch, str(project)]
        subprocess.run(wheels, check=True)
        (wheel,) = Path(scratch).glob("*.whl")
        with ThreadPoolExecutor(PROCESSES) as pool:
            resolved = list(pool.map(lambda extra: resolve(wheel, extra, constraint), extras))
    print(f"{sum(resolved)} of {len(extras)} extras resolve")
    return 0 if all(resolved) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
