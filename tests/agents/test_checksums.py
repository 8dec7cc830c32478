from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lram.agents.checksums import ChecksumError, sign_file, sign_line, verify_file, verify_line

LINE = sign_line(msgspec.json.encode({"agent": "a", "episode_return": 0.5, "incidents": ["x"] * 3}))
FILE = sign_file(msgspec.json.format(b'{"schema":1,"agents":["a","b"],"seed":0}', indent=2) + b"\n")


def test_a_signed_line_is_still_json_and_is_verified():
    assert verify_line(LINE)
    assert msgspec.json.decode(LINE)["episode_return"] == 0.5


def test_a_signed_file_is_still_json_and_is_verified():
    assert verify_file(FILE)
    assert msgspec.json.decode(FILE)["agents"] == ["a", "b"]


def test_lines_and_files_of_earlier_versions_are_told_from_changed_ones():
    assert not verify_line(b'{"a":1}')
    assert not verify_file(b'{\n  "a": 1\n}\n')


@pytest.mark.parametrize(("content", "verify"), [(LINE, verify_line), (FILE, verify_file)])
def test_no_flipped_bit_passes_as_verified(content, verify):
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            try:
                assert not verify(bytes(changed)), (place, bit)
            except ChecksumError:
                continue
            # Only damage to the member's own name can make it look like an older file.
            assert place >= len(content) - 90


@pytest.mark.parametrize(("content", "verify"), [(LINE, verify_line), (FILE, verify_file)])
def test_no_shortened_content_passes_as_verified(content, verify):
    for end in range(len(content)):
        try:
            assert not verify(content[:end])
        except ChecksumError:
            continue


@given(st.binary(max_size=60))
def test_whatever_a_line_holds_it_is_verified_signed_or_refused(content):
    try:
        verified = verify_line(content)
    except ChecksumError:
        return
    assert not verified
    assert verify_line(sign_line(b'{"x":' + content + b"}"))


def test_a_reformatted_file_is_a_changed_one():
    with pytest.raises(ChecksumError):
        verify_file(msgspec.json.encode(msgspec.json.decode(FILE)))
