"""The API's errors: `metav1.Status` with the codes, reasons and wording of the real server."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from sandbox.kubernetes.emulator.resources import ResourceType


@dataclass(frozen=True, slots=True)
class Cause:
    """One field that is wrong: `reason` is a `metav1.CauseType`."""

    field: str
    reason: str
    message: str

    @classmethod
    def required(cls, field: str, detail: str = "") -> Cause:
        return cls(field, "FieldValueRequired", f"Required value{': ' + detail if detail else ''}")

    @classmethod
    def invalid(cls, field: str, value: object, detail: str) -> Cause:
        shown = f'"{value}"' if isinstance(value, str) else value
        return cls(field, "FieldValueInvalid", f"Invalid value: {shown}: {detail}")

    @classmethod
    def duplicate(cls, field: str, value: str) -> Cause:
        return cls(field, "FieldValueDuplicate", f'Duplicate value: "{value}"')

    @classmethod
    def unsupported(cls, field: str, value: object, supported: Sequence[str]) -> Cause:
        names = ", ".join(f'"{each}"' for each in supported)
        return cls(
            field, "FieldValueNotSupported", f'Unsupported value: "{value}": supported values: {names}'
        )


class StatusError(Exception):
    """A refusal of the API server; `body` is its `metav1.Status`."""

    def __init__(
        self, code: HTTPStatus, reason: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.details = details or {}

    @property
    def body(self) -> dict[str, Any]:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": str(self),
            "reason": self.reason,
            "details": self.details,
            "code": int(self.code),
        }


def _details(resource: ResourceType, name: str) -> dict[str, Any]:
    return {
        "name": name,
        **({"group": resource.group} if resource.group else {}),
        "kind": resource.plural,
    }


def not_found(resource: ResourceType, name: str) -> StatusError:
    return StatusError(
        HTTPStatus.NOT_FOUND,
        "NotFound",
        f'{resource.qualified_plural} "{name}" not found',
        _details(resource, name),
    )


def already_exists(resource: ResourceType, name: str) -> StatusError:
    return StatusError(
        HTTPStatus.CONFLICT,
        "AlreadyExists",
        f'{resource.qualified_plural} "{name}" already exists',
        _details(resource, name),
    )


def conflict(resource: ResourceType, name: str, detail: str) -> StatusError:
    return StatusError(
        HTTPStatus.CONFLICT,
        "Conflict",
        f'Operation cannot be fulfilled on {resource.qualified_plural} "{name}": {detail}',
        _details(resource, name),
    )


def stale(resource: ResourceType, name: str) -> StatusError:
    return conflict(
        resource,
        name,
        "the object has been modified; please apply your changes to the latest version and try again",
    )


def apply_conflict(resource: ResourceType, name: str, causes: Sequence[Cause]) -> StatusError:
    """The conflict of server-side apply; each cause names the other manager."""
    by_manager: dict[str, list[str]] = {}
    for cause in causes:
        by_manager.setdefault(cause.message.removeprefix("conflict with "), []).append(cause.field)
    parts = [
        f"conflict with {manager}: {fields[0]}"
        if len(fields) == 1
        else f"conflicts with {manager}:\n" + "\n".join(f"- {field}" for field in fields)
        for manager, fields in by_manager.items()
    ]
    count = f"{len(causes)} conflict{'s' if len(causes) > 1 else ''}"
    return StatusError(
        HTTPStatus.CONFLICT,
        "Conflict",
        f"Apply failed with {count}: " + "\n".join(parts),
        {**_details(resource, name), "causes": _as_json(causes)},
    )


def invalid(resource: ResourceType, name: str, causes: Sequence[Cause]) -> StatusError:
    parts = [f"{cause.field}: {cause.message}" for cause in causes]
    listed = parts[0] if len(parts) == 1 else f"[{', '.join(parts)}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return StatusError(
        HTTPStatus.UNPROCESSABLE_ENTITY,
        "Invalid",
        f'{kind} "{name}" is invalid: {listed}',
        {**_details(resource, name), "kind": resource.kind, "causes": _as_json(causes)},
    )


def unprocessable(message: str) -> StatusError:
    return StatusError(HTTPStatus.UNPROCESSABLE_ENTITY, "Invalid", message)


def bad_request(message: str) -> StatusError:
    return StatusError(HTTPStatus.BAD_REQUEST, "BadRequest", message)


def unauthorized() -> StatusError:
    return StatusError(HTTPStatus.UNAUTHORIZED, "Unauthorized", "Unauthorized")


def forbidden(resource: ResourceType, name: str, detail: str) -> StatusError:
    return StatusError(
        HTTPStatus.FORBIDDEN,
        "Forbidden",
        f'{resource.qualified_plural} "{name}" is forbidden: {detail}',
        _details(resource, name),
    )


def gone(detail: str) -> StatusError:
    return StatusError(HTTPStatus.GONE, "Expired", detail)


def unknown_path() -> StatusError:
    return StatusError(HTTPStatus.NOT_FOUND, "NotFound", "the server could not find the requested resource")


def method_not_allowed() -> StatusError:
    return StatusError(
        HTTPStatus.METHOD_NOT_ALLOWED,
        "MethodNotAllowed",
        "the server does not allow this method on the requested resource",
    )


def unsupported_media_type(supported: Sequence[str]) -> StatusError:
    return StatusError(
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        "UnsupportedMediaType",
        "the body of the request was in an unknown format - "
        f"accepted media types include: {', '.join(supported)}",
    )


def _as_json(causes: Sequence[Cause]) -> list[dict[str, str]]:
    return [{"reason": cause.reason, "message": cause.message, "field": cause.field} for cause in causes]
