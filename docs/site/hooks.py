"""MkDocs calls these while it builds the site.

Generated pages (:mod:`generate`) join those of ``docs/``, and so do the project's own pages at the root. A
link from a page to a file that is no page, such as the source of a test, becomes its name; one to a file that
does not exist stays, and fails the build.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import generate
from mkdocs.structure.files import File, Files

ROOT = generate.ROOT
PROJECT = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security.md",
}
"""Pages at the root, and where the site has them."""


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages and those at the root."""
    for place, content in generate.pages().items():
        files.append(File.generated(config, place, content=content))
    for name, place in PROJECT.items():
        files.append(File.generated(config, place, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Lead links to files of the project to where the site has them."""
    place = page.file.src_uri
    at_root = {there: name for name, there in PROJECT.items()}
    origin = at_root.get(place, f"docs/{place}")

    def lead(link: re.Match[str]) -> str:
        text, target, anchor = link[1], link[2], link[3] or ""
        if re.match(r"[a-z]+:", target):
            return link[0]
        name = posixpath.normpath(posixpath.join(posixpath.dirname(origin), target))
        if name in PROJECT or name.startswith("docs/"):
            there = PROJECT.get(name, name.removeprefix("docs/"))
            return f"[{text}]({posixpath.relpath(there, posixpath.dirname(place) or '.')}{anchor})"
        return text if (ROOT / name).exists() else link[0]

    return re.sub(r"(?<!!)\[([^\]]*)\]\(([^)#\s]+)(#[^)\s]*)?\)", lead, markdown)


def on_page_content(html: str, page: Any, config: Any, files: Files) -> str:
    """Take the roles of reStructuredText out of docstrings; what they name is set as code already."""
    return re.sub(r":(?:mod|class|func|meth|attr|data|exc|obj):(?=<code)", "", html)
