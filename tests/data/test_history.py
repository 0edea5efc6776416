"""Captions written with a way back."""

from __future__ import annotations

from pathlib import Path

import pytest

from impasto.data.history import History
from impasto.errors import DataError


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "ours")


def test_what_was_saved_is_taken_back_to_the_byte(tmp_path: Path, history: History) -> None:
    old, new = tmp_path / "old.txt", tmp_path / "new.txt"
    old.write_bytes("\ufeffhällo\r\n".encode())
    assert history.save({old: "bye", new: "fresh"}, "two") == 2
    assert (old.read_bytes(), new.read_bytes()) == (b"bye\n", b"fresh")
    assert history.version() == 1
    assert history.undo() == 2
    assert old.read_bytes() == "\ufeffhällo\r\n".encode()
    assert not new.exists()
    assert history.version() == 2
    assert [(each.what, each.changed, each.undone) for each in history.steps()] == [("two", 2, True)]


def test_steps_are_taken_back_one_after_the_other(tmp_path: Path, history: History) -> None:
    file = tmp_path / "a.txt"
    for text in ("1", "2", "3"):
        history.save({file: text}, text)
    history.undo()
    history.undo()
    assert file.read_text() == "1"
    history.save({file: "4"}, "4")
    history.undo()
    history.undo()
    assert not file.exists()
    with pytest.raises(DataError, match="nothing to take back"):
        history.undo()


def test_what_is_the_same_is_not_written(tmp_path: Path, history: History) -> None:
    file = tmp_path / "a.txt"
    file.write_text("same\n")
    assert history.save({file: "same", tmp_path / "none.txt": ""}, "") == 0
    assert history.version() == 0
    assert not (tmp_path / "none.txt").exists()


def test_what_somebody_else_wrote_since_is_not_taken_back(tmp_path: Path, history: History) -> None:
    one, two = tmp_path / "1.txt", tmp_path / "2.txt"
    history.save({one: "a", two: "b"}, "")
    two.write_text("theirs")
    with pytest.raises(DataError, match=r"2\.txt"):
        history.undo()
    assert (one.read_text(), two.read_text()) == ("a", "theirs")


def test_a_save_that_was_interrupted_is_taken_back(tmp_path: Path, history: History) -> None:
    one, folder = tmp_path / "1.txt", tmp_path / "gone"
    folder.mkdir()
    two = folder / "2.txt"
    two.write_text("before")
    real = History._write

    class Cut(Exception):
        pass

    def cut(*args: object, **more: object) -> None:
        real(*args, **more)  # type: ignore[arg-type]
        raise Cut

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(History, "_write", cut)
        with pytest.raises(Cut):
            history.save({one: "a", two: "b"}, "")
    one.write_bytes(b"a")
    assert history.undo() == 2
    assert not one.exists()
    assert two.read_text() == "before"


def test_a_link_is_not_written_through(tmp_path: Path, history: History) -> None:
    outside, link = tmp_path / "outside", tmp_path / "a.txt"
    outside.write_text("theirs")
    link.symlink_to(outside)
    with pytest.raises(DataError):
        history.save({link: "mine", tmp_path / "b.txt": "x"}, "")
    assert outside.read_text() == "theirs"
    assert not (tmp_path / "b.txt").exists()
