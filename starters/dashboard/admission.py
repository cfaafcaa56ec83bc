"""Who may look at the dashboard: by which name it is called, and with which token."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from starters.codec_server import TOKEN, permits, unauthorized
from workflows.confidentiality import EncryptionKeys

ALLOWED_HOSTS = "ERLMCP_DEPLOY_ALLOWED_HOSTS"
ANY = "*"


class Admission:
    """Refuses names that are not ours and, if payloads are encrypted, who lacks the codec server's token.

    A page on the web can point its own name at this address and read the answers (DNS rebinding); the browser
    then says that name. An address cannot be pointed elsewhere, so any address will do.

    Args:
        environment: has the encryption keys and the token, or none.
        hosts: names by which it may be called, besides localhost; ``*`` is any.

    Raises:
        ValueError: the keys cannot be used.
    """

    def __init__(self, environment: Mapping[str, str], hosts: Iterable[str]) -> None:
        self._hosts = {"localhost", *(_normal(host) for host in hosts if host.strip())}
        self._encrypted = EncryptionKeys.from_environment(environment) is not None
        self._token = environment.get(TOKEN, "").strip().encode()

    def refusal(self, request: Request) -> Response | None:
        """421 another name, 403 nobody has a token, 401 it is not shown; none if the request is admitted."""
        if not self._called_rightly(request.headers.getlist("host")):
            return _refused(
                421, f"this is not the name of the dashboard here; if it should be, add it to {ALLOWED_HOSTS}"
            )
        if not self._encrypted:
            return None
        if not self._token:
            return _refused(
                403,
                "payloads are encrypted, and nobody is given a token to read them: "
                f"set {TOKEN} in the environment of erlmcp-deploy serve",
            )
        return None if permits(request, self._token) else unauthorized()

    def _called_rightly(self, named: list[str]) -> bool:
        if ANY in self._hosts:
            return True
        if len(named) != 1:
            return False
        name = _without_port(named[0])
        return name in self._hosts or _is_address(name)


def _normal(host: str) -> str:
    return host.strip().lower().rstrip(".")


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return _normal(host.partition(":")[0])


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _refused(status: int, text: str) -> Response:
    return JSONResponse({"error": text}, status_code=status)
