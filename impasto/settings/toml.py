"""TOML in, with the line of every key; single values out."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from impasto.errors import ConfigError, Problem
from impasto.settings.places import Key, Places

LARGEST = 1 << 20
DEEPEST = 32
MOST_VALUES = 20_000


@dataclass(frozen=True)
class Document:
    """A file's values, and the line each key stands on."""

    values: dict[str, Any]
    lines: Mapping[Key, int]


def read(path: Path) -> Document:
    """Read a TOML file, or say all that keeps it from being one."""
    return parse(read_text(path), str(path))


def read_text(path: Path) -> str:
    """The file's text: UTF-8, with or without a byte-order mark, at most 1 MiB."""
    shown = path.absolute()
    try:
        if path.is_dir():
            raise _refuse("E-CFG-001", str(path), f"{shown} is a folder, not a file of settings", "name a .toml file")
        found = path.is_file()
        content = b""
        if found:
            with path.open("rb") as file:
                content = file.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name cannot be used"
        raise _refuse("E-CFG-001", str(path), f"{shown} cannot be read ({reason})", "check the file's rights") from None
    if not found:
        fix = "check the path; `impasto new` writes a file to start from"
        raise _refuse("E-CFG-001", str(path), f"there is no file {shown}", fix)
    if len(content) > LARGEST:
        raise _refuse("E-CFG-002", str(path), "the file is larger than 1 MiB", "is this really a file of settings?")
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise _refuse("E-CFG-002", str(path), "the file is UTF-16 text", "save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise _refuse("E-CFG-002", f"{path}:{line}", "the file is not UTF-8 text", "save it as UTF-8") from None


def parse(text: str, name: str) -> Document:
    """Turn text into values; `name` is what its problems call the file."""
    text = text.replace("\r\n", "\n")
    if too_deep(text):
        raise _refuse("E-CFG-002", name, f"brackets or dotted keys are nested more than {DEEPEST} deep", "flatten it")
    try:
        values = tomllib.loads(text)
    except ValueError as error:  # TOMLDecodeError, and integers with more digits than Python reads
        raise ConfigError(_syntax_problem(str(error), text, name)) from None
    for count, (depth, _) in enumerate(_every_value(values)):
        if depth > DEEPEST or count > MOST_VALUES:
            raise _refuse("E-CFG-002", name, f"more than {MOST_VALUES} values, or deeper than {DEEPEST}", "shorten it")
    return Document(values, Places(text).find())


def parse_value(text: str) -> Any:
    """A single value as TOML would read it. Raises ValueError where it is none."""
    if too_deep(text) or "\n" in text or "\r" in text:
        raise ValueError("not a TOML value")
    parsed = tomllib.loads(f"value = {text}")["value"]
    if isinstance(parsed, date | time):
        raise ValueError("no setting is a date")
    return parsed


def literal(value: object) -> str:
    """The value as TOML writes it."""
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value) if abs(value) < 10**40 else f"a number of {len(hex(value)) * 6 // 5} digits"
        case str() | Path():
            return _quoted(str(value))
        case list() | tuple():
            return "[" + ", ".join(map(literal, value)) + "]"
        case dict():
            return (
                "{" + ", ".join(f"{bare_or_quoted(str(name))} = {literal(each)}" for name, each in value.items()) + "}"
            )
        case date() | time():
            return value.isoformat()
        case float() if 0 < abs(value) < 1e-3:
            return f"{Decimal(repr(value)):e}"  # 1e-4, not 0.0001
        case _:
            return repr(value)


def bare_or_quoted(name: str) -> str:
    """A key as TOML writes it: quoted only where it must be."""
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _quoted(name)


def _quoted(text: str) -> str:
    if "\\" in text and "'" not in text and text.isprintable():
        return f"'{text}'"  # Windows paths stay readable
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _every_value(values: object) -> Iterator[tuple[int, object]]:
    waiting: list[tuple[int, object]] = [(0, values)]
    while waiting:
        depth, value = waiting.pop()
        yield depth, value
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting += [(depth + 1, each) for each in inner]


# --- what is checked before the parser sees the text: its time and stack grow with the nesting -----------------------

_STRING_OR_COMMENT = re.compile(
    r'"""(?:[^\\"]|\\.|"(?!""))*+(?:"""|\\?\Z)'  # each alternative matches even if unfinished: the scan stays linear
    r"|'''.*?(?:'''|\Z)"
    r'|"(?:[^"\\\n]|\\[^\n])*+"?'
    r"|'[^'\n]*'?"
    r"|\#[^\n]*",
    re.DOTALL,
)
_LONG_DOTTED_KEY = re.compile(r'(?<![\w-])(?:(?:[\w-]++|"")[ \t]*+\.[ \t]*+){32}')


def too_deep(text: str) -> bool:
    """Whether brackets or dotted keys nest deeper than any file of settings."""
    plain = _STRING_OR_COMMENT.sub(lambda found: "" if found[0].startswith("#") else '""', text)
    depth = 0
    for bracket in re.finditer(r"[\[\]{}]", plain):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEEPEST:
            return True
    return _LONG_DOTTED_KEY.search(plain) is not None


# --- what is wrong with text that is not TOML ------------------------------------------------------------------------


def _syntax_problem(message: str, text: str, name: str) -> Problem:
    places = Places(text)
    places.find()
    if places.twice and message.startswith(("Cannot", "Duplicate")):
        path, first, second = places.twice
        key = ".".join(map(str, path))[:80]
        return Problem(
            "E-CFG-004", f"given twice, first in line {first}", f"{name}:{second} {key}", "delete one of them"
        )

    lines = text.split("\n")
    found = re.search(r"\(at line (\d+), column (\d+)\)", message)
    line, column = (int(found[1]), int(found[2])) if found else (len(lines), len(lines[-1]) + 1)
    said = re.sub(r" \(at .*\)$", "", message.split(";")[0])
    if message.startswith("Exceeds the limit"):
        said, line, column = "a number has thousands of digits", _line_of_digits(text), 1
    if message.startswith('Expected "\'"') and column == 1:
        line, column = line - 1, len(lines[line - 2]) + 1  # the parser only notices on the next line
    code = lines[line - 1]
    outside_strings = _STRING_OR_COMMENT.sub("", code)
    for sign, what, fix in _SIGNS:
        if sign in outside_strings:
            return Problem("E-CFG-003", what, f"{name}:{line}:{code.index(sign) + 1}", fix)
    return Problem(
        "E-CFG-003", f"this is not TOML: {said[:120]}", f"{name}:{line}:{column}", _syntax_fix(code, message)
    )


_STRAIGHT = 'use straight quotes: "'
_SIGNS = [(mark, f"{mark} is a curly quotation mark", _STRAIGHT) for mark in "“”„‟«»‘’‚"]
_SIGNS += [("\u00a0", "a no-break space stands where a plain one belongs", "type an ordinary space there")]


def _syntax_fix(line: str, message: str) -> str:
    key = re.match(r"\s*([A-Za-z0-9_.-]{1,60})\s*(=|:)\s*(.*)", line)
    if "\\" in line and ("Unescaped" in message or "hex" in message or "escape" in message.lower()):
        return r"put Windows paths in single quotes, 'C:\Users\new', or use /"
    if "Exceeds" in message:
        return "shorten the number"
    if not key:
        return 'each line is `key = value` or `[section]`; text stands in quotes: "text"'
    if key[2] == ":":
        return f"use = instead of a colon: {key[1]} = …"
    if key[3][:1] in ('"', "'") and key[3].count(key[3][:1]) == 1:
        return f"end the text with {key[3][:1]}"
    if not key[3].strip():
        return f"give {key[1]} a value, or delete the line"
    if key[3].strip().lower() in ("true", "false", "yes", "no", "on", "off", "none", "null"):
        return f"{key[1]} = true or {key[1]} = false, in small letters; to leave a setting unset, delete its line"
    if key[3][:1].isalpha() or key[3][:1] in "/~.\\":
        return f'text stands in quotes: {key[1]} = "…"'
    return "text stands in quotes, lists in [ ], numbers have neither"


def _line_of_digits(text: str) -> int:
    found = re.search(r"(?<![0-9_])[0-9_]{4300,}+", text)
    return text.count("\n", 0, found.start()) + 1 if found else 1


def _refuse(code: str, where: str, what: str, fix: str) -> ConfigError:
    return ConfigError(Problem(code, what, where, fix))
