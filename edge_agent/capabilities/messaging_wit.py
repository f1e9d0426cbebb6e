"""Names and signatures of `wasi:messaging@0.2.0-draft`.

Never does anything; what the functions mean is in `messaging`.
"""

from __future__ import annotations

from edge_agent.capabilities.base import declare_functions, declare_types
from fleet.wit_types import OwnType, Primitive

VERSION = "0.2.0-draft"
TYPES = "wasi:messaging/types"
PRODUCER = "wasi:messaging/producer"
REQUEST_REPLY = "wasi:messaging/request-reply"
HANDLER = "wasi:messaging/incoming-handler"

_TYPES = declare_types(
    {
        "metadata": "list<tuple<string, string>>",
        "error": "variant { timeout, connection(string), permission-denied(string), other(string) }",
    },
    {"client": OwnType("client"), "message": OwnType("message"), "request-options": OwnType("request-options")}
    | {"topic": Primitive.STRING},
)
TYPES_FUNCTIONS = declare_functions(
    _TYPES,
    {
        "[static]client.connect": "func(name: string) -> result<client, error>",
        "[method]client.disconnect": "func(self: borrow<client>) -> result<_, error>",
        "[constructor]message": "func(data: list<u8>) -> message",
        "[method]message.topic": "func(self: borrow<message>) -> option<topic>",
        "[method]message.content-type": "func(self: borrow<message>) -> option<string>",
        "[method]message.set-content-type": "func(self: borrow<message>, content-type: string)",
        "[method]message.data": "func(self: borrow<message>) -> list<u8>",
        "[method]message.set-data": "func(self: borrow<message>, data: list<u8>)",
        "[method]message.metadata": "func(self: borrow<message>) -> option<metadata>",
        "[method]message.add-metadata": "func(self: borrow<message>, key: string, value: string)",
        "[method]message.set-metadata": "func(self: borrow<message>, meta: metadata)",
        "[method]message.remove-metadata": "func(self: borrow<message>, key: string)",
    },
)
PRODUCER_FUNCTIONS = declare_functions(
    _TYPES, {"send": "func(c: borrow<client>, topic: topic, message: message) -> result<_, error>"}
)
REQUEST_REPLY_FUNCTIONS = declare_functions(
    _TYPES,
    {
        "[constructor]request-options": "func() -> request-options",
        "[method]request-options.set-timeout-ms": "func(self: borrow<request-options>, timeout-ms: u32)",
        "[method]request-options.set-expected-replies": "func(self: borrow<request-options>, expected-replies: u32)",
        "request": "func(c: borrow<client>, topic: topic, message: borrow<message>, options: option<request-options>)"
        " -> result<list<message>, error>",
        "reply": "func(reply-to: borrow<message>, message: message) -> result<_, error>",
    },
)
