"""Policies' files on their way to a node: all that belongs to them, as it was; no Ray needed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from support.lerobot import save

from lram.agents.adapters import ADAPTERS, files_of
from lram.agents.api import AgentError
from lram.agents.factory import create_agent
from lram.agents.spec import parse_agent
from lram.harness import LramError


class Store:
    """A cluster's object store."""

    def put(self, content: bytes) -> bytes:
        return content


@pytest.fixture
def transfer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    import tempfile

    from lram.harness.executors.ray import transfer

    (tmp_path / "node").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "node"))
    monkeypatch.setattr(transfer, "follow", lambda reference: reference)
    return transfer


def test_the_files_of_adapters_come_along_with_all_that_belongs_to_them(
    tmp_path: Path, transfer: Any
) -> None:
    mine = tmp_path / "mine"
    save(mine / "policy")
    (mine / "policy" / "train_config.json").write_text("not read by the policy")
    (mine / "statistics").mkdir()
    contents = {
        "ppo.zip": "",
        "statistics/n.npz": "",
        "net.pt": "",
        "net.pt.toml": "",
        "net (1).onnx": "",
        "net (1).onnx.toml": "",
        "net (1).onnx.data": "",
    }
    for name in ("config.json", "model.safetensors", "pytorch_model.bin", "s.json"):
        contents[f"dt/{name}"] = ""
    (mine / "dt").mkdir()
    for name in contents:
        (mine / name).write_text(f"content of {name}")
    sent = transfer.ArtifactTransfer(Store())
    for spec, names in {
        f"sb3:{mine}/ppo.zip(normalization='statistics/n.npz')~0.3": ["ppo.zip", "statistics/n.npz"],
        f"sb3:{mine}//ppo.zip": ["ppo.zip"],
        f"torchscript:{mine}/net.pt": ["net.pt", "net.pt.toml"],
        f"onnx:{mine}/net (1).onnx~0.2x5": ["net (1).onnx", "net (1).onnx.data", "net (1).onnx.toml"],
        f"hf-dt:{mine}/dt(normalization='s.json')": ["config.json", "model.safetensors", "s.json"],
        f"lerobot:{mine}/policy/ (low=0)": [
            "config.json",
            "model.safetensors",
            "policy_postprocessor.json",
            "policy_preprocessor.json",
            "policy_preprocessor_step_1.safetensors",
        ],
    }.items():
        shipped = sent.agent(spec)
        there = shipped.there(sent.of(shipped))
        scheme = spec.partition(":")[0]
        assert there.startswith(f"{scheme}:{tmp_path / 'node'}")
        assert [there.endswith(end) for end in ("~0.3", "~0.2x5", " (low=0)")] == [
            spec.endswith(end) for end in ("~0.3", "~0.2x5", " (low=0)")
        ]
        folder = files_of(parse_agent(there).base)
        assert folder is not None
        assert sorted(folder.names) == names
        for name in names:
            before = (mine / {"lerobot": "policy", "hf-dt": "dt"}.get(scheme, "") / name).read_bytes()
            assert (folder.folder / name).read_bytes() == before
        found = {
            one.relative_to(folder.folder).as_posix() for one in folder.folder.rglob("*") if one.is_file()
        }
        assert found == set(names)
        # A name of a folder goes into what reports say.
        assert scheme != "lerobot" or folder.folder.name == "policy"


def test_statistics_that_nobody_told_of_are_noticed_on_a_node_too(tmp_path: Path, transfer: Any) -> None:
    shutil.copy(Path(__file__).parents[1] / "data" / "sb3" / "ppo.zip", tmp_path)
    (tmp_path / "vecnormalize.pkl").write_text("a pickle, which nobody reads")
    sent = transfer.ArtifactTransfer(Store())
    for arguments, told in (("", False), ("(normalization=False)", True)):
        shipped = sent.agent(f"sb3:{tmp_path}/ppo.zip{arguments}")
        there = shipped.there(sent.of(shipped))
        if told:
            create_agent(there)
        else:
            with pytest.raises(AgentError, match=r"vecnormalize.pkl lies beside it"):
                create_agent(there)


def test_files_that_changed_on_the_way_or_lie_elsewhere_are_refused(tmp_path: Path, transfer: Any) -> None:
    (tmp_path / "mine").mkdir()
    for name in ("ppo.zip", "n.npz"):
        (tmp_path / "mine" / name).write_text(name)
    sent = transfer.ArtifactTransfer(Store())
    shipped = sent.agent(f"sb3:{tmp_path}/mine/ppo.zip(normalization='n.npz')")
    ((digest, pieces),) = sent.of(shipped).items()
    damaged = [(name, place, content[:-1]) for name, place, content in pieces]
    with pytest.raises(LramError, match=r"a policy's file has not come whole"):
        shipped.there({digest: damaged})
    assert shipped.there({digest: pieces})
    (tmp_path / "n.npz").write_text("elsewhere")
    for elsewhere in ("../n.npz", tmp_path / "n.npz"):
        with pytest.raises(LramError, match=r"n.npz does not lie in .*mine, and only what does is brought"):
            sent.agent(f"sb3:{tmp_path}/mine/ppo.zip(normalization='{elsewhere}')")
    with pytest.raises(LramError, match=r"none.zip does not exist"):
        sent.agent(f"sb3:{tmp_path}/none.zip")


def test_every_adapter_of_files_tells_them() -> None:
    for adapter in ADAPTERS:
        if adapter.file:
            with pytest.raises(AgentError, match="nowhere does not exist"):
                files_of(f"{adapter.scheme}:nowhere")
