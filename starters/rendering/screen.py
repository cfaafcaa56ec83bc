"""Where a command's words go: people's to the terminal, a program's as JSON to stdout."""

from __future__ import annotations

import json
import sys
from typing import Any

from pydantic import BaseModel
from rich.console import Console, RenderableType
from rich.text import Text

from starters.rendering.text import clean

LOG_WIDTH = 100
"""Columns where no terminal says how many there are."""


class Screen:
    """Where a command's words go: people's to stdout, or to stderr when stdout carries JSON."""

    def __init__(self, *, as_json: bool) -> None:
        self.as_json = as_json
        self.console = console(sys.stderr if as_json else sys.stdout)
        self.diagnostics = console(sys.stderr)

    def show(self, *parts: RenderableType) -> None:
        """For people only; with ``--json`` nothing."""
        if not self.as_json:
            for part in parts:
                self.console.print(part, soft_wrap=isinstance(part, Text))

    def note(self, text: str) -> None:
        """A diagnostic: for people, never part of the answer."""
        self.diagnostics.print(Text(clean(text), style="dim"), soft_wrap=True)

    def document(self, answer: BaseModel | dict[str, Any] | list[Any]) -> None:
        """The one JSON document of the command; without ``--json`` nothing."""
        if self.as_json:
            print_json(answer)


def console(stream: Any) -> Console:
    """A console on a stream, as wide as its terminal; 100 columns in a log."""
    made = Console(file=stream, highlight=False)
    return made if made.is_terminal else Console(file=stream, highlight=False, width=LOG_WIDTH)


def print_json(answer: BaseModel | dict[str, Any] | list[Any]) -> None:
    """Write one JSON document to stdout."""
    value = answer.model_dump(mode="json") if isinstance(answer, BaseModel) else answer
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
