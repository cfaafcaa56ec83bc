"""The base of all models: immutable, and strict about fields nobody knows."""

from pydantic import BaseModel, ConfigDict


class Model(BaseModel):
    """A value: frozen, comparable, no unknown fields (a typing error is an error, not a default)."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(BaseModel):
    """A signal from outside: fields of a newer or older sender are ignored, as a signal that
    does not decode would be dropped without a trace."""

    model_config = ConfigDict(frozen=True, extra="ignore")
