"""Working on adapter files: other ranks, several as one, into a base, out of a base, other names, faults, norms."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from cyclopts import App

from impasto import files
from impasto.cli.text import columns, number
from impasto.errors import ConfigError, Problem
from impasto.families.config import Precision

if TYPE_CHECKING:
    from impasto.weights.low_rank import Rule
    from impasto.weights.report import Report

app = App(name="weights", help="Work on adapter files: resize, merge, extract, convert, verify, norms.")


@app.command
def resize(
    file: Path,
    /,
    *,
    rank: int | None = None,
    energy: float | None = None,
    frobenius: float | None = None,
    base: str | None = None,
    out: Path | None = None,
    json: bool = False,
) -> None:
    """Write an adapter again with other ranks: the best approximation of what each layer adds, as a plain LoRA.

    Parameters
    ----------
    file
        An adapter: LoRA, LoHa, LoKr or full difference.
    rank
        The rank of every layer; with --energy or --frobenius, the largest.
    energy
        For each layer, the smallest rank that keeps this share of the sum of its squared singular values, as in 0.95.
    frobenius
        The same as a share of the norm of what the layer adds: its square is the energy.
    base
        The base the adapter belongs to, pocket or a folder; needed for LoHa and LoKr.
    out
        The file to write; if not given, FILE-resized.safetensors beside FILE.
    json
        Print JSON, with every layer.
    """
    rule = _needed(_rule(rank, energy, frobenius))
    target = _free(out or file.with_name(f"{file.stem}-resized.safetensors"))
    from impasto.weights.resize import resize as resized

    _tell(resized(file, target, rule, base=base), as_json=json)


@app.command
def merge(
    *file: str,
    out: Path,
    into: str | None = None,
    rank: int | None = None,
    energy: float | None = None,
    frobenius: float | None = None,
    base: str | None = None,
    precision: Precision | None = None,
    config_path: Path | None = None,
    json: bool = False,
) -> None:
    """Make one adapter of several, or a new base of a base and adapters.

    Parameters
    ----------
    file
        Adapter files, each with how strongly it acts if not with 1, as in anna.safetensors:0.8.
    out
        The file to write; with --into a folder or a .safetensors file, as the base is.
    into
        A base to merge the adapters into: pocket, a folder in diffusers' layout, or a single .safetensors file. It
        stays as it is. All kinds of adapters can be merged so.
    rank
        Approximate the sum with this rank; else the ranks of plain LoRAs add up and nothing is lost.
    energy
        For each layer, the smallest rank that keeps this share of the sum of its squared singular values.
    frobenius
        The same as a share of the norm of what the layer adds: its square is the energy.
    base
        The base the adapters belong to, pocket or a folder; needed for LoHa and LoKr.
    precision
        With --into: how the numbers of the new base are held; if not given, as in the old one.
    config_path
        With --into a single file whose measures are not the published ones: a folder that describes them.
    json
        Print JSON, with every layer.
    """
    given = [_weighted(each) for each in file]
    if not given:
        raise _usage(
            "no file is named", "impasto weights merge anna.safetensors bob.safetensors:0.5 --out both.safetensors"
        )
    rule = _rule(rank, energy, frobenius)
    if into is not None:
        if rule is not None or base is not None:
            raise _usage(
                "--into merges exactly, so no rank is chosen", "leave out --rank, --energy, --frobenius, --base"
            )
        _bake(given, into, out, precision, config_path, as_json=json)
        return
    if precision is not None or config_path is not None:
        raise _usage("--precision and --config-path are for a base", "name the base: --into FOLDER or FILE")
    from impasto.weights.combine import combine

    _tell(combine(given, _free(out), rule, base=base), as_json=json)


@app.command
def extract(
    tuned: str,
    base: str,
    /,
    *,
    out: Path,
    rank: int | None = None,
    energy: float | None = None,
    frobenius: float | None = None,
    precision: Precision = "fp16",
    config_path: Path | None = None,
    json: bool = False,
) -> None:
    """Make a LoRA of the difference between two bases: of a fine-tuned one and the one it came from.

    Parameters
    ----------
    tuned
        The fine-tuned base: a folder in diffusers' layout, or a single .safetensors file.
    base
        The one it came from: pocket, a folder or a single file.
    out
        The file to write.
    rank
        The rank of every layer; with --energy or --frobenius, the largest.
    energy
        For each layer, the smallest rank that keeps this share of the sum of its squared singular values.
    frobenius
        The same as a share of the norm of the difference: its square is the energy.
    precision
        How the numbers are written.
    config_path
        For single files whose measures are not the published ones: a folder that describes them.
    json
        Print JSON, with every layer.
    """
    rule = _needed(_rule(rank, energy, frobenius))
    from impasto.weights.extract import extract as extracted

    _tell(extracted(tuned, base, _free(out), rule, precision, config_path=config_path), as_json=json)


@app.command
def convert(
    file: Path, /, *, to: Literal["kohya", "diffusers"], base: str | None = None, out: Path | None = None
) -> None:
    """Write a LoRA with other names for its layers. Its numbers stay the same to the bit.

    Parameters
    ----------
    file
        An adapter file.
    to
        kohya: the names of Kohya's scripts, which most programs read; diffusers: those of diffusers and PEFT.
    base
        The base the adapter belongs to, pocket or a folder, if its layers are not those of Stable Diffusion 1.x.
    out
        The file to write; if not given, FILE-kohya.safetensors or FILE-diffusers.safetensors beside FILE.
    """
    target = _free(out or file.with_name(f"{file.stem}-{to}.safetensors"))
    from impasto.weights.convert import convert as converted

    found = converted(file, target, to, base=base)
    print("\n".join([f"{found.file}: {found.layers} layers", *(f"note: {each}" for each in found.remarks)]))


@app.command
def verify(file: Path, /, *, base: str | None = None) -> None:
    """Tell whether an adapter file will load where it is to be used, and all that is wrong with it; exit code 7 if so.

    Parameters
    ----------
    file
        An adapter file, in whichever layout.
    base
        The base it is to be used with, pocket, a folder or a file: then its names and shapes are held against it.
    """
    from impasto.errors import ModelFileError
    from impasto.weights.verify import verify as verified

    found = verified(file, base)
    print(f"{found.path}: {found.summary}")
    for note in found.notes:
        print(f"note: {note}")
    if found.problems:
        raise ModelFileError(*found.problems)
    print("it loads" if base is None else f"it loads on {base}")


@app.command
def from_pickle(file: Path, /, *, out: Path | None = None) -> None:
    """Write the tensors of an old checkpoint (.ckpt, .pt, .bin) as safetensors. No code in it is run.

    Parameters
    ----------
    file
        The pickle file.
    out
        The file to write; if not given, FILE.safetensors beside FILE.
    """
    target = _free(out or file.with_suffix(".safetensors"))
    if not file.is_file():
        raise _usage(f"there is no file {file.absolute()}", "name the old checkpoint")
    from impasto.weights.unpickle import convert as converted

    print("\n".join(f"note: {each}" for each in converted(file, target)) or f"written: {target}")


@app.command
def norms(file: Path, /, *, picture: Path | None = None, json: bool = False) -> None:
    """Tell how far an adapter moves each block of its model, in numbers and as a picture.

    Parameters
    ----------
    file
        An adapter file.
    picture
        A PNG to draw it into.
    json
        Print JSON, with every layer.
    """
    from impasto.weights import norms as measure

    found = measure.norms(file)
    if picture is not None:
        files.write(_free(picture, "--picture"), measure.picture(found))
    if json:
        print(_dumped(found.json()))
        return
    heads, values = found.table()
    rows = [
        [row.name, str(row.layers), *("" if math.isnan(each) else number(each) for each in norms)]
        for row, norms in zip(found.rows(), values, strict=True)
    ]
    print(columns(["block", "layers", *heads], rows))
    print(f"largest: {found.rows()[-1].largest}")
    if found.untold:
        print(f"note: {found.untold} layers are not counted: how far they move a weight depends on the base")


def _bake(
    given: list[tuple[Path, float]],
    base: str,
    out: Path,
    precision: Precision | None,
    config_path: Path | None,
    *,
    as_json: bool,
) -> None:
    from impasto.weights.bake import bake

    baked = bake(given, base, out, precision=precision, config_path=config_path)
    if as_json:
        told: files.JSON = {"path": str(baked.path), "layers": baked.layers, "left_out": list(baked.left_out)}
        print(_dumped(told))
        return
    print(f"{baked.path}: {baked.layers} layers changed")
    for name in baked.left_out:
        print(f"note: {name} is left out: it would still hold the old numbers")


def _tell(report: Report, *, as_json: bool) -> None:
    if as_json:
        print(_dumped(report.json()))
        return
    rows = [[row.name, str(row.layers), row.before, row.after, f"{row.share:.2%}"] for row in report.rows()]
    print(columns(["block", "layers", "rank before", "rank", "energy kept"], rows))
    for remark in report.remarks:
        print(f"note: {remark}")
    print(f"written: {report.file}")


def _dumped(value: files.JSON) -> str:
    return json.dumps(value, indent=2, allow_nan=False)


def _rule(rank: int | None, energy: float | None, frobenius: float | None) -> Rule | None:
    if rank is not None and rank < 1:
        raise _usage(f"--rank {rank} is no rank", "--rank 8")
    for name, share in (("--energy", energy), ("--frobenius", frobenius)):
        if share is not None and not 0 < share <= 1:  # not so for NaN
            raise _usage(f"{name} {share} is no share between 0 and 1", f"{name} 0.95")
    if energy is not None and frobenius is not None:
        raise _usage("--energy and --frobenius are two ways to say the same", "give one of them")
    if rank is None and energy is None and frobenius is None:
        return None
    from impasto.weights.low_rank import Rule

    return Rule(rank, energy if frobenius is None else frobenius**2)


def _needed(rule: Rule | None) -> Rule:
    if rule is None:
        raise _usage("nothing says which rank to write", "--rank 8, or --energy 0.95 for a rank by layer")
    return rule


def _free(path: Path, option: str = "--out") -> Path:
    """A path that nothing is at yet, in a folder that is there."""
    if path.exists():
        what, fix = f"{path} exists already", "choose another name, or remove it first"
        raise ConfigError(Problem("E-CFG-033", what, f"command line {option}", fix))
    if not path.absolute().parent.is_dir():
        raise _usage(f"there is no folder {path.absolute().parent} to write into", "make it first", option)
    return path


def _weighted(text: str) -> tuple[Path, float]:
    """`anna.safetensors:0.8` as a file and its strength."""
    path, _, strength = text.rpartition(":")
    try:
        given = (Path(path), float(strength)) if path else (Path(text), 1.0)
    except ValueError:
        given = (Path(text), 1.0)
    if not math.isfinite(given[1]):
        raise _usage(f"{text}: no such strength", f"{path}:1.0")
    return given


def _usage(what: str, fix: str, option: str = "") -> ConfigError:
    return ConfigError(Problem("E-CLI-001", what, f"command line {option}".strip(), fix))
