"""Reference checkpoints: however they are wrapped they come out the same, and nothing in them runs."""

from __future__ import annotations

import collections
import copy
import os
import pickle
import re
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.torch_version import TorchVersion

from lram.agents.api import AgentError
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig, round_up
from lram.agents.backbones.xlstm.reference import _factor
from lram.agents.checkpoints.folder import load_checkpoint, model_digest
from lram.agents.checkpoints.importing import import_checkpoint
from lram.agents.checkpoints.reference import (
    ReferenceOptions,
    from_reference,
    read_config,
    their_name,
)
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import ActionModel
from lram.agents.model.presets import parse_preset, preset_names

NAMES = ["tiny_xlstm_m", "tiny_xlstm_ms", "tiny_dt", "tiny_mamba"]
GOLDEN = Path(__file__).parents[1] / "data" / "golden"
Weights = dict[str, Tensor]
Load = Callable[[str], Any]


def reference(name: str) -> Weights:
    """The golden weights, with what the reference saves beside them and no action depends on."""
    unused = {
        "embed_timestep.weight": torch.randn(1000, 64),
        "embed_action_disc.weight": torch.randn(275, 64),
        "predict_state.weight": torch.randn(204, 64),
        "encoder.wte.weight": torch.randn(1, 64),
    }
    return {**unused, **load_file(GOLDEN / f"{name}.safetensors")}


def options(name: str, **more: Any) -> ReferenceOptions:
    return ReferenceOptions(heads=4 if name == "tiny_dt" else None, decode="lower", **more)


def sb3(path: Path, policy: Any, **more: bytes) -> Path:
    """Write an archive as Stable-Baselines3 does; ``more`` are members that must not be read."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", more.pop("data", b"{}"))
        for name in ("optimizer.pth", "pytorch_variables.pth"):
            archive.writestr(name, more.get("other", b"not to be read"))
        with archive.open("policy.pth", "w", force_zip64=True) as file:
            torch.save(policy, file)
        archive.writestr("_stable_baselines3_version", "1.5.0")
    return path


def saved(path: Path, value: Any, **how: Any) -> Path:
    torch.save(value, path, **how)
    return path


def mixed(weights: Weights) -> Weights:
    """Prefixes as a model has that was compiled in parts and whole, and trained in parallel."""
    prefixes = ("module._orig_mod.", "_orig_mod.", "policy._orig_mod.module._orig_mod.", "")
    renamed = {}
    for number, (name, tensor) in enumerate(weights.items()):
        inner = name.replace("encoder.", "encoder._orig_mod.module.", 1)
        renamed[prefixes[number % len(prefixes)] + inner] = tensor
    return renamed


def lightning(weights: Weights) -> dict[str, Any]:
    optimizer = {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"lr": 0.1}]}
    return {
        "epoch": 3,
        "state_dict": {f"model.{k}": v for k, v in weights.items()},
        "optimizers": [optimizer],
    }


WRAPPINGS: dict[str, Callable[[Path, Weights], Path]] = {
    "plain": lambda p, w: saved(p / "a.pt", w),
    "archive": lambda p, w: sb3(p / "a.zip", collections.OrderedDict(w)),
    "compiled": lambda p, w: sb3(p / "a.zip", {f"_orig_mod.module.{k}": v for k, v in w.items()}),
    "mixed": lambda p, w: saved(p / "a.bin", mixed(w)),
    "old format": lambda p, w: saved(p / "a.pth", w, _use_new_zipfile_serialization=False),
    "nested": lambda p, w: saved(p / "a.pt", {"params": {"policy": w, "optimizer": {"state": {}}}}),
    "lightning": lambda p, w: saved(p / "a.ckpt", lightning(w)),
    "parameters": lambda p, w: saved(p / "a.pt", {k: torch.nn.Parameter(v) for k, v in w.items()}),
    "double precision": lambda p, w: saved(p / "a.pt", {k: v.double() for k, v in w.items()}),
    "within itself": lambda p, w: saved(p / "a.pt", _within_itself(w)),
    "views of one": lambda p, w: saved(p / "a.pt", _views(w)),
    "old masks": lambda p, w: saved(p / "a.pt", {"encoder.h.0.attn.bias": torch.ones(2).bool(), **w}),
}


def _within_itself(weights: Weights) -> dict[str, Any]:
    outer: dict[str, Any] = {"model": weights, "again": weights}
    outer["self"] = outer
    return outer


def _views(weights: Weights) -> Weights:
    """The same tensors, all in one storage."""
    whole, views, start = torch.cat([tensor.flatten() for tensor in weights.values()]), {}, 0
    for name, tensor in weights.items():
        views[name] = whole[start : start + tensor.numel()].view_as(tensor)
        start += tensor.numel()
    return views


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_wrapping_gives_the_same_checkpoint(golden: Load, name: str, tmp_path: Path) -> None:
    expected, weights = golden(name), reference(name)
    source = tmp_path / "a.safetensors"
    save_file(weights, source)
    sources = {"safetensors": source}
    for label, wrap in WRAPPINGS.items():
        (tmp_path / label).mkdir()
        sources[label] = wrap(tmp_path / label, weights)
    for label, source in sources.items():
        import_checkpoint(source, tmp_path / "out" / label, options(name))
        model, meta = load_checkpoint(tmp_path / "out" / label)
        assert meta.digest == model_digest(expected.model), label
        assert meta.config == replace(expected.config, name=meta.config.name), label
        assert meta.trained
        assert meta.card["source"] == source.name
        assert "embed_timestep.weight" in meta.card["dropped"]

    for part in ("io_vec", "io_img"):
        arrays = {key: expected.arrays[f"{part}.{key}"] for key in ("states", "returns_to_go", "rewards")}
        states, *scalars = arrays.values()
        logits = model(states, *(scalar[..., 0] for scalar in scalars)).logits
        recorded = expected.arrays[f"{part}.out_action_logits"]
        torch.testing.assert_close(logits[:, :, : recorded.shape[2]], recorded, rtol=0, atol=1e-4)


def test_an_slstm_of_the_cuda_backend_gives_the_same_checkpoint(golden: Load, tmp_path: Path) -> None:
    weights = reference("tiny_xlstm_ms")
    cell = "encoder.layers.blocks.1.xlstm.slstm_cell."
    kernel, bias = weights[f"{cell}_recurrent_kernel_"], weights[f"{cell}_bias_"]
    heads, _, width = kernel.shape
    weights[f"{cell}_recurrent_kernel_"] = (
        kernel.view(heads, 4, width, width).permute(0, 3, 1, 2).reshape(heads, width, 4 * width)
    )
    weights[f"{cell}_bias_"] = bias.view(4, heads, width).transpose(0, 1).reshape(-1)
    import_checkpoint(saved(tmp_path / "a.pt", weights), tmp_path / "out", options("tiny_xlstm_ms"))
    assert load_checkpoint(tmp_path / "out")[1].digest == model_digest(golden("tiny_xlstm_ms").model)


def test_tensors_that_share_memory_become_two(tmp_path: Path) -> None:
    weights = reference("tiny_mamba")
    weights["embed_rewards.weight"] = weights["embed_return.weight"]
    import_checkpoint(saved(tmp_path / "a.pt", weights), tmp_path / "out")
    loaded = load_checkpoint(tmp_path / "out")[0].encoders
    assert torch.equal(loaded.reward.weight, weights["embed_return.weight"])
    assert torch.equal(loaded.return_to_go.weight, weights["embed_return.weight"])


def test_the_card_names_the_source_and_what_was_assumed_and_dropped(tmp_path: Path) -> None:
    found = import_checkpoint(
        sb3(tmp_path / "last.zip", reference("tiny_dt")), tmp_path / "out", ReferenceOptions(heads=4)
    )
    card = load_checkpoint(tmp_path / "out")[1].card
    assert card["source"] == "last.zip"
    assert card["source_sha256"] == found.source_sha256
    assert len(found.source_sha256) == 64
    assert card["dropped"] == [
        "embed_action_disc.weight",
        "embed_timestep.weight",
        "encoder.wte.weight",
        "predict_state.weight",
    ]
    assert list(card["assumed"]) == ["actions_in_context", "decode", "heads", "window", "positions"]
    assert str(tmp_path) not in (tmp_path / "out" / "config.json").read_text()


def test_actions_in_context_keep_their_embedding_and_lengthen_the_window(tmp_path: Path) -> None:
    weights = reference("tiny_dt")
    weights["encoder.wpe.weight"] = torch.randn(600, 64)
    source = saved(tmp_path / "a.pt", weights)
    import_checkpoint(source, tmp_path / "out", options("tiny_dt", actions_in_context=True))
    model, meta = load_checkpoint(tmp_path / "out")
    assert meta.config.actions_in_context
    assert meta.config.backbone.window == 49 * 11 + 2
    assert torch.equal(model.state_dict()["encoders.action.weight"], weights["embed_action_disc.weight"])


def test_constant_positions_are_the_first_one_for_every_token(tmp_path: Path) -> None:
    weights = reference("tiny_dt")
    source = saved(tmp_path / "a.pt", weights)
    import_checkpoint(source, tmp_path / "out", options("tiny_dt", positions="constant", context=4))
    model, meta = load_checkpoint(tmp_path / "out")
    first = weights["encoder.wpe.weight"][:1]
    assert torch.equal(model.state_dict()["backbone.wpe.weight"], first.expand(150, 64))
    assert meta.config.backbone.window == 11


def _as_reference(config: ModelConfig) -> Weights:
    """Weights without numbers, of the reference's names and layouts."""
    with torch.device("meta"):
        weights = ActionModel(config).state_dict()
    conv1d = (".c_attn.weight", ".c_proj.weight", ".c_fc.weight")
    return {
        their_name(name): tensor.T if config.kind == "transformer" and name.endswith(conv1d) else tensor
        for name, tensor in weights.items()
    }


def _as_imported(name: str) -> bool:
    """Whether the reference has such a model: its Transformers have learned positions and recompute."""
    preset = parse_preset(name)
    return preset.spec.reference != "" and preset.past.cache in ("", "recompute")


@pytest.mark.parametrize("name", list(filter(_as_imported, preset_names())))
def test_every_preset_is_recognised(name: str) -> None:
    preset = parse_preset(name)
    config = read_config(from_reference(_as_reference(preset), preset.kind), ReferenceOptions())
    assert replace(config, name=name) == preset
    plain = re.compile(r"\[(1:0|recompute)\]")
    assert plain.sub("", config.name) == plain.sub("", name)


UNUSUAL = [
    ModelConfig(
        64, 3, state_width=39, backbone=XLSTMConfig(heads=2, slstm_at=(0, 2), conv_kernel=3, qkv_block=8)
    ),
    ModelConfig(1064, 2, backbone=XLSTMConfig()),
    ModelConfig(96, 2, backbone=XLSTMConfig(slstm_at=(1,), mlstm_factor=3.0, ffn_factor=2.5)),
    ModelConfig(64, 2, backbone=XLSTMConfig(slstm_at=(0, 1), conv_kernel=2)),
    ModelConfig(48, 1, backbone=MambaConfig(state_size=8, conv_kernel=3, expand=3, dt_rank=5)),
    ModelConfig(64, 2, backbone=TransformerConfig(heads=4, max_positions=149)),
]


@pytest.mark.parametrize("config", UNUSUAL, ids=lambda config: f"{config.kind}-{config.width}")
def test_unusual_sizes_are_read_from_the_weights(config: ModelConfig) -> None:
    untold = ReferenceOptions(heads=4 if config.kind == "transformer" else None)
    theirs = _as_reference(config)
    ours = from_reference(theirs, config.kind)
    found = read_config(ours, untold)
    with torch.device("meta"):
        expected = ActionModel(found).state_dict()
    assert {name: tensor.shape for name, tensor in ours.items()} == {
        name: tensor.shape for name, tensor in expected.items()
    }
    for name in ("heads", "slstm_at", "conv_kernel", "state_size", "dt_rank", "max_positions", "qkv_block"):
        section = config.backbone
        assert getattr(found.backbone, name, None) == getattr(section, name, None)


def test_a_factor_is_found_for_every_inner_width() -> None:
    for width in range(1, 2000, 7):
        for inner in range(64, 4096, 64):
            assert round_up(_factor(1.3, inner, width) * width) == inner


class Harm:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def _tar(path: Path, value: bytes) -> Path:
    (path.parent / "pickle").write_bytes(value)
    # Starts like a pickle, and is what torch before 2.6 unpickled even with weights_only=True.
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT, encoding="latin-1") as archive:
        archive.add(path.parent / "pickle", "\x80pickle")
        archive.add(path.parent / "pickle", "pickle")
    return path


HARMFUL: dict[str, Callable[[Path, Harm], Path]] = {
    "bare pickle": lambda p, h: _write(p / "a.pkl", pickle.dumps(h, protocol=2)),
    "newest pickle": lambda p, h: _write(p / "a.pkl", pickle.dumps(h)),
    "oldest pickle": lambda p, h: _write(p / "a.pkl", pickle.dumps(h, protocol=0)),
    "in a state dict": lambda p, h: saved(p / "a.pt", {**reference("tiny_mamba"), "x": h}),
    "old format": lambda p, h: saved(p / "a.pt", {"x": h}, _use_new_zipfile_serialization=False),
    "newest torch": lambda p, h: saved(p / "a.pt", {"x": h}, pickle_protocol=4),
    "archive": lambda p, h: sb3(p / "a.zip", {**reference("tiny_mamba"), "x": h}),
    "archive of a pickle": lambda p, h: _zipped(p / "a.zip", {"policy.pth": pickle.dumps(h)}),
    "tar": lambda p, h: _tar(p / "a.pt", pickle.dumps(h)),
}


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def _zipped(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


@pytest.mark.parametrize("wrap", HARMFUL.values(), ids=HARMFUL)
def test_no_code_of_a_pickle_runs(wrap: Callable[[Path, Harm], Path], tmp_path: Path) -> None:
    harm = Harm(tmp_path / "harm")
    pickle.loads(pickle.dumps(harm))
    assert harm.path.is_dir(), "the pickle is harmless, so that this test would prove nothing"
    harm.path.rmdir()
    with pytest.raises(AgentError) as caught:
        import_checkpoint(wrap(tmp_path, harm), tmp_path / "out")
    assert not harm.path.exists()
    assert not (tmp_path / "out").exists()
    assert "\n" not in str(caught.value)


def test_what_else_an_archive_holds_is_not_read(tmp_path: Path) -> None:
    harm = Harm(tmp_path / "harm")
    live = pickle.dumps(harm)
    import_checkpoint(
        sb3(tmp_path / "a.zip", reference("tiny_mamba"), data=live, other=live), tmp_path / "out"
    )
    assert not harm.path.exists()


def test_a_refused_type_is_named_with_what_to_do(tmp_path: Path) -> None:
    whole = saved(tmp_path / "a.pt", torch.nn.Linear(2, 2))
    with pytest.raises(AgentError, match=r"needs torch.nn.modules.linear.Linear, .* policy.state_dict\(\)"):
        import_checkpoint(whole, tmp_path / "out")


def _changed(name: str, **changes: Any) -> Callable[[Path], Path]:
    """Save golden weights with some added, changed or (None) removed; ``__`` stands for a dot."""

    def make(folder: Path) -> Path:
        weights: dict[str, Any] = dict(reference(name))
        for key, value in changes.items():
            weights[key.replace("__", ".")] = value
        return saved(folder / "a.pt", {key: value for key, value in weights.items() if value is not None})

    return make


def _archive(folder: Path) -> Path:
    return sb3(folder / "a.zip", reference("tiny_mamba"))


def _cut(make: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def cut(folder: Path) -> Path:
        path = make(folder)
        return _write(path, path.read_bytes()[:-1000])

    return cut


def _flipped(make: Callable[[Path], Path], place: float = 0.5) -> Callable[[Path], Path]:
    def flip(folder: Path) -> Path:
        content = bytearray(make(folder).read_bytes())
        content[int(place * len(content))] ^= 1
        return _write(folder / "a.zip", bytes(content))

    return flip


def _misnamed(folder: Path) -> Path:
    """A zip whose directory names a member in no encoding at all."""
    path = _zipped(folder / "a.zip", {"\xfcmlaut": b""})
    return _write(path, path.read_bytes().replace("\xfc".encode(), b"\xff\xff"))


def _bomb(folder: Path) -> Path:
    return _zipped(folder / "a.zip", {"policy.pth": bytes(2**22)}, zipfile.ZIP_DEFLATED)


def _repacked(folder: Path) -> Path:
    with zipfile.ZipFile(_changed("tiny_mamba")(folder)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    return _zipped(folder / "b.pt", members, zipfile.ZIP_DEFLATED)


def _overlapping(folder: Path) -> Path:
    with zipfile.ZipFile(_zipped(folder / "a.pt", {"a/data.pkl": bytes(2**16)}), "a") as archive:
        archive.writestr("a/version", b"3")
        for number in range(100):
            again = copy.copy(archive.getinfo("a/data.pkl"))
            again.filename = f"a/data/{number}"
            archive.filelist.append(again)
    return folder / "a.pt"


def _program(folder: Path) -> Path:
    return _zipped(folder / "a.pt", {f"a/{name}": b"" for name in ("data.pkl", "constants.pkl", "code/m.py")})


def _safetensors(folder: Path) -> Path:
    save_file(reference("tiny_mamba"), folder / "a.safetensors")
    return folder / "a.safetensors"


HUGE = torch.zeros(1).expand(10**6, 10**6)
PPO = {"mlp_extractor.policy_net.0.weight": torch.ones(4, 4), "action_net.weight": torch.ones(2, 4)}

REFUSALS: dict[str, tuple[Callable[[Path], Path], str]] = {
    "not there": (lambda p: p / "a.zip", "a.zip does not exist; give"),
    "a folder": (lambda p: p, "is a folder, not a file"),
    "empty": (lambda p: _write(p / "a.pt", b""), "is neither a zip, nor of torch.save, nor safetensors"),
    "text": (lambda p: _write(p / "a.pt", b"weights"), "is neither a zip"),
    "empty zip": (lambda p: _zipped(p / "a.zip", {}), r"a zip without policy.pth \(it has nothing\)"),
    "other zip": (lambda p: _zipped(p / "a.zip", {"data": b"", "x.pth": b""}), r"\(it has data, x.pth\)"),
    "zip cut": (_cut(_archive), "a.zip is damaged or incomplete"),
    "torch file cut": (_cut(_changed("tiny_mamba")), "a.pt is damaged or incomplete"),
    "old torch file cut": (_cut(lambda p: WRAPPINGS["old format"](p, reference("tiny_mamba"))), "is damaged"),
    "archive's bits flipped": (_flipped(_archive), "a.zip is damaged or incomplete .*CRC"),
    "torch file's bits flipped": (
        _flipped(_changed("tiny_mamba")),
        "a.zip is damaged or incomplete .the checksum of a/data/[0-9]+ is wrong",
    ),
    "no names": (_misnamed, "a.zip is damaged or incomplete"),
    "policy of rubbish": (lambda p: _zipped(p / "a.zip", {"policy.pth": b"x"}), r"\(policy.pth\) is neither"),
    "bomb": (_bomb, "policy.pth would grow from .* to 4194304 bytes"),
    "compressed members": (_repacked, "was packed by something else than torch.save"),
    "one compressed member": (
        lambda p: _zipped(p / "a.pt", {"a/data.pkl": b"x"}, zipfile.ZIP_DEFLATED),
        "was packed by something else than torch.save",
    ),
    "overlapping members": (_overlapping, "was packed by something else than torch.save"),
    "a program": (_program, "is a TorchScript program, which is not run"),
    "tar": (lambda p: _tar(p / "a.pt", b"x"), "is neither a zip, nor of torch.save"),
    "safetensors cut": (_cut(_safetensors), "a.safetensors is damaged or incomplete"),
    "named wrongly": (
        lambda p: saved(p / "a.safetensors", {}),
        "is named .safetensors and is none; if torch.save wrote it, name it .pt",
    ),
    "no tensors": (lambda p: saved(p / "a.pt", {"epoch": 3}), "holds no state dict; save"),
    "one tensor": (lambda p: saved(p / "a.pt", torch.ones(3)), "holds no state dict; save"),
    "two models": (
        lambda p: saved(p / "a.pt", {"model": reference("tiny_dt"), "ema": reference("tiny_dt")}),
        "holds 2 action models; save the one that you mean alone",
    ),
    "other family": (
        lambda p: sb3(p / "a.zip", PPO),
        r"\(policy.pth\) is of another agent family: .*mlp_extractor.policy_net.0.weight, action_net.weight",
    ),
    "no encoder": (
        lambda p: saved(p / "a.pt", {"embed_ln.weight": torch.ones(4)}),
        "must be an xLSTM, a Mamba or a Transformer; found: none",
    ),
    "two encoders": (
        _changed("tiny_mamba", encoder__h__0__ln_1__weight=torch.ones(64)),
        "found: mamba and transformer",
    ),
    "same tensor twice": (
        _changed("tiny_mamba", module__embed_ln__weight=torch.ones(64)),
        "'embed_ln.weight' is there twice",
    ),
    "unknown tensor": (
        _changed("tiny_mamba", embed_timestep_rel__weight=torch.ones(2), z__y=torch.ones(2)),
        "a mamba of the reference has no tensor embed_timestep_rel.weight, z.y$",
    ),
    "names of ours": (_changed("tiny_mamba", head__weight=torch.ones(2, 2)), "head.weight"),
    "missing": (_changed("tiny_mamba", embed_rewards__bias=None), "they lack embed_rewards.bias$"),
    "no action embedding": (_changed("tiny_mamba", embed_ln__weight=None), "embed_ln.weight is missing"),
    "blocks missing": (
        _changed("tiny_mamba", encoder__layers__7__norm__weight=torch.ones(64)),
        "there are 4 blocks, but they are numbered up to 7",
    ),
    "other head": (
        _changed("tiny_mamba", action_net__0__bias=torch.ones(274)),
        r"action_net.0.bias has the shape \(274,\), not \(2192,\)",
    ),
    "no axis to read": (
        _changed("tiny_mamba", encoder__layers__0__mixer__A_log=torch.ones(128)),
        r"encoder.layers.0.mixer.A_log has the shape \(128,\), which no reference model has",
    ),
    "empty tensor": (_changed("tiny_mamba", embed_ln__weight=torch.ones(0)), r"has the shape \(0,\)"),
    "not a number": (
        _changed("tiny_mamba", embed_ln__bias=torch.full((64,), torch.nan)),
        "embed_ln.bias holds values that are no finite numbers",
    ),
    "too large for float32": (
        _changed("tiny_mamba", embed_ln__bias=torch.full((64,), 1e300, dtype=torch.float64)),
        "embed_ln.bias holds values that are no finite numbers",
    ),
    "integers": (_changed("tiny_mamba", embed_ln__bias=torch.ones(64).int()), r"embed_ln.bias \(int32\)"),
    "sparse": (_changed("tiny_mamba", embed_ln__bias=torch.ones(64).to_sparse()), "is not a plain tensor"),
    "without numbers": (_changed("tiny_mamba", embed_ln__bias=torch.ones(64, device="meta")), "not a plain"),
    "repeated without end": (
        _changed("tiny_mamba", embed_state__weight=HUGE),
        "claims more numbers than a file of [0-9]+ bytes holds",
    ),
    "heads not told": (_changed("tiny_dt"), "no preset has 3 blocks of width 64; give them with --heads"),
    "control characters": (
        lambda p: saved(p / "a.pt", {"\x1b[2Jx": torch.ones(1)}),
        r"this has \\x1b\[2Jx$",
    ),
}


@pytest.mark.parametrize(("make", "message"), REFUSALS.values(), ids=REFUSALS)
def test_what_cannot_be_converted_is_refused_in_one_sentence(
    make: Callable[[Path], Path], message: str, tmp_path: Path
) -> None:
    source = make(tmp_path)
    with pytest.raises(AgentError, match=message) as caught:
        import_checkpoint(source, tmp_path / "folder" / "out")
    assert str(caught.value).startswith(str(source))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(
    ("name", "wrong", "message"),
    [
        ("tiny_mamba", {"heads": 4}, "heads is an option for Transformers"),
        ("tiny_xlstm_m", {"context": 50}, "context is an option for Transformers"),
        ("tiny_xlstm_m", {"positions": "learned"}, "positions is an option for Transformers"),
        ("tiny_dt", {"heads": 3}, "no multiple of the Transformer's 3 heads"),
        ("tiny_dt", {"heads": 0}, "heads must be above 0"),
        ("tiny_dt", {"heads": 4, "context": 51}, "is 152 tokens, but the weights have 150 positions"),
        ("tiny_dt", {"heads": 4, "context": 1}, "must be 2 timesteps or more"),
        ("tiny_dt", {"heads": 4, "actions_in_context": True}, "is 541 tokens"),
    ],
)
def test_an_option_that_cannot_be_is_refused(
    name: str, wrong: dict[str, Any], message: str, tmp_path: Path
) -> None:
    source = saved(tmp_path / "a.pt", reference(name))
    with pytest.raises(AgentError, match=message):
        import_checkpoint(source, tmp_path / "out", ReferenceOptions(**wrong))
    assert not (tmp_path / "out").exists()


def test_an_existing_folder_is_kept(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(AgentError, match="out exists and is kept"):
        import_checkpoint(_archive(tmp_path), tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_torch_with_known_holes_reads_safetensors_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.9.1+cpu"))
    with pytest.raises(AgentError, match=r"torch 2.9.1\+cpu has known holes .* update torch to 2.10"):
        import_checkpoint(_archive(tmp_path), tmp_path / "out")
    import_checkpoint(_safetensors(tmp_path), tmp_path / "out")
