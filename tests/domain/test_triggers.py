"""Trigger rules: cron expressions and conditions are checked when they are written."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from domain.disaster_recovery import RecoveryTrigger, parse_detection
from domain.triggers import TriggerRule, check_cron, parse_condition


@pytest.mark.parametrize(
    "cron",
    [
        "0 2 * * *",
        "0 6 * * 1",
        "*/15 8-18 * * mon-fri",
        "0,30 0 1 jan,JUL *",
        "5 4 * * 7",
        "@daily",
        "0 0 1-7/2 * *",
    ],
)
def test_cron_expressions(cron: str) -> None:
    assert check_cron(cron) == cron


@pytest.mark.parametrize(
    ("cron", "because"),
    [
        ("0 2 * *", "has 4 fields"),
        ("0 2 * * * *", "has 6 fields"),
        ("60 2 * * *", "'60' is no minute"),
        ("0 24 * * *", "'24' is no hour"),
        ("0 2 0 * *", "'0' is no day of month"),
        ("0 2 * 13 *", "'13' is no month"),
        ("0 2 * * 8", "'8' is no day of week"),
        ("0 2 * * fridays", "'fridays' is no day of week"),
        ("5-1 2 * * *", "'5-1' is no minute"),
        ("*/0 2 * * *", "'*/0' is no minute"),
        ("-1 2 * * *", "'-1' is no minute"),
        ("1,, 2 * * *", "'' is no minute"),
        ("@reboot", "has 1 fields"),
        ("", "has 0 fields"),
    ],
)
def test_what_would_never_fire_is_refused(cron: str, because: str) -> None:
    with pytest.raises(ValueError, match=r"write for example|write \*") as refused:
        check_cron(cron)
    assert because in str(refused.value)


def test_conditions() -> None:
    assert parse_condition("merged == true") == ("merged", "==", "true")
    assert parse_condition(" base.ref != release/1.x ") == ("base.ref", "!=", "release/1.x")


@pytest.mark.parametrize(
    "condition", ["merged", "merged = true", "merged == ", "merged == true and x == y", "1 == 1"]
)
def test_a_condition_that_cannot_be_read_is_no_rule(condition: str) -> None:
    with pytest.raises(ValidationError, match="merged == true"):
        TriggerRule.model_validate(
            {"trigger": {"event": "pull_request"}, "action": "promote_to_staging", "condition": condition}
        )


@pytest.mark.parametrize(
    ("text", "signal", "comparison"),
    [
        ("health_check_failure >= 50%", "health_check_failure", ">= 50%"),
        ("all_endpoints_down >= 5m", "all_endpoints_down", ">= 5m"),
        ("data_integrity_check == failed", "data_integrity_check", "== failed"),
        ("security_breach_detected", "security_breach_detected", None),
    ],
)
def test_detections(text: str, signal: str, comparison: str | None) -> None:
    assert parse_detection(text) == (signal, comparison)


@pytest.mark.parametrize("detection", ["", "health_check_failure => 50%", "region is down", "> 5m"])
def test_a_detection_that_would_never_trigger_is_refused(detection: str) -> None:
    with pytest.raises(ValidationError):
        RecoveryTrigger.model_validate(
            {"detection": detection, "scope": "region", "action": "activate_dr_region"}
        )
