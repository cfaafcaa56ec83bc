"""How inputs, signals and results become JSON and back.

An input that does not decode fails the run at once with one clear message; left to the default, its
workflow task would be retried for ever and the run would hang as Running.
"""

from __future__ import annotations

import difflib
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from temporalio.api.common.v1 import Payload
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultPayloadConverter,
    JSONPlainPayloadConverter,
)
from temporalio.exceptions import ApplicationError

from domain.deployment import DeploymentRequest
from domain.rollback import RollbackRequest

INPUTS: tuple[type[BaseModel], ...] = (DeploymentRequest, RollbackRequest)
"""Inputs that people write by hand, with the Temporal CLI or UI."""


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """One line that names each wrong field, its value and the remedy."""
    return "; ".join(_explain_one(e, model) for e in error.errors(include_url=False))


def _explain_one(error: ErrorDetails, model: type[BaseModel]) -> str:
    field = ".".join(str(part) for part in error["loc"]) or "input"
    if error["type"] == "missing":
        return f"{field} is missing; add it to the input"
    if error["type"] == "extra_forbidden":
        close = difflib.get_close_matches(str(error["loc"][-1]), model.model_fields, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"known are {', '.join(model.model_fields)}"
        return f"{field} is not a field of {model.__name__}; {remedy}"
    if error["type"] == "json_invalid":
        return f"the input is no JSON ({error['msg']})"
    message = error["msg"].removeprefix("Value error, ")
    shown = repr(error["input"])
    return f"{field} is {shown[:80]}: {message}"


class _JSONConverter(PydanticJSONPlainPayloadConverter):
    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        try:
            return super().from_payload(payload, type_hint)
        except ValidationError as error:
            for candidate in (type_hint, *get_args(type_hint)):
                if candidate in INPUTS:
                    message = f"invalid input: {explain(error, candidate)}"
                    raise ApplicationError(message, type="InvalidInput", non_retryable=True) from None
            raise


_JSON_CONVERTER = _JSONConverter()
"""One for all workflows of the process: building a model's schema costs far more than using it."""


class PayloadConverter(CompositePayloadConverter):
    """The default converters, with pydantic's JSON in place of plain JSON."""

    def __init__(self) -> None:
        super().__init__(
            *(
                _JSON_CONVERTER if isinstance(converter, JSONPlainPayloadConverter) else converter
                for converter in DefaultPayloadConverter.default_encoding_payload_converters
            )
        )


data_converter = DataConverter(payload_converter_class=PayloadConverter)
