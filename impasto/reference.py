"""The reference pages, made from the settings themselves: `python -m impasto.reference` writes, `--check` compares."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from impasto import errors
from impasto.compat import page as compat
from impasto.config import json_schema
from impasto.preflight import lint
from impasto.schema import Section
from impasto.settings import fields
from impasto.settings.fields import (
    Choice,
    Either,
    Flag,
    Kinds,
    Listing,
    Number,
    Options,
    Pair,
    Setting,
    Shape,
    Table,
    Text,
)
from impasto.settings.toml import literal
from impasto.sweeps.config import WholeFile

FOLDER = Path("docs/reference")


def pages() -> dict[str, str]:
    """Every generated file by name."""
    return {
        "settings.md": settings_page(),
        "impasto.schema.json": schema_file(),
        "errors.md": errors_page(),
        "kohya-flags.md": compat.page(),
        "advice.md": lint.page(),
    }


def settings_page() -> str:
    """One table for each section."""
    lines = [
        "# Settings",
        "",
        "<!-- made by `python -m impasto.reference`; change the docstrings in the code instead -->",
        "",
        "A file of settings is TOML. Every setting has a default unless it says *required*; *unset* means that it has",
        "no value of its own until you give one. On the command line, `adapter.rank=8` is laid over the file; an empty",
        "value (`train.epochs=`) takes a setting out of it.",
        "",
        "Keys to other services (`hf_…` and the like) are refused: settings are copied into run folders.",
        "",
    ]
    for title, section, help_text in _sections(WholeFile, "", "The top of the file."):
        lines += [f"## {title}", "", help_text, "", *_table(section), ""]
    return "\n".join(lines).rstrip() + "\n"


def schema_file() -> str:
    """The JSON schema for editors."""
    return json.dumps(json_schema(WholeFile), indent=2, ensure_ascii=False) + "\n"


def errors_page() -> str:
    """The exit codes, from the errors' own tree."""
    lines = [
        "# Exit codes and error messages",
        "",
        "<!-- made by `python -m impasto.reference` -->",
        "",
        "A message has a code, a place and a fix, one message a line, all that is wrong at once:",
        "",
        "```",
        'E-CFG-012 my.toml:14 optim.learning_rate: "1e-4x" is not a number. Expected … Fix: learning_rate = 1e-4',
        "```",
        "",
        "| exit code | meaning |",
        "| --- | --- |",
        "| 0 | done |",
        "| 1 | a defect of impasto; the message names a file with the details |",
    ]
    for kind in sorted(errors.UserError.__subclasses__(), key=lambda kind: kind.exit_code):
        lines.append(f"| {kind.exit_code} | {_sentence(kind.__doc__)} |")
    lines += ["| 130, 143 | stopped by a signal; everything is saved and the run can be resumed |", "", *_codes()]
    return "\n".join(lines) + "\n"


CODES = {
    "E-CLI-001": "the command line: an unknown command or option, a missing or unreadable value",
    "E-IMP-001": "to import: nothing in a file or a command line is a setting of a known trainer",
    "E-IMP-002": "to import: JSON or YAML that cannot be read",
    "E-IMP-003": "to import: a script or settings that do not train an adapter",
    "E-IMP-004": "to import: a value of a dataset file is of the wrong type",
    "E-IMP-005": "to import, with --strict: a value that is not carried over",
    "E-CFG-001": "the file of settings is missing, is a folder or may not be read",
    "E-CFG-002": "it is too large, nested too deep or not UTF-8 text",
    "E-CFG-003": "it is not TOML",
    "E-CFG-004": "a setting is given twice",
    "E-CFG-005": "it belongs to another trainer",
    "E-CFG-006": "an argument is not of the form `section.setting=value`, or leads nowhere",
    "E-CFG-007": "it was written by a newer version",
    "E-CFG-008": "it holds a key to a service",
    "E-CFG-009": "it asks for code to be run",
    "E-CFG-010": "no setting has this name here",
    "E-CFG-011": "a setting is missing",
    "E-CFG-012": "a value is of the wrong type",
    "E-CFG-013": "a number is out of range or not finite",
    "E-CFG-014": "a value is none of the choices",
    "E-CFG-015": "text, a path or a list has not the right form",
    "E-CFG-016": "two settings of one section contradict each other",
    "E-CFG-017": "there are more problems than are shown",
    "E-CFG-020": "the run's name cannot be a file's name everywhere",
    "E-CFG-021": "the schedule is longer than the run",
    "E-CFG-022": "no part of the model gets an adapter",
    "E-CFG-023": "every learning rate is 0",
    "E-CFG-024": "a size no model can work with",
    "E-CFG-025": "previews that are needed and not drawn",
    "E-CFG-026": "validation without pictures",
    "E-CFG-027": "no pictures",
    "E-CFG-028": "a set is given twice, or trained and validated on",
    "E-CFG-029": "a folder of pictures is missing, is a file or may not be read",
    "E-CFG-030": "a file of captions is missing",
    "E-CFG-031": "the base model's folder is missing",
    "E-CFG-032": "runs would be written where they must not be",
    "E-CFG-033": "a file to be written exists already",
    "E-CFG-034": "no run of this name",
    "E-CFG-035": "two runs would share a folder",
    "E-CFG-036": "LoRA+ with a kind of adapter that it is not defined for",
    "E-CFG-037": "the text encoder stops, and nothing else is trained",
    "E-CFG-038": "an adapter file to begin with or to merge is missing",
    "E-CFG-091": "a folder of masks is missing",
    "E-CFG-045": "no optimizer of this name",
    "E-CFG-046": "a package that a setting needs is not installed",
    "E-CFG-047": "options that an optimizer of a library does not take",
    "E-CFG-048": "an optimizer of a library that does not resume to the bit",
    "E-CFG-049": "an optimizer of a library that is not what it is called",
    "E-CFG-160": "graphs are to be recorded where steps are not alike",
    "E-CFG-159": "advice is silenced that there is not",
    "E-CFG-176": "single text encoders are to be silent, and the base cannot do without one",
    "E-CFG-178": "products in 8 bits of a base that is not held so",
    "E-CFG-177": "places are to be cut or scaled, and the base has no table of them",
    "E-CFG-170": "adapter files of this kind in a layout that cannot hold it",
    "E-CFG-141": "nothing to keep the base's answers for",
    "E-CFG-140": "an adapter held in bf16 beside a base that computes in something else",
    "E-CFG-142": "an adapter held in bf16 with a schedule-free optimizer",
    "E-CFG-143": "norms are to be trained, and the denoiser that has them is left out",
    "E-SWP-001": "to sweep: what a setting is to be is no list of values and no range",
    "E-SWP-002": "to sweep: nothing varies, or it is not said how many combinations are tried, or they are too many",
    "E-SWP-003": "to sweep: the folder holds a sweep with other settings",
    "E-SWP-004": "to sweep: no folder of a sweep",
    "E-SWP-005": "to sweep: the file of what was decided so far cannot be read",
    "E-SWP-006": "to sweep: halving without a loss to compare runs by",
    "E-SWP-007": "a file with a section [sweep] where one run is asked for",
    "E-SWP-008": "to sweep: a part of the sweep did not come to its end",
    "E-SWP-009": "to sweep: the storage is nothing that can be reached from here",
    "E-SWP-010": "to sweep: the storage cannot be used, or a file on it is damaged",
    "E-SWP-011": "to sweep: a node of the cluster does not see the sweep's folder",
    "E-SWP-012": "to sweep: the cluster has not what a run asks for",
    "E-SWP-013": "to sweep: the cluster cannot be reached",
    "E-CFG-172": "a base held in shares by several ranks, with something that needs all of it in one place",
    "E-CFG-148": "more blocks are to wait in the host's memory than the base can do without, or something needs them",
}
"""What each code of a problem with settings or the command line means."""


def _codes() -> Iterator[str]:
    yield "Codes of problems with settings and the command line:"
    yield ""
    yield "| code | meaning |"
    yield "| --- | --- |"
    for code, meaning in CODES.items():
        yield f"| {code} | {meaning} |"


def _sections(section: type[Section], name: str, help_text: str) -> Iterator[tuple[str, type[Section], str]]:
    yield f"`{name}`" if name else "Top", section, help_text
    for setting in fields.settings(section).values():
        path = setting.name if not name else f"{name.strip('[]')}.{setting.name}"
        header = f"[[{path}]]" if isinstance(setting.shape, Listing) else f"[{path}]"
        inner = fields.inner(setting.shape)
        kinds = [(kind, each) for each in inner if (kind := fields.kind_of(each)) and len(inner) > 1]
        for kind, each in kinds:
            yield f'`{header}` `kind = "{kind}"`', each, fields.help_of(each)
        yield from dict.fromkeys(found for _, each in kinds for found in list(_sections(each, header, ""))[1:])
        for each in () if kinds else inner:
            yield from _sections(each, header, setting.help)


def _table(section: type[Section]) -> Iterator[str]:
    plain = [setting for setting in fields.settings(section).values() if not fields.inner(setting.shape)]
    if plain:
        yield "| setting | value | default | meaning |"
        yield "| --- | --- | --- | --- |"
    for setting in plain:
        meaning = setting.help or fields.help_of(section)
        yield f"| `{setting.name}` | {_cell(values(setting.shape))} | {_default(setting)} | {_cell(meaning)} |"


def values(shape: Shape) -> str:
    """What a setting may hold, briefly."""
    match shape:
        case Flag():
            return "true, false"
        case Number() | Pair():
            return fields.expected(shape).removeprefix("a ")
        case Text(path=True):
            return "path"
        case Text(pattern=pattern):
            return fields.expected(shape) if pattern else fields.expected(shape).replace("text in quotes", "text")
        case Choice(choices):
            return ", ".join(map(fields.repr_choice, choices))
        case Listing(item):
            return f"list of: {values(item)}"
        case Either(options):
            return "; or ".join(map(values, options))
        case Table() | Kinds() | Options():
            return "section"
        case _:
            return "anything"


def _default(setting: Setting) -> str:
    if setting.required:
        return "*required*"
    return "*unset*" if setting.default is None else f"`{literal(setting.default)}`"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _sentence(text: str | None) -> str:
    sentence = " ".join((text or "").split()).rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def stale(folder: Path = FOLDER) -> list[str]:
    """The names of pages that are missing or not as the code would write them now."""
    return [name for name, text in pages().items() if not _same(folder / name, text)]


def _same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_text("utf-8") == text


def main() -> int:
    """Write the pages, or with `--check` say which are out of date."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is out of date")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pages live")
    given = parser.parse_args()
    if given.check:
        for name in (old := stale(given.folder)):
            print(f"{given.folder / name} is out of date: run python -m impasto.reference", file=sys.stderr)
        return 1 if old else 0
    given.folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (given.folder / name).write_text(text, "utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
