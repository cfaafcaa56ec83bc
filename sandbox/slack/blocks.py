"""Block Kit as Slack accepts it: known blocks and elements, and their limits.

Limits are those of Slack's reference (docs.slack.dev/reference/block-kit). Messages and modals that break
one are refused as Slack refuses them, each mistake with its JSON pointer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)

MESSAGE_BLOCKS, VIEW_BLOCKS = 50, 100


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class PlainText(_Part):
    type: Literal["plain_text"]
    text: str = Field(min_length=1, max_length=3000)
    emoji: bool | None = None


class Markdown(_Part):
    type: Literal["mrkdwn"]
    text: str = Field(min_length=1, max_length=3000)
    verbatim: bool | None = None


Text = PlainText | Markdown


def _at_most(limit: int) -> AfterValidator:
    def check(value: Any) -> Any:
        if value is not None and len(value.text) > limit:
            raise ValueError(f"must be less than {limit + 1} characters")
        return value

    return AfterValidator(check)


Identifier = Annotated[str, Field(max_length=255)]


class Confirm(_Part):
    title: Annotated[PlainText, _at_most(100)]
    text: Annotated[Text, _at_most(300)]
    confirm: Annotated[PlainText, _at_most(30)]
    deny: Annotated[PlainText, _at_most(30)]
    style: Literal["primary", "danger"] | None = None


class Element(_Part):
    action_id: Identifier | None = None
    confirm: Confirm | None = None
    focus_on_load: bool | None = None


class Button(Element):
    type: Literal["button"]
    text: Annotated[PlainText, _at_most(75)]
    value: Annotated[str, Field(max_length=2000)] | None = None
    url: Annotated[str, Field(max_length=3000)] | None = None
    style: Literal["primary", "danger"] | None = None
    accessibility_label: Annotated[str, Field(max_length=75)] | None = None


class Option(_Part):
    text: Annotated[Text, _at_most(75)]
    value: Annotated[str, Field(max_length=150)]
    description: Annotated[Text, _at_most(75)] | None = None
    url: Annotated[str, Field(max_length=3000)] | None = None


class Choice(Element):
    type: Literal["static_select", "radio_buttons", "checkboxes", "overflow"]
    options: Annotated[list[Option], Field(min_length=1, max_length=100)]
    placeholder: Annotated[PlainText, _at_most(150)] | None = None
    initial_option: Option | None = None
    initial_options: list[Option] | None = None


class Input(Element):
    type: Literal["plain_text_input"]
    placeholder: Annotated[PlainText, _at_most(150)] | None = None
    initial_value: str | None = None
    multiline: bool | None = None
    min_length: Annotated[int, Field(ge=0, le=3000)] | None = None
    max_length: Annotated[int, Field(ge=1, le=3000)] | None = None
    dispatch_action_config: dict[str, Any] | None = None


class Image(_Part):
    type: Literal["image"]
    image_url: Annotated[str, Field(max_length=3000)]
    alt_text: Annotated[str, Field(max_length=2000)]


AnyElement = Annotated[Button | Choice | Input | Image, Field(discriminator="type")]


class Block(_Part):
    block_id: Identifier | None = None


class Section(Block):
    type: Literal["section"]
    text: Text | None = None
    fields: Annotated[list[Annotated[Text, _at_most(2000)]], Field(min_length=1, max_length=10)] | None = None
    accessory: AnyElement | None = None
    expand: bool | None = None

    @model_validator(mode="after")
    def _says_something(self) -> Section:
        if self.text is None and self.fields is None:
            raise ValueError("missing required field: text or fields")
        return self


class Divider(Block):
    type: Literal["divider"]


class Header(Block):
    type: Literal["header"]
    text: Annotated[PlainText, _at_most(150)]
    level: int | None = None


class Context(Block):
    type: Literal["context"]
    elements: Annotated[list[Text | Image], Field(min_length=1, max_length=10)]


class Actions(Block):
    type: Literal["actions"]
    elements: Annotated[
        list[Annotated[Button | Choice, Field(discriminator="type")]], Field(min_length=1, max_length=25)
    ]


class InputBlock(Block):
    type: Literal["input"]
    label: Annotated[PlainText, _at_most(2000)]
    element: Annotated[Input | Choice, Field(discriminator="type")]
    hint: Annotated[PlainText, _at_most(2000)] | None = None
    optional: bool | None = None
    dispatch_action: bool | None = None


class ImageBlock(Block):
    type: Literal["image"]
    image_url: Annotated[str, Field(max_length=3000)]
    alt_text: Annotated[str, Field(max_length=2000)]
    title: Annotated[PlainText, _at_most(2000)] | None = None


class RichText(Block):
    type: Literal["rich_text"]
    elements: list[dict[str, Any]]


class MarkdownBlock(Block):
    type: Literal["markdown"]
    text: Annotated[str, Field(min_length=1, max_length=12000)]


AnyBlock = Annotated[
    Section | Divider | Header | Context | Actions | InputBlock | ImageBlock | RichText | MarkdownBlock,
    Field(discriminator="type"),
]


class View(_Part):
    type: Literal["modal"]
    title: Annotated[PlainText, _at_most(24)]
    blocks: Annotated[list[AnyBlock], Field(max_length=VIEW_BLOCKS)]
    submit: Annotated[PlainText, _at_most(24)] | None = None
    close: Annotated[PlainText, _at_most(24)] | None = None
    private_metadata: Annotated[str, Field(max_length=3000)] | None = None
    callback_id: Identifier | None = None
    external_id: Identifier | None = None
    clear_on_close: bool | None = None
    notify_on_close: bool | None = None

    @model_validator(mode="after")
    def _can_be_submitted(self) -> View:
        if self.submit is None and any(isinstance(block, InputBlock) for block in self.blocks):
            raise ValueError("missing required field: submit")
        return self


_BLOCKS: TypeAdapter[list[Any]] = TypeAdapter(Annotated[list[AnyBlock], Field(max_length=MESSAGE_BLOCKS)])


def block_mistakes(blocks: object) -> list[str]:
    """What Slack finds wrong with the blocks of a message; nothing if it takes them."""
    return _mistakes(lambda: _BLOCKS.validate_python(blocks), "/blocks", blocks="/blocks")


def view_mistakes(view: object) -> list[str]:
    """What Slack finds wrong with a modal; nothing if it takes it."""
    return _mistakes(lambda: View.model_validate(view).blocks, "/view", blocks="/view/blocks")


def _mistakes(read: Callable[[], list[Any]], at: str, *, blocks: str) -> list[str]:
    try:
        return [*_duplicates(read(), blocks)]
    except ValidationError as error:
        return [
            _mistake(e["msg"].removeprefix("Value error, "), at + _pointer(e["loc"])) for e in error.errors()
        ]


def _duplicates(blocks: Sequence[Any], at: str) -> Iterable[str]:
    ids: set[str] = set()
    for number, block in enumerate(blocks):
        if block.block_id in ids:
            yield _mistake(f"`block_id` must be unique: {block.block_id}", f"{at}/{number}/block_id")
        ids |= {block.block_id} if block.block_id else set()
        actions: set[str] = set()
        for element in getattr(block, "elements", ()):
            action = getattr(element, "action_id", None)
            if action in actions:
                yield _mistake(f"`action_id` must be unique in a block: {action}", f"{at}/{number}/elements")
            actions |= {action} if action else set()


def _pointer(location: Sequence[str | int]) -> str:
    return "".join(f"/{part}" for part in location)


def _mistake(words: str, pointer: str) -> str:
    return f"[ERROR] {words} [json-pointer:{pointer}]"
