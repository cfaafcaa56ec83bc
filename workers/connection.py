"""The worker's connection to Temporal, and the search attributes it needs there."""

from __future__ import annotations

import logging
import os

from temporalio.api.enums.v1 import IndexedValueType
from temporalio.api.operatorservice.v1 import AddSearchAttributesRequest, ListSearchAttributesRequest
from temporalio.client import Client
from temporalio.envconfig import ClientConfig
from temporalio.service import RPCError

from workflows.conversion import data_converter_for

logger = logging.getLogger(__name__)

_KEYWORD = IndexedValueType.INDEXED_VALUE_TYPE_KEYWORD
_BOOL = IndexedValueType.INDEXED_VALUE_TYPE_BOOL
SEARCH_ATTRIBUTES: dict[str, IndexedValueType.ValueType] = {
    "Application": _KEYWORD,
    "Environment": _KEYWORD,
    "Version": _KEYWORD,
    "DeploymentState": _KEYWORD,
    "AwaitingApproval": _BOOL,
}


class MissingSearchAttributesError(Exception):
    """The namespace lacks search attributes and the worker may not add them."""


async def connect() -> Client:
    """A client by the TEMPORAL_* variables and profiles that the stock CLI reads too.

    Payloads are encrypted if the environment has keys.

    Raises:
        RuntimeError: the settings cannot be used, or the server does not answer.
    """
    try:
        converter = data_converter_for(os.environ)
        options = ClientConfig.load_client_connect_config()
    except (ValueError, OSError, RuntimeError) as error:
        raise RuntimeError(f"the connection to Temporal cannot be set up: {error}") from error
    options.setdefault("target_host", "localhost:7233")
    return await Client.connect(**options, data_converter=converter)


async def ensure_search_attributes(client: Client) -> None:
    """Register what is missing; without them workflow tasks would fail in a loop.

    Raises:
        MissingSearchAttributesError: they are missing and cannot be added from here; says how to.
    """
    operator = client.operator_service
    namespace = client.namespace
    try:
        known = await operator.list_search_attributes(ListSearchAttributesRequest(namespace=namespace))
    except RPCError as error:
        logger.warning("cannot list the search attributes of %s: %s", namespace, error.message)
        return
    missing = {n: t for n, t in SEARCH_ATTRIBUTES.items() if n not in known.custom_attributes}
    if not missing:
        return
    try:
        await operator.add_search_attributes(
            AddSearchAttributesRequest(namespace=namespace, search_attributes=missing)
        )
    except RPCError as error:
        names = {_KEYWORD: "Keyword", _BOOL: "Bool"}
        flags = " ".join(f"--name {n} --type {names[t]}" for n, t in missing.items())
        raise MissingSearchAttributesError(
            f"namespace {namespace} lacks search attributes and does not let this worker add them "
            f"({error.message}); run: "
            f"temporal operator search-attribute create --namespace {namespace} {flags}"
        ) from error
    logger.info("registered search attributes in %s: %s", namespace, ", ".join(missing))
