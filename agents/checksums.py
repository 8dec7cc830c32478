r"""Checksums that files carry in themselves, so that a change is noticed when a number is read from them.

A line of JSON ends with ``,"crc32":"1a2b3c4d"}``: the CRC-32 of the line without that member. An indented
JSON file ends with ``,\n  "checksum": "sha256:..."\n}\n``: the SHA-256 of the file without that member. Who
reads JSON and knows nothing of this sees one member more.

They find accidents: flipped bits, cut files, edits by hand, half of a copy. They prove nothing of who wrote a
file: whoever can write it can write its checksum.
"""

from __future__ import annotations

import hashlib
import re
import zlib

_LINE_KEY = b',"crc32":"'
_LINE_SIZE = len(_LINE_KEY) + 8 + len(b'"}')
_FILE_MEMBER = re.compile(rb',\n  "checksum": "sha256:([0-9a-f]{64})"\n\}\n\Z')
_ANYWHERE = re.compile(rb'"checksum"\s*:\s*"sha256:')


class ChecksumError(ValueError):
    """The content is not what was written; the message is a clause that says so."""


def sign_line(line: bytes) -> bytes:
    """Return ``line``, one JSON object without its newline, with its checksum."""
    return b'%s%s%08x"}' % (line[:-1], _LINE_KEY, zlib.crc32(line))


def verify_line(line: bytes) -> bool:
    """Return whether ``line`` (without its newline) carries a checksum; ChecksumError where it is wrong."""
    split = len(line) - _LINE_SIZE
    if not line.startswith(_LINE_KEY, split) or split < 1:
        if _LINE_KEY in line:
            raise ChecksumError("it does not end with its checksum")
        return False
    # The CRC of the line without the member: its object ends where the member was.
    if line[-10:] != b'%08x"}' % zlib.crc32(b"}", zlib.crc32(memoryview(line)[:split])):
        raise ChecksumError("it is not what its checksum says")
    return True


def sign_file(content: bytes) -> bytes:
    r"""Return ``content``, an indented JSON object that ends with ``\n}\n``, with its checksum."""
    if not content.endswith(b"\n}\n"):
        raise ValueError("only an indented JSON object with a final newline can carry a checksum")
    return b'%s,\n  "checksum": "sha256:%s"\n}\n' % (
        content[:-3],
        hashlib.sha256(content).hexdigest().encode(),
    )


def verify_file(content: bytes) -> bool:
    """Return whether ``content``, of a file, carries a checksum; ChecksumError where it is wrong."""
    member = _FILE_MEMBER.search(content)
    if member is None:
        if _ANYWHERE.search(content):
            raise ChecksumError("it was changed since it was written: it does not end with its checksum")
        return False
    if hashlib.sha256(_without(content, member)).hexdigest().encode() != member[1]:
        raise ChecksumError("it was changed since it was written: it is not what its checksum says")
    return True


def unsigned_file(content: bytes) -> bytes | None:
    """Return ``content`` without its checksum; None where it carries none, ChecksumError for a wrong one."""
    member = _FILE_MEMBER.search(content) if verify_file(content) else None
    return None if member is None else _without(content, member)


def _without(content: bytes, member: re.Match[bytes]) -> bytes:
    return content[: member.start()] + b"\n}\n"
