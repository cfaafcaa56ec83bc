"""One person is one person, however they are written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.approval import identity
from tests.domain.gate import BOB, Gate


@pytest.mark.parametrize(
    "spelling",
    [
        "BOB@example.com",
        " bob@example.com\n",
        "ｂｏｂ@example.com",
        "bob\u200b@example.com",
        "bob\u034f@example.com",
        "bob\ufe0f@example.com",
        "bob\u3164@example.com",
        "\uffa0bob@example.com",
        "b\u115fob@example.com",
        "b\u17b4ob@example.com",
        "b\u180fob@example.com",
        "b\U000e0100ob@example.com",
        "b\U000e01f0ob@example.com",
        "b\ufff0ob@example.com",
        "bob\u2800@example.com",
        "bob\x00@example.com",
        "Bob@Example.COM",
    ],
)
def test_one_person_is_one_person_however_written(spelling: str) -> None:
    gate = Gate(min_approvals=2)
    gate.approve(BOB)

    assert "has approved already; 1 more person(s) needed" in str(gate.approve(spelling))
    assert identity(identity(spelling)) == identity(spelling) == BOB


_IGNORABLE = (
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5),
    (0x180B, 0x180F), (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3),
    (0x1D173, 0x1D17A), (0xE0000, 0xE0FFF),
)  # fmt: skip
"""Unicode 15's DerivedCoreProperties, Default_Ignorable_Code_Point."""


def test_no_character_that_shows_nothing_makes_another_person() -> None:
    for first, last in _IGNORABLE:
        for code in range(first, last + 1):
            assert identity(f"b{chr(code)}ob@example.com") == BOB, hex(code)


def test_the_form_in_which_people_are_compared_is_final() -> None:
    """Of every character that there is, alone and between others."""
    for code in range(0x110000):
        person = identity(chr(code))
        assert identity(person) == person, hex(code)
        if not 0xD800 <= code < 0xE000:
            among = identity(f"a{chr(code)}\u0301")
            assert identity(among) == among, hex(code)


@given(st.text(max_size=12))
def test_nor_does_it_change_for_any_text(text: str) -> None:
    assert identity(identity(text)) == identity(text)
