"""What GitHub tells others, signed as GitHub signs it."""

import hashlib
import hmac
from dataclasses import dataclass

_AGENT = "GitHub-Hookshot/5a4d0be"


@dataclass(frozen=True)
class Delivery:
    """One webhook that was sent, and how it was answered (none: nobody answered)."""

    id: str
    event: str
    url: str
    body: bytes
    secret: str
    status: int | None


def signed_headers(event: str, delivery: str, body: bytes, secret: str) -> dict[str, str]:
    """The headers of a webhook; without a secret it is not signed."""
    headers = {
        "Accept": "*/*",
        "Content-Type": "application/json",
        "User-Agent": _AGENT,
        "X-GitHub-Delivery": delivery,
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": "42",
        "X-GitHub-Hook-Installation-Target-ID": "1",
        "X-GitHub-Hook-Installation-Target-Type": "repository",
    }
    if secret:
        key = secret.encode()
        headers["X-Hub-Signature"] = f"sha1={hmac.new(key, body, hashlib.sha1).hexdigest()}"
        headers["X-Hub-Signature-256"] = f"sha256={hmac.new(key, body, hashlib.sha256).hexdigest()}"
    return headers
