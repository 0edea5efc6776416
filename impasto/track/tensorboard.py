"""Files as TensorBoard reads them, written without it: records of protocol buffers, each with its check sums.

A record is its length, the check sum of that, its bytes and their check sum; the bytes are an `Event` of TensorBoard's
event.proto. Read by TensorBoard's own reader in the tests.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Iterator, Sequence
from functools import cache
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from impasto import files
from impasto.track.points import Point

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
WALL_TIME, STEP, FILE_VERSION, SUMMARY, SESSION = 1, 2, 3, 5, 7
"""Fields of an Event."""

_START = b"\x08\x01"
"""A SessionLog that says START: whatever is older and of this step or later does not count any more."""


class TensorBoard:
    """The log of one run."""

    def __init__(self, folder: Path, run: Path) -> None:
        """`folder` is where its files are; `run` names it: others may lie beside it."""
        self._folder = folder
        self._mark = sha256(os.fsencode(run.absolute())).hexdigest()[:12]
        self._file: int | None = None

    @property
    def place(self) -> str:
        return f"tensorboard --logdir {self._folder}"

    def begin(self, step: int) -> dict[str, int]:
        """A new file, in which later steps of older files are taken back."""
        before = sorted(self._folder.glob(f"events.out.tfevents.*.{self._mark}"))
        held: dict[str, int] = {}
        for path in before:
            for tag, at in _points(files.read(path)):
                held[tag] = at
        files.make_folder(self._folder)
        path = self._folder / f"events.out.tfevents.{time.time():017.6f}.{self._mark}"
        self._file = files.System.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._put(_fixed(WALL_TIME, time.time()) + _field(FILE_VERSION, BYTES, b"brain.Event:2"))
        if any(at > step for at in held.values()):
            now = _fixed(WALL_TIME, time.time())
            self._put(now + _field(STEP, VARINT, step + 1) + _field(SESSION, BYTES, _START))
        return {tag: min(at, step) for tag, at in held.items()}

    def write(self, points: Sequence[Point]) -> None:
        """An event for the points of each moment."""
        for (step, moment), some in groupby(points, key=lambda each: (each.step, each.time)):
            values = b"".join(_field(1, BYTES, _value(each)) for each in some)
            self._put(_fixed(WALL_TIME, moment) + _field(STEP, VARINT, step) + _field(SUMMARY, BYTES, values))

    def close(self) -> None:
        """Let the file go."""
        if self._file is not None:
            file, self._file = self._file, None
            files.System.close(file)

    def _put(self, event: bytes) -> None:
        assert self._file is not None, "begin comes first"
        length = struct.pack("<Q", len(event))
        files.write_all(self._file, length + _check(length) + event + _check(event))


# what is below serves the above


def _value(point: Point) -> bytes:
    """A Summary.Value: a number, or a PNG as it is."""
    tag = _field(1, BYTES, point.tag.encode())
    if not isinstance(point.value, Path):
        return tag + _key(2, FIXED32) + struct.pack("<f", point.value)
    png = files.read(point.value)
    width, height = struct.unpack(">II", png[16:24])
    image = _field(1, VARINT, height) + _field(2, VARINT, width) + _field(3, VARINT, 3) + _field(4, BYTES, png)
    return tag + _field(4, BYTES, image)


def _points(content: bytes) -> Iterator[tuple[str, int]]:
    """Tag and step of every point in a file of ours; where a kill has cut it off, it ends. What was taken back in it
    comes again behind that."""
    at = 0
    while at + 12 <= len(content):
        (length,) = struct.unpack_from("<Q", content, at)
        event = content[at + 12 : at + 12 + length]
        at += 16 + length
        if at > len(content):
            return
        parts = dict(_parts(event))
        step = parts.get(STEP, 0)
        for number, value in _parts(_bytes(parts.get(SUMMARY))):
            if number == 1 and isinstance(step, int):
                yield _bytes(dict(_parts(_bytes(value)))[1]).decode(), step


def _parts(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a message."""
    at = 0
    while at < len(message):
        key, at = _number(message, at)
        kind = key & 7
        if kind == VARINT:
            value, at = _number(message, at)
            yield key >> 3, value
            continue
        length = {FIXED64: 8, FIXED32: 4}.get(kind)
        if length is None:
            length, at = _number(message, at)
        yield key >> 3, message[at : at + length]
        at += length


def _number(message: bytes, at: int) -> tuple[int, int]:
    """A varint, and where it ends."""
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def _bytes(value: int | bytes | None) -> bytes:
    return value if isinstance(value, bytes) else b""


def _field(number: int, kind: int, value: int | bytes) -> bytes:
    if isinstance(value, int):
        return _key(number, kind) + _varint(value)
    return _key(number, kind) + _varint(len(value)) + value


def _fixed(number: int, value: float) -> bytes:
    return _key(number, FIXED64) + struct.pack("<d", value)


def _key(number: int, kind: int) -> bytes:
    return _varint(number << 3 | kind)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _check(content: bytes) -> bytes:
    """CRC-32C, turned and shifted so that a sum of bytes that hold sums is not itself one."""
    table, found = _table(), 0xFFFFFFFF
    for byte in content:
        found = table[(found ^ byte) & 255] ^ found >> 8
    found ^= 0xFFFFFFFF
    return struct.pack("<I", ((found >> 15 | found << 17) + 0xA282EAD8) & 0xFFFFFFFF)


@cache
def _table() -> tuple[int, ...]:
    """Castagnoli's polynomial, reflected."""
    rows = []
    for byte in range(256):
        row = byte
        for _ in range(8):
            row = row >> 1 ^ 0x82F63B78 * (row & 1)
        rows.append(row)
    return tuple(rows)
