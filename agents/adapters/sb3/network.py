"""The acting network of an archive, made of its weights' names and shapes.

Networks are those of ``stable_baselines3.common.torch_layers``: observations are flattened, or read by the
convolutions of Mnih et al. (2015), and then go through linear layers with an activation between them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lram.agents.api import AgentError
from lram.agents.shown import shown

_ACTIVATIONS = {
    one.__name__.lower(): one
    for one in (
        nn.CELU,
        nn.ELU,
        nn.GELU,
        nn.Hardtanh,
        nn.LeakyReLU,
        nn.Mish,
        nn.ReLU,
        nn.ReLU6,
        nn.SELU,
        nn.Sigmoid,
        nn.SiLU,
        nn.Softplus,
        nn.Softsign,
        nn.Tanh,
    )
}
_STRIDES = (4, 2, 1)
_FEATURES = {
    "PPO": ("pi_features_extractor.", "features_extractor."),
    "SAC": ("actor.features_extractor.",),
    "TD3": ("actor.features_extractor.",),
    "DQN": ("q_net.features_extractor.",),
}
_CRITICS = ("mlp_extractor.value_net.", "value_net.", "vf_features_extractor.", "features_extractor.")


@dataclass(frozen=True, slots=True)
class ActingNetwork:
    """A policy's network.

    Attributes:
        module: Maps float32 (n, *shape) to (n, outputs): logits, values, or means before a squashing.
        outputs: Size of an answer.
        log_std: PPO's logarithm of the standard deviation, (outputs,); None elsewhere. SAC's is computed:
            a state's stands behind its mean where ``with_std`` asked for it.
        state_noise: Whether its exploration depends on the state by a matrix (gSDE).
        hidden: Sizes of the hidden layers.
        images: Whether convolutions read images.
        parameters: Weights that acting uses.
    """

    module: nn.Module
    outputs: int
    log_std: Tensor | None
    state_noise: bool
    hidden: tuple[int, ...]
    images: bool
    parameters: int


def activation_class(name: str) -> type[nn.Module]:
    """Return the activation that ``name`` means: ``relu``, or the text of a class of torch."""
    torch_class = re.fullmatch(r"<class 'torch\.nn\.modules\.activation\.(\w+)'>", name)
    found = _ACTIVATIONS.get((torch_class[1] if torch_class else name).lower())
    if found is None:
        raise AgentError(
            f"the activation {shown(name)} is not known; name one of {', '.join(sorted(_ACTIVATIONS))}, as "
            "in sb3:FILE.zip(activation='relu')"
        )
    return found


def build_network(
    family: str,
    weights: Mapping[str, Tensor],
    shape: tuple[int, ...],
    activation: type[nn.Module],
    *,
    clip_mean: float = 0.0,
    with_std: bool = False,
) -> ActingNetwork:
    """Return the acting network of ``family`` (PPO, SAC, TD3 or DQN).

    Args:
        family: Which names the weights have.
        weights: By name.
        shape: Of an observation.
        activation: Between linear layers.
        clip_mean: SAC with gSDE: greatest size of a mean; 0: none.
        with_std: SAC: answer (n, 2 outputs), means and then logarithms of standard deviations.

    Raises:
        AgentError: Weights are missing, of other layers than these, or do not fit each other.
    """
    taken = _Taken(weights)
    features, size, images = _features(taken, _FEATURES[family], shape)
    sde = False
    log_std: Tensor | None = None
    if family == "PPO":
        hidden = taken.linears("mlp_extractor.shared_net.") + taken.linears("mlp_extractor.policy_net.")
        heads = [[taken.linear("action_net")]]
        if "log_std" in weights:
            sde = weights["log_std"].dim() == 2
            log_std = None if sde else weights["log_std"].float()
            taken.names.add("log_std")
    elif family == "SAC":
        hidden, sde = taken.linears("actor.latent_pi."), "actor.log_std.weight" not in weights
        heads = [[taken.linear("actor.mu.0" if "actor.mu.0.weight" in weights else "actor.mu")]]
        if sde:
            taken.names.add("actor.log_std")
        else:
            std = taken.linear("actor.log_std")
            heads += [[std]] if with_std else []
    else:
        layers = taken.linears("actor.mu." if family == "TD3" else "q_net.q_net.")
        if not layers:
            raise AgentError(f"the archive has no weights of a {family} policy; save the model again")
        hidden, heads = layers[:-1], [[layers[-1]]]
    taken.check_rest(family)
    _check_chain([*hidden, heads[0][0]], size)
    outputs = heads[0][0].out_features
    ends: list[nn.Module] = [one for head in heads for one in head]
    if sde and clip_mean > 0:
        ends[0] = nn.Sequential(ends[0], nn.Hardtanh(-clip_mean, clip_mean))
    body = [*features]
    for layer in hidden:
        body += [layer, activation()]
    module = nn.Sequential(*body, ends[0] if len(ends) == 1 else _Beside(ends)).eval().requires_grad_(False)
    return ActingNetwork(
        module,
        outputs,
        log_std,
        sde,
        tuple(layer.out_features for layer in hidden),
        images,
        sum(one.numel() for one in module.parameters()),
    )


class _Beside(nn.Module):
    """Several layers on the same input, their answers one behind the other."""

    def __init__(self, layers: Sequence[nn.Module]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([layer(x) for layer in self.layers], dim=-1)


class _Taken:
    """Weights, and which of them were used."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights, self.names = weights, set[str]()

    def _pair(self, name: str, dimensions: int) -> tuple[Tensor, Tensor]:
        found = []
        for part, rank in (("weight", dimensions), ("bias", 1)):
            tensor = self.weights.get(f"{name}.{part}")
            if tensor is None or tensor.dim() != rank:
                what = "no" if tensor is None else f"a {tensor.dim()}-dimensional"
                raise AgentError(f"the archive has {what} {shown(name)}.{part}; only plain layers are read")
            if not bool(torch.isfinite(tensor).all()):
                raise AgentError(f"{shown(name)}.{part} holds values that are no finite numbers")
            self.names.add(f"{name}.{part}")
            found.append(tensor.float().clone(memory_format=torch.contiguous_format))
        if len(found[0]) != len(found[1]):
            raise AgentError(
                f"{shown(name)} has {len(found[0])} rows and {len(found[1])} biases; save it again"
            )
        return found[0], found[1]

    def linear(self, name: str) -> nn.Linear:
        """Return the linear layer of this name."""
        weight, bias = self._pair(name, 2)
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        return layer

    def linears(self, prefix: str) -> list[nn.Linear]:
        """Return the linear layers at places 0, 2, 4 ... behind ``prefix``; activations stand between."""
        ends = [name.removeprefix(prefix) for name in self.weights if name.startswith(prefix)]
        count = len({end.partition(".")[0] for end in ends})
        return [self.linear(f"{prefix}{2 * place}") for place in range(count)]

    def convolution(self, name: str, stride: int) -> nn.Conv2d:
        """Return the convolution of this name."""
        weight, bias = self._pair(name, 4)
        outputs, inputs, high, wide = weight.shape
        layer = nn.Conv2d(inputs, outputs, (high, wide), stride, device="meta")
        layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
        return layer

    def check_rest(self, family: str) -> None:
        """Refuse weights of the acting network that nothing used: it has layers that are not known here."""
        acting = {"SAC": "actor.", "TD3": "actor.", "DQN": "q_net."}.get(family, "")
        critics = _CRITICS if family == "PPO" else ()
        names = [name for name in self.weights if name.startswith(acting) and not name.startswith(critics)]
        if rest := sorted(set(names) - self.names):
            raise AgentError(
                f"the archive has {shown(rest[0])}, which is in no plain MlpPolicy or CnnPolicy; write an "
                "agent around this policy (docs/how-to/extending.md)"
            )


def _features(
    taken: _Taken, prefixes: Sequence[str], shape: tuple[int, ...]
) -> tuple[list[nn.Module], int, bool]:
    """Return what turns observations of ``shape`` into numbers, how many, and whether by convolutions."""
    for prefix in prefixes:
        if not any(name.startswith(prefix) for name in taken.weights):
            continue
        if f"{prefix}cnn.0.weight" not in taken.weights or len(shape) != 3:
            name = next(name for name in taken.weights if name.startswith(prefix))
            raise AgentError(
                f"the archive has {shown(name)}, of a features extractor that is not known here; those of "
                "MlpPolicy and CnnPolicy (NatureCNN) are read"
            )
        layers: list[nn.Module] = []
        channels, high, wide = shape
        for place, stride in enumerate(_STRIDES):
            layer = taken.convolution(f"{prefix}cnn.{2 * place}", stride)
            if layer.in_channels != channels:
                raise AgentError(f"a convolution reads {layer.in_channels} channels and is given {channels}")
            tall, broad = layer.weight.shape[2:]
            channels, high, wide = (
                len(layer.weight),
                (high - tall) // stride + 1,
                (wide - broad) // stride + 1,
            )
            layers += [layer, nn.ReLU()]
        linear = taken.linear(f"{prefix}linear.0")
        if min(high, wide) < 1 or linear.in_features != channels * high * wide:
            raise AgentError(f"the convolutions do not fit images of shape {shape}; save the model again")
        return [*layers, nn.Flatten(), linear, nn.ReLU()], linear.out_features, True
    return [nn.Flatten()], math.prod(shape), False


def _check_chain(layers: Sequence[nn.Linear], size: int) -> None:
    for layer in layers:
        if layer.in_features != size:
            raise AgentError(
                f"a layer of the policy reads {layer.in_features} numbers and is given {size}; save the "
                "model again"
            )
        size = layer.out_features
