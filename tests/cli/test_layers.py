"""`impasto layers`: what will be adapted, told before anything is trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from impasto.__main__ import main
from impasto.config import RunConfig
from impasto.engine import layers


def config(base: Path, **sections: object) -> RunConfig:
    return RunConfig.model_validate({"model": {"path": str(base)}, **sections})


def test_layers_that_are_alike_share_a_line(
    tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "a.toml"
    file.write_text(f'model.path = "{tiny_base}"\n[adapter.blocks]\nmid_rates = 0.5\n[[adapter.rules]]\nrole = "mlp"\n'
                    "rank = 8\n", "utf-8")  # fmt: skip
    picture = tmp_path / "a.png"
    assert main(["layers", str(file), "adapter.alpha=2", "--picture", str(picture)]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["block", "role", "layers", "rank", "alpha", "scale", "rate"]
    assert ["4", "mid", "attention", "8", "4", "2", "0.5", "5e-05"] in lines
    assert ["4", "mid", "mlp", "2", "8", "2", "0.25", "5e-05"] in lines
    assert ["text_encoder", "mlp", "4", "8", "2", "0.25", "0.0001"] in lines
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_json_names_every_layer(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", f"model.path={tiny_base}", "optim.lora_plus=16", "adapter.targets.text_encoder=false",
                 "--json"]) == 0  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    assert {row["part"] for row in told} == {"unet"}
    assert told[0]["name"].startswith("lora_unet_down_blocks_0_attentions_0_")
    assert (told[0]["block"], told[0]["stage"], told[0]["rank"], told[0]["rate"]) == (1, "down", 4, 1e-4)
    assert told[0]["plus"] == pytest.approx(1.6e-3)


def test_the_outline_has_the_layers_of_the_loaded_base(tiny_base: Path, tiny_family) -> None:  # type: ignore[no-untyped-def]
    from impasto import families
    from impasto.families import detect
    from impasto.families.config import Model

    drawn = families.outline(detect.look(Model(path=str(tiny_base))))
    held = tiny_family.targets()
    assert [(each.name, each.role, each.block, each.base.weight.shape) for each in drawn] == [
        (each.name, each.role, each.block, each.base.weight.shape) for each in held
    ]


def test_kinds_without_a_rank_are_drawn_too(tiny_base: Path) -> None:
    from impasto.engine import plots

    rows = layers.look(config(tiny_base, adapter={"kind": "oft"}))
    assert {row.rank for row in rows} == {None}
    assert plots.blocks(rows, title="oft").startswith(b"\x89PNG")


def test_a_list_of_the_wrong_length_is_an_error_here_too(tiny_base: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["layers", f"model.path={tiny_base}", "adapter.blocks.ranks=[4, 4]"]) == 2
    assert "the base has 9 blocks" in capsys.readouterr().err
