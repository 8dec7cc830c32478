"""PyTorch's compiler is loaded when something is to be compiled, and then knows what to leave alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

_PLAIN = """
import sys
from lram.agents.factory import create_agent
create_agent("transformer[full]-1M")
assert "torch" in sys.modules
print("torch._dynamo" in sys.modules)
"""

_MARKED = """
import torch
from lram.agents.backbones.uncompiled import leave_marked_alone, uncompiled

class Cache:
    @uncompiled
    def grown(self, by):
        return torch.compiler.is_compiling(), by

plain = Cache.grown
leave_marked_alone()
marked = Cache.grown
leave_marked_alone()
assert Cache.grown is marked is not plain
found = []
step = torch.compile(lambda x: found.append(Cache().grown(3)) or x + 1, backend="eager")
step(torch.zeros(1))
print(found)
"""


@pytest.fixture(scope="module")
def printed() -> list[str]:
    """What one interpreter says of both, one after the other."""
    done = subprocess.run(
        [sys.executable, "-c", _PLAIN + _MARKED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.slow
def test_an_agent_is_made_without_the_compiler(printed: list[str]) -> None:
    assert printed[0] == "False"


@pytest.mark.slow
def test_a_marked_method_runs_as_it_is_within_compiled_code(printed: list[str]) -> None:
    assert printed[1:] == ["[(False, 3)]"]
