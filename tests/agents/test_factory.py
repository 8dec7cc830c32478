"""Agents by name: the grammar, and a sentence for every way to get it wrong."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from lram.agents.api import AgentError
from lram.agents.backbones.mamba import MambaConfig
from lram.agents.backbones.xlstm import slstm_positions
from lram.agents.checkpoints.folder import save_checkpoint
from lram.agents.checkpoints.shipped import shipped_checkpoints
from lram.agents.factory import create_agent, list_agents
from lram.agents.model.config import ModelConfig
from lram.agents.model.network import build_model
from lram.agents.model.presets import parse_preset, preset_names
from lram.agents.own_code import code_of, named_module

OWN = """
from lram.agents.api import AgentInfo

class Mine:
    info = AgentInfo("mlp", "mine")
    def __init__(self, seed, *given): self.seed, self.given = seed, given
    def refuses(self, task): ...
    def start(self, lanes): ...
    def reset(self, state, lanes, episodes): ...
    def act(self, state, observations, rewards, lanes): ...
    def state_bytes(self, state): ...

def make(seed=0): return Mine(seed)
def sized(size, *, name="small", seed=0): return Mine(seed, size, name)
def named(wrong): return type("Wrong", (Mine,), {"info": wrong})(0)
def kind_of(kind): return type("Kind", (Mine,), {"info": AgentInfo(kind, "x")})(0)
def raising(): return type("Raises", (Mine,), {"info": property(lambda self: 1 / 0)})(0)
def plain(): return Mine(-1)
def breaks(): raise ValueError("no weights here")
def other(): return 3
number = 4
class inner: make = staticmethod(plain)
"""


@pytest.fixture
def own_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_agent_code.py").write_text(OWN)
    (tmp_path / "broken_agent_code.py").write_text("import module_that_is_not_there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "own_agent_code", raising=False)


def test_a_preset_is_an_untrained_model_of_the_seed() -> None:
    agent, again, other = (create_agent("xlstm[7:1]-1M", seed=seed) for seed in (0, 0, 3))
    assert (
        agent.info.description
        == "xLSTM [7:1] (sLSTM at 1 of 8 blocks), 1M, untrained (random weights, seed 0)"
    )
    assert agent.info.trained is False
    assert agent.info.parameters is not None
    assert 1_000_000 <= agent.info.parameters <= 1_500_000
    assert agent.info.digest == again.info.digest != other.info.digest


def test_a_checkpoint_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = ModelConfig(32, 1, backbone=MambaConfig())
    save_checkpoint(tmp_path / "mine", build_model(config, 0), config, trained=True, card={})
    monkeypatch.chdir(tmp_path)
    for spec in ("mine", "./mine", str(tmp_path / "mine"), Path("mine"), tmp_path / "mine"):
        info = create_agent(spec).info
        assert info.description == "Mamba, 0.3M, trained (checkpoint mine)"
        assert info.trained is True


@pytest.mark.usefixtures("own_code")
def test_own_code_is_called_with_the_seed_if_it_takes_one() -> None:
    assert create_agent("own_agent_code:make", seed=5).inner.seed == 5  # type: ignore[attr-defined]
    assert create_agent("own_agent_code:inner.make").inner.seed == -1  # type: ignore[attr-defined]


@pytest.mark.usefixtures("own_code")
def test_a_factory_takes_the_arguments_that_stand_behind_its_name() -> None:
    for spec, given, seed in (
        ("sized(3)", (3, "small"), 7),
        ("sized(size=-2.5, name='a/b~c@d(e)=f')", (-2.5, "a/b~c@d(e)=f"), 7),
        ("sized([1, (2, None)], seed=1)", ([1, (2, None)], "small"), 1),
    ):
        agent = create_agent(f"own_agent_code:{spec}", seed=7).inner  # type: ignore[attr-defined]
        assert (agent.given, agent.seed) == (given, seed)
    noisy = create_agent("own_agent_code:sized('~0.5')~0.25x3")
    assert noisy.inner.inner.given == ("~0.5", "small")  # type: ignore[attr-defined]
    assert noisy.noise.share == 0.25  # type: ignore[attr-defined]


@pytest.mark.usefixtures("own_code")
def test_arguments_are_read_before_any_code_is_loaded() -> None:
    with pytest.raises(AgentError, match="no plain values"):
        create_agent("broken_agent_code:make(exit())")


def test_the_module_of_a_factory_with_arguments_is_known(own_code: None) -> None:
    for spec in ("own_agent_code:sized(3)", "own_agent_code:sized('~(')~0.5", "own_agent_code:sized(x)"):
        assert named_module(spec) == "own_agent_code"
        assert code_of(spec) == code_of("own_agent_code:sized") != {}
    assert named_module("runs/x (1)") == named_module("x (a:b)") == ""


def test_an_entry_point_is_an_agent(own_code: None, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        EntryPoint("theirs", "own_agent_code:plain", "lram.agents"),
        EntryPoint("gone", "nowhere_at_all:x", "lram.agents"),
    ]
    monkeypatch.setattr("lram.agents.factory.entry_points", lambda group: points)
    sys.path.insert(0, str(Path.cwd()))
    assert create_agent("theirs").inner.seed == -1  # type: ignore[attr-defined]
    points.append(EntryPoint("sized", "own_agent_code:sized", "lram.agents"))
    assert create_agent("sized(4)").inner.given == (4, "small")  # type: ignore[attr-defined]
    assert ("theirs", "entry point") in [(row.name, row.kind) for row in list_agents()]
    with pytest.raises(AgentError, match=r"entry point gone .* cannot be loaded: ModuleNotFoundError"):
        create_agent("gone")


def test_a_path_object_is_a_folder_whatever_agent_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AgentError, match=r"checkpoint .*random does not exist"):
        create_agent(Path("random"))
    with pytest.raises(AgentError, match="such as 'random', not by a int"):
        create_agent(3)  # type: ignore[arg-type]


@pytest.mark.parametrize("spec", ["random", "constant", "constant=0.5", "scripted"])
def test_baselines_are_built_by_name(spec: str) -> None:
    assert create_agent(spec).info.kind == "baseline"


@pytest.mark.usefixtures("own_code")
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("randon", r"no agent 'randon' \(did you mean random\?\); .*'lram agents' lists"),
        ("xlstm[7:1]-17M", r"no model preset 'xlstm\[7:1\]-17M'; .*48M, 110M"),
        ("transformer[7:1]-16M", "no model preset"),
        ("constant=much", "'much' is no number"),
        ("random=1", "random takes no value"),
        ("./nowhere", "checkpoint .*nowhere does not exist"),
        ("weights/model.pt", "does not exist"),
        ("module_that_is_not_there:make", "cannot be imported: ModuleNotFoundError"),
        ("broken_agent_code:make", "cannot be imported: ModuleNotFoundError"),
        ("own_agent_code:absent", "own_agent_code .* has no absent"),
        ("own_agent_code:number", "is a int, not a callable"),
        ("own_agent_code:breaks", "failed: ValueError: no weights here"),
        ("own_agent_code:other", "is a int without info, refuses, start, reset, act, state_bytes"),
        (
            "own_agent_code:named",
            r"missing a required argument: 'wrong'; it takes wrong, and write module:fact",
        ),
        ("own_agent_code:named('mlp')", "its info is a str; give a lram.agents.api.AgentInfo"),
        ("own_agent_code:kind_of(3)", r"failed: ValueError: AgentInfo.kind is 3; give a string"),
        ("own_agent_code:raising", "its info cannot be read: ZeroDivisionError: division by zero"),
        ("own_agent_code:plain(4)", "too many positional arguments; it takes nothing"),
        ("own_agent_code:sized(4, color=1)", "unexpected keyword argument 'color'"),
        ("own_agent_code:sized(open('x'))", "the arguments are no plain values; write module:factory"),
        ("own_agent_code:sized(**{'size': 1})", "the arguments are no plain values"),
        ("own_agent_code:sized(3)(4)", "the arguments are no plain values"),
        ("own_agent_code:sized(size=1, size=2)", "the arguments are no plain values"),
        ("own_agent_code:sized(" + "(" * 999 + ")" * 1000, "the arguments are no plain values"),
        ("random(3)", r"no agent 'random\(3\)'"),
        ("xlstm[0:0]-1M", r"\[0:0\] has no blocks"),
        ("xlstm[1:7]-16M", "needs 7 sLSTM blocks, but only 4 odd positions"),
        ("", "there is no agent ''"),
    ],
)
def test_what_cannot_be_built_is_told_in_one_sentence(spec: str, message: str) -> None:
    with pytest.raises(AgentError, match=message) as caught:
        create_agent(spec)
    assert "\n" not in str(caught.value)


def test_every_listed_model_is_shipped_or_a_preset_and_none_needs_torch_to_be_listed() -> None:
    listed = [row.name for row in list_agents() if row.kind == "model"]
    assert listed == [*shipped_checkpoints(), *preset_names()]
    assert [parse_preset(name).name for name in preset_names()] == list(preset_names())
    code = (
        "import sys; from lram.agents import api, factory; "
        "from lram.agents.model import config, presets, tokens; "
        "factory.list_agents(); "
        "sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_wrong_preset_names_the_right_ones() -> None:
    with pytest.raises(AgentError, match=r"no model preset 'xlstm-16m'; .*1M, 16M, 48M"):
        parse_preset("xlstm-16m")


@pytest.mark.parametrize(
    ("layers", "expected"), [(8, (1,)), (12, (1, 3)), (16, (1, 3)), (20, (1, 3, 5)), (4, (1,))]
)
def test_seven_to_one_is_placed_as_in_the_references_commands(layers: int, expected: tuple[int, ...]) -> None:
    assert slstm_positions(layers, 7, 1) == expected
    assert slstm_positions(layers, 1, 0) == ()


def test_a_transformers_brackets_name_its_cache() -> None:
    full, plain = parse_preset("transformer[full]-16M"), parse_preset("transformer-16M")
    assert (full.backbone.cache, plain.backbone.cache) == ("full", "recompute")
    for wrong in ("transformer[7:1]-16M", "xlstm[full]-16M", "transformer[none]-16M"):
        with pytest.raises(AgentError, match=r"transformer\[full\]"):
            parse_preset(wrong)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("ägent:A", "'ägent' is no name of a module, which begins with a letter of a to z"),
        ("my-agent:A", "'my-agent' is no name of a module, .*; call the file so"),
        ("queue..x:A", "'queue..x' is no name of a module"),
        ("dom/ag.py:A", "own code is named by its module, not by its file: dom.ag:A"),
        ("./ag:A", "own code is named by its module, not by its file: ag:A"),
        ("ag.py:A", "own code is named by its module, not by its file: ag:A"),
        (
            "queue:make",
            r"queue \(.*queue\.py\) has no make; check the name after the colon, and whether that is",
        ),
        ("runs/x", "checkpoint .*runs/x does not exist"),
        ("runs/a:b/checkpoint", "checkpoint .*runs/a:b/checkpoint does not exist"),
        ("a:b/checkpoint", "checkpoint .*a:b/checkpoint does not exist"),
    ],
)
def test_own_code_that_is_named_otherwise_is_told_how(
    spec: str, sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(AgentError, match=sentence):
        create_agent(spec)
