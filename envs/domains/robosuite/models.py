"""The models of a robosuite session: corrected for newer MuJoCo, and compiled once.

robosuite compiles the whole model again at every reset, half a second of meshes and textures, although for
most tasks the XML is the same text each time. :class:`ModelShelf` gives a copy of the model compiled before.
"""

from __future__ import annotations

import contextlib
import copy
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from typing import Any

_FLAT_MESH = re.compile(r"robot\d+_head_[14]")
_PEDESTAL = "right_arm_base_link"
_FIRST_LINK = "right_l0"


def corrected(xml: str) -> str:
    """Return a robosuite 1.4.1 model with which MuJoCo 3.3.0 does what MuJoCo 2.3.2 does without.

    Three differences between the two were found by comparing trajectories of the same seeds and actions:

    * Contacts between convex geoms come from another algorithm since 3.3.0; the old one is asked for.
    * Two meshes of Sawyer's head, which is only seen, have too little volume for 3.3.0's check of
      inertias; they count as shells.
    * Sawyer's pedestal and first link touch at a distance of -2e-16, which 2.3.2 does not report and
      which later versions let brake the first joint; the pair is excluded.

    What remains is rounding, which contacts amplify (the fingers of Robotiq grippers from the first step
    on), and 13 g of the mass of the Robotiq140, robosuite's default gripper for IIWA alone.
    """
    root = ElementTree.fromstring(xml)
    _child(_child(root, "option"), "flag").set("nativeccd", "disable")
    for mesh in root.iter("mesh"):
        if _FLAT_MESH.fullmatch(mesh.get("name", "")):
            mesh.set("inertia", "shell")
    for body in root.iter("body"):
        name = body.get("name", "")
        link = name[: -len(_PEDESTAL)] + _FIRST_LINK
        if name.endswith(_PEDESTAL) and any(child.get("name") == link for child in body.findall("body")):
            ElementTree.SubElement(_child(root, "contact"), "exclude", body1=name, body2=link)
    return ElementTree.tostring(root, encoding="unicode")


class ModelShelf:
    """What one session's simulations are made of: the last model, as it was when compiled."""

    def __init__(self, *, corrections: bool = False, reuse: bool = True) -> None:
        """Make an empty shelf.

        Args:
            corrections: Compile :func:`corrected` models.
            reuse: Keep the compiled model and copy it where the next one's XML is the same text. What
                is copied was never simulated with, so that an episode cannot leave anything behind.
        """
        self._corrections = corrections
        self._reuse = reuse
        self._xml = ""
        self._pristine: Any = None

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Make robosuite take its models from here, while the context lasts."""
        from robosuite.utils import binding_utils

        simulation, collector = binding_utils.MjSim, binding_utils.gc
        compiling = simulation.__dict__["from_xml_string"]
        simulation.from_xml_string = classmethod(lambda cls, xml: cls(self._model(xml)))
        # Every simulation that robosuite frees asks for a full collection of Python's garbage, 0.1 s or
        # more. The model and data are freed before, with their last reference; the collection finds only
        # little Python objects, which the collector's own rounds find as well.
        binding_utils.gc = _NoCollector
        try:
            yield
        finally:
            binding_utils.gc = collector
            simulation.from_xml_string = compiling

    def clear(self) -> None:
        """Let the compiled model go."""
        self._xml, self._pristine = "", None

    def _model(self, xml: str) -> Any:
        import mujoco

        if self._pristine is None or xml != self._xml:
            self.clear()  # before the next is compiled: one takes up to 100 MB
            model = mujoco.MjModel.from_xml_string(corrected(xml) if self._corrections else xml)
            if not self._reuse:
                return model
            self._xml, self._pristine = xml, model
        return copy.copy(self._pristine)


class _NoCollector:
    @staticmethod
    def collect() -> int:
        return 0


def _child(parent: ElementTree.Element, tag: str) -> ElementTree.Element:
    found = parent.find(tag)
    return ElementTree.SubElement(parent, tag) if found is None else found
