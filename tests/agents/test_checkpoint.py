"""Checkpoints: what is saved comes back, and what cannot be read is refused in a sentence."""

from __future__ import annotations

import json
import os
import pickle
import random
import resource
import signal
import subprocess
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from lram.agents.api import AgentError
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.transformer import TransformerConfig
from lram.agents.backbones.xlstm import XLSTMConfig
from lram.agents.checkpoints.digests import Weights, digest_of_file, digest_of_weights
from lram.agents.checkpoints.folder import load_checkpoint, model_digest, save_checkpoint
from lram.agents.model.config import ModelConfig, config_from_dict, config_to_dict
from lram.agents.model.network import build_model

CONFIG = ModelConfig(32, 2, backbone=XLSTMConfig(slstm_at=(1,)), name="tiny")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "checkpoint"
    save_checkpoint(folder, build_model(CONFIG, 0), CONFIG, trained=True, card={"steps": 3})
    return folder


def test_a_checkpoint_comes_back_with_weights_config_and_card(folder: Path) -> None:
    model, meta = load_checkpoint(folder)
    original = build_model(CONFIG, 0)
    assert meta.config == model.config == CONFIG
    assert (meta.trained, meta.card) == (True, {"steps": 3})
    assert meta.digest == model_digest(original)
    for name, tensor in original.state_dict().items():
        assert torch.equal(model.state_dict()[name], tensor), name
    assert sorted(path.name for path in folder.parent.iterdir()) == ["checkpoint"]


def test_the_digest_tells_weights_and_configuration_apart_but_not_names() -> None:
    model = build_model(CONFIG, 0)
    same = build_model(replace(CONFIG, name="other"), 0)
    edge = build_model(replace(CONFIG, decode="lower"), 0)
    assert model_digest(model) == model_digest(same)
    assert len({model_digest(m) for m in (model, edge, build_model(CONFIG, 1))}) == 3


@pytest.mark.parametrize("dtype", [None, torch.float16, torch.float64])
def test_the_digest_of_the_file_is_that_of_the_loaded_model(
    tmp_path: Path, dtype: torch.dtype | None
) -> None:
    folder, asked = tmp_path / "mine", {"toy/reach": 2.5}
    save_checkpoint(
        folder, build_model(CONFIG, 0), CONFIG, trained=True, card={}, dtype=dtype, target_returns=asked
    )
    model, meta = load_checkpoint(folder)
    weights = folder / "model.safetensors"
    assert digest_of_file(weights, meta.config, asked) == meta.digest == model_digest(model, asked)
    assert digest_of_file(weights, meta.config) == model_digest(model) != meta.digest


def test_the_digest_is_a_format() -> None:
    """Runs and cards of earlier versions carry it: this value never changes."""
    found = digest_of_weights(
        CONFIG,
        ["b", "a"],
        lambda name: Weights("torch.float32", (1, 2), name.encode() * 8),
        {"toy/reach": 2.5},
    )
    assert found == "0c28932aee18845e880bdf3533ab0d2da1bb2413fa4445dbe09a91c7208b782b"


def test_an_existing_folder_is_kept_unless_it_is_a_checkpoint_to_overwrite(folder: Path) -> None:
    other = build_model(CONFIG, 1)
    with pytest.raises(AgentError, match="exists and is kept"):
        save_checkpoint(folder, other, CONFIG, trained=False, card={})
    save_checkpoint(folder, other, CONFIG, trained=False, card={}, overwrite=True)
    assert load_checkpoint(folder)[1].digest == model_digest(other)
    diary = folder.parent / "diary"
    diary.mkdir()
    with pytest.raises(AgentError, match="exists and is kept"):
        save_checkpoint(diary, other, CONFIG, trained=False, card={}, overwrite=True)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["checkpoint", "diary"]


def test_a_save_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("lram.agents.checkpoints.folder.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(tmp_path / "x", build_model(CONFIG, 0), CONFIG, trained=True, card={})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_full_is_an_error_of_the_system(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            save_checkpoint(tmp_path / "x", build_model(CONFIG, 0), CONFIG, trained=True, card={})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert list(tmp_path.iterdir()) == []


def _edit(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        plain = json.loads((folder / "config.json").read_text())
        change(plain)
        (folder / "config.json").write_text(json.dumps(plain))

    return damage


def _reweigh(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        weights = load_file(folder / "model.safetensors")
        change(weights)
        save_file(weights, folder / "model.safetensors")

    return damage


def _truncate(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def _only_a_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"x")


def _pickle_in_disguise(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(pickle.dumps({"a": 1}))


def _zip_in_disguise(folder: Path) -> None:
    with zipfile.ZipFile(folder / "model.safetensors", "w") as file:
        file.writestr("data.pkl", "x")


def _pipe(name: str) -> Callable[[Path], None]:
    def damage(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return damage


def _header(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change the header of the weights, and leave the numbers as they are."""

    def damage(folder: Path) -> None:
        content = (folder / "model.safetensors").read_bytes()
        size = int.from_bytes(content[:8], "little")
        header = json.loads(content[8 : 8 + size])
        change(header)
        text = json.dumps(header).encode()
        (folder / "model.safetensors").write_bytes(
            len(text).to_bytes(8, "little") + text + content[8 + size :]
        )

    return damage


def _begin(start: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / "model.safetensors").write_bytes(start)


def _set(name: str, **fields: Any) -> Callable[[dict[str, Any]], None]:
    return lambda header: header[name].update(fields)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "config not JSON": (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
    "config not text": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe"), "config.json is not JSON"),
    "config of others": (lambda f: (f / "config.json").write_text("[]"), "is not of the format"),
    "config nested too deep": (
        lambda f: (f / "config.json").write_text("[" * 100_000 + "]" * 100_000),
        "config.json is not JSON",
    ),
    "config a folder": (
        lambda f: ((f / "config.json").unlink(), (f / "config.json").mkdir()),
        "config.json cannot be read",
    ),
    "config a pipe": (_pipe("config.json"), "config.json cannot be read"),
    "weights a pipe": (_pipe("model.safetensors"), "model.safetensors cannot be read"),
    "later version": (_edit(lambda p: p.update(version=2)), "has version 2, not 1"),
    "unknown field": (_edit(lambda p: p.update(extra=1)), "unknown field 'extra'"),
    "trained not told": (_edit(lambda p: p.pop("trained")), "trained must be true or false"),
    "no model": (_edit(lambda p: p.pop("model")), "is not a JSON object"),
    "unknown model field": (_edit(lambda p: p["model"].update(depth=1)), "has no field depth"),
    "unknown section field": (_edit(lambda p: p["model"]["xlstm"].update(x=1)), "has no field xlstm.x"),
    "wrong type": (_edit(lambda p: p["model"].update(width="32")), "Expected `int`, got `str`"),
    "two backbones": (_edit(lambda p: p["model"].update(mamba={})), "exactly one of"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    "truncated": (_truncate, "model.safetensors is damaged or incomplete"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), "is damaged or incomplete"),
    "only a pickle": (
        _only_a_pickle,
        "pytorch_model.bin is a pickle; loading it could run code, .* 'lram import-checkpoint .*model.bin",
    ),
    "pickle in disguise": (_pickle_in_disguise, "model.safetensors is a pickle; loading it could run code"),
    "zip in disguise": (_zip_in_disguise, "model.safetensors is a pickle; loading it could run code"),
    "tensor missing": (_reweigh(lambda w: w.pop("head.bias")), "lacks head.bias"),
    "tensor too many": (_reweigh(lambda w: w.update(x=torch.ones(1))), "unexpected tensor x"),
    "other shape": (
        _reweigh(lambda w: w.update({"head.bias": torch.ones(3)})),
        r"head.bias has the shape \(3,\)",
    ),
    "not finite": (
        _reweigh(lambda w: w["head.bias"].fill_(torch.nan)),
        "head.bias holds values that are no finite numbers",
    ),
    "another model": (_edit(lambda p: p["model"].update(layers=3)), "lacks backbone.blocks.2"),
    "too many blocks": (_edit(lambda p: p["model"].update(layers=4000)), "too few for the 4000 blocks"),
    "blocks without end": (
        _edit(lambda p: p["model"].update(layers=10**9)),
        "layers must be above 0 and at most 4096, not 1000000000",
    ),
    "width without end": (
        _edit(lambda p: p["model"].update(width=10**12)),
        "width must be above 0 and at most",
    ),
    "header without end": (
        _begin(b"\xff" * 7 + b"\x7f{}"),
        "is damaged or incomplete .its header would have",
    ),
    "header cut": (_begin((50).to_bytes(8, "little") + b"{"), "is damaged or incomplete .its header would"),
    "header no object": (_begin((2).to_bytes(8, "little") + b"[]"), "its header is no object"),
    "header nested too deep": (
        _begin((200_000).to_bytes(8, "little") + b"[" * 200_000),
        "is damaged or incomplete .its header is not JSON",
    ),
    "unknown type": (_header(_set("head.bias", dtype="Q4")), "head.bias is of the type Q4"),
    "type no text": (_header(_set("head.bias", dtype=[1])), "head.bias is of the type .1."),
    "integers": (_reweigh(lambda w: w.update({"head.bias": w["head.bias"].long()})), "of the type I64"),
    "shape and bytes differ": (_header(_set("head.bias", shape=[1])), "head.bias has 8768 bytes"),
    "shape below 0": (_header(_set("head.bias", shape=[-2192])), "head.bias has no shape"),
    "shape without end": (_header(_set("head.bias", shape=[10**30, 0])), "head.bias has no shape"),
    "tensors overlap": (
        _header(_set("head.bias", data_offsets=[4, 8772])),
        "does not begin where the tensor before it ends",
    ),
    "offsets without end": (_header(_set("head.bias", data_offsets=[0, 10**30])), "has no place in the file"),
    "tensor no object": (_header(lambda h: h.update(x=1)), "x has no place in the file"),
    "escapes in a name": (_reweigh(lambda w: w.update({"a\x1b[2J": torch.ones(1)})), r"tensor a\\x1b\[2J"),
    "huge by mistake": (_edit(lambda p: p["model"].update(width=320_000)), "has the shape"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_refused_in_one_sentence(
    folder: Path, damage: Callable[[Path], None], message: str
) -> None:
    damage(folder)
    (folder / "SHA256SUMS").unlink()  # as after a change on purpose: each has its own sentence
    with pytest.raises(AgentError, match=message) as caught:
        load_checkpoint(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- checksums --------------------------------------------------------------------------------------------


def test_sha256sum_itself_agrees(folder: Path) -> None:
    done = subprocess.run(
        ["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=folder, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "config.json: OK\nmodel.safetensors: OK\n")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "SHA256SUMS"])
def test_no_flipped_bit_and_no_cut_is_taken_for_what_was_saved(folder: Path, name: str) -> None:
    digest = load_checkpoint(folder)[1].digest
    whole, draw, harmless = (folder / name).read_bytes(), random.Random(0), 0
    # The first bytes are sizes and names, which a reader trusts most.
    places = {*range(20), *(draw.randrange(len(whole)) for _ in range(150)), len(whole) - 1}
    damaged = [whole[:place] for place in sorted(places)[::10]] + [whole + b"\n", whole + whole]
    for place in sorted(places):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << draw.randrange(8)
        damaged.append(bytes(flipped))
    for content in damaged:
        (folder / name).write_bytes(content)
        try:
            found = load_checkpoint(folder)[1].digest
        except AgentError:
            continue
        assert found == digest
        harmless += 1
    assert harmless == 0 or name == "SHA256SUMS"  # ' ' and '*' before a name mean the same
    assert harmless < 3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "its end is missing"),
        (lambda text: text.splitlines()[0] + "\n", "the checksum of model.safetensors is missing"),
        (lambda text: text + text, "line 3 is not the checksum of one of config.json, model.safetensors"),
        (lambda text: text + "0" * 64 + "  ../../secret\n", "line 3 is not the checksum"),
        (lambda text: text * 1000, "cannot be read"),
    ],
)
def test_malformed_checksums_are_refused(folder: Path, change: Callable[[str], str], message: str) -> None:
    sums = folder / "SHA256SUMS"
    sums.write_text(change(sums.read_text()))
    with pytest.raises(AgentError, match=message):
        load_checkpoint(folder)


def test_a_changed_number_says_what_to_do_and_removing_the_sums_accepts_it(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _reweigh(lambda weights: weights["head.bias"].fill_(0.5))(folder)
    with pytest.raises(
        AgentError, match=r"model.safetensors is not what SHA256SUMS says.*on purpose, remove"
    ):
        load_checkpoint(folder)
    assert capsys.readouterr().err == ""
    (folder / "SHA256SUMS").unlink()
    for _ in range(2):
        model, meta = load_checkpoint(folder)
        assert (model.head.bias[0].item(), meta.verified) == (0.5, False)
    assert capsys.readouterr().err.count("has no SHA256SUMS") == 1


def test_what_others_put_into_a_checkpoint_stays_when_it_is_replaced(folder: Path) -> None:
    (folder / "notes.txt").write_text("mine")
    save_checkpoint(folder, build_model(CONFIG, 1), CONFIG, trained=False, card={}, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in folder.parent.iterdir()) == ["checkpoint"]
    assert load_checkpoint(folder)[1].digest == model_digest(build_model(CONFIG, 1))


def test_a_path_that_is_no_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(AgentError, match="does not exist; give the folder"):
        load_checkpoint(tmp_path / "nowhere")
    (tmp_path / "model.pt").write_bytes(b"x")
    with pytest.raises(AgentError, match=r"model.pt is a pickle; .* 'lram import-checkpoint .*model.pt"):
        load_checkpoint(tmp_path / "model.pt")
    (tmp_path / "model.safetensors").write_bytes(b"x")
    with pytest.raises(AgentError, match=r"is a file, not a folder; .* 'lram import-checkpoint'"):
        load_checkpoint(tmp_path / "model.safetensors")


@pytest.mark.parametrize(
    "config",
    [
        CONFIG,
        ModelConfig(32, 1, backbone=MambaConfig(dt_rank=3), actions_in_context=True, decode="lower"),
        ModelConfig(32, 1, backbone=TransformerConfig(positions="rotary", window=9, cache="ring")),
    ],
)
def test_a_configuration_survives_json(config: ModelConfig) -> None:
    plain = json.loads(json.dumps(config_to_dict(config)))
    assert config_from_dict(plain) == config
    assert [kind for kind in ("xlstm", "mamba", "transformer") if kind in plain] == [config.kind]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda: ModelConfig(32, 0, backbone=MambaConfig()), "layers must be above 0"),
        (lambda: config_from_dict({"width": 32, "layers": 2}), "exactly one of"),
        (lambda: ModelConfig(32, 2, backbone=object()), "no options of a backbone"),
        (lambda: ModelConfig(32, 2, backbone=XLSTMConfig(slstm_at=(2,))), "outside the 2 blocks"),
        (lambda: ModelConfig(32, 2, backbone=XLSTMConfig(slstm_at=(1, 1))), "names a block twice"),
        (lambda: ModelConfig(33, 2, backbone=TransformerConfig()), "no multiple of"),
        (
            lambda: ModelConfig(32, 2, backbone=TransformerConfig(cache="ring")),
            "would not agree with forward",
        ),
        (lambda: ModelConfig(32, 2, backbone=TransformerConfig(window=2000)), "longer than max_positions"),
        (lambda: ModelConfig(32, 2, backbone=TransformerConfig(window=2)), "shorter than the 3 tokens"),
    ],
)
def test_a_configuration_that_cannot_work_is_refused(change: Callable[[], ModelConfig], message: str) -> None:
    with pytest.raises(AgentError, match=message):
        change()


def test_a_checkpoint_that_cannot_be_replaced_is_still_there(tmp_path, monkeypatch):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "config.json").write_text("old")
    model = build_model(CONFIG, 0)
    plain = Path.rename

    def refuse(self, target):
        if Path(target) == folder and "-replaced" not in self.name:
            raise OSError(5, "Input/output error")
        return plain(self, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match="Input/output"):
        save_checkpoint(folder, model, model.config, trained=False, card={}, overwrite=True)
    assert (folder / "config.json").read_text() == "old"
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.int8, torch.complex64])
def test_weights_are_not_written_as_a_type_that_is_not_read_again(tmp_path: Path, dtype: torch.dtype) -> None:
    with pytest.raises(AgentError, match=r"a checkpoint cannot hold .*; choose one of"):
        save_checkpoint(tmp_path / "out", build_model(CONFIG, 0), CONFIG, trained=True, card={}, dtype=dtype)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("seed", [-1, 2**63, 2**64, 10**5000], ids=["-1", "2^63", "2^64", "10^5000"])
def test_a_seed_that_records_cannot_carry_is_refused(seed: int) -> None:
    with pytest.raises(AgentError, match=r"the seed is .*; it must be 0 or more and below"):
        build_model(CONFIG, seed)
