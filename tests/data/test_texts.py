"""Caption files and metadata as editors, scripts and accidents leave them."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from impasto.data.config import Captions
from impasto.data.metadata import About, read_metadata
from impasto.data.texts import MAX_BYTES, read_caption
from tests.data.pictures import png, tree

NOTE_50, NOTE_51, NOTE_52, NOTE_53 = "note E-CAP-050", "note E-CAP-051", "note E-CAP-052", "note E-CAP-053"

GOOD: dict[str, tuple[bytes, str, list[str]]] = {
    "plain": (b"a dog", "a dog", []),
    "empty": (b"", "", []),
    "white space": (b" \n\t \r\n", "", []),
    "a mark, CRLF and spaces": (b"\xef\xbb\xbf  a dog \r\n", "a dog", []),
    "UTF-8": ("犬、🐕‍🦺 Å".encode(), "犬、🐕‍🦺 Å", []),
    "UTF-16 little": ("\ufeffa dög".encode("utf-16-le"), "a dög", [NOTE_50]),
    "UTF-16 big": ("\ufeffa dög".encode("utf-16-be"), "a dög", [NOTE_50]),
    "UTF-16 without mark": ("a dog".encode("utf-16-le"), "a dog", [NOTE_50]),
    "UTF-16 big without mark": ("a dog".encode("utf-16-be"), "a dog", [NOTE_50]),
    "UTF-32": ("\ufeffa dog".encode("utf-32-le"), "a dog", [NOTE_50]),
    "NUL": (b"a \0dog", "a dog", [NOTE_51]),
    "terminal escapes": (b"a \x1b[31mred\x1b[0m dog", "a red dog", [NOTE_51]),
    "a terminal title": (b"a \x1b]0;title\x07dog", "a dog", [NOTE_51]),
    "direction marks": ("a \u202egod\u202c".encode(), "a god", [NOTE_51]),
    "tabs": (b"a\tdog", "a dog", []),
    "a web page": (b"<b>a dog</b> {{x}} $(ls)", "<b>a dog</b> {{x}} $(ls)", []),
    "several lines": (b"\n\na dog\na cat\n", "a dog", [NOTE_53]),
    "ten thousand tags": (b"tag, " * 10_000, ("tag, " * 10_000)[:16_384].rstrip(), [NOTE_52]),
    "a megabyte and more": ("ä".encode() * MAX_BYTES, "ä" * 16_384, [NOTE_52, NOTE_52]),
}

BAD: dict[str, tuple[bytes, str]] = {
    "Latin-1": ("ein Mädchen".encode("latin-1"), "stop E-CAP-002"),
    "cp932": ("女の子、青い目".encode("cp932"), "stop E-CAP-002"),
    "UTF-16 cut in a letter": (b"\xff\xfea\0b", "stop E-CAP-002"),
    "a picture": (png(), "stop E-CAP-003"),
    "numbers": (bytes(range(32)) * 8, "stop E-CAP-003"),
}


@pytest.mark.parametrize(("content", "caption", "told"), GOOD.values(), ids=GOOD.keys())
def test_captions_are_read_as_one_clean_line(content: bytes, caption: str, told: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    before, began = tree(tmp_path), time.monotonic()
    text = read_caption(tmp_path / "a.txt")
    assert time.monotonic() - began < 2
    assert text.caption == caption
    assert [f"{each.outcome} {each.problem.code}" for each in text.findings] == told
    assert tree(tmp_path) == before


@pytest.mark.parametrize(("content", "told"), BAD.values(), ids=BAD.keys())
def test_what_cannot_be_read_for_certain_stops_the_run(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    text = read_caption(tmp_path / "a.txt")
    assert text.caption is None
    assert [f"{each.outcome} {each.problem.code}"[: len(told)] for each in text.findings] == [told]
    assert str(tmp_path / "a.txt") in str(text.findings[0])


def test_the_first_wrong_byte_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("ein Mädchen".encode("latin-1"))
    assert "byte 5 is 0xe4" in str(read_caption(tmp_path / "a.txt").findings[0])


def test_a_folder_or_a_pipe_is_no_caption(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    os.mkfifo(tmp_path / "b.txt")
    for name in ("a.txt", "b.txt"):
        text = read_caption(tmp_path / name)
        assert text.caption is None
        assert text.findings[0].problem.code == "E-CAP-004"
        assert text.findings[0].outcome == "stop"


def metadata(folder: Path, content: str | bytes, name: str = "m.jsonl") -> tuple[dict[str, str], list[str]]:
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    found = read_metadata(Captions(metadata=Path(name)), folder, ["a.png", "sub/b.jpg"])
    return dict(found.captions), [str(each) for each in found.findings]


def test_json_lines_and_objects_name_pictures(tmp_path: Path) -> None:
    expected = {"a.png": "a dog", "sub/b.jpg": "a cat, x, y"}
    first = '{"file_name": "a.png", "text": "a dog"}'
    lines = f'\ufeff{first}\r\n\n{{"image_path": "sub/b.jpg", "caption": "a cat", "tags": "x, y"}}\n'
    assert metadata(tmp_path, lines) == (expected, [])
    whole = json.dumps({str(tmp_path / "a.png"): "a dog", "sub/b": {"caption": "a cat", "tags": "x, y"}})
    assert metadata(tmp_path, whole, "m.json") == (expected, [])


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("m.jsonl", '{"file_name": "a.png", "text": "x"}\n{oops}', "m.jsonl:2: is not JSON"),
        ("m.jsonl", "[" * 100_000, "m.jsonl:1: is not JSON"),
        ("m.jsonl", '{"file_name": "a.png"}', "m.jsonl:1: names no picture, or no text"),
        ("m.jsonl", '{"text": "x"}', "m.jsonl:1: names no picture"),
        ("m.jsonl", '{"file_name": 3, "text": "x"}', "m.jsonl:1: names no picture"),
        ("m.jsonl", '["a.png", "x"]', "m.jsonl:1: names no picture"),
        ("m.jsonl", '{"file_name": "c.png", "text": "x"}', "m.jsonl:1: c.png is not among the pictures"),
        ("m.jsonl", '{"file_name": "../a.png", "text": "x"}', "m.jsonl:1: ../a.png is outside"),
        ("m.jsonl", '{"file_name": "/etc/passwd", "text": "x"}', "m.jsonl:1: /etc/passwd is outside"),
        ("m.jsonl", '{"file_name": "a.png", "text": "x"}\n' * 2, "m.jsonl:2: a.png has a caption already"),
        ("m.json", '{"a.png": "x", "a.png": "y"}', "m.json: a.png has a caption already"),
        ("m.json", '{"a.png": ', "m.json: is not JSON"),
        ("m.json", '["a.png"]', "m.json: is not an object of picture to caption"),
        ("m.json", '{"a.png": 3}', "m.json: names no picture, or no text"),
        ("m.jsonl", "ä".encode("latin-1"), "m.jsonl: is not UTF-8: byte 0"),
    ],
)
def test_broken_metadata_stops_the_run_with_file_and_line(
    name: str, content: str | bytes, expected: str, tmp_path: Path
) -> None:
    _, told = metadata(tmp_path, content, name)
    assert len(told) == 1
    assert told[0].startswith("stop: E-CAP-0")
    assert expected in told[0]


def test_metadata_that_is_not_there_stops_the_run(tmp_path: Path) -> None:
    found = read_metadata(Captions(metadata=Path("m.jsonl")), tmp_path, [])
    assert [each.problem.code for each in found.findings] == ["E-CAP-014"]


def test_metadata_may_tell_weight_and_face_with_or_without_a_caption(tmp_path: Path) -> None:
    path = tmp_path / "about.jsonl"
    entries = [
        {"file_name": "a.png", "text": "a dog", "weight": 0.5},
        {"file_name": "b.png", "weight": 2, "face": [1, 2.5, 3, 4]},
    ]
    path.write_text("\n".join(map(json.dumps, entries)))
    found = read_metadata(Captions(metadata=path), tmp_path, ["a.png", "b.png", "c.png"])
    assert found.captions == {"a.png": "a dog"}
    assert found.about == {"a.png": About(0.5), "b.png": About(2.0, (1.0, 2.5, 3.0, 4.0))}
    assert not found.findings


@pytest.mark.parametrize(
    "about",
    [{"weight": -1}, {"weight": "1"}, {"weight": True}, {"face": [1, 2, 3]}, {"face": [1, 2, 0, 4]}, {"face": "here"}],
    ids=str,
)
def test_a_weight_or_face_that_is_none_stops_the_run(about: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "about.jsonl"
    path.write_text(json.dumps({"file_name": "a.png", "text": "a dog", **about}))
    (finding,) = read_metadata(Captions(metadata=path), tmp_path, ["a.png"]).findings
    assert f"{finding.outcome} {finding.problem.code}" == "stop E-CAP-015"
