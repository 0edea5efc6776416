"""YAML as plain values: no object is made of it, nothing is expanded, and a name stands once in a table."""

from __future__ import annotations

from typing import Any

from impasto.errors import ConfigError, Problem
from impasto.settings import toml

FIX = "write it without, or correct the line"


def parse(text: str, name: str) -> Any:
    """The values. What is wrong is told with its line."""
    import yaml

    if toml.too_deep(text):
        raise _refuse(name, f"nested more than {toml.DEEPEST} deep")
    try:
        for event in yaml.parse(text, Loader=yaml.SafeLoader):
            if isinstance(event, yaml.AliasEvent):
                raise _refuse(f"{name}:{event.start_mark.line + 1}", "a value that stands for another one (*name)")
        return yaml.load(text, Loader=_loader())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise _refuse(where, f"this is not YAML that can be read: {error.problem or error.context}") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise _refuse(name, f"this is not YAML that can be read: {str(error)[:200]}") from None


def _loader() -> Any:
    """The safe loader, which also refuses a name that stands twice."""
    import yaml

    class Once(yaml.SafeLoader):  # type: ignore[misc]
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            names = [key.value for key, _ in node.value]
            twice = next((key for at, (key, _) in enumerate(node.value) if key.value in names[:at]), None)
            if twice is not None:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{twice.value} stands twice in a table", twice.start_mark
                )
            return super().construct_mapping(node, deep)

    return Once


def _refuse(where: str, what: str) -> ConfigError:
    return ConfigError(Problem("E-IMP-002", what, where, FIX))
