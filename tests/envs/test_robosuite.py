"""robosuite sessions keep the Session contract on several arms, and one interpreter plays as another."""

import logging
import os
import random
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from ctypes.util import find_library
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

pytest.importorskip("mujoco", reason="needs lram-bench[robosuite]")
if find_spec("robosuite") is None:  # that takes seconds to import, in each process that collects tests
    pytest.skip("needs lram-bench[robosuite]", allow_module_level=True)

import mujoco

import lram.envs
from lram.envs.conformance import check_session, trajectory_digest
from lram.envs.domains.robosuite.models import ModelShelf, corrected
from lram.envs.domains.robosuite.suite import DOMAIN, RobosuiteSession, make
from lram.envs.domains.robosuite.versions import import_quietly, import_robosuite
from lram.envs.registry import all_tasks, benchmark_tasks, select
from lram.envs.session import EvaluationProtocol, SessionError

PROTOCOLS = [p for p in DOMAIN.protocols if all(version(name) == v for name, v in p.versions.items())]
PROTOCOL = PROTOCOLS[0] if PROTOCOLS else None
pytestmark = pytest.mark.skipif(PROTOCOL is None, reason="needs robosuite 1.4.1 and MuJoCo 2.3.2 or 3.3.0")
# What the play of two interpreters is compared by; the fixed seeds and actions of each task's episode.
PLAY = """
import sys
import numpy as np
from lram.envs.domains.robosuite.suite import DOMAIN, make

def play(session):
    rng = np.random.default_rng(4)
    observations = [session.reset(11)]
    for _ in range(50):
        observations.append(session.step(rng.uniform(-1, 1, 7).astype(np.float32)).observation)
    return np.array(observations)
"""
COMPARED = ("Lift", "NutAssemblySquare", "Lift-Sawyer")


Shared = Callable[[str], RobosuiteSession]


@pytest.fixture(scope="module", autouse=True)
def _imported() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # robosuite's own
        import_robosuite("robosuite")


def with_options(**changes: object) -> EvaluationProtocol:
    return replace(PROTOCOL, options={**PROTOCOL.options, **changes})


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    """A session of a task under the protocol as it is, made once, for tests that are not about making one."""
    made: dict[str, RobosuiteSession] = {}

    def of(task: str) -> RobosuiteSession:
        if task not in made:
            made[task] = make(task, PROTOCOL)
        return made[task]

    yield of
    for session in made.values():
        session.close()


# Of Lift the XML, and so the compiled model, is another one with each seed; Sawyer's takes longest.
IN_CONTRACT = ("Lift", "Stack-Sawyer", "Door", "NutAssemblySquare", "PickPlaceCan")


def is_as_wide_as_its_row(task: str, session: RobosuiteSession) -> bool:
    return session.spec.observation_shape == (all_tasks()[f"robosuite/{task}"].observation_size,)


@pytest.mark.slow
@pytest.mark.parametrize("task", IN_CONTRACT)
def test_sessions_keep_the_contract_and_are_as_wide_as_the_task_s_row_says(task: str) -> None:
    made: list[RobosuiteSession] = []

    def another() -> RobosuiteSession:
        made.append(make(task, PROTOCOL))
        return made[-1]

    check_session(another, steps=8)  # every observation is as wide as the session says
    assert [is_as_wide_as_its_row(task, session) for session in made] == [True, True]


@pytest.mark.parametrize("task", [task.name for task in DOMAIN.tasks if task.name not in IN_CONTRACT])
def test_observations_are_as_wide_as_the_task_s_row_says(task: str, shared: Shared) -> None:
    session = shared(task)
    assert is_as_wide_as_its_row(task, session)
    assert session.reset(0).shape == session.spec.observation_shape


# What another process says of the trajectory that is played here, and of two scenes where it can show them.
ELSEWHERE = """
import sys
import numpy as np
from lram.envs.conformance import trajectory_digest
from lram.envs.domains.robosuite.suite import DOMAIN, make

name, shows = sys.argv[1:]
protocol = DOMAIN.protocol(name)
lift = make("Lift", protocol)
print(trajectory_digest(lift, 11, 20))
if shows == "no":
    sys.exit()
action, door = np.full(7, 0.3, np.float32), make("Door", protocol)
ends, images = [], []
for show in (False, True):
    lift.reset(4), door.reset(4)
    for _ in range(2):
        if show:
            images.append((lift.render(), door.render()))
        step = lift.step(action)
    ends.append(step.observation.tobytes())
lift.close(), door.close()
first, other = images[0]
print(first.shape, first.dtype, first.std() > 10, other.std() > 10)
# The table's white top is below the middle when the image is upright.
print(first[240:].mean() > first[:240].mean() + 10)
print(np.abs(first.astype(int) - other).mean() > 5, ends[0] == ends[1])
print(np.abs(first.astype(int) - images[1][0]).mean() < 5)
"""
SHOWS = find_library("EGL") is not None


@pytest.fixture(scope="module")
def elsewhere() -> list[str]:
    """Lines that another process prints; a GL context here would hang the workers that later tests fork."""
    command = [sys.executable, "-c", ELSEWHERE, PROTOCOL.name, "yes" if SHOWS else "no"]
    there = subprocess.run(command, check=True, capture_output=True, text=True)
    assert there.stderr == ""
    return there.stdout.splitlines()


@pytest.mark.slow
def test_another_process_plays_the_same_trajectory_without_a_word_on_the_terminal(
    elsewhere: list[str], shared: Shared
) -> None:
    assert elsewhere[0] == trajectory_digest(shared("Lift"), 11, 20)


@pytest.mark.slow
@pytest.mark.skipif(not SHOWS, reason="rendering needs a GL library (libegl1)")
def test_rendering_shows_each_session_its_scene_and_leaves_trajectories_as_they_were(
    elsewhere: list[str],
) -> None:
    assert " ".join(elsewhere[1:]).split() == ["(480,", "480,", "3)", "uint8", *["True"] * 6]


def test_the_protocol_ends_an_episode_at_its_limit_and_nothing_does_before() -> None:
    assert {protocol.options["limit"] for protocol in DOMAIN.protocols} == {500}
    session = make("Stack", with_options(limit=6))
    session.reset(0)
    ends = [session.step(np.zeros(7, np.float32)) for _ in range(6)]
    assert [step.truncated for step in ends] == [False] * 5 + [True]
    assert not any(step.terminated for step in ends)


@pytest.mark.parametrize(("end", "reward"), [(False, None), (True, 1.0)])
def test_success_is_told_as_it_comes_and_ends_the_episode_where_the_protocol_says_so(
    end: bool, reward: float | None, shared: Shared
) -> None:
    # The protocol as it is neither ends an episode so nor rewards it.
    session = make("Lift", with_options(end_on_success=True, success_reward=True)) if end else shared("Lift")
    session.reset(3)
    rest = np.zeros(7, np.float32)
    before = session.step(rest)
    assert before.success is False
    assert reward is None or before.reward == 0.0
    simulation = session._environment.sim
    lifted = simulation.data.get_joint_qpos("cube_joint0")
    lifted[2] += 0.3
    simulation.data.set_joint_qpos("cube_joint0", lifted)
    solved = session.step(rest)
    assert solved.success is True
    assert solved.terminated is end
    assert reward is None or solved.reward == reward
    if not end:
        fallen = [session.step(rest) for _ in range(20)][-1]
        assert fallen.success is False


def test_global_random_generators_are_neither_felt_nor_changed() -> None:
    np.random.seed(5)
    random.seed(5)
    expected = np.random.random(3).tolist(), random.random()
    np.random.seed(5)
    random.seed(5)
    session = make("Lift", PROTOCOL)
    assert (np.random.random(3).tolist(), random.random()) == expected
    digests = []
    for seed in (5, 6):
        np.random.seed(5)
        random.seed(5)
        session.reset(1)
        session.step(np.zeros(7, np.float32))
        assert (np.random.random(3).tolist(), random.random()) == expected
        np.random.seed(seed)
        digests.append(trajectory_digest(session, 1, 3))
    assert digests[0] == digests[1]


@pytest.mark.slow
@pytest.mark.parametrize("task", ["Lift", "Stack"])  # Lift's XML is another one with each seed
def test_a_copied_model_plays_as_a_compiled_one_bit_for_bit(task: str, shared: Shared) -> None:
    reusing, compiling = shared(task), make(task, with_options(reuse_models=False))

    def played(session: RobosuiteSession, seeds: tuple[int, ...]) -> Iterator[str]:
        for seed in seeds:
            yield trajectory_digest(session, seed, 6)
            # As tasks do that move their fixtures: the next episode's model must not have heard of it.
            session._environment.sim.model.body_mass[:] *= 2.0

    first, second = played(compiling, (1, 2))
    compiling.close()
    assert list(played(reusing, (1, 2, 1, 1))) == [first, second, first, first]
    assert first != second


@pytest.mark.slow
def test_a_model_is_compiled_again_only_where_its_xml_changed(
    monkeypatch: pytest.MonkeyPatch, shared: Shared
) -> None:
    compiled = []

    class Compiler:
        @staticmethod
        def from_xml_string(xml: str) -> object:
            compiled.append(xml)
            return original(xml)

    original = mujoco.MjModel.from_xml_string
    session, changing = shared("Stack"), shared("Lift")
    changing.reset(0)  # whose XML is another one than that of the seeds to come
    monkeypatch.setattr(mujoco, "MjModel", Compiler)
    for seed in (1, 2, 3):
        session.reset(seed)
    assert not compiled
    for seed in (1, 2, 2, 1):
        changing.reset(seed)
    assert len(compiled) == 3


def _patched() -> tuple[object, ...]:
    """What a session puts others in the place of while it makes an environment or resets it."""
    from robosuite.utils import binding_utils

    level = logging.getLogger("robosuite_logs").level
    return binding_utils.MjSim.__dict__["from_xml_string"], binding_utils.gc, level


@pytest.fixture(scope="module")
def closed() -> RobosuiteSession:
    """A session that was made, used and closed, and left robosuite as it had been."""
    before = _patched()
    session = make("Stack", PROTOCOL)
    session.reset(0)
    session.close()
    assert _patched() == before
    return session


@pytest.mark.usefixtures("closed")
def test_robosuite_is_as_it_was_outside_the_session_and_after_an_error() -> None:
    from robosuite.utils import binding_utils

    before = _patched()
    assert before[-1] == logging.NOTSET
    with ModelShelf().used():
        assert binding_utils.MjSim.__dict__["from_xml_string"] is not before[0]
    with pytest.raises(ValueError, match="XML"), ModelShelf().used():
        binding_utils.MjSim.from_xml_string("no model")
    assert _patched() == before


def test_a_closed_session_says_that_it_is_closed(closed: RobosuiteSession) -> None:
    with pytest.raises(SessionError, match="closed"):
        closed.render()
    with pytest.raises(SessionError, match="closed"):
        closed.reset(0)


def test_physics_that_diverged_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, shared: Shared
) -> None:
    monkeypatch.chdir(tmp_path)  # MuJoCo writes a log of it to the working directory
    session = shared("Lift")
    session.reset(0)
    velocity = session._environment.sim.data.get_joint_qvel("cube_joint0")
    velocity[:] = 1e12
    session._environment.sim.data.set_joint_qvel("cube_joint0", velocity)
    with pytest.raises(SessionError, match="diverged"):
        session.step(np.zeros(7, np.float32))
    with pytest.raises(SessionError, match="outside an episode"):
        session.step(np.zeros(7, np.float32))
    session.reset(0)
    session.step(np.zeros(7, np.float32))


MODEL = """<mujoco>
  <asset>
    <mesh name="robot0_head_1" file="a.stl"/><mesh name="robot12_head_4" file="b.stl"/>
    <mesh name="robot0_head_2" file="c.stl"/><mesh name="robot0_head_14" file="d.stl"/>
  </asset>
  <worldbody>
    <body name="robot0_right_arm_base_link"><body name="robot0_head"/><body name="robot0_right_l0"/></body>
    <body name="robot1_right_arm_base_link"><body name="robot1_link0"/></body>
  </worldbody>
</mujoco>"""


def test_corrections_change_what_they_name_and_nothing_else() -> None:
    root = ElementTree.fromstring(corrected(MODEL))
    assert [flag.attrib for flag in root.findall("option/flag")] == [{"nativeccd": "disable"}]
    shells = [mesh.get("name") for mesh in root.iter("mesh") if mesh.get("inertia") == "shell"]
    assert shells == ["robot0_head_1", "robot12_head_4"]
    assert [pair.attrib for pair in root.findall("contact/exclude")] == [
        {"body1": "robot0_right_arm_base_link", "body2": "robot0_right_l0"}
    ]
    for tag in ("option", "contact"):
        root.remove(root.find(tag))
    for mesh in root.iter("mesh"):
        mesh.attrib.pop("inertia", None)
    plain = [(e.tag, e.attrib) for e in ElementTree.fromstring(MODEL).iter()]
    assert [(e.tag, e.attrib) for e in root.iter()] == plain


def test_corrections_keep_options_and_contacts_that_are_there() -> None:
    option = "<option timestep='0.1'><flag warmstart='disable'/></option>"
    root = ElementTree.fromstring(corrected(f"<mujoco>{option}<contact><pair/></contact></mujoco>"))
    assert [option.attrib for option in root.findall("option")] == [{"timestep": "0.1"}]
    assert [flag.attrib for flag in root.findall("option/flag")] == [
        {"warmstart": "disable", "nativeccd": "disable"}
    ]
    assert len(root.findall("contact/pair")) == 1


@pytest.mark.skipif(version("mujoco") != "3.3.0", reason="corrections are for MuJoCo 3.3.0")
def test_sawyer_builds_on_mujoco_3_with_the_corrections_only(shared: Shared) -> None:
    shared("Lift-Sawyer")
    with pytest.raises(ValueError, match="robot0_head_1"):
        make("Lift-Sawyer", with_options(corrections=False))


@pytest.fixture(scope="module")
def on_mujoco_2(isolated_robosuite: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    """Observations of each compared task on robosuite 1.4.1 and MuJoCo 2.3.2."""
    folder = tmp_path_factory.mktemp("mujoco2")
    (folder / "lram").mkdir()
    (folder / "lram" / "envs").symlink_to(Path(lram.envs.__file__).parent, target_is_directory=True)
    program = (
        f"{PLAY}\n"
        f"plays = {{task: play(make(task, DOMAIN.protocol('mujoco2'))) for task in {COMPARED!r}}}\n"
        "np.savez(sys.argv[1], **plays)"
    )
    subprocess.run(
        [isolated_robosuite, "-c", program, str(folder / "plays.npz")],
        env={**os.environ, "PYTHONPATH": str(folder)},
        check=True,
    )
    with np.load(folder / "plays.npz") as plays:
        return dict(plays)


@pytest.mark.slow
@pytest.mark.skipif(version("mujoco") != "3.3.0", reason="compares MuJoCo 3.3.0 with 2.3.2")
@pytest.mark.parametrize("task", COMPARED)
def test_mujoco_3_with_corrections_plays_as_mujoco_2_does(
    task: str, on_mujoco_2: dict[str, np.ndarray], shared: Shared
) -> None:
    namespace: dict[str, object] = {}
    exec(PLAY, namespace)
    here = namespace["play"](shared(task))  # type: ignore[operator]
    # Velocities are observed as well, and differ most. The fingers meet the table from step 40 on; soon
    # after, contacts have grown even the last digits in which processors' BLAS kernels differ to 1e-3.
    assert np.abs(here - on_mujoco_2[task]).max() < 1e-6
    if task == "Lift":
        wrong = namespace["play"](make(task, with_options(corrections=False)))  # type: ignore[operator]
        assert np.abs(wrong - on_mujoco_2[task]).max() > 1e-2


def test_other_versions_are_named_with_what_mends_them() -> None:
    other = next(protocol for protocol in DOMAIN.protocols if protocol != PROTOCOL)
    with pytest.raises(SessionError) as caught:
        make("Lift", other)
    text = str(caught.value)
    assert f"mujoco {other.versions['mujoco']} (here: {version('mujoco')})" in text
    assert "lram env install robosuite" in text
    assert f"--protocol robosuite={PROTOCOL.name}" in text


def test_what_cannot_be_made_is_named() -> None:
    with pytest.raises(SessionError, match="Lift-Baxter"):
        make("Lift-Baxter", PROTOCOL)
    with pytest.raises(SessionError, match=r"no_such_simulator.*do this"):
        import_quietly("no_such_simulator", "do this")


def test_a_robot_that_takes_other_actions_is_refused(shared: Shared) -> None:
    class Wide:
        action_spec = (np.full(2, -2.0), np.full(2, 2.0))

    with pytest.raises(SessionError, match="from -1 to 1"):
        RobosuiteSession("robosuite/Wide", Wide, shared("Lift")._options)


def test_the_tasks_are_listed_outside_the_paper_s() -> None:
    assert [task.name for task in select("robosuite")] == [task.name for task in DOMAIN.tasks]
    assert {task.split for task in select("robosuite")} == {"extra"}
    assert not any(task.domain == "robosuite" for task in benchmark_tasks())
    assert all_tasks()["robosuite/Lift"].observation_size == 42
