"""Which robosuite and MuJoCo the robosuite domains stand on, and how their packages are imported."""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import os
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from lram.envs.session import Domain, EvaluationProtocol, SessionError, SourceTree

# The first is what MimicGen's documentation names, and of the time of CompoSuite's last version; the second
# lives in one interpreter with Meta-World.
MUJOCO2 = {"robosuite": "1.4.1", "mujoco": "2.3.2"}
MUJOCO3 = {"robosuite": "1.4.1", "mujoco": "3.3.0"}
PACKAGES = ("robosuite", "mujoco", "numpy", "scipy", "numba")
# Complete: what robosuite asks for beyond these serves keyboards only, and needs a C compiler.
REQUIREMENTS = (
    "robosuite==1.4.1",
    "mujoco==2.3.2",
    "numpy==1.26.4",
    "scipy==1.13.1",
    "numba==0.60.0",
    "llvmlite==0.43.0",
    "opencv-python-headless==4.11.0.86",
    "pillow==11.3.0",
    "termcolor==2.4.0",
    "absl-py==2.3.1",
    "glfw==2.10.0",
    "PyOpenGL==3.1.10",
)
PYTHONS = ("3.11", "3.10", "3.9")


def check_versions(domain: Domain, protocol: EvaluationProtocol) -> None:
    """Raise SessionError where this interpreter lacks the versions that ``protocol`` needs."""
    wrong = _wrong_versions(protocol)
    if not wrong:
        return
    advice = f"run 'lram env install {domain.name}'"
    fitting = [other.name for other in domain.protocols if not _wrong_versions(other)]
    if fitting:
        advice += f", or choose what fits this interpreter: --protocol {domain.name}={fitting[0]}"
    needed = " and ".join(f"{package} {needs} (here: {found})" for package, needs, found in wrong)
    raise SessionError(f"the protocol {protocol.name} of {domain.name} needs {needed}; {advice}")


def _wrong_versions(protocol: EvaluationProtocol) -> list[tuple[str, str, str]]:
    wrong = []
    for package, needed in protocol.versions.items():
        try:
            found = version(package)
        except PackageNotFoundError:
            found = "none"
        if found != needed:
            wrong.append((package, needed, found))
    return wrong


def import_robosuite(domain: str) -> Any:
    """Import robosuite for a domain; SessionError names what failed and what fixes it."""
    advice = f"run 'lram env install {domain}'"
    import_quietly("mujoco", advice)
    # On its way in, robosuite loads EGL, which a machine without a screen may lack, and tells everything
    # that is imported later to use it. The word keeps it from that; what renders loads EGL then.
    before = os.environ.get("MUJOCO_GL")
    os.environ["MUJOCO_GL"] = "glx"
    try:
        return import_quietly("robosuite", advice)
    finally:
        del os.environ["MUJOCO_GL"]
        if before is not None:
            os.environ["MUJOCO_GL"] = before


def load_opengl(name: str) -> None:
    """Give robosuite what it renders with when there is no screen; SessionError where that fails."""
    from robosuite.utils import binding_utils

    osmesa = os.environ.get("MUJOCO_GL") == "osmesa"
    try:
        if osmesa:
            from robosuite.renderers.context.osmesa_context import OSMesaGLContext as Context
        else:
            from robosuite.renderers.context.egl_context import EGLGLContext as Context
    except Exception as error:
        packages = "libosmesa6" if osmesa else "libegl1 libgl1"
        raise SessionError(
            f"{name}: OpenGL, which rendering needs, cannot be loaded ({type(error).__name__}: {error}); "
            f"on Debian or Ubuntu: apt-get install {packages}"
        ) from error
    binding_utils.GLContext = Context


def import_source(domain: Domain, tree: SourceTree) -> Any:
    """Import the package of a checkout, after robosuite; SessionError names the checkout's home."""
    import_robosuite(domain.name)
    advice = f"run 'lram env install {domain.name} --source FOLDER' with a checkout of {tree.url}"
    module = import_quietly(tree.module, advice)
    if module.__file__ is None:  # any folder of that name imports as a namespace
        folder = next(iter(module.__path__))
        raise SessionError(f"{tree.module} in {folder} is no checkout of {tree.url}; {advice}")
    return module


def import_quietly(module: str, advice: str) -> Any:
    """Import a package that prints advice on its way in.

    Raises:
        SessionError: What failed, and ``advice``: what to do about it.
    """
    logger = logging.getLogger("robosuite_logs")
    level = logger.level
    logger.setLevel(logging.ERROR)
    words = io.StringIO()
    try:
        with contextlib.redirect_stdout(words), contextlib.redirect_stderr(words):
            return importlib.import_module(module)
    except Exception as error:
        raise SessionError(
            f"{module} cannot be imported ({type(error).__name__}: {error}); {advice}"
        ) from error
    finally:
        logger.setLevel(level)
