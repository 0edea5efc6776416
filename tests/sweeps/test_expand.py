"""What varies becomes runs: which ones, under which names, all checked before anything starts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from impasto.__main__ import main
from impasto.config import load
from impasto.errors import ConfigError, LockedError
from impasto.sweeps import axes, expand, sobol
from impasto.sweeps.folder import SweepFolder

FILE = """
name = "anna"
[[data.sets]]
path = "pictures"
[adapter]
rank = 8
[train]
seed = 3
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    for name in ("pictures", "others"):
        (tmp_path / name).mkdir()
    Path("my.toml").write_text(FILE)
    return "my.toml"


def made(file: str, *given: str) -> list[expand.Run]:
    return expand.runs(expand.read(file, given))


def test_a_grid_is_every_combination_and_names_say_what_differs(file: str) -> None:
    runs = made(file, "adapter.rank=4,16", "optim.learning_rate=5e-5..5e-4:log:3")
    assert [each.name for each in runs] == [
        "anna-rank4-lr5e-5", "anna-rank4-lr1.58e-4", "anna-rank4-lr5e-4",
        "anna-rank16-lr5e-5", "anna-rank16-lr1.58e-4", "anna-rank16-lr5e-4",
    ]  # fmt: skip
    assert [each.config.adapter.rank for each in runs] == [4, 4, 4, 16, 16, 16]  # type: ignore[union-attr]
    assert {each.config.output.folder for each in runs} == {Path("runs/anna-sweep").absolute()}
    assert {each.config.train.seed for each in runs} == {3}


def test_siblings_share_seeds_and_each_variant_has_all_of_them(file: str) -> None:
    runs = made(file, "adapter.rank=4,16", "sweep.seeds=2")
    assert [(each.name, each.config.train.seed, each.variant) for each in runs] == [
        ("anna-rank4-s3", 3, 0), ("anna-rank4-s4", 4, 0), ("anna-rank16-s3", 3, 1), ("anna-rank16-s4", 4, 1),
    ]  # fmt: skip


def test_any_setting_may_vary_kinds_pictures_and_captions_too(file: str) -> None:
    kinds = made(file, "adapter={kind='lora',rank=4},{kind='ia3'}", "data.captions.shuffle=true,false")
    assert [each.name for each in kinds] == [
        "anna-lora-4-shuffle-on", "anna-lora-4-shuffle-off", "anna-ia3-shuffle-on", "anna-ia3-shuffle-off",
    ]  # fmt: skip
    pictures = made(file, "data.sets.0.path=pictures,others", "adapter.kind=lora,loha")
    assert [each.name for each in pictures][:2] == ["anna-pictures-lora", "anna-pictures-loha"]
    assert pictures[2].config.data.sets[0].path == Path("others").absolute()
    assert [each.config.adapter.kind for each in pictures] == ["lora", "loha", "lora", "loha"]


def test_the_section_of_a_file_means_the_same_as_the_command_line(file: str) -> None:
    Path("whole.toml").write_text(
        FILE
        + "[sweep]\nseeds = 2\npick = 3\n[sweep.axes]\nadapter.rank = [4, 16]\n"
        + '"optim.learning_rate" = "1e-4..1e-3:log:3"\n'
    )
    ours = made(file, "adapter.rank=4,16", "optim.learning_rate=1e-4..1e-3:log:3", "sweep.seeds=2", "sweep.pick=3")
    theirs = made("whole.toml")
    assert [(a.name, a.config) for a in ours] == [(b.name, b.config) for b in theirs]
    assert len(ours) == 6


@pytest.mark.parametrize("method", ["random", "sobol"])
def test_a_range_without_a_number_of_values_is_drawn_from(file: str, method: str) -> None:
    given = [f"sweep.method={method}", "sweep.pick=8", "optim.learning_rate=1e-5..1e-3:log", "adapter.rank=4..64"]
    runs = made(file, *given)
    rates = sorted(each.config.optim.learning_rate for each in runs)
    assert len({each.name for each in runs}) == 8
    assert 1e-5 <= rates[0] < rates[-1] <= 1e-3
    assert all(isinstance(each.point["adapter.rank"], int) for each in runs)
    assert [each.point for each in runs] == [each.point for each in made(file, *given)]
    assert [each.point for each in runs] != [each.point for each in made(file, *given, "sweep.dice=1")]


def test_sobol_points_are_those_of_torch() -> None:
    theirs = torch.quasirandom.SobolEngine(sobol.DIMENSIONS).draw(256)
    ours = sobol.points(sobol.DIMENSIONS, None)
    assert torch.equal(torch.tensor([next(ours) for _ in range(256)]), theirs)


def test_a_sweeps_folder_says_all_and_its_file_means_the_same(file: str) -> None:
    plan = expand.read(file, ["adapter.rank=4,16", "data.sets.0.path=pictures,others", "sweep.halving.eta=2"])
    runs = expand.runs(plan)
    folder = SweepFolder.create(plan, runs)
    again = SweepFolder.open(Path("runs/anna-sweep")).plan()
    assert [each.config for each in expand.runs(again)] == [each.config for each in runs]
    assert again.sweep.halving is not None
    assert SweepFolder.create(expand.read(file, ["adapter.rank=4,16", "data.sets.0.path=pictures,others",
                                                 "sweep.halving.eta=2"]), runs) == folder  # fmt: skip
    with pytest.raises(LockedError, match="E-SWP-003"):
        SweepFolder.create(expand.read(file, ["adapter.rank=4,8"]), runs)
    assert folder.state().runs == tuple(each.name for each in runs)
    folder.settings.unlink()  # as a kill leaves it between the two files
    assert SweepFolder.create(plan, runs).plan().sweep == plan.sweep


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["adapter.rank=8"], "nothing varies"),
        (["adapter.rank=4,4"], "given twice"),
        (["adapter.rnk=4,8"], "there is no setting rnk"),
        (["adapter.rank=0,8"], "out of range"),
        (["optim.learning_rate=1e-3..1e-4:log:3"], "does not rise"),
        (["optim.learning_rate=0..1e-4:log:3"], "above 0"),
        (["optim.learning_rate=1e-5..1e-4"], "needs a number of values"),
        (["optim.learning_rate=1e-5..1e-4", "sweep.method=sobol"], "how many combinations"),
        (["train.seed=1,2", "sweep.seeds=2"], "train.seed varies"),
        (["adapter.rank=1..1000:1000", "train.seed=1..9:9"], "more than 1000"),
        (["adapter.rank=4,,8"], "a value is empty"),
        (["adapter.rank=4,8", "sweep.methd=grid"], "there is no setting methd in \\[sweep\\]"),
        (["data.sets.0.path=pictures,gone"], "there is no folder"),
    ],
)
def test_what_cannot_be_swept_is_explained_before_anything_starts(file: str, given: list[str], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        made(file, *given)
    assert not Path("runs").exists()


def test_a_file_of_many_runs_is_not_taken_for_one(file: str) -> None:
    Path("whole.toml").write_text(FILE + "[sweep]\nseeds = 2\n")
    with pytest.raises(ConfigError, match=r"E-SWP-007.*impasto sweep whole\.toml"):
        load("whole.toml")


def test_names_stay_short_unique_and_fit_for_files(file: str) -> None:
    long = ",".join(f"'{'x' * 60} {number}/:?'" for number in range(3))
    runs = made(file, f"output.comment={long}", f"output.author={long}", f"output.license={long}", "sweep.seeds=2")
    found = [each.name for each in runs]
    assert len(set(found)) == len(found) == 54
    assert max(map(len, found)) <= 100


def test_parts_between_commas_heed_brackets_and_quotes() -> None:
    assert list(axes.split("[1,2],{a='x,y'},\"p,q\", 3")) == ["[1,2]", "{a='x,y'}", '"p,q"', "3"]
    assert not axes.is_axis("[4,8]")
    assert not axes.is_axis("../pictures")
    assert axes.is_axis("1..8:4")


def test_a_dry_run_lists_everything_and_trains_nothing(
    file: str, tiny_base: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.engine import forks

    monkeypatch.setenv("XDG_CACHE_HOME", str(Path("cache").absolute()))
    Path("pictures").rmdir()
    forks.pictures(Path("pictures"))
    line = ["sweep", file, "adapter.rank=4,16", f"model.path={tiny_base}", "--halving", "--seeds", "2", "--dry"]
    assert main(line) == 0
    told = capsys.readouterr().out
    assert "4 runs of 2 variants" in told
    assert "anna-rank16-s4  " in told
    assert "of all steps are trained" in told
    assert not Path("runs").exists()
