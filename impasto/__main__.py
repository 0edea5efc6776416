"""The outermost function: whatever happens, the user reads what to do, and the process ends with the right code."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from datetime import datetime
from io import TextIOWrapper
from pathlib import Path

from impasto.errors import Stopped, UserError
from impasto.settings.secrets import without_secrets

INTERRUPTED = 130
PIPE_CLOSED = 141
DEFECT = 1


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code of the process (see impasto.errors)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # consoles that do not know a letter still show the line
    try:
        from impasto.cli.main import run

        run([each for each in given if each != "--debug"])
        sys.stdout.flush()
        return 0
    except UserError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return _after(error.exit_code, debug)
    except Stopped as stopped:
        print(f"impasto: {stopped}; the same command goes on from the last save", file=sys.stderr)
        return _after(stopped.exit_code, debug)
    except KeyboardInterrupt:
        return _after(INTERRUPTED, debug)
    except BrokenPipeError:  # as in `impasto runs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return PIPE_CLOSED
    except Exception as error:
        print(f"impasto: this is a defect of impasto: {_short(error)}", file=sys.stderr)
        print(f"impasto: the details for a report are in {_written(given)}", file=sys.stderr)
        return _after(DEFECT, debug)


def _after(code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    return code


def _short(error: Exception) -> str:
    return without_secrets(f"{type(error).__name__}: {error}".splitlines()[0][:200])


def _written(arguments: Sequence[str]) -> str:
    """Keep the traceback where it can be found again, without keys to services in it."""
    report = f"impasto {' '.join(arguments)}\nPython {sys.version}\n\n{traceback.format_exc()}"
    name = f"impasto-defect-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.txt"
    for folder in (Path(tempfile.gettempdir()), Path.cwd()):
        try:
            (folder / name).write_text(without_secrets(report), "utf-8", errors="backslashreplace")
            return str(folder / name)
        except OSError:
            continue
    return "no file (none could be written); run it again with --debug"


if __name__ == "__main__":
    sys.exit(main())
