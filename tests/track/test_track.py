"""A run's curves elsewhere: each point once, whatever happens to the run or to the tracker."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pydantic import ValidationError

import impasto
from impasto import checks, events
from impasto.__main__ import main
from impasto.config import RunConfig
from impasto.events import EventLog, Preview, Resumed, Started, Step, Validated
from impasto.runs import control
from impasto.runs.folder import RunFolder
from impasto.track.config import Track
from impasto.track.follow import Follow, write
from impasto.track.points import Point, points
from impasto.track.tensorboard import TensorBoard
from tests.engine import forks


def step(at: int, loss: float | None) -> Step:
    return Step(step=at, epoch=0, loss=loss, rates={"unet": 1e-4}, norm=0.5, time=1000.0 + at)


def read(folder: Path) -> tuple[dict[str, list[tuple[int, float]]], dict[str, list[tuple[int, bytes]]]]:
    """What TensorBoard itself sees in a folder of logs: curves and pictures."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    seen = EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0})
    seen.Reload()
    tags = seen.Tags()
    curves = {tag: [(each.step, each.value) for each in seen.Scalars(tag)] for tag in tags["scalars"]}
    pictures = {tag: [(each.step, each.encoded_image_string) for each in seen.Images(tag)] for tag in tags["images"]}
    return curves, pictures


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    Image.new("RGB", (24, 16), "red").save(tmp_path / "4-0.png")
    measured = Validated(step=4, losses={"100": 0.5, "900": 1.5}, training={"100": 0.25, "900": 0.75})
    told = [step(3, 0.25), step(4, None), measured, Preview(step=4, file="4-0.png", prompt=0)]
    board = TensorBoard(tmp_path / "logs", tmp_path)
    assert board.begin(0) == {}
    assert write(board, told, tmp_path, {}) == 5 + 4 + 7 + 1
    board.close()
    curves, pictures = read(tmp_path / "logs")
    assert curves["train/loss"] == [(3, 0.25)], "a loss that is no number is no point"
    assert curves["rate/unet"] == [(3, pytest.approx(1e-4)), (4, pytest.approx(1e-4))]
    assert curves["validation/held_out"] == [(4, 1.0)]
    assert curves["validation/gap"] == [(4, 0.5)]
    assert curves["validation_held_out/at_900"] == [(4, 1.5)]
    assert pictures == {"preview/0": [(4, (tmp_path / "4-0.png").read_bytes())]}


def test_a_picture_that_is_gone_is_left_out(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path / "logs", tmp_path)
    board.begin(0)
    assert write(board, [Preview(step=4, file="4-0.png", prompt=0)], tmp_path, {}) == 0


def test_steps_that_are_taken_back_are_replaced_and_others_stand(tmp_path: Path) -> None:
    board, tags = TensorBoard(tmp_path / "logs", tmp_path), ("a", "b")
    board.begin(0)
    board.write([Point(tag, at, 1000.0 + at, float(at)) for at in range(1, 9) for tag in tags if tag == "a" or at < 4])
    board.close()
    again = TensorBoard(tmp_path / "logs", tmp_path)
    assert again.begin(5) == {"a": 5, "b": 3}
    again.write([Point("a", at, 2000.0 + at, -float(at)) for at in range(6, 11)])
    again.close()
    last = TensorBoard(tmp_path / "logs", tmp_path)
    assert last.begin(10) == {"a": 10, "b": 3}, "what it was taken back to and went on from"
    last.close()
    curves = read(tmp_path / "logs")[0]
    assert curves["a"] == [(at, float(at) if at < 6 else -float(at)) for at in range(1, 11)]
    assert curves["b"] == [(at, float(at)) for at in range(1, 4)]


def test_a_file_that_a_kill_cut_off_is_gone_on_with(tmp_path: Path) -> None:
    board = TensorBoard(tmp_path / "logs", tmp_path)
    board.begin(0)
    for at in range(1, 5):
        board.write([Point("a", at, 1000.0, float(at))])
    board.close()
    (file,) = (tmp_path / "logs").iterdir()
    file.write_bytes(file.read_bytes()[:-3])
    again = TensorBoard(tmp_path / "logs", tmp_path)
    assert again.begin(4) == {"a": 3}
    again.write([Point("a", 4, 2000.0, 4.0)])
    again.close()
    assert read(tmp_path / "logs")[0]["a"] == [(at, float(at)) for at in range(1, 5)]


def test_runs_that_share_a_folder_do_not_take_each_others_points_for_theirs(tmp_path: Path) -> None:
    for name in ("one", "other"):
        board = TensorBoard(tmp_path / "logs", tmp_path / name)
        assert board.begin(9) == {}
        board.write([Point("a", 1, 1000.0, 1.0)])
        board.close()


def test_what_is_told_of_later_steps_and_taken_back_before_it_follows_is_never_sent(tmp_path: Path) -> None:
    told = tmp_path / "events.jsonl"
    with EventLog(told) as log:
        log.write(Started(run="a", steps=9))
        for at in range(1, 7):
            log.write(step(at, 1.0))
        log.write(Resumed(step=4))
        follow = Follow(TensorBoard(tmp_path / "logs", tmp_path), told, tmp_path, step=4)
        log.write(step(5, 2.0))
        follow.close()
    assert follow.failure == ""
    assert read(tmp_path / "logs")[0]["train/loss"] == [*((at, 1.0) for at in range(1, 5)), (5, 2.0)]


def config(base: Path, pictures: Path, **track: Any) -> RunConfig:
    return RunConfig.model_validate(
        {
            "name": "anna",
            "model": {"path": str(base)},
            "data": {"sets": [{"path": str(pictures)}]},
            "adapter": {"targets": {"text_encoder": False}},
            "train": {"steps": 6},
            "save": {"proof": "off", "every_steps": 2},
            "preview": {"prompts": [{"text": "a", "steps": 1, "width": 16, "height": 16}], "every_steps": 3},
            "output": {"folder": str(pictures.parent / "runs")},
            "device": {"threads": 1},
            "track": {"to": ["tensorboard"], **track},
        }
    )


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    return forks.pictures(tmp_path / "pictures")


def train(run: RunConfig, pictures: Path, stop: int = 0) -> Path:
    def ask(folder: Path, event: events.Event) -> None:
        if isinstance(event, Step) and event.step == stop:
            control.ask(RunFolder(folder), "stop")

    return impasto.train([run], cache=pictures.parent / "cache", show=ask)[0]


def test_a_training_with_a_stop_sends_each_point_once(tiny_base: Path, pictures: Path) -> None:
    run = config(tiny_base, pictures, folder=str(pictures.parent / "logs"))
    train(run, pictures, stop=3)
    folder = train(run, pictures)
    told = impasto.history(folder)
    curves, drawn = read(pictures.parent / "logs" / "anna")
    losses = [(each.step, pytest.approx(each.loss)) for each in told if isinstance(each, Step)]
    assert curves["train/loss"] == losses
    assert len(losses) == 6
    assert [at for at, _ in drawn["preview/0"]] == [0, 3, 6]
    assert any(isinstance(each, events.Noted) and "tensorboard --logdir" in each.text for each in told)
    assert main(["runs", "export", str(folder), "--to", "tensorboard"]) == 0
    assert read(pictures.parent / "logs" / "anna")[0]["train/loss"] == losses


def test_a_tracker_that_fails_ends_no_training_and_is_told_of_once(tiny_base: Path, pictures: Path) -> None:
    (pictures.parent / "logs").write_text("a file where a folder should be")
    folder = train(config(tiny_base, pictures, folder=str(pictures.parent / "logs")), pictures)
    told = impasto.history(folder)
    assert isinstance(next(each for each in reversed(told) if isinstance(each, events.Finished)), events.Finished)
    (warning,) = [each for each in told if isinstance(each, events.Warned) and each.code == "W-TRK-001"]
    assert "`impasto runs export anna --to tensorboard` sends it later" in warning.text
    assert RunFolder(folder).final.is_file()


def past(tmp_path: Path) -> Path:
    """A run that is over, as its folder tells."""
    run = RunConfig.model_validate({"name": "anna", "output": {"folder": str(tmp_path)}})
    folder = RunFolder.create(tmp_path / "anna", impasto.config.dump(run), {})
    Image.new("RGB", (24, 16), "red").save(folder.previews / "2-0.png")
    with EventLog(folder.events) as log:
        for at in range(1, 4):
            log.write(step(at, 1.0 / at))
        log.write(Preview(step=2, file="2-0.png", prompt=0))
        log.write(Validated(step=3, losses={}, training={"500": 0.5}))
    return folder.path


def test_a_run_as_a_table_has_a_row_for_each_step(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = past(tmp_path)
    assert main(["runs", "export", str(run), "--to", "csv"]) == 0
    assert str(run / "metrics.csv") in capsys.readouterr().out
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3"]
    assert [float(row["train/loss"]) for row in rows] == [1.0, 0.5, 1 / 3]
    assert [row["validation/training"] for row in rows] == ["", "", "0.5"]


def test_weights_and_biases_gets_a_run_once(tmp_path: Path) -> None:
    """With its own package, without its service; in a process of its own, as it leaves threads behind."""
    run = past(tmp_path)
    here = {**os.environ, "WANDB_MODE": "offline", "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-m", "impasto", "runs", "export", str(run), "--to", "wandb", "--project", "loras"]
    said = [subprocess.run(command, check=True, env=here, capture_output=True, text=True).stdout for _ in range(2)]
    assert "sent 18 points: wandb sync" in said[0]
    assert "nothing new to send" in said[1]
    counts = [path.read_bytes().count(b"train/loss") for path in sorted((run / "wandb").glob("offline*/*.wandb"))]
    assert len(counts) == 2
    assert counts[0] >= 3 > counts[1] == 0
    assert list((run / "wandb").glob("offline*/files/media/images/**/*.png"))


def test_a_missing_package_is_told_before_the_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(checks, "find_spec", lambda name: None)
    found = checks.check(RunConfig(track=Track(to=("wandb",))))
    (told,) = [str(each) for each in found if each.code == "E-CFG-046"]
    assert told.startswith("E-CFG-046 track.to: runs are sent to Weights & Biases by the package wandb, which is not")
    assert told.endswith("Fix: pip install wandb")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"to": ["mlflow"]}, "'tensorboard' or 'wandb'"),
        ({"options": {"resume": "never"}}, "what can be said to it is entity"),
        ({"project": "a/b"}, "should match pattern"),
        ({"name": "a/../b"}, "should match pattern"),
        ({"name": ""}, "should match pattern"),
    ],
)
def test_what_cannot_be_said_to_a_tracker_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Track.model_validate(given)


def test_a_name_that_leads_elsewhere_names_nothing_elsewhere(tmp_path: Path) -> None:
    (point,) = points(Preview(step=1, file="../../secret.png", prompt=0), tmp_path)
    assert point.value == tmp_path / "secret.png"
