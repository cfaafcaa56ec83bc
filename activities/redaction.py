"""Secrets of the worker never leave it: not in logs, heartbeats, reports or errors."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

_MASK = "***"
# fmt: off
_SECRET_WORDS = frozenset({
    "APIKEY", "COOKIE", "CREDENTIAL", "CREDENTIALS", "DSN", "KEY", "KEYS", "KUBECONFIG", "PASSPHRASE",
    "PASSWD", "PASSWORD", "PAT", "PRIVATE", "SECRET", "SECRETS", "TOKEN", "TOKENS", "WEBHOOK",
})
# fmt: on
_SECRET_PREFIXES = ("SLACK_", "KUBE_CONFIG", "COSIGN_", "PAGERDUTY_", "TEAMS_")
# Masking shorter values would mask ordinary words.
_SHORTEST_SECRET = 6
_SHORTEST_SECRET_LINE = 16
_URL_PASSWORD = re.compile(r"(?<=://)[^/@\s:]*:[^/@\s]+(?=@)")


def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret (``GITHUB_TOKEN``, ``COSIGN_KEY``, ``SLACK_…``)."""
    upper = name.upper()
    return upper.startswith(_SECRET_PREFIXES) or not _SECRET_WORDS.isdisjoint(upper.split("_"))


class Redactor:
    """Replaces known secrets, and passwords in URLs, by ``***``."""

    def __init__(self, secrets: Iterable[str]) -> None:
        known: set[str] = set()
        for secret in secrets:
            value = secret.strip()
            if len(value) >= _SHORTEST_SECRET:
                known.add(value)
            # Output is read line by line, so a key of several lines is known by its lines as well.
            lines = [line.strip() for line in value.splitlines()]
            if len(lines) > 1:
                known.update(line for line in lines if len(line) >= _SHORTEST_SECRET_LINE)
        self._secrets = tuple(sorted(known, key=len, reverse=True))

    @classmethod
    def of_environment(cls, environment: Mapping[str, str], *others: str) -> Redactor:
        """A redactor that knows all variables with the name of a secret, and the values of `others`."""
        return cls([*(value for name, value in environment.items() if is_secret_name(name)), *others])

    def text(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, _MASK)
        return _URL_PASSWORD.sub(_MASK, text)
