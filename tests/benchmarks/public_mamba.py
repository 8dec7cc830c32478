"""Mamba-1 of ``mamba-ssm``, ``mambapy`` and ``transformers``: token by token, with our weights.

``mamba-ssm`` is made for CUDA. Its ``Mamba.step`` has a plain PyTorch path that runs on a processor once
the package can be imported: the compiled module ``selective_scan_cuda`` is replaced by an empty one
(``step`` does not use it) and the Triton kernel is switched off as its own code does where Triton is
missing. Its blocks and norms need Triton, so residuals and norms around ``Mamba.step`` are PyTorch's.

On a GPU only ``mamba-ssm`` is compared with, as it is: with its kernels, compiled and in Triton.

``transformers`` takes kernels of ``mamba-ssm`` wherever that can be imported, also on processors, where
they cannot run. So it is imported first, while ``selective_scan_cuda`` is not to be found.
"""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from typing import Any

import torch
import torch.nn.functional as F
from compare_public import Comparison
from ratios import token_by_token
from torch import Tensor, nn

from lram.harness.timing.backbones import BenchCase, TimedBackbone, weight_bytes
from lram.harness.timing.rounds import PreparedDecision, TimedCandidate

hf: Any = None
mambapy: Any = None
if not torch.cuda.is_available():
    import transformers.models.mamba.modeling_mamba as hf
    from transformers import MambaConfig as HFConfig
    from transformers.cache_utils import DynamicCache

    sys.modules["selective_scan_cuda"] = types.ModuleType("selective_scan_cuda")
    import mambapy.mamba as mambapy

import mamba_ssm.modules.mamba_simple as official  # noqa: E402

if not torch.cuda.is_available():
    official.selective_state_update = None  # the branch without Triton

# Reads one token (rows, 1, width) and returns its hidden state of the same shape.
Step = Callable[[Tensor], Tensor]
# Returns what is kept between tokens.
States = Callable[[], list[Tensor]]


def versions() -> dict[str, str]:
    """Return the versions of what is compared with."""
    return {name: version(name) for name in ("mamba-ssm", "mambapy", "transformers") if _is_there(name)}


def _is_there(name: str) -> bool:
    return name == "mamba-ssm" or hf is not None


def compare(subject: TimedBackbone, forms: Sequence[str], context: int) -> Comparison:
    """Return our forms beside the packages."""
    public = {}
    makers = {"mamba-ssm": make_official, "mambapy": make_mambapy, "transformers": make_hf}
    for package, make in makers.items():
        if not _is_there(package):
            continue
        case = BenchCase(subject.name, f"{package}, token by token", subject.work.rows, None)
        public[case] = TimedCandidate(case.name, partial(prepare, subject, make, package, context))
    ours = token_by_token(subject, context) | subject.candidates(forms, context)
    return Comparison.of(ours, public, {})


def prepare(
    subject: TimedBackbone, make: Callable[[TimedBackbone], tuple[Step, States]], package: str, context: int
) -> PreparedDecision:
    """Return a package's decision: one call a token, after the same past was read."""
    step, state = make(subject)
    for chunk in subject.work.past(0, context):
        for token in chunk.split(1, dim=1):
            step(token)
    turns = itertools.cycle([x.split(1, dim=1) for x in subject.work.inputs()])

    def decide() -> Tensor:
        for token in next(turns):
            hidden = step(token)
        return hidden

    size = sum(tensor.numel() * tensor.element_size() for tensor in state())
    return PreparedDecision(
        decide, weight_bytes(subject.backbone), size, size, f"{package} {version(package)}"
    )


def make_official(subject: TimedBackbone) -> tuple[Step, States]:
    """``mamba_ssm.modules.mamba_simple.Mamba.step`` in every block."""
    config, section = subject.config, subject.config.backbone
    assert section is not None
    mixers = nn.ModuleList(
        official.Mamba(config.width, section.state_size, section.conv_kernel, section.expand)
        for _ in range(config.layers)
    )
    mixers.to(subject.work.device)
    load(mixers, subject, "mixer.")
    states = [mixer.allocate_inference_cache(subject.work.rows, 1) for mixer in mixers]
    norms = [block.norm.weight.detach() for block in subject.backbone.layers]
    last = subject.backbone.norm_f.weight.detach()

    def step(x: Tensor) -> Tensor:
        for mixer, norm, state in zip(mixers, norms, states, strict=True):
            x = x + mixer.step(F.rms_norm(x, norm.shape, norm, 1e-5), *state)[0]
        return F.rms_norm(x, last.shape, last, 1e-5)

    return step, lambda: [tensor for state in states for tensor in state]


def make_mambapy(subject: TimedBackbone) -> tuple[Step, States]:
    """``mambapy.mamba.Mamba.step``, which keeps the last inputs of the convolution outside."""
    config, section = subject.config, subject.config.backbone
    assert section is not None
    stack = mambapy_stack(subject)
    rows, inner = subject.work.rows, section.expand * config.width
    weight = subject.backbone.norm_f.weight.detach()
    caches: list[Any] = [(None, weight.new_zeros(rows, inner, section.conv_kernel - 1))] * config.layers

    def step(x: Tensor) -> Tensor:
        nonlocal caches
        y, caches = stack.step(x.squeeze(1), caches)
        return F.rms_norm(y, weight.shape, weight, 1e-5).unsqueeze(1)

    return step, lambda: [tensor for cache in caches for tensor in cache]


def official_stack(subject: TimedBackbone) -> tuple[nn.Module, Callable[[Tensor], Tensor]]:
    """``mamba_ssm``'s ``Mamba`` in every block, reading whole sequences, to be trained: a GPU is needed."""
    config, section = subject.config, subject.config.backbone
    assert section is not None
    mixers = nn.ModuleList(
        official.Mamba(config.width, section.state_size, section.conv_kernel, section.expand)
        for _ in range(config.layers)
    ).to(subject.work.device)
    load(mixers, subject, "mixer.")
    given = [block.norm.weight for block in (*subject.backbone.layers,)]
    norms = nn.ParameterList([weight.detach().clone() for weight in (*given, subject.backbone.norm_f.weight)])
    modules = nn.ModuleList([mixers, norms]).train()

    def read(x: Tensor) -> Tensor:
        for mixer, norm in zip(mixers, norms, strict=False):
            x = x + mixer(F.rms_norm(x, norm.shape, norm, 1e-5))
        return F.rms_norm(x, norms[-1].shape, norms[-1], 1e-5)

    return modules, read


def mambapy_stack(subject: TimedBackbone) -> nn.Module:
    """Return ``mambapy.mamba.Mamba`` with the weights of ``subject``; it has no norm at the end."""
    config, section = subject.config, subject.config.backbone
    assert section is not None
    stack = mambapy.Mamba(
        mambapy.MambaConfig(
            d_model=config.width,
            n_layers=config.layers,
            d_state=section.state_size,
            d_conv=section.conv_kernel,
            expand_factor=section.expand,
        )
    )
    load(stack.layers, subject, "")
    return stack


def make_hf(subject: TimedBackbone) -> tuple[Step, States]:
    """``transformers``' ``MambaModel`` with its cache, one token a call: with more it forgets its state."""
    config, model = subject.config, hf_model(subject)
    cache = DynamicCache(config=model.config)

    def step(x: Tensor) -> Tensor:
        return model(inputs_embeds=x, cache_params=cache, use_cache=True).last_hidden_state

    def state() -> list[Tensor]:
        layers = range(config.layers)
        return [read(layer) for layer in layers for read in (cache.get_conv_state, cache.get_recurrent_state)]

    return step, state


def hf_model(subject: TimedBackbone) -> Any:
    """Return ``transformers``' ``MambaModel`` with the weights of ``subject``."""
    config, section = subject.config, subject.config.backbone
    assert section is not None
    hf_config = HFConfig(
        vocab_size=1,
        hidden_size=config.width,
        num_hidden_layers=config.layers,
        state_size=section.state_size,
        conv_kernel=section.conv_kernel,
        expand=section.expand,
        layer_norm_epsilon=1e-5,
    )
    model = hf.MambaModel(hf_config).eval()
    missing, unexpected = model.load_state_dict(subject.backbone.state_dict(), strict=False)
    assert (missing, unexpected) == (["embeddings.weight"], [])
    return model


def load(modules: nn.ModuleList, subject: TimedBackbone, prefix: str) -> None:
    """Give the blocks of ``modules`` the weights of our blocks, or of their parts named ``prefix``."""
    for module, block in zip(modules, subject.backbone.layers, strict=True):
        weights = {
            name.removeprefix(prefix): tensor
            for name, tensor in block.state_dict().items()
            if name.startswith(prefix)
        }
        module.load_state_dict(weights, strict=True)
        module.eval()
