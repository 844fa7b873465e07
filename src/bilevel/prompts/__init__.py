"""Prompts as text files: `render("propose_ask", ...)` fills in one."""

from __future__ import annotations

from functools import cache
from importlib import resources
from string import Template


@cache
def _template(name: str) -> Template:
    return Template((resources.files(__package__) / f"{name}.md").read_text(encoding="utf-8"))


def render(name: str, /, **values: object) -> str:
    """The prompt of that name with its `$fields` filled in. Raises KeyError for a missing one."""
    return _template(name).substitute(values)
