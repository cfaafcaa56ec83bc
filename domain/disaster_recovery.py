"""Disaster recovery triggers (spec: DR Activation Triggers)."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from domain.model import Model


class IncidentSeverity(StrEnum):
    P1 = "P1"
    P2 = "P2"
    P3 = "P3"


class RecoveryTrigger(Model):
    """When disaster recovery begins, and with what."""

    detection: str
    scope: Literal["region", "global", "database", "system"]
    action: Literal["activate_dr_region", "emergency_procedures", "restore_from_backup", "security_protocol"]
