"""flagd's JSON: what its own evaluator makes of a share, and that nothing else of the document changes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openfeature.contrib.tools.flagd.core import FlagdCore
from openfeature.evaluation_context import EvaluationContext
from pydantic import ValidationError

from domain.feature_flags import (
    FlagError,
    FlagRollout,
    NoSuchFlagError,
    check_rollout,
    flag_in,
    foreign_targeting,
    share_of,
    with_share,
)
from domain.json_text import members

SEARCH = FlagRollout(flag="new-search")

DOCUMENT = """{
  "$schema": "https://flagd.dev/schema/v0/flags.json",
  "flags": {
    "banner": { "state": "ENABLED",   "variants": {"on": true, "off": false},
                "defaultVariant": "on" },
    "new-search": {
      "state": "DISABLED",
      "variants": { "on": true, "off": false },
      "defaultVariant": "off"
    },
    "umlaut": {"state":"ENABLED","variants":{"ä":"ö","\\u00fc":"x"},"defaultVariant":"ä"}
  },
  "$evaluators": { "staff": {"in": ["@example.com", {"var": "email"}]} }
}
"""
WITH_RULES = {
    "state": "ENABLED",
    "variants": {"on": True, "off": False},
    "defaultVariant": "off",
    "targeting": {"if": [{"$ref": "staff"}, "on", None]},
}


def document_of(flag: dict[str, Any], **layout: Any) -> str:
    return json.dumps({"flags": {"new-search": flag}}, **layout)


def let_in(document: str, rollout: FlagRollout) -> set[str]:
    """Which of 2000 users flagd's evaluator gives the flag to; ``anonymous`` is one without a user."""
    flagd = FlagdCore()
    flagd.set_flags(document)
    contexts = {"anonymous": EvaluationContext()}
    for number in range(2000):
        user = f"user{number}@example.com"
        contexts[user] = (
            EvaluationContext(targeting_key=user)
            if rollout.targeting_key == "targetingKey"
            else EvaluationContext(attributes={rollout.targeting_key: user})
        )
    return {
        user
        for user, context in contexts.items()
        if flagd.resolve_boolean_value(rollout.flag, True, context).value
    }


@pytest.mark.parametrize("targeting_key", ["targetingKey", "email"])
def test_flagd_lets_in_as_many_users_as_asked_and_keeps_them(targeting_key: str) -> None:
    rollout = FlagRollout(flag="new-search", targeting_key=targeting_key)
    document, inside = DOCUMENT, set[str]()

    for percentage in (10, 50):
        document = with_share(document, rollout, percentage)
        now = let_in(document, rollout)
        assert 0.8 * percentage < len(now) / 20 < 1.2 * percentage
        assert inside < now
        assert "anonymous" not in now
        inside = now

    assert len(let_in(with_share(document, rollout, 100), rollout)) == 2001
    assert let_in(with_share(document, rollout, 0), rollout) == set()


def test_flags_choose_different_users() -> None:
    banner = FlagRollout(flag="banner")
    document = with_share(with_share(DOCUMENT, SEARCH, 10), banner, 10)

    both = let_in(document, SEARCH) & let_in(document, banner)

    assert len(both) < 60  # one percent; were it the same users for each flag, it would be ten


@pytest.mark.parametrize("percentage", [1, 10, 50, 99])
def test_a_share_is_taken_of_the_users_and_everybody_unknown_stays_out(percentage: int) -> None:
    flag = flag_in(with_share(DOCUMENT, SEARCH, percentage), "new-search")

    assert flag["state"] == "ENABLED"
    assert flag["defaultVariant"] == "off"  # no targeting key: the rule gives nothing, the default counts
    assert flag["targeting"] == {
        "if": [
            {"var": "targetingKey"},
            {
                "fractional": [
                    {"cat": [{"var": "$flagd.flagKey"}, {"var": "targetingKey"}]},
                    ["on", percentage],
                    ["off", 100 - percentage],
                ]
            },
        ]
    }
    assert share_of(flag, SEARCH) == percentage


@pytest.mark.parametrize(("percentage", "variant"), [(0, "off"), (100, "on")])
def test_all_or_nobody_needs_no_targeting(percentage: int, variant: str) -> None:
    half_open = with_share(DOCUMENT, SEARCH, 50)

    flag = flag_in(with_share(half_open, SEARCH, percentage), "new-search")

    assert flag == {
        "state": "ENABLED",  # a disabled flag would leave its clients to the default in their code
        "variants": {"on": True, "off": False},
        "defaultVariant": variant,
    }
    assert share_of(flag, SEARCH) == percentage


def test_a_change_leaves_every_other_character_as_it_is() -> None:
    opened = with_share(DOCUMENT, SEARCH, 10)
    changed = [(a, b) for a, b in zip(DOCUMENT.splitlines(), opened.splitlines(), strict=False) if a != b]

    assert changed[0] == ('      "state": "DISABLED",', '      "state": "ENABLED",')
    assert opened.startswith(DOCUMENT[: DOCUMENT.index('"DISABLED"')])
    assert opened.endswith(DOCUMENT[DOCUMENT.index('    "umlaut"') :])
    assert with_share(opened, SEARCH, 0) == DOCUMENT.replace("DISABLED", "ENABLED")


@pytest.mark.parametrize("layout", [{}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}])
@pytest.mark.parametrize(
    "order",
    [
        ("targeting", "state", "defaultVariant", "variants"),
        ("variants", "targeting", "state", "defaultVariant"),
        ("variants", "defaultVariant", "state", "targeting"),
        ("variants", "targeting"),
        ("targeting", "variants"),
    ],
)
def test_every_layout_and_order_of_members_can_be_changed(
    order: tuple[str, ...], layout: dict[str, Any]
) -> None:
    document = document_of({key: WITH_RULES[key] for key in order}, **layout)

    for percentage in (0, 10, 50, 100, 0):
        document = with_share(document, SEARCH, percentage)
        flag = flag_in(document, "new-search")
        assert share_of(flag, SEARCH) == percentage
        assert flag["variants"] == WITH_RULES["variants"]
        assert ("targeting" in flag) == (percentage in (10, 50))


def test_flags_as_an_array_are_known_too() -> None:
    listed = {"flags": [{"key": "other", **WITH_RULES}, {"key": "new-search", **WITH_RULES, "targeting": {}}]}

    after = json.loads(with_share(json.dumps(listed), SEARCH, 10))

    assert after["flags"][0] == listed["flags"][0]
    assert share_of(after["flags"][1], SEARCH) == 10


def test_rules_of_somebody_else_are_not_overwritten_by_a_roll_out() -> None:
    with pytest.raises(FlagError, match=r"targeting rules of its own.*staff.*feature_flags"):
        check_rollout(WITH_RULES, SEARCH)
    assert foreign_targeting(WITH_RULES) == WITH_RULES["targeting"]
    assert share_of(WITH_RULES, SEARCH) is None


def test_an_earlier_roll_out_with_other_settings_is_ours_to_replace() -> None:
    by_email = FlagRollout(flag="new-search", targeting_key="email")
    flag = flag_in(with_share(DOCUMENT, by_email, 30), "new-search")

    check_rollout(flag, SEARCH)

    assert foreign_targeting(flag) is None
    assert share_of(flag, by_email) == 30
    assert share_of(flag, SEARCH) is None  # a share of other users: it cannot be compared


@pytest.mark.parametrize("missing", ["on", "off"])
def test_a_missing_variant_is_named(missing: str) -> None:
    variants = {name: value for name, value in WITH_RULES["variants"].items() if name != missing}  # type: ignore[attr-defined]

    with pytest.raises(FlagError, match=rf"no variant '{missing}'.*feature_flags.{missing}"):
        check_rollout({"state": "ENABLED", "variants": variants}, SEARCH)


def test_a_kill_switch_without_an_off_variant_disables_the_flag() -> None:
    document = document_of({"state": "ENABLED", "variants": {"on": True}, "defaultVariant": "on"})

    flag = flag_in(with_share(document, SEARCH, 0), "new-search")

    assert flag["state"] == "DISABLED"
    assert share_of(flag, SEARCH) == 0


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("flags:\n  new-search: {}", "no JSON"),
        ("[]", "not flagd's"),
        ('{"flags": 3}', "not flagd's"),
        ('{"flags": {"new-search": {}, "new-search": {}}}', "more than once"),
        ('{"flags": {"new-search": true}}', "no object"),
    ],
)
def test_a_document_that_is_not_flagds_is_left_alone(document: str, said: str) -> None:
    with pytest.raises(FlagError, match=said):
        with_share(document, SEARCH, 10)


def test_twins_elsewhere_in_the_document_hold_no_kill_switch_up() -> None:
    # given a flag that is on, in a document where somebody has written two others twice
    flag = '{"state": "ENABLED", "variants": {"on": 1, "off": 0}, "defaultVariant": "on", "x": 1, "x": 2}'
    document = f'{{"flags": {{"new-search": {flag}, "b": {{}}, "b": {{}}}}, "metadata": 1, "metadata": 2}}'
    listed = f'{{"flags": [{{"key": "b"}}, {{"key": "b"}}, {{"key": "new-search", {flag[1:]}]}}'

    # when it is killed, then it is off, and all else stays
    for text in (document, listed):
        assert with_share(text, SEARCH, 0) == text.replace(
            '"defaultVariant": "on"', '"defaultVariant": "off"'
        )


@pytest.mark.parametrize(
    "document",
    [
        '{"flags": [{"key": "new-search"}, {"key": "new-search"}]}',
        '{"flags": {"new-search": {}}, "flags": {"new-search": {}}}',
        '{"flags": {"new-search": {"state": "DISABLED", "state": "DISABLED", "variants": {"off": 0}}}}',
    ],
)
def test_twins_of_what_is_changed_are_refused(document: str) -> None:
    with pytest.raises(FlagError, match=r"ambiguous.* more than once"):
        with_share(document, SEARCH, 0)


def test_a_flag_that_is_not_there_is_told_apart() -> None:
    with pytest.raises(NoSuchFlagError, match="no flag 'newer-search'"):
        flag_in(DOCUMENT, "newer-search")


def test_members_are_found_by_their_place_in_the_text() -> None:
    text = ' { "a" : [1, {"b": "}"}] ,"c":{} } '

    found = members(text, 1)

    assert [(m.key, text[m.value_begin : m.end]) for m in found] == [("a", '[1, {"b": "}"}]'), ("c", "{}")]
    assert members("[]", 0) == []


def test_a_roll_out_needs_two_variants() -> None:
    with pytest.raises(ValidationError, match="same variant"):
        FlagRollout(flag="x", on="off")
