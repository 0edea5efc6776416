"""Folders of pictures in the browser."""

from __future__ import annotations

import io
import json
import os
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from PIL import Image, ImageDraw, ImageFilter
from starlette.testclient import TestClient

from impasto.web.app import create
from impasto.web.site import Site


def drawn(seed: int, size: tuple[int, int] = (600, 400)) -> Image.Image:
    image = Image.new("RGB", size, (30 * seed % 255, 80, 200))
    brush = ImageDraw.Draw(image)
    for step in range(40):
        left, top = (step * (37 + 11 * seed)) % size[0], (step * (53 + 7 * seed)) % size[1]
        brush.rectangle((left, top, left + 25, top + 18), fill=(step * 6, 255 - step * 5, (seed * 50) % 255))
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures of anna, and something wrong with some of them."""
    made = tmp_path / "pictures" / "anna"
    (made / "more").mkdir(parents=True)
    for number in range(5):
        drawn(number).save(made / f"{number}.png")
        (made / f"{number}.txt").write_text(f"anna, tag {number % 2}, red hat")
    drawn(1).save(made / "copy.jpg", quality=90)
    (made / "copy.txt").write_text("hat, anna's friend")
    drawn(7, (100, 120)).save(made / "more" / "tiny.png")
    drawn(5).filter(ImageFilter.GaussianBlur(4)).save(made / "blurred.png")
    (made / "blurred.caption").write_text("anna")
    (made / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    (made / "broken.txt").write_bytes(b"\xff\xfe\xfa\x00\xd8")
    return made


def get(client: TestClient, route: str, status: int = 200, **query: Any) -> Any:
    answer = client.get(f"/api{route}", params=query)
    assert answer.status_code == status, answer.text
    return answer.json()


def closely(client: TestClient, id: str = "anna") -> Any:
    for _ in range(200):
        told = get(client, f"/datasets/{id}")
        if told["looked"] == told["count"]:
            return told
        time.sleep(0.05)
    raise AssertionError("it did not look at all of them")


def test_folders_of_pictures_in_the_roots_are_there_at_once(client: TestClient, folder: Path) -> None:
    (row,) = get(client, "/datasets")["datasets"]
    assert (row["id"], row["count"], row["captions"]) == ("anna", 9, 7)
    assert row["warnings"] == ["2 pictures have no caption", "1 caption file cannot be read"]


def test_folders_are_added_and_forgotten_and_nothing_is_deleted(client: TestClient, folder: Path) -> None:
    more = client.post("/api/datasets", json={"path": str(folder / "more")}).json()
    assert more["id"] == "more"
    assert client.post("/api/datasets", json={"path": "pictures/anna/more"}).json()["id"] == "more"
    assert [each["id"] for each in client.delete("/api/datasets/anna").json()["datasets"]] == ["more"]
    assert [each["id"] for each in get(client, "/datasets")["datasets"]] == ["more"]
    assert (folder / "0.png").is_file()
    assert client.delete("/api/datasets/anna").status_code == 404


@pytest.mark.parametrize(
    "path", ["/", "/etc", "..", "pictures/..", "pictures/anna/0.png", "models", "\x00", "nothing", "a" * 5000]
)
def test_folders_elsewhere_are_not_to_be_had(client: TestClient, folder: Path, path: str) -> None:
    assert client.post("/api/datasets", json={"path": path}).status_code in (404, 422)
    get(client, "/folders", 404 if len(path) < 4096 else 422, path=path)


def test_a_folder_is_chosen_by_clicks(client: TestClient, folder: Path, tmp_path: Path) -> None:
    (root,) = get(client, "/folders")["folders"]
    assert root["path"] == str(tmp_path / "pictures")
    inner = get(client, "/folders", path=root["path"])
    assert (inner["parent"], [(each["name"], each["pictures"]) for each in inner["folders"]]) == ("", [("anna", 8)])
    (tmp_path / "pictures" / "link").symlink_to(tmp_path)
    assert len(get(client, "/folders", path=root["path"])["folders"]) == 1


def test_a_page_tells_captions_sizes_tags_and_issues(client: TestClient, folder: Path) -> None:
    told = closely(client)
    found = {each["id"]: each for each in told["pictures"]}
    assert found["0.png"] == {
        "id": "0.png", "name": "0.png", "width": 600, "height": 400, "size": (folder / "0.png").stat().st_size,
        "caption": "anna, tag 0, red hat", "tags": ["anna", "tag 0", "red hat"], "issues": [],
    }  # fmt: skip
    assert {id: each["issues"] for id, each in found.items() if each["issues"]} == {
        "blurred.png": ["blurred"],
        "broken.png": ["broken", "bad_caption"],
        "copy.jpg": ["no_trigger", "duplicate"],
        "more/tiny.png": ["no_caption", "tiny"],
    }
    assert (told["trigger"], told["tags"][0]) == ("anna", {"tag": "anna", "count": 6})
    assert all(each["fix"] for each in told["issues"])
    assert get(client, "/datasets/anna/copies")["groups"] == [["1.png", "copy.jpg"]]


def test_pages_are_filtered_and_sorted(client: TestClient, folder: Path) -> None:
    closely(client)

    def ids(**query: Any) -> list[str]:
        return [each["id"] for each in get(client, "/datasets/anna", **query)["pictures"]]

    assert ids(query="FRIEND") == ["copy.jpg"]
    assert ids(tag="tag 1") == ["1.png", "3.png"]
    assert ids(issue="tiny") == ["more/tiny.png"]
    assert len(ids(issue="any")) == 4
    assert ids(offset=1, limit=2) == ["1.png", "2.png"]
    assert ids(sort="longest", limit=1) == ["0.png"]
    assert ids(trigger="red hat", issue="no_trigger") == ["blurred.png", "copy.jpg"]
    get(client, "/datasets/none", 404)


def test_what_is_known_of_pictures_is_remembered_by_the_next_server(
    client: TestClient, site: Site, folder: Path
) -> None:
    closely(client)
    headers = dict(client.headers)
    for _ in range(100):
        kept = [json.loads(each.read_bytes())["seen"] for each in (site.cache / "pictures").glob("*.json")]
        if kept and len(kept[0]) == 9:
            break
        time.sleep(0.05)
    (memo,) = (site.cache / "pictures").glob("*.json")
    before = memo.stat().st_mtime_ns
    with TestClient(create(site), base_url=str(client.base_url), headers=headers) as other:
        assert get(other, "/datasets/anna")["looked"] >= 8, "at once; one is held back until copies are told"
        closely(other)
        assert get(other, "/datasets/anna")["looked"] == 9
    assert memo.stat().st_mtime_ns == before, "nothing was looked at anew"


def test_tags_and_their_company(client: TestClient, folder: Path) -> None:
    told = get(client, "/datasets/anna/tags")
    assert {"a": "anna", "b": "red hat", "count": 5} in told["pairs"]


def test_a_picture_is_shown_small_and_nothing_else_is(client: TestClient, folder: Path, tmp_path: Path) -> None:
    answer = client.get("/api/datasets/anna/pictures/more/tiny.png?w=96")
    assert Image.open(io.BytesIO(answer.content)).size == (96, 115)
    assert client.get("/api/datasets/anna/pictures/more%2Ftiny.png").status_code == 200
    secret = tmp_path / "secret.png"
    drawn(3).save(secret)
    (folder / "link.png").symlink_to(secret)
    (folder / "out").symlink_to(tmp_path / "models")
    drawn(4).save(tmp_path / "models" / "theirs.png")
    for wrong in (
        "link.png",
        "out/theirs.png",
        "../../secret.png",
        "0.txt",
        "%2e%2e/%2e%2e/secret.png",
        str(secret),
        "broken.png",
    ):
        assert client.get(f"/api/datasets/anna/pictures/{wrong}").status_code == 404, wrong
    assert "link.png" not in {each["id"] for each in get(client, "/datasets/anna", query="link")["pictures"]}


def test_a_picture_as_training_sees_it(client: TestClient, folder: Path) -> None:
    drawn(0).save(folder / "0-mask.png")
    (folder / "0.txt").write_text("anna, " + ", ".join(f"word{number}" for number in range(60)))
    told = get(client, "/datasets/anna/pictures/0.png/as-trained", resolution=64)
    assert told["bucket"] == [80, 48]
    assert told["crop"] == pytest.approx({"left": 0.0, "top": 15.0, "width": 600.0, "height": 360.0}, abs=6)
    cut = [each["cut"] for each in told["tokens"]]
    assert (told["limit"], any(cut), cut == sorted(cut)) == (75, True, True)
    assert "".join(each["text"] for each in told["tokens"]).startswith("anna,word0")
    get(client, "/datasets/anna/pictures/0.png/as-trained", 404, base="../../etc")
    toml = (
        f'[[data.sets]]\npath = "{folder}"\nresolution = 128\n[data.captions]\nprefix = "sks "\nmissing = "empty"\n'
        'shuffle = true\n[data.augment]\nflip = true\n[data.masks]\nsuffix = "-mask"\nmissing = "whole"\n'
    )
    told = client.post("/api/datasets/anna/as-trained", json={"pic": "0.png", "toml": toml}).json()
    assert (told["flip"], told["by_dice"], told["mask"], told["changes"]) == (True, False, "0-mask.png", True)
    assert told["caption"].startswith("sks anna")
    assert max(told["bucket"]) > 128
    outside = client.post("/api/datasets/anna/as-trained", json={"pic": "0.png", "toml": '[model]\npath = "/etc/x"'})
    assert (outside.status_code, outside.json()["problems"][0]["code"]) == (422, "E-WEB-007")
    get(client, "/datasets/anna/pictures/broken.png/as-trained", 422)


def test_captions_are_saved_and_taken_back(client: TestClient, folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    told = client.put(
        "/api/datasets/anna/captions",
        json={"changes": {"0.png": "new", "more/tiny.png": "tiny\nsecond line", "blurred.png": "b"}, "version": 0},
    )
    assert told.json() == {"saved": 3, "version": 1}
    assert (folder / "more" / "tiny.txt").read_text() == "tiny\nsecond line"
    assert (folder / "blurred.caption").read_text() == "b"
    assert get(client, "/datasets/anna", query="second")["pictures"][0]["caption"] == "tiny\nsecond line"
    assert client.post("/api/datasets/anna/undo").json() == {"undone": 3, "version": 2}
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    assert client.post("/api/datasets/anna/undo").status_code == 422


def test_captions_made_of_an_older_version_are_refused(client: TestClient, folder: Path) -> None:
    client.put("/api/datasets/anna/captions", json={"changes": {"0.png": "new"}})
    answer = client.put("/api/datasets/anna/captions", json={"changes": {"0.png": "newer"}, "version": 0})
    assert (answer.status_code, (folder / "0.txt").read_text()) == (409, "new")
    assert client.put("/api/datasets/anna/captions", json={"changes": {"../x.png": "a"}}).status_code == 404


def test_a_change_of_many_is_shown_before_it_is_saved(client: TestClient, folder: Path) -> None:
    told = client.post(
        "/api/datasets/anna/captions/preview", json={"find": "red", "replace": "blue", "pics": ["0.png", "1.png"]}
    )
    assert told.json()["changes"]["1.png"] == {"before": "anna, tag 1, red hat", "after": "anna, tag 1, blue hat"}
    assert told.json()["count"] == 2
    assert client.post("/api/datasets/anna/captions/preview", json={"find": "(", "regex": True}).status_code == 422
    assert (folder / "1.txt").read_text() == "anna, tag 1, red hat"


def test_a_first_page_of_two_thousand_pictures_comes_quickly(client: TestClient, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "many"
    folder.mkdir()
    told = io.BytesIO()
    drawn(1, (64, 64)).save(told, "PNG")
    for number in range(2000):
        (folder / f"{number:04d}.png").write_bytes(told.getvalue())
        (folder / f"{number:04d}.txt").write_text(f"anna, number {number}")
    client.post("/api/datasets", json={"path": str(folder)})
    begun = time.process_time()
    page = get(client, "/datasets/many", limit=200)
    assert (page["count"], len(page["pictures"])) == (2000, 200)
    assert time.process_time() - begun < 3.0
    os.utime(folder / "0000.txt")


NAMES = [
    b"<img src=x onerror=alert(1)>.png",
    b"\xff\xfe.png",
    b"a b#?&.png",
    "ﬀé\u202e.png".encode(),
    b"$(id);'\".png",
]


def test_pictures_of_any_name_are_listed_shown_and_captioned(client: TestClient, tmp_path: Path) -> None:
    folder = tmp_path / "pictures" / "odd"
    folder.mkdir()
    for name in NAMES:
        drawn(1, (64, 64)).save(os.path.join(os.fsencode(folder), name), "PNG")
    found = get(client, "/datasets/odd")["pictures"]
    assert len(found) == len(NAMES)
    for each in found:
        shown = client.get(f"/api/datasets/odd/pictures/{quote(each['id'], safe='')}?w=96")
        assert (shown.status_code, shown.headers["content-type"]) == (200, "image/webp"), each["id"]
    changes = {each["id"]: f"caption {at}" for at, each in enumerate(found)}
    assert client.put("/api/datasets/odd/captions", json={"changes": changes}).json()["saved"] == len(NAMES)
    told = {each["id"]: each["caption"] for each in get(client, "/datasets/odd")["pictures"]}
    assert told == changes
    assert client.post("/api/datasets/odd/undo").json()["undone"] == len(NAMES)
    assert sorted(os.listdir(os.fsencode(folder))) == sorted(NAMES)
