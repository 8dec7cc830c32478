"""What MuJoCo renders with where there is no display."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

from lram.envs.registry import load_domain
from lram.harness.children import child_environment
from lram.harness.errors import LramError

VARIABLE = "MUJOCO_GL"
BACKENDS = ("egl", "osmesa")
INSTALL = "on Debian or Ubuntu: apt-get install libegl1 libegl-mesa0 libgl1-mesa-dri"

_MUJOCO = """
import mujoco
model = mujoco.MjModel.from_xml_string(
    '<mujoco><worldbody><light pos="0 0 3"/><geom type="plane" size="1 1 .1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 64, 64)
renderer.update_scene(data)
assert renderer.render().max() > 0
renderer.close()
"""
_DM_CONTROL = (
    "from dm_control import suite; "
    "print(suite.load('cartpole', 'balance').physics.render(64, 64, camera_id=0).shape)"
)
_TIMEOUT_S = 120


def renders(domain: str, python: str | None, backend: str) -> bool:
    """Return whether ``domain``'s simulator renders with ``backend`` in the interpreter ``python``."""
    try:
        subprocess.run(
            [python or sys.executable, "-c", _DM_CONTROL if domain == "dmcontrol" else _MUJOCO],
            env={**child_environment(), VARIABLE: backend},
            cwd="/",  # an interpreter before 3.11 would import from the working directory
            capture_output=True,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (subprocess.SubprocessError, OSError):
        return False
    return True


def candidates() -> list[str]:
    """Return what is tried, in order: what the user has set, then what needs no display."""
    return list(dict.fromkeys(filter(None, (os.environ.get(VARIABLE), *BACKENDS))))


@contextmanager
def rendering(domains: Iterable[str], interpreters: Mapping[str, str]) -> Iterator[None]:
    """While this lasts, workers that are started render with what works here.

    Args:
        domains: Whose episodes are to be rendered.
        interpreters: Python by domain, where it is not this one.

    Raises:
        LramError: Nothing works for one that needs OpenGL.
    """
    needy = sorted({name for name in domains if load_domain(name).renderer})
    if not needy:
        yield
        return
    works = (
        backend
        for backend in candidates()
        if all(renders(name, interpreters.get(name), backend) for name in needy)
    )
    backend = next(works, None)
    if backend is None:
        raise LramError(
            f"episodes of {', '.join(needy)} cannot be rendered here: MuJoCo gets no OpenGL context without "
            f"a display, neither by {' nor by '.join(candidates())}; install one ({INSTALL}), then look at "
            "'lram doctor'"
        )
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = backend
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
