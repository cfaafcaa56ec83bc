"""Weights among the backends of an HTTPRoute: pure decisions over its rules.

A rule that sends to the stable Service gets the canary's beside it, with the same port and filters. Where a
rule sends to others too, their part stays what it was: while the canary is in such a rule all its weights are
multiplied by 100, so that the stable one's can be divided by percent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Ref = Mapping[str, Any]
Rule = Mapping[str, Any]

_SCALE: Final = 100
LARGEST: Final = 1_000_000
"""The largest weight that the Gateway API takes."""


@dataclass(frozen=True, slots=True)
class Backends:
    """The Services of both sides, for a route in `namespace`."""

    stable: str
    canary: str
    namespace: str

    def steered(self, rules: Sequence[Rule], weight: int) -> list[dict[str, Any]]:
        """The rules with `weight` percent of the stable side's traffic on the canary; at 0 without it."""
        return [
            {**rule, "backendRefs": self._steered(rule["backendRefs"], weight)}
            if rule.get("backendRefs")
            else dict(rule)
            for rule in rules
        ]

    def shares(self, rules: Sequence[Rule]) -> list[float]:
        """The canary's percentage in each rule where either side serves."""
        shares = []
        for rule in rules:
            stable, canary = self._weights(rule.get("backendRefs") or [])
            if stable + canary:
                shares.append(100 * canary / (stable + canary))
        return shares

    def imprecise(self, rules: Sequence[Rule], weight: int) -> int | None:
        """The first rule whose weights do not come to the canary's percentage; none if all do."""
        for place, rule in enumerate(rules):
            if any(round(share) != weight for share in self.shares([rule])):
                return place
        return None

    def mentions(self, rule: Rule) -> int:
        """How often a rule sends to the stable Service."""
        return sum(self._is(ref, self.stable) for ref in rule.get("backendRefs") or [])

    def _steered(self, refs: Sequence[Ref], weight: int) -> list[dict[str, Any]]:
        ours = [ref for ref in refs if self._is(ref, self.stable, self.canary)]
        led_to_canary = any(self._is(ref, self.canary) for ref in ours)
        total = sum(self._weights(refs))
        # Without weight it is switched off, on purpose.
        if not (led_to_canary if weight == 0 else total):
            return [dict(ref) for ref in refs]
        rest = [ref for ref in refs if ref not in ours]
        total, others = _scaled(total, [_weight(ref) for ref in rest], weight, begun=led_to_canary)
        canary = round(total * weight / 100)
        by_name = {ref["name"]: ref for ref in reversed(ours)}
        likeness = by_name.get(self.stable) or by_name[self.canary]
        result = [{**ref, "weight": w} for ref, w in zip(rest, others, strict=True)]
        pair = [{**likeness, "name": self.stable, "weight": total - canary}]
        if weight > 0:
            pair.append({**by_name.get(self.canary, likeness), "name": self.canary, "weight": canary})
        place = sum(ref not in ours for ref in refs[: refs.index(ours[0])])
        result[place:place] = pair
        return result if weight > 0 else [_plain(ref) for ref in result]

    def _weights(self, refs: Sequence[Ref]) -> tuple[int, int]:
        stable, canary = (
            sum(_weight(ref) for ref in refs if self._is(ref, name)) for name in (self.stable, self.canary)
        )
        return stable, canary

    def _is(self, ref: Ref, *services: str) -> bool:
        return (
            ref.get("name") in services
            and not ref.get("group")
            and ref.get("kind") in (None, "Service")
            and ref.get("namespace") in (None, self.namespace)
        )


def _weight(ref: Ref) -> int:
    """What the Gateway API takes where none is given: 1."""
    weight: int = ref.get("weight", 1)
    return weight


def _scaled(total: int, others: list[int], weight: int, *, begun: bool) -> tuple[int, list[int]]:
    """The weight that both sides share and those of others, so that `weight` percent is a whole number.

    At 0 they are what they were before, as far as they can be divided again.
    """
    if not others and total:
        return (_SCALE if weight > 0 else 1), []
    if weight == 0:
        divisible = not any(w % _SCALE for w in (total, *others))
        return (total // _SCALE, [w // _SCALE for w in others]) if divisible else (total, others)
    exact = begun and total * weight % 100 == 0
    if exact or max(total, *others) * _SCALE > LARGEST:
        return total, others
    return total * _SCALE, [w * _SCALE for w in others]


def _plain(ref: Ref) -> dict[str, Any]:
    return {key: value for key, value in ref.items() if (key, value) != ("weight", 1)}
