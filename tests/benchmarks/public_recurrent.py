"""Public implementations of the recurrences that are made of parts, stepping token by token, one row.

``transformers`` has Gated DeltaNet (Qwen3-Next), Mamba-2, Hawk and Griffin (RecurrentGemma),
``minGRU-pytorch`` minGRU and minLSTM, ``rwkv`` RWKV-7. A public block has its own feed-forward part, so
weights are others and as many within a tenth; that outputs agree on the same weights is a test of each kind
(``tests/agents/test_public_recurrences_*.py``).
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from compare_public import Comparison
from ratios import token_by_token

from lram.harness.timing.backbones import BenchCase, TimedBackbone
from lram.harness.timing.rounds import PreparedDecision, TimedCandidate

sys.path.insert(0, str(Path(__file__).parent / "public_recurrences"))

SCRIPTS = {
    "gated_deltanet": ("from_transformers", "gated_deltanet", "transformers"),
    "mamba2": ("from_transformers", "mamba2", "transformers"),
    "rglru": ("from_transformers", "hawk", "transformers"),
    "griffin": ("from_transformers", "griffin", "transformers"),
    "mingru": ("from_mingru", "mingru", "minGRU-pytorch"),
    "minlstm": ("from_mingru", "minlstm", "minGRU-pytorch"),
    "rwkv7": ("from_rwkv", "rwkv7", "rwkv"),
}
"""Which script times a kind, under which name, by which package."""

_used: set[str] = set()


def versions() -> dict[str, str]:
    """Return the versions of what is compared with."""
    return {package: version(package) for package in sorted(_used)}


def compare(subject: TimedBackbone, forms: Sequence[str], context: int) -> Comparison:
    """Return our forms beside the package; exits for more rows than one."""
    if subject.work.rows != 1:
        sys.exit("the public recurrences are timed at one row; give --rows 1")
    package = SCRIPTS[subject.config.kind][2]
    _used.add(package)
    case = BenchCase(subject.name, f"{package}, token by token", 1, None)
    other = {case: TimedCandidate(case.name, partial(prepare, subject))}
    ours = token_by_token(subject, context) | subject.candidates(forms, context)
    return Comparison.of(ours, {}, other)


def prepare(subject: TimedBackbone) -> PreparedDecision:
    """Return the package's decision, after the past that its script reads."""
    script, name, package = SCRIPTS[subject.config.kind]
    with torch.inference_mode():
        timed = importlib.import_module(script).TIMED[name]
        weights, decide = timed(subject.config.width, subject.config.layers)
    size = 4 * weights
    return PreparedDecision(decide, size, 0, 0, f"{package} {version(package)}, {weights / 1e6:.1f}M weights")
