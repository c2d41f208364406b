"""Sealed records: what is read is what was written, and everything else is refused with one message and the mend."""

import json
import os
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from etsdm.errors import IntegrityError
from etsdm.storage import records
from etsdm.storage.files import digest_of
from etsdm.storage.records import Record, read_record, write_record


class Bird(Record):
    FORMAT: ClassVar[int] = 3
    MEND: ClassVar[str] = "remove it and count again"

    name: str
    eggs: int
    weights: tuple[float, ...] = ()


WREN = Bird(name="wren", eggs=5, weights=(8.9, 0.1 + 0.2))


@pytest.fixture
def file(tmp_path):
    write_record(tmp_path / "bird.json", WREN)
    return tmp_path / "bird.json"


def refused(file):
    with pytest.raises(IntegrityError) as error:
        read_record(file, Bird)
    message = str(error.value)
    assert message.startswith(f"{file}: ")
    assert "\n" not in message
    return message.removeprefix(f"{file}: ")


def test_a_record_comes_back_and_its_seal_is_the_sha256_of_its_canonical_json(file):
    assert read_record(file, Bird) == WREN
    written = json.loads(file.read_text())
    assert written.pop("sha256") == digest_of(written) == digest_of({"format": 3, **WREN.model_dump(mode="json")})
    assert read_record(file.with_name("none.json"), Bird) is None


def test_spaces_and_the_order_of_fields_change_nothing(file):
    fields = json.loads(file.read_text())
    file.write_text(json.dumps(dict(reversed(fields.items()))))
    assert read_record(file, Bird) == WREN


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_is_refused_or_changes_nothing(file, place, bit):
    whole = file.read_bytes()
    content = bytearray(whole)
    content[place % len(content)] ^= 1 << bit
    file.write_bytes(content)
    try:
        found = read_record(file, Bird)
    except IntegrityError:
        found = WREN
    finally:
        file.write_bytes(whole)
    assert found == WREN


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is no JSON"),
        (b"{", "is no JSON"),
        (b"\xff\xfe", "is no JSON"),
        (b"[" * 200_000, "is no JSON"),
        (b"9" * 5000, "is no JSON"),
        (b"[]", "holds a list, a mapping was expected"),
        (b"7", "holds a int, a mapping was expected"),
        (b'{"format": 3, "name": "wren", "eggs": 5}', "has no sha256"),
        (b'{"format": 3, "name": "wren", "eggs": 5, "sha256": 5}', "was changed or damaged"),
        (b'{"format": 3, "name": "wren", "eggs": NaN, "sha256": ""}', "was changed or damaged"),
    ],
)
def test_what_is_no_sealed_record_is_refused_with_the_mend(file, content, problem):
    file.write_bytes(content)
    message = refused(file)
    assert message.startswith(problem)
    assert message.endswith("; remove it and count again")


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"name": "wren"}, "eggs: Field required"),
        ({"name": "wren", "eggs": "5"}, "eggs: "),
        ({"name": "wren", "eggs": True}, "eggs: "),
        ({"name": "wren", "eggs": 5, "colour": 1}, "colour: "),
        ({"name": "wren", "eggs": 5, "weights": [1.0, float("inf")]}, "weights.1: "),
    ],
)
def test_a_sealed_record_of_another_shape_is_refused_with_its_field(file, fields, place):
    fields = {"format": 3, **fields}
    file.write_text(json.dumps({**fields, "sha256": digest_of(fields)}))
    assert refused(file).startswith(f"is no Bird: {place}")


def test_another_format_is_named_before_the_seal(file):
    file.write_text('{"format": 2, "whatever": 1}')
    assert refused(file) == "format 2 is not known, this etsdm reads format 3; use the etsdm that wrote it"


def test_what_is_no_regular_file_or_too_large_is_not_read(file, monkeypatch):
    monkeypatch.setattr(records, "MAX_BYTES", 10)
    assert refused(file).startswith("cannot be used: it has more than 10 bytes")
    file.unlink()
    file.mkdir()
    assert refused(file) == "cannot be used: it is no regular file; remove it and count again"
    file.rmdir()
    os.mkfifo(file)
    assert refused(file) == "cannot be used: it is no regular file; remove it and count again"


def test_numbers_that_are_none_are_not_written():
    with pytest.raises(ValidationError):
        Bird(name="wren", eggs=1, weights=(float("nan"),))
