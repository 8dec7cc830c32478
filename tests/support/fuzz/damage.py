"""Random damage to a file, as disks, copies, editors and strangers do it."""

from __future__ import annotations

import random
import re
import shutil
from pathlib import Path

from lram.agents.checksums import sign_file
from support.files import signed

_MAGICS = (
    b"\x89HDF\r\n\x1a\n",
    b"PK\x03\x04",
    b"\x80\x02}q\x00.",
    b"\x93NUMPY\x01\x00v\x00",
    b"\x1f\x8b\x08\x00",
    b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X",
    b"%PDF-1.7\n",
    b"\xef\xbb\xbf",
    b"\xff\xfe{\x00",
    b"version https://git-lfs.github.com/spec/v1\n",
    b"<!DOCTYPE html><html>",
)
_ODD = (
    "null",
    "true",
    "0",
    "-1",
    "1e308",
    "-1e308",
    "1e400",
    "NaN",
    "-Infinity",
    "9223372036854775808",
    "-9223372036854775809",
    "1" + "0" * 400,
    "1" + "0" * 6000,
    "5e-324",
    '""',
    '"\\ud800"',
    '"\\u0000"',
    '"\ufeff\u202e"',
    '"' + "x" * 5000 + '"',
    '"../../x"',
    "[]",
    "{}",
    "[null]",
    "[[[[1]]]]",
    '{"": 0}',
    "[" * 300 + "]" * 300,
    "[" * 20_000 + "]" * 20_000,
    '{"a":' * 3000 + "1" + "}" * 3000,
)
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|-?[0-9][0-9.eE+-]*|true|false|null|\[[^\[\]{}]*\]')
_SIGNED_FILE = re.compile(r',\n  "checksum": "sha256:[0-9a-f]{64}"(?=\n}\n\Z)')


def damage(file: Path, draw: random.Random) -> str:
    """Damage ``file`` in one way; return which, in words."""
    kinds = (_swap,) * 9 if file.suffix in (".json", ".jsonl", ".toml", ".csv") else ()
    return draw.choice((*kinds, *_BYTES))(file, draw)


def _flip(file: Path, draw: random.Random) -> str:
    content = bytearray(file.read_bytes())
    places = [draw.randrange(len(content)) for _ in range(draw.choice((1, 1, 1, 2, 8, 64)))]
    for place in places:
        content[place] ^= 1 << draw.randrange(8)
    file.write_bytes(content)
    return f"{len(places)} flipped bits from {min(places)}"


def _set_bytes(file: Path, draw: random.Random) -> str:
    content = bytearray(file.read_bytes())
    first, size = draw.randrange(len(content)), draw.choice((1, 2, 4, 8))
    content[first : first + size] = draw.choice((b"\x00", b"\xff", b"\x7f", b"\x80")) * size
    file.write_bytes(content)
    return f"{size} bytes set at {first}"


def _cut(file: Path, draw: random.Random) -> str:
    content = file.read_bytes()
    end = draw.randrange(len(content))
    file.write_bytes(content[:end])
    return f"cut to {end} bytes"


def _zeros(file: Path, draw: random.Random) -> str:
    content = bytearray(file.read_bytes())
    first, size = draw.randrange(len(content)), draw.choice((4, 64, 512, 4096))
    content[first : first + size] = bytes(len(content[first : first + size]))
    file.write_bytes(content)
    return f"{size} zeros at {first}"


def _double(file: Path, draw: random.Random) -> str:
    content = file.read_bytes()
    first, size = draw.randrange(len(content)), draw.choice((1, 16, 512, 4096))
    block = content[first : first + size]
    insert = draw.random() < 0.5
    to = draw.randrange(len(content))
    file.write_bytes(content[:to] + block + content[to + (0 if insert else len(block)) :])
    return f"{len(block)} bytes of {first} {'inserted' if insert else 'copied'} at {to}"


def _noise(file: Path, draw: random.Random) -> str:
    content = bytearray(file.read_bytes())
    first, size = draw.randrange(len(content)), draw.choice((1, 8, 64))
    content[first : first + size] = draw.randbytes(size)
    file.write_bytes(content)
    return f"{size} random bytes at {first}"


def _magic(file: Path, draw: random.Random) -> str:
    content, magic = file.read_bytes(), draw.choice(_MAGICS)
    file.write_bytes(magic + content[draw.choice((0, len(magic), len(content))) :])
    return f"begins with {magic[:12]!r}"


def _empty(file: Path, draw: random.Random) -> str:
    file.write_bytes(draw.choice((b"", b"\n", b"\0", b"{}\n", b"[]\n", b"null\n")))
    return f"holds {file.read_bytes()!r}"


def _folder(file: Path, draw: random.Random) -> str:
    file.unlink()
    file.mkdir()
    if draw.random() < 0.5:
        (file / "inner").write_bytes(b"x")
    return "a folder in its place"


def _beside(file: Path, draw: random.Random) -> str:
    """What other systems leave beside files; the file itself is as it was."""
    other = file.with_name(draw.choice((f"._{file.name}", ".DS_Store", f"{file.name}~", f".{file.name}.swp")))
    other.write_bytes(b"\x00\x05\x16\x07\x00\x02\x00\x00Mac OS X        " + draw.randbytes(82))
    return f"{other.name} beside it"


def _gone(file: Path, draw: random.Random) -> str:
    file.unlink()
    return "gone"


def _text(file: Path, draw: random.Random) -> str:
    content = file.read_bytes()
    place = draw.randrange(len(content))
    added = draw.choice((b"\xff", b"\xed\xa0\x80", b"\xc3", b"\x00", b"\r", b'"', b"\n", b"}\n{", b"\\u"))
    file.write_bytes(content[:place] + added + content[place:])
    return f"{added!r} inserted at {place}"


_BYTES = (
    *(_flip,) * 6,
    *(_set_bytes,) * 4,
    *(_cut,) * 3,
    *(_zeros,) * 3,
    *(_double,) * 3,
    *(_noise,) * 3,
    *(_text,) * 2,
    _magic,
    _empty,
    _folder,
    _beside,
    _gone,
)


def _swap(file: Path, draw: random.Random) -> str:
    """Put odd values in place of one or a few; sign it anew, mostly: what is unsigned is read as well."""
    content = file.read_text(encoding="utf-8")
    content = _SIGNED_FILE.sub("", content)
    told = []
    for _ in range(draw.choice((1, 1, 1, 3))):
        found = list(_TOKEN.finditer(content))
        if not found:
            break
        token = draw.choice(found)
        value = draw.choice(_ODD)
        like = [one for one in _ODD if _kind(one) == _kind(token[0])]
        if like and draw.random() < 0.6:
            value = draw.choice(like)
        content = content[: token.start()] + value + content[token.end() :]
        told.append(f"{token[0][:30]} became {value[:30]}")
    changed = content.encode("utf-8", "surrogatepass")
    if draw.random() < 0.8:
        changed = resigned(file, changed)
    file.write_bytes(changed)
    return "; ".join(told)


def _kind(token: str) -> str:
    first = token[:1]
    return first if first in '"[{' else "0" if first in "-0123456789NI" else "w"


def resigned(file: Path, content: bytes) -> bytes:
    """Return ``content`` with the checksum that its format has, as somebody who changes files can."""
    if file.suffix == ".jsonl":
        return b"".join(signed(line) + b"\n" for line in content.split(b"\n")[:-1] if line)
    if file.suffix == ".json" and content.endswith(b"\n}\n"):
        return sign_file(content)
    return content


def copy(sample: Path, to: Path) -> None:
    """Make ``to`` a copy of ``sample``, whatever was there."""
    shutil.rmtree(to, ignore_errors=True)
    shutil.copytree(sample, to)
