"""Pictures that come from a browser."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from starlette.testclient import TestClient

from impasto.web.security import LARGEST_FILE


def picture(kind: str = "PNG") -> bytes:
    told = io.BytesIO()
    Image.new("RGB", (32, 32), (10, 200, 30)).save(told, kind)
    return told.getvalue()


@pytest.fixture
def folder(client: TestClient) -> str:
    return str(client.post("/api/uploads", json={"name": "my dog"}).json()["id"])


def put(client: TestClient, folder: str, name: str, content: bytes | Iterator[bytes]) -> int:
    headers = {"Content-Type": "application/octet-stream"}
    return client.put(f"/api/uploads/{folder.replace('/', '%2F')}/{name}", content=content, headers=headers).status_code


def test_a_folder_of_pictures_arrives_as_it_was(client: TestClient, folder: str, tmp_path: Path) -> None:
    assert folder == "pictures/my dog"
    assert put(client, folder, "a.png", picture()) == 200
    assert put(client, folder, "a.txt", "a dog, née 2020".encode()) == 200
    assert put(client, folder, "b.JPG", picture("JPEG")) == 200
    found = tmp_path / "pictures" / "my dog"
    assert sorted(each.name for each in found.iterdir()) == ["a.png", "a.txt", "b.JPG"]
    assert (found / "a.png").read_bytes() == picture()
    assert client.post("/api/uploads", json={"name": "my dog"}).json()["id"] == "pictures/my dog-2"


def test_nothing_that_is_there_is_replaced(client: TestClient, folder: str) -> None:
    assert put(client, folder, "a.png", picture()) == 200
    assert put(client, folder, "a.png", picture()) == 200, "the same once more is no quarrel"
    assert put(client, folder, "a.png", picture() + b"more") == 409


@pytest.mark.parametrize(
    ("name", "content", "status"),
    [
        ("a.png", b"<svg onload=alert(1)>", 415),
        ("a.png", picture("JPEG"), 415),
        ("a.png", b"", 415),
        ("a.svg", b"<svg/>", 415),
        ("a.html", b"<script>", 415),
        ("a.toml", b"x = 1", 415),
        ("a.safetensors", b"\0" * 64, 415),
        ("a.txt", b"\xff\xfe", 415),
        ("a.txt", b"x" * 70_000, 413),
        (".hidden.png", picture(), 422),
        ("..%5Ca.png", picture(), 422),
        ("CON.png", picture(), 422),
        ("a%00.png", picture(), 422),
        ("x" * 200 + ".png", picture(), 422),
    ],
)
def test_what_is_no_picture_leaves_nothing(
    client: TestClient, folder: str, tmp_path: Path, name: str, content: bytes, status: int
) -> None:
    assert put(client, folder, name, content) == status
    assert list((tmp_path / "pictures" / "my dog").iterdir()) == []


def test_a_file_that_is_too_large_leaves_nothing(client: TestClient, folder: str, tmp_path: Path) -> None:
    def endless() -> Iterator[bytes]:
        yield picture()
        for _ in range(LARGEST_FILE >> 22):
            yield b"\0" * (1 << 22)

    assert put(client, folder, "a.png", endless()) == 413
    assert list((tmp_path / "pictures" / "my dog").iterdir()) == []


def test_nothing_goes_into_a_folder_that_was_not_made_for_it(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "pictures" / "mine").mkdir()
    for id in ("pictures/mine", "pictures", "runs", "pictures/..", "models", "nowhere/x"):
        assert put(client, id, "a.png", picture()) == 404
    assert list((tmp_path / "pictures" / "mine").iterdir()) == []


@pytest.mark.parametrize("name", ["../evil", "/etc", "a/b", "..", "con", "\x00", "é" * 150, "🐕", "-"])
def test_a_folder_is_named_by_us(client: TestClient, tmp_path: Path, name: str) -> None:
    answer = client.post("/api/uploads", json={"name": name})
    assert answer.status_code == 200
    (made,) = (tmp_path / "pictures").iterdir()
    assert answer.json()["path"] == str(made)


def test_a_disk_that_is_nearly_full_takes_nothing(
    client: TestClient, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = type(shutil.disk_usage("/"))(10**12, 10**12 - 10**6, 10**6)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: full)
    assert put(client, folder, "a.png", picture()) == 507
