"""The commands that measure do what they say, on a miniature; how fast anything was is nobody's test."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from impasto.bench import card, compare, feeding, figures, fleets, ours, roofline, saving, scan, start, step
from impasto.bench.clock import Clock
from impasto.bench.figures import Figure, Report
from impasto.cli.main import run
from impasto.errors import ConfigError
from impasto.families import bare, detect, medium
from impasto.families.config import Model
from impasto.store import Store


def report(*values: float, name: str = "a step", better: str = "less", what: str = "step") -> Report:
    figure = Figure.model_validate({"name": name, "unit": "s", "values": values, "better": better})
    return Report(what=what, machine=figures.machine(1), asked={"batch": 1}, figures=[figure])


def test_a_step_takes_turns_with_both_loops_and_is_held_against_the_machine(tiny_base: Path, tmp_path: Path) -> None:
    found = step.measured(
        step.Asked(rounds=2, rank=2, resolution=16, base=str(tiny_base), device="cpu", precision="fp32"), tmp_path
    )
    for name in ("impasto", "bare", "documented"):
        assert len(found[f"{name}, a step"].values) == 2
    ours_, bare = found["impasto, a step"].values, found["bare, a step"].values
    assert found["impasto to bare"].values == [a / b for a, b in zip(ours_, bare, strict=True)]
    assert 0 < found["adapter, both ways"].median < found["forward of the base"].median
    assert found["limit of a step"].median < min(ours_)


def test_all_three_loops_train_as_many_numbers(tiny_base: Path, tmp_path: Path) -> None:
    from impasto.bench import peers

    folder = ours.pictures(tmp_path / "pictures", 2, 16)
    task = peers.Task(tiny_base, folder, 16, 1, 2, 1e-3, torch.device("cpu"), torch.float32)
    theirs = roofline.size(peers.Parts.load(task).trained())
    config = ours.settings(
        folder, name="x", model={"path": str(tiny_base)}, train={"steps": 1}, device=ours.device("cpu", 0),
        adapter={"rank": 2, "targets": {"text_encoder": False, "layers": "attention"}}, data={"resolution": 16},
    )  # fmt: skip
    counts: list[int] = []
    ours.trained(
        [config], Store(tmp_path / "store"), Clock(torch.device("cpu")),
        lambda trainer: counts.append(roofline.size(list(trainer.members[0].adapter.parameters()))),
    )  # fmt: skip
    assert set(counts) == {theirs}


def test_what_is_computed_is_counted_apart() -> None:
    first, frozen, own = nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False), nn.Linear(8, 8, bias=False)
    first.requires_grad_(True)
    frozen.requires_grad_(False)
    x = torch.randn(4, 8, requires_grad=True)
    product = 2 * 4 * 8 * 8
    work = roofline.counted(
        lambda: frozen(x), lambda: frozen(x) + own(x), lambda: (frozen(x) + own(x)).sum().backward()
    )
    assert (work.forward, work.adapter, work.backward) == (product, 3 * product, product)


def test_the_base_made_for_measuring_is_of_the_size_that_is_told(tmp_path: Path) -> None:
    card = detect.look(Model(path=str(medium.write(tmp_path / "base", channels=(32, 32, 32, 32)))))
    assert (card.resolution, card.factor, card.channels) == (256, 8, 4)


def test_a_card_is_measured_with_each_way_beside_the_plain_loop() -> None:
    asked = card.Asked(
        bases=("small-flux",), rounds=2, rank=2, members=(1,), largest=1, backend="eager", precision="fp32",
        threads=1, device="cpu",
    )  # fmt: skip
    found = card.measured(asked)
    ways = [
        f"batch 1, {who}"
        for who in ("diffusers and peft", "impasto", "impasto compiled", "impasto fp8", "impasto compiled fp8")
    ]
    for way in ways:
        steps = found[f"small-flux, {way}: steps"]
        assert len(steps.values) == 2
        assert 0 < found[f"small-flux, {way}: share of the peak"].median < 100
        assert found[f"small-flux, {way}: memory"].median > 0
    assert [line.partition(":")[0] for line in card.compared(found)] == [f"small-flux, {way}" for way in ways[1:]]
    assert found.notes == []


def test_the_largest_batch_that_fits_and_members_at_once_are_measured_too() -> None:
    asked = card.Asked(
        bases=("small",), rounds=1, rank=2, members=(1, 2), largest=2, compiled=False, fp8=False, device="cpu"
    )
    found = card.measured(asked)
    names = [each.name for each in found.figures]
    assert "small, batch 2, impasto: steps" in names
    assert "small, batch 4, impasto: steps" not in names
    two = found["small, 2 members: pictures"].values
    assert two == pytest.approx([2 * each for each in found["small, 2 members: steps"].values])


@pytest.mark.parametrize(("name", "billions"), [("sd15", 0.86), ("sdxl", 2.57), ("flux-1024", 11.9)])
def test_denoisers_to_measure_with_are_as_large_as_published(name: str, billions: float) -> None:
    numbers = sum(each.numel() for each in bare.outline(bare.SIZES[name]).parameters())
    assert numbers / 1e9 == pytest.approx(billions, rel=0.01)


def test_pictures_are_read_scanned_and_saved(tiny_base: Path, tmp_path: Path) -> None:
    read = feeding.measured(
        feeding.Asked(pictures=4, side=32, resolution=16, rounds=1, base=str(tiny_base), device="cpu"), tmp_path / "a"
    )
    assert read["read from the cache"].median > 0
    seen = scan.measured(scan.Asked(pictures=70, side=16, rounds=1), tmp_path / "b")
    assert {each.name for each in seen.figures} >= {"nothing known", "all known"}
    saved = saving.measured(saving.Asked(rounds=2, rank=2, base=str(tiny_base), device="cpu"), tmp_path / "c")
    assert len(saved["a checkpoint"].values) == 2
    assert saved["size of a checkpoint"].median > 0


def test_processes_of_their_own_tell_of_start_and_fleets(tmp_path: Path) -> None:
    one = {"marks": {"torch": (1.0, 0.5), "started": (2.0, 1.0), "first step": (3.0, 1.5), "end": (10.0, 5.0)}}
    warm = start._figures("", 0, [(1.5, 1.0)], {"cold": [one], "warm": [one]})
    assert {each.name: each.median for each in warm}["warm, beyond the imports"] == 1.5
    steps = {"wall": [9.0, 9.0, 1.0], "processor": [9.0, 9.0, 0.5], "memory": 100}
    both = {"marks": {"end": (20.0, 10.0)}, "wall": [9.0, 9.0, 2.0], "processor": [9.0, 9.0, 1.0], "memory": 150}
    told = {each.name: each.median for each in fleets._figures(4, [both], [{**one, **steps}], 10)}
    assert told["4 at once against one after the other"] == 2.0
    assert told["4 at once, a step alone against one after the other, processor"] == 2.0
    assert told["4 at once, memory against one"] == 1.5


def test_only_what_moves_by_more_than_its_noise_is_told() -> None:
    quiet, noisy = report(1.0, 1.01, 0.99), report(1.0, 1.5, 0.7)
    assert [row.verdict for row in compare.rows(quiet, report(1.1, 1.11, 1.09))] == ["worse"]
    assert [row.verdict for row in compare.rows(quiet, report(0.9, 0.91, 0.89))] == ["better"]
    assert [row.verdict for row in compare.rows(noisy, report(1.1, 1.11, 1.09))] == [""]
    assert [row.verdict for row in compare.rows(report(2.0, better="more"), report(4.0, better="more"))] == ["better"]


def test_a_history_says_what_moved_against_the_last_ones(tmp_path: Path) -> None:
    history = tmp_path / "history.jsonl"
    assert compare.remember(history, report(1.0)) == []
    assert compare.remember(history, report(1.02)) == []
    assert compare.remember(history, report(9.0, what="scan")) == []
    (line,) = compare.remember(history, report(1.5))
    assert line.startswith("a step: 1.01 -> 1.5 s")
    assert len(history.read_text("utf-8").splitlines()) == 4


def test_two_reports_are_compared_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, value in (("a", 1.0), ("b", 2.0)):
        figures.write(tmp_path / f"{name}.json", report(value))
    line = ["bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "b.json"), "--page", str(tmp_path / "p.html")]
    run(line)
    assert "a step: 1 -> 2 s (+100.0%" in capsys.readouterr().out
    assert "worse" in (tmp_path / "p.html").read_text("utf-8")
    (tmp_path / "c.json").write_text("{}", "utf-8")
    with pytest.raises(ConfigError, match="no report"):
        figures.read(tmp_path / "c.json")
    figures.write(tmp_path / "d.json", report(1.0, what="scan"))
    with pytest.raises(ConfigError, match="bench scan"):
        run(["bench", "compare", str(tmp_path / "a.json"), str(tmp_path / "d.json")])


def test_a_command_prints_a_table_and_writes_its_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "scan.json"
    run(["bench", "scan", "--pictures", "3", "--side", "16", "--rounds", "1", "--out", str(out)])
    assert "nothing known" in capsys.readouterr().out
    assert figures.read(out).asked["pictures"] == 3
