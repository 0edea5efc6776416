"""What the browser is told when something cannot be done: `{"problems": [{code, what, where, fix}]}`."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from starlette.exceptions import HTTPException

from impasto.errors import ConfigError, DataError, DiskError, LockedError, ModelFileError, Problem, UserError

_LONGEST = 20
"""Problems that are told at once."""

_STATUS: dict[type[UserError], int] = {ConfigError: 422, DataError: 422, ModelFileError: 422, LockedError: 409}
_STATUS[DiskError] = 507
_BY_CODE = {"E-QUE-001": 409, "E-QUE-003": 404, "E-QUE-006": 409, "E-RUN-002": 409, "E-RUN-021": 409}


class Told(BaseModel):
    """A problem, as JSON."""

    code: str
    what: str
    where: str = ""
    fix: str = ""


class Problems(BaseModel):
    """What is wrong."""

    problems: list[Told]


class Refused(Exception):
    """A request that is not carried out, with its HTTP status."""

    def __init__(self, status: int, *problems: Problem) -> None:
        super().__init__(str(problems[0]))
        self.status, self.problems = status, problems


def absent(what: str) -> Refused:
    """404: it is not there, or not for the browser; which of both is not told."""
    return Refused(404, Problem("E-WEB-005", "there is nothing of this name", _short(what), "load the page again"))


def told(problems: Sequence[Problem]) -> list[Told]:
    """Problems as JSON: always text that can be written."""
    return [
        Told(code=each.code, what=_plain(each.what), where=_plain(each.where), fix=_plain(each.fix))
        for each in problems[:_LONGEST]
    ]


def answer(status: int, *problems: Problem) -> JSONResponse:
    """The response that tells them."""
    return JSONResponse(Problems(problems=told(problems)).model_dump(), status)


def install(app: FastAPI) -> None:
    """Let every error become such an answer."""

    @app.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> JSONResponse:
        return answer(error.status, *error.problems)

    @app.exception_handler(UserError)
    def mendable(request: Request, error: UserError) -> JSONResponse:
        usual = next((_STATUS[kind] for kind in type(error).__mro__ if kind in _STATUS), 422)
        status = _BY_CODE.get(error.problems[0].code, usual)
        return answer(status, *error.problems)

    @app.exception_handler(RequestValidationError)
    def not_understood(request: Request, error: RequestValidationError) -> JSONResponse:
        found = [
            Problem("E-WEB-006", str(each["msg"]), ".".join(map(str, each["loc"])))
            for each in error.errors()[:_LONGEST]
        ]
        return answer(422, *found)

    @app.exception_handler(HTTPException)
    def plain(request: Request, error: HTTPException) -> JSONResponse:
        code = "E-WEB-005" if error.status_code == 404 else "E-WEB-004" if error.status_code == 413 else "E-WEB-006"
        return answer(error.status_code, Problem(code, str(error.detail)))

    @app.exception_handler(Exception)
    def defect(request: Request, error: Exception) -> JSONResponse:
        return answer(500, Problem("E-WEB-500", "this is a defect of impasto", "", "see where `impasto ui` runs"))

    @app.exception_handler(OSError)
    def refused_by_system(request: Request, error: OSError) -> JSONResponse:
        return answer(422, Problem("E-WEB-014", f"the system refuses: {error.strerror or error}"))

    @app.exception_handler(UnicodeEncodeError)
    def no_text(request: Request, error: UnicodeEncodeError) -> JSONResponse:
        return answer(422, Problem("E-WEB-006", "half a letter (a lone surrogate) is in the request"))


def _plain(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _short(text: str) -> str:
    return text if len(text) <= 100 else f"{text[:99]}…"
