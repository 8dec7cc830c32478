"""Cases of a regression gate as JUnit XML, which Jenkins, GitLab, GitHub's actions and others read.

One ``testsuite`` with a ``testcase`` for each case, as the schema of Ant's JUnit task has them. What XML 1.0
cannot hold (control characters, lone surrogates) is written as an escape.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from xml.etree import ElementTree

from lram.harness.words import visible
from lram.reports.verdict.gate import GateCase

SUITE = "lram compare"

# What XML 1.0 may hold (section 2.2) is all else.
_FORBIDDEN = re.compile("[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def junit_xml(cases: Sequence[GateCase], properties: Mapping[str, str]) -> bytes:
    """Return the file of ``cases``; equal cases give equal bytes, for it tells no time.

    Args:
        cases: In their order.
        properties: What to know of all of them, such as the level.
    """
    outcomes = [case.outcome for case in cases]
    counts = {
        "tests": len(cases),
        "failures": outcomes.count("failure"),
        "errors": outcomes.count("error"),
        "skipped": outcomes.count("skipped"),
    }
    numbers = {name: str(value) for name, value in counts.items()}
    root = ElementTree.Element("testsuites", numbers)
    suite = ElementTree.SubElement(root, "testsuite", {"name": SUITE, **numbers})
    group = ElementTree.SubElement(suite, "properties")
    for name, value in properties.items():
        ElementTree.SubElement(group, "property", {"name": _sound(name), "value": _sound(value)})
    for case in cases:
        _add(suite, case)
    ElementTree.indent(root)
    content: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return content + b"\n"


def _add(suite: ElementTree.Element, case: GateCase) -> None:
    names = {"classname": f"lram.compare.{case.group}", "name": _sound(case.name)}
    found = ElementTree.SubElement(suite, "testcase", names)
    whole = _sound("\n".join((case.sentence, *case.details)))
    if case.outcome in ("failure", "error"):
        about = {"message": _sound(case.sentence), "type": case.word}
        ElementTree.SubElement(found, case.outcome, about).text = whole
    elif case.outcome == "skipped":
        ElementTree.SubElement(found, "skipped", {"message": _sound(case.sentence)})
    else:
        ElementTree.SubElement(found, "system-out").text = whole


def _sound(text: str) -> str:
    """Return ``text`` with nothing hidden in it, and nothing that XML cannot hold."""
    return _FORBIDDEN.sub(lambda match: f"\\u{ord(match[0]):04x}", visible(text))
