"""What a pickle says, without doing what it says.

A pickle is a program for a small machine with a stack. Here that machine is written out once more, and the
instructions that would import or call something only note what they name: nothing outside of this file is ever
looked up, so there is nothing to run. No memory is set aside on the word of the file either.

`Global` is a name that was not looked up, `Made` is what a call would have returned. Whoever reads the result decides
which of them mean a tensor.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

MOST_BYTES: Final = 128 * 2**20
"""Bytes of the longest pickle that is read. One of a large checkpoint with its optimizer has about 5 MiB."""

MOST_STEPS: Final = 20_000_000
"""Instructions of the longest pickle that is read."""


class PickleError(Exception):
    """A pickle that is damaged, or made to be."""


@dataclass(frozen=True)
class Global:
    """Something by its name, which is not looked up."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True)
class Held:
    """What lies outside of the pickle, by what it says of it: for torch, a storage."""

    key: object


@dataclass(eq=False)
class Made:
    """What a call would have made: what is called, with what; and what it would have been told afterwards."""

    by: object
    arguments: object
    state: object = None


class Limited:
    """A file of which only so many bytes are read."""

    def __init__(self, file: IO[bytes], most: int = MOST_BYTES) -> None:
        self._file, self._left = file, most

    def read(self, size: int = -1) -> bytes:
        found = self._file.read(min(size, self._left + 1) if size >= 0 else self._left + 1)
        return self._counted(found)

    def readline(self, limit: int = -1) -> bytes:
        return self._counted(self._file.readline(min(limit, self._left + 1) if limit >= 0 else self._left + 1))

    def _counted(self, found: bytes) -> bytes:
        self._left -= len(found)
        if self._left < 0:
            raise PickleError(f"its description has more than {MOST_BYTES:,} bytes")
        return found


def read(file: Limited) -> object:
    """The next object in a file of pickles. Raises PickleError."""
    try:
        return _Machine().run(_steps(file))
    except PickleError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, AttributeError, AssertionError) as error:
        raise PickleError(f"its description is damaged ({type(error).__name__})") from error


def globals_in(root: object) -> list[Global]:
    """Everything that was named, each once, in order."""
    return list(dict.fromkeys(each for each in walk(root) if isinstance(each, Global)))


def walk(root: object) -> Iterator[object]:
    """Every value inside of a value, itself too; those that hold themselves are gone through once."""
    seen: set[int] = set()
    waiting = [root]
    while waiting:
        value = waiting.pop()
        if isinstance(value, (list, dict, tuple, Made, Held)):
            if id(value) in seen:
                continue
            seen.add(id(value))
        yield value
        match value:
            case list() | tuple():
                waiting += reversed(value)
            case dict():
                waiting += [each for pair in reversed(value.items()) for each in reversed(pair)]
            case Made():
                waiting += [value.state, value.arguments, value.by]
            case Held():
                waiting.append(value.key)


def _steps(file: Limited) -> Iterator[tuple[str, Any]]:
    for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):  # type: ignore[arg-type]
        if count >= MOST_STEPS:
            raise PickleError(f"its description has more than {MOST_STEPS:,} steps")
        yield opcode.name, argument


_MARK: Final = object()

NEW: dict[str, Callable[[], object]] = {
    "NONE": lambda: None, "NEWTRUE": lambda: True, "NEWFALSE": lambda: False, "EMPTY_TUPLE": tuple,
    "EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_SET": list, "MARK": lambda: _MARK,
}  # fmt: skip
PLAIN = {
    "INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8", "UNICODE", "BINUNICODE", "SHORT_BINUNICODE",
    "BINUNICODE8", "FLOAT", "BINFLOAT",
}  # fmt: skip


class _Machine:
    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._memo: dict[int, object] = {}

    def run(self, steps: Iterator[tuple[str, Any]]) -> object:
        for name, argument in steps:
            if name == "STOP":
                return self._pop()
            self._step(name, argument)
        raise PickleError("its description has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in NEW:
            self._stack.append(NEW[name]())
        elif name in PLAIN:
            self._stack.append(argument)
        elif name in ("BINGET", "LONG_BINGET", "GET"):
            self._stack.append(self._memo[argument])
        elif name in ("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"):
            self._memo[len(self._memo) if name == "MEMOIZE" else argument] = self._top()
        elif name in ("TUPLE", "LIST", "DICT", "FROZENSET", "TUPLE1", "TUPLE2", "TUPLE3"):
            self._collect(name)
        elif name in ("APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS"):
            self._fill(name)
        elif name in ("POP", "POP_MARK", "DUP"):
            self._shuffle(name)
        elif name not in ("PROTO", "FRAME"):
            self._note(name, argument)

    def _collect(self, name: str) -> None:
        match name:
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                items = [self._pop() for _ in range(int(name[-1]))][::-1]
            case _:
                items = self._to_mark()
        match name:
            case "LIST":
                self._stack.append(items)
            case "DICT":
                self._stack.append(_paired(items))
            case _:
                self._stack.append(tuple(items))

    def _fill(self, name: str) -> None:
        match name:
            case "APPEND":
                items = [self._pop()]
            case "SETITEM":
                value, key = self._pop(), self._pop()
                items = [key, value]
            case _:
                items = self._to_mark()
        into = self._top()
        if isinstance(into, Made):  # an object that is filled after it was made: an OrderedDict is, and may be others
            into.state = into.state if isinstance(into.state, dict) else {}
            if name in ("SETITEM", "SETITEMS"):
                into.state.update(_paired(items))
        elif isinstance(into, dict):
            into.update(_paired(items))
        elif isinstance(into, list):
            into += items
        else:
            raise PickleError("its description fills what cannot be filled")

    def _shuffle(self, name: str) -> None:
        match name:
            case "POP":
                self._stack.pop()
            case "POP_MARK":
                self._to_mark()
            case _:
                self._stack.append(self._top())

    def _note(self, name: str, argument: Any) -> None:
        """What a pickle would look up or call."""
        match name:
            case "GLOBAL":
                module, _, attribute = argument.partition(" ")
                self._stack.append(Global(module, attribute))
            case "STACK_GLOBAL":
                attribute, module = self._pop(), self._pop()
                if not (isinstance(module, str) and isinstance(attribute, str)):
                    raise PickleError("its description names what has no name")
                self._stack.append(Global(module, attribute))
            case "EXT1" | "EXT2" | "EXT4":
                self._stack.append(Global("copyreg", f"extension {argument}"))
            case "REDUCE" | "NEWOBJ":
                arguments, by = self._pop(), self._pop()
                self._stack.append(_made(by, arguments))
            case "NEWOBJ_EX":
                named, arguments, by = self._pop(), self._pop(), self._pop()
                self._stack.append(Made(by, (arguments, named)))
            case "INST":
                module, _, attribute = argument.partition(" ")
                self._stack.append(Made(Global(module, attribute), tuple(self._to_mark())))
            case "OBJ":
                by, *arguments = self._to_mark()
                self._stack.append(Made(by, tuple(arguments)))
            case "BUILD":
                state, built = self._pop(), self._top()
                if isinstance(built, Made):
                    built.state = state if built.state is None else [built.state, state]
            case "BINPERSID":
                self._stack.append(Held(self._pop()))
            case "PERSID":
                self._stack.append(Held(argument))
            case _:
                raise PickleError(f"its description has a step that no checkpoint has ({name})")

    def _top(self) -> Any:
        if not self._stack or self._stack[-1] is _MARK:
            raise PickleError("its description takes what is not there")
        return self._stack[-1]

    def _pop(self) -> Any:
        found = self._top()
        self._stack.pop()
        return found

    def _to_mark(self) -> list[Any]:
        at = next((at for at in range(len(self._stack) - 1, -1, -1) if self._stack[at] is _MARK), None)
        if at is None:
            raise PickleError("its description takes what is not there")
        items = self._stack[at + 1 :]
        del self._stack[at:]
        return items


ORDERED = Global("collections", "OrderedDict")


def _made(by: object, arguments: object) -> object:
    """The result of a call that is noted; an ordered dict is a dict, because a dict keeps its order."""
    if by == ORDERED and isinstance(arguments, tuple) and len(arguments) <= 1:
        pairs = arguments[0] if arguments else []
        if isinstance(pairs, dict):
            return dict(pairs)
        if isinstance(pairs, list) and all(isinstance(each, (list, tuple)) and len(each) == 2 for each in pairs):
            return _paired([each for pair in pairs for each in pair])
    return Made(by, arguments)


def _paired(items: list[Any]) -> dict[Hashable, Any]:
    if len(items) % 2:
        raise PickleError("its description has a key without a value")
    found: dict[Hashable, Any] = {}
    for key, value in zip(items[::2], items[1::2], strict=True):
        plain = isinstance(key, (str, int, float, bool, bytes, type(None), Global))
        found[key if plain else f"<{type(key).__name__} {len(found)}>"] = value
    return found
