"""How inputs, signals and results become JSON and back.

An input that does not decode fails the run at once with one clear message; left to the default, its
workflow task would be retried for ever and the run would hang as Running.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails
from temporalio.api.common.v1 import Payload
from temporalio.api.failure.v1 import Failure
from temporalio.contrib.pydantic import PydanticJSONPlainPayloadConverter
from temporalio.converter import (
    CompositePayloadConverter,
    DataConverter,
    DefaultFailureConverter,
    DefaultFailureConverterWithEncodedAttributes,
    DefaultPayloadConverter,
    EncodingPayloadConverter,
    JSONPlainPayloadConverter,
)
from temporalio.converter import PayloadConverter as TemporalPayloadConverter
from temporalio.exceptions import ApplicationError

from domain.deployment import DeploymentRequest
from domain.rollback import RollbackRequest
from domain.validation import ValidationRequest
from workflows.confidentiality import REFUSED, PayloadEncryption, UnreadablePayloadError

INPUTS: tuple[type[BaseModel], ...] = (DeploymentRequest, RollbackRequest, ValidationRequest)
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
            model = _input_model(type_hint)
            if model is not None:
                raise _invalid_input(explain(error, model)) from None
            raise


class _EncodingFailureConverter(DefaultFailureConverterWithEncodedAttributes):
    """Messages and stack traces go where the codec encrypts them.

    Only why a payload cannot be read is said in clear: nobody who lacks the key could read it otherwise.
    """

    def to_failure(
        self, exception: BaseException, payload_converter: TemporalPayloadConverter, failure: Failure
    ) -> None:
        if any(isinstance(e, UnreadablePayloadError) for e in (exception, exception.__cause__)):
            DefaultFailureConverter().to_failure(exception, payload_converter, failure)
        else:
            super().to_failure(exception, payload_converter, failure)


class _RefusedConverter(EncodingPayloadConverter):
    """Refuses what `PayloadEncryption` has marked."""

    @property
    def encoding(self) -> str:
        return REFUSED.decode()

    def to_payload(self, value: Any) -> Payload | None:
        return None

    def from_payload(self, payload: Payload, type_hint: type | None = None) -> Any:
        reason = payload.data.decode(errors="replace")
        error = UnreadablePayloadError(reason)
        if _input_model(type_hint) is not None:
            raise _invalid_input(reason) from error
        raise error


def _input_model(type_hint: type | None) -> type[BaseModel] | None:
    return next((t for t in (type_hint, *get_args(type_hint)) if t in INPUTS), None)


def _invalid_input(reason: str) -> ApplicationError:
    return ApplicationError(f"invalid input: {reason}", type="InvalidInput", non_retryable=True)


_JSON_CONVERTER = _JSONConverter()
"""One for all workflows of the process: building a model's schema costs far more than using it."""


class PayloadConverter(CompositePayloadConverter):
    """The default converters, with pydantic's JSON in place of plain JSON."""

    def __init__(self) -> None:
        super().__init__(
            *(
                _JSON_CONVERTER if isinstance(converter, JSONPlainPayloadConverter) else converter
                for converter in DefaultPayloadConverter.default_encoding_payload_converters
            ),
            _RefusedConverter(),
        )


data_converter = DataConverter(payload_converter_class=PayloadConverter)
"""Without encryption: for tests, and for the replay of decoded histories."""


def data_converter_for(environment: Mapping[str, str]) -> DataConverter:
    """The converter that worker, command line and receiver use: it encrypts if the environment has keys.

    Messages and stack traces of failures are encrypted with the rest.

    Raises:
        ValueError: the keys cannot be used; names what is wrong, never a key.
    """
    encryption = PayloadEncryption.from_environment(environment)
    return DataConverter(
        payload_converter_class=PayloadConverter,
        payload_codec=encryption,
        failure_converter_class=DefaultFailureConverter
        if encryption.keys is None
        else _EncodingFailureConverter,
    )
