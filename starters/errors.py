"""What the command line answers when it cannot do what was asked: a sentence, a remedy, an exit code."""

from __future__ import annotations

from enum import IntEnum

import typer
from pydantic import BaseModel, ValidationError

from workflows.conversion import explain


class ExitCode(IntEnum):
    """The contract with scripts and CI (design, section 4)."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REJECTED = 3
    INTERRUPTED = 130


class CommandError(typer.TyperException):
    """A command that ends without success: why, and what helps.

    Attributes:
        remedy: what the person can do about it; empty if nothing can be said.
        exit_code: see `ExitCode`.
    """

    def __init__(self, message: str, *, remedy: str = "", exit_code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(message)
        self.remedy = remedy
        self.exit_code = exit_code


def usage_error(message: str, *, remedy: str = "") -> CommandError:
    """The command cannot be carried out as it was typed; nothing was sent."""
    return CommandError(message, remedy=remedy, exit_code=ExitCode.USAGE)


def invalid_input(error: ValidationError, model: type[BaseModel]) -> CommandError:
    """A model refused what was typed: field, value and remedy in one sentence."""
    return usage_error(explain(error, model))
