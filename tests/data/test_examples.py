"""Scanning: which files become examples, what is told of the rest, and that nothing of the user's changes."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest

from impasto.data import memo as memos
from impasto.data.config import Captions, Data, Dataset
from impasto.data.examples import Example, Scan, scan
from impasto.errors import DataError, DiskError
from tests.data.pictures import jpeg, picture, png, saved, tree


def data(folder: Path, *, bad_share: float = 0.05, bad_pictures: str = "skip", **captions: object) -> Data:
    rules = Captions(**{"missing": "empty", **captions})  # type: ignore[arg-type]
    sets = (Dataset(path=folder),)
    return Data(sets=sets, captions=rules, bad_share=bad_share, bad_pictures=bad_pictures)  # type: ignore[arg-type]


def put(path: Path, content: bytes | str | None = None, *, seed: int = 0) -> Path:
    """A file, by default a picture of its own."""
    path.parent.mkdir(parents=True, exist_ok=True)
    content = saved(picture(seed=seed), "PNG") if content is None else content
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def codes(found: Scan, outcome: str) -> list[str]:
    return [each.problem.code for each in found.findings if each.outcome == outcome]


def by_name(found: Scan) -> dict[str, Example]:
    return {each.path.name: each for one in found.examples for each in one}


def test_a_folder_of_pictures_and_captions(tmp_path: Path) -> None:
    put(tmp_path / "a.png", seed=1)
    put(tmp_path / "a.txt", "a dog")
    put(tmp_path / "deep" / "er" / "b.JPG", jpeg())
    put(tmp_path / "deep" / "er" / "b.TXT", "a cat")
    found = scan(data(tmp_path, missing="error"))
    found.check(data(tmp_path))
    assert found.findings == ()
    a, b = found.examples[0]
    assert (a.caption, a.source, a.size, a.repeats, a.set, a.role) == ("a dog", "file", (48, 32), 1, 0, "train")
    assert (b.caption, b.path) == ("a cat", tmp_path / "deep" / "er" / "b.JPG")
    assert len(a.id) == 64
    assert a.id != b.id


def test_folders_named_with_repeats(tmp_path: Path) -> None:
    for seed, folder in enumerate(
        ("10_sks dog", "05_cat", "5_", "x5_bird", "-1_fish", "3cow", "7", "2_in/er", "0_off")
    ):
        put(tmp_path / folder / f"{folder.replace('/', '')}.png", seed=seed)
    found = scan(data(tmp_path, missing="folder"))
    assert {name: (each.repeats, each.caption) for name, each in by_name(found).items()} == {
        "10_sks dog.png": (10, "sks dog"),
        "05_cat.png": (5, "cat"),
        "5_.png": (5, ""),
        "x5_bird.png": (1, "x5_bird"),
        "-1_fish.png": (1, "-1_fish"),
        "3cow.png": (1, "3cow"),
        "7.png": (1, "7"),
        "2_iner.png": (2, "er"),
    }
    assert sorted(codes(found, "note")) == ["E-DAT-050"] * 3 + ["E-DAT-051"]
    assert "seen 10 times an epoch" in " ".join(map(str, found.findings))


def test_repeats_that_are_set_go_before_names(tmp_path: Path) -> None:
    put(tmp_path / "10_dog" / "a.png")
    found = scan(Data(sets=(Dataset(path=tmp_path, repeats=3),), captions=Captions(missing="empty")))
    assert by_name(found)["a.png"].repeats == 3
    assert found.findings == ()
    alone = scan(data(tmp_path / "10_dog", missing="folder"))
    assert (by_name(alone)["a.png"].repeats, by_name(alone)["a.png"].caption) == (10, "dog")


def test_captions_come_from_metadata_then_files_then_the_rule(tmp_path: Path) -> None:
    for seed, name in enumerate(("a.png", "b.png", "c.png", "d.png")):
        put(tmp_path / name, seed=seed)
    put(tmp_path / "a.txt", "file a")
    put(tmp_path / "b.txt", "file b")
    put(tmp_path / "b.caption", "caption b")
    put(tmp_path / "d.txt", "  \n")
    put(tmp_path / "m.jsonl", '{"file_name": "a.png", "text": "meta a"}\n')
    found = scan(data(tmp_path, metadata=Path("m.jsonl"), extensions=(".caption", ".txt"), text="fixed"))
    assert {name: (each.caption, each.source) for name, each in by_name(found).items()} == {
        "a.png": ("meta a", "metadata"),
        "b.png": ("caption b", "file"),
        "c.png": ("fixed", "text"),
        "d.png": ("fixed", "text"),
    }


def test_missing_captions_stop_the_run_and_the_first_twenty_are_named(tmp_path: Path) -> None:
    for number in range(23):
        put(tmp_path / f"{number:02}.png", seed=number)
    put(tmp_path / "00.txt", "\n")
    rules = data(tmp_path, missing="error")
    with pytest.raises(DataError, match="E-CAP-001") as caught:
        scan(rules).check(rules)
    assert "23 pictures have no caption" in str(caught.value)
    assert "19.png" in str(caught.value)
    assert "20.png" not in str(caught.value)
    assert "and 3 more" in str(caught.value)
    assert caught.value.exit_code == 3


def test_one_caption_for_several_and_captions_for_none_are_told(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "a.jpg", jpeg())
    put(tmp_path / "a.txt", "both")
    put(tmp_path / "gone.txt", "nobody")
    found = scan(data(tmp_path))
    assert [each.caption for each in found.examples[0]] == ["both", "both"]
    assert codes(found, "note") == ["E-CAP-054", "E-CAP-055"]


def test_names_that_differ_by_case_or_form_are_two_examples(tmp_path: Path) -> None:
    for number, name in enumerate(("A.png", "a.png", "é.png", unicodedata.normalize("NFD", "é.png"))):
        put(tmp_path / name, seed=number)
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this disk takes these names for one")
    put(tmp_path / "a.txt", "small")
    put(tmp_path / (unicodedata.normalize("NFD", "é") + ".txt"), "apart")
    found = scan(data(tmp_path))
    captions = {name: each.caption for name, each in by_name(found).items()}
    assert captions == {"A.png": "", "a.png": "small", "é.png": "", unicodedata.normalize("NFD", "é.png"): "apart"}
    assert codes(found, "note") == ["E-DAT-054", "E-DAT-054"]


def test_a_caption_spelled_otherwise_is_found(tmp_path: Path) -> None:
    put(tmp_path / "Ångström.png")
    put(tmp_path / (unicodedata.normalize("NFD", "ångström") + ".Txt"), "found")
    assert by_name(scan(data(tmp_path, missing="error")))["Ångström.png"].caption == "found"


def test_links_are_followed_once(tmp_path: Path) -> None:
    put(tmp_path / "set" / "real" / "a.png", seed=1)
    put(tmp_path / "elsewhere" / "b.png", seed=2)
    (tmp_path / "set" / "again").symlink_to("real")
    (tmp_path / "set" / "real" / "loop").symlink_to("..")
    (tmp_path / "set" / "out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "self").symlink_to("self")
    (tmp_path / "set" / "dead").symlink_to("nowhere")
    found = scan(data(tmp_path / "set"))
    assert sorted(str(each.path.relative_to(tmp_path / "set")) for each in found.examples[0]) == [
        "out/b.png",
        "real/a.png",
    ]
    assert codes(found, "note").count("E-DAT-052") == 2


def test_odd_names_are_used_and_shown_escaped(tmp_path: Path) -> None:
    names = ["日本 🐕.png", "a\nb.png", "-rf.png", "50%[x]'\".png", "\u202egnp.png", "no\udcff.png", "a.jpeg "]
    for seed, name in enumerate(names):
        put(tmp_path / name, b"" if name == "a\nb.png" else None, seed=seed)
    found = scan(data(tmp_path, bad_share=1.0))
    assert set(by_name(found)) == set(names) - {"a\nb.png"}
    assert all(str(each).isprintable() for each in found.findings)
    assert "a\\nb.png" in str(found.of("skip")[0])


def test_deep_folders_are_read(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*(["down"] * 60))
    put(folder / "a.png")
    assert len(scan(data(tmp_path)).examples[0]) == 1


def test_hidden_and_other_files_are_left_alone(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    put(tmp_path / "._a.png", b"rubbish")
    put(tmp_path / ".trash" / "b.png")
    put(tmp_path / "__MACOSX" / "c.png")
    put(tmp_path / "notes.docx", b"x")
    put(tmp_path / "noending", png())
    put(tmp_path / "a.npz", b"x")
    found = scan(data(tmp_path))
    assert list(by_name(found)) == ["a.png"]
    assert [str(each.problem.what) for each in found.findings] == [
        "files that are not looked into: 1 .docx, 1 without ending"
    ]


def test_the_same_picture_twice_is_told(tmp_path: Path) -> None:
    put(tmp_path / "train" / "a.png")
    os.link(tmp_path / "train" / "a.png", tmp_path / "train" / "b.png")
    put(tmp_path / "held" / "c.png")
    sets = (Dataset(path=tmp_path / "train"), Dataset(path=tmp_path / "held", role="validation"))
    found = scan(Data(sets=sets, captions=Captions(missing="empty")))
    assert [len(each) for each in found.examples] == [2, 1]
    assert codes(found, "note") == ["E-DAT-055", "E-DAT-056"]


def test_a_few_bad_pictures_are_skipped_and_many_stop_the_run(tmp_path: Path) -> None:
    for number in range(19):
        put(tmp_path / f"{number}.png", seed=number)
    put(tmp_path / "bad.png", b"")
    put(tmp_path / "draft.psd", b"8BPS\0\x01 a drawing that lies here does not count")
    found = scan(data(tmp_path))
    assert codes(found, "skip") == ["E-IMG-001", "E-IMG-021"]
    found.check(data(tmp_path))
    with pytest.raises(DataError, match=r"E-IMG-001 .*bad\.png"):
        found.check(data(tmp_path, bad_pictures="stop"))
    put(tmp_path / "bad2.png", b"<html>")
    with pytest.raises(DataError, match=r"2 pictures \(9\.5%\).*1 E-IMG-001, 1 E-IMG-004"):
        scan(data(tmp_path)).check(data(tmp_path))
    scan(data(tmp_path)).check(data(tmp_path, bad_share=0.1))


def test_all_that_must_be_mended_is_told_at_once(tmp_path: Path) -> None:
    put(tmp_path / "one" / "a.png", b"")
    put(tmp_path / "two" / "b.png")
    put(tmp_path / "two" / "b.txt", "ä".encode("latin-1"))
    put(tmp_path / "file.png")
    (tmp_path / "empty").mkdir()
    put(tmp_path / "words" / "a.txt", "only words")
    folders = ("one", "two", "empty", "words", "missing", "file.png")
    rules = Data(sets=tuple(Dataset(path=tmp_path / name) for name in folders))
    with pytest.raises(DataError) as caught:
        scan(rules).check(rules)
    assert sorted(problem.code for problem in caught.value.problems) == sorted(
        ["E-DAT-005", "E-CAP-002", "E-DAT-005", "E-DAT-005", "E-DAT-001", "E-DAT-002", "E-DAT-006"]
    )
    assert all(problem.where for problem in caught.value.problems)
    with pytest.raises(DataError, match="no folder of pictures is given"):
        scan(Data()).check(Data())


def test_a_caption_that_is_a_folder_stops_the_run(tmp_path: Path) -> None:
    put(tmp_path / "a.png")
    (tmp_path / "a.txt").mkdir()
    assert codes(scan(data(tmp_path)), "stop") == ["E-CAP-004"]


def build(folder: Path, order: list[int]) -> Path:
    for number in order:
        put(folder / f"{1 + number % 3}_x" / f"{number}.png", seed=number)
        put(folder / f"{1 + number % 3}_x" / f"{number}.txt", f"tag {number}")
    return folder


def test_the_order_of_the_disk_does_not_matter(tmp_path: Path) -> None:
    one = scan(data(build(tmp_path / "one", list(range(12)))))
    two = scan(data(build(tmp_path / "two", list(range(11, -1, -1)))))
    assert [(each.id, each.caption, each.repeats) for each in one.examples[0]] == [
        (each.id, each.caption, each.repeats) for each in two.examples[0]
    ]
    assert [each.path.name for each in one.examples[0]] == [each.path.name for each in two.examples[0]]


def test_nothing_of_the_users_changes(tmp_path: Path) -> None:
    folder = build(tmp_path / "set", list(range(6)))
    put(folder / "bad.jpg", jpeg()[:500])
    put(folder / "named.jpg", png())
    before = tree(folder)
    for _ in range(2):
        scan(data(folder), memo=tmp_path / "memo" / "known.json")
    assert tree(folder) == before


def test_unchanged_pictures_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memos, "SETTLED", -1)  # these files are younger than what is trusted otherwise
    folder, memo = build(tmp_path / "set", [1, 2, 3]), tmp_path / "known.json"
    put(folder / "bad.png", png()[:-30])
    put(folder / "named.jpg", png())
    first = scan(data(folder), memo=memo)
    assert len(first.findings) == 5
    assert scan(data(folder), memo=memo) == first


def test_other_pixels_of_the_same_size_and_time_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memos, "SETTLED", -1)
    path, memo = put(tmp_path / "set" / "a.bmp", saved(picture(), "BMP")), tmp_path / "known.json"
    first = scan(data(tmp_path / "set"), memo=memo)
    state = path.stat()
    path.write_bytes(saved(picture(seed=1), "BMP"))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert scan(data(tmp_path / "set"), memo=memo).examples[0][0].id != first.examples[0][0].id


def test_a_broken_memo_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memos, "SETTLED", -1)
    folder, memo = build(tmp_path / "set", [1, 2]), tmp_path / "known.json"
    first = scan(data(folder), memo=memo)
    content = memo.read_bytes()
    for broken in (b"", b"{", b"[]", b'{"format": 1}', content[:-9], content.replace(b'"kind"', b'"mind"')):
        memo.write_bytes(broken)
        assert scan(data(folder), memo=memo) == first


def test_a_memo_is_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memos, "SETTLED", -1)
    folder, memo = build(tmp_path / "set", list(range(4))), tmp_path / "known.json"
    first = scan(data(folder), memo=memo)
    memo.write_bytes(memo.read_bytes().replace(first.examples[0][0].id.encode(), b"f" * 64))
    assert scan(data(folder), memo=memo).examples[0][0].id == "f" * 64


def test_files_just_written_are_not_remembered(tmp_path: Path) -> None:
    folder, memo = build(tmp_path / "set", [1, 2]), tmp_path / "known.json"
    scan(data(folder), memo=memo)
    assert not memo.exists()


def test_a_memo_that_cannot_be_kept_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memos, "SETTLED", -1)
    folder = build(tmp_path / "set", [1, 2])
    found = scan(data(folder), memo=put(tmp_path / "file", "x") / "known.json")
    assert "E-DAT-057" in codes(found, "note")


def test_a_memo_inside_a_dataset_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memos, "SETTLED", -1)
    folder = build(tmp_path / "set", [1, 2])
    before = tree(folder)
    found = scan(data(folder), memo=folder / "cache" / "known.json")
    assert codes(found, "note")[-1] == "E-DAT-058"
    assert tree(folder) == before


def test_progress_is_told_picture_by_picture(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    scan(data(build(tmp_path, [1, 2, 4])), progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


def test_a_folder_that_may_not_be_read_is_told(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read every folder")
    put(tmp_path / "a.png")
    put(tmp_path / "shut" / "b.png").parent.chmod(0)
    try:
        found = scan(data(tmp_path))
    finally:
        (tmp_path / "shut").chmod(0o700)
    assert codes(found, "skip") == ["E-DAT-003"]


def test_none_of_this_needs_torch() -> None:
    names = (
        "buckets, captions, companions, decode, examples, findings, folders, memo, metadata, pixels, plan, pools, texts"
    )
    code = f"import sys; from impasto.data import {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_failing_disk_is_tried_thrice_and_then_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sick, flaky = put(tmp_path / "sick.png"), put(tmp_path / "flaky.png", seed=1)
    tries: dict[str, int] = {}
    really = os.open

    def fail(path: object, *rest: object, **more: object) -> int:
        name = os.path.basename(str(path))
        tries[name] = tries.get(name, 0) + 1
        if name == "sick.png" or (name == "flaky.png" and tries[name] < 3):
            raise OSError(errno.EIO, "Input/output error")
        return really(path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "open", fail)
    found = scan(data(tmp_path))
    assert list(by_name(found)) == [flaky.name]
    assert [each.where for each in found.of("skip")] == [str(sick)]
    assert (tries["sick.png"], tries["flaky.png"]) == (3, 3)
    with pytest.raises(DiskError, match="E-IMG-032"):
        found.check(data(tmp_path))
