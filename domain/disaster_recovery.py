"""Disaster recovery triggers (spec: DR Activation Triggers)."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator

from domain.conditions import parse_expression
from domain.model import Model


class IncidentSeverity(StrEnum):
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


def parse_detection(text: str) -> tuple[str, str | None]:
    """Read ``all_endpoints_down >= 5m`` as ``("all_endpoints_down", ">= 5m")``; a bare name is an event.

    Raises:
        ValueError: it is neither a name nor a comparison.
    """
    if re.fullmatch(r"\s*[a-z_][a-z0-9_]*\s*", text):
        return text.strip(), None
    return parse_expression(text)


def _checked_detection(text: str) -> str:
    parse_detection(text)
    return text


class RecoveryTrigger(Model):
    """When disaster recovery begins, and with what.

    Attributes:
        detection: the signal, and how far it must go: ``health_check_failure >= 50%``.
        scope: what is affected.
        action: the plan that is carried out.
    """

    detection: Annotated[str, AfterValidator(_checked_detection)]
    scope: Literal["region", "global", "database", "system"]
    action: Literal["activate_dr_region", "emergency_procedures", "restore_from_backup", "security_protocol"]
