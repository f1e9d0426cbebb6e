"""`wasi:http` 0.2.12 in signatures.

Owns: names, types and functions of `types` and `outgoing-handler`, as `wit/wasi-http-0.2.12` has them.
"""

from __future__ import annotations

from edge_agent.capabilities.base import declare_functions, declare_types
from edge_agent.capabilities.wasi_io import ERROR, POLL, STREAMS
from fleet.wit_types import OwnType

TYPES = "wasi:http/types@0.2.12"
OUTGOING_HANDLER = "wasi:http/outgoing-handler@0.2.12"

INCOMING_HANDLER = "wasi:http/incoming-handler"
"""What a served component exports, in whatever version."""

RESOURCES = (
    "fields",
    "incoming-request",
    "outgoing-request",
    "request-options",
    "response-outparam",
    "incoming-response",
    "incoming-body",
    "future-trailers",
    "outgoing-response",
    "outgoing-body",
    "future-incoming-response",
)

USES = {
    "io-error": f"{ERROR}#error",
    "pollable": POLL,
    "input-stream": STREAMS,
    "output-stream": STREAMS,
    "headers": f"{TYPES}#fields",
    "trailers": f"{TYPES}#fields",
}
"""Resources of other interfaces, and other names of an own one."""

OUTGOING_USES = dict.fromkeys(("outgoing-request", "request-options", "future-incoming-response"), TYPES)

_TYPES = declare_types(
    {
        "method": "variant { get, head, post, put, delete, connect, options, trace, patch, other(string) }",
        "scheme": "variant { HTTP, HTTPS, other(string) }",
        "dns-error": "record { rcode: option<string>, info-code: option<u16> }",
        "tls-alert": "record { alert-id: option<u8>, alert-message: option<string> }",
        "field-size": "record { field-name: option<string>, field-size: option<u32> }",
        "error-code": "variant { DNS-timeout, DNS-error(dns-error), destination-not-found, destination-unavailable, "
        "destination-IP-prohibited, destination-IP-unroutable, connection-refused, connection-terminated, "
        "connection-timeout, connection-read-timeout, connection-write-timeout, connection-limit-reached, "
        "TLS-protocol-error, TLS-certificate-error, TLS-alert-received(tls-alert), HTTP-request-denied, "
        "HTTP-request-length-required, HTTP-request-body-size(option<u64>), HTTP-request-method-invalid, "
        "HTTP-request-URI-invalid, HTTP-request-URI-too-long, HTTP-request-header-section-size(option<u32>), "
        "HTTP-request-header-size(option<field-size>), HTTP-request-trailer-section-size(option<u32>), "
        "HTTP-request-trailer-size(field-size), HTTP-response-incomplete, "
        "HTTP-response-header-section-size(option<u32>), HTTP-response-header-size(field-size), "
        "HTTP-response-body-size(option<u64>), HTTP-response-trailer-section-size(option<u32>), "
        "HTTP-response-trailer-size(field-size), HTTP-response-transfer-coding(option<string>), "
        "HTTP-response-content-coding(option<string>), HTTP-response-timeout, HTTP-upgrade-failed, "
        "HTTP-protocol-error, loop-detected, configuration-error, internal-error(option<string>) }",
        "header-error": "variant { invalid-syntax, forbidden, immutable }",
        "name": "string",
        "value": "list<u8>",
        "duration": "u64",
        "status": "u16",
    },
    {name: OwnType(name) for name in (*RESOURCES, "io-error", "pollable", "input-stream", "output-stream")},
)


def _timeout(name: str) -> dict[str, str]:
    return {
        f"[method]request-options.{name}": "func(self: borrow<request-options>) -> option<duration>",
        f"[method]request-options.set-{name}": "func(self: borrow<request-options>, duration: option<duration>)"
        " -> result",
    }


FUNCTIONS = declare_functions(
    _TYPES,
    {
        "http-error-code": "func(err: borrow<io-error>) -> option<error-code>",
        "[constructor]fields": "func() -> fields",
        "[static]fields.from-list": "func(entries: list<tuple<name, value>>) -> result<fields, header-error>",
        "[method]fields.get": "func(self: borrow<fields>, name: name) -> list<value>",
        "[method]fields.has": "func(self: borrow<fields>, name: name) -> bool",
        "[method]fields.set": "func(self: borrow<fields>, name: name, value: list<value>) -> result<_, header-error>",
        "[method]fields.delete": "func(self: borrow<fields>, name: name) -> result<_, header-error>",
        "[method]fields.append": "func(self: borrow<fields>, name: name, value: value) -> result<_, header-error>",
        "[method]fields.entries": "func(self: borrow<fields>) -> list<tuple<name, value>>",
        "[method]fields.clone": "func(self: borrow<fields>) -> fields",
        "[method]incoming-request.method": "func(self: borrow<incoming-request>) -> method",
        "[method]incoming-request.path-with-query": "func(self: borrow<incoming-request>) -> option<string>",
        "[method]incoming-request.scheme": "func(self: borrow<incoming-request>) -> option<scheme>",
        "[method]incoming-request.authority": "func(self: borrow<incoming-request>) -> option<string>",
        "[method]incoming-request.headers": "func(self: borrow<incoming-request>) -> fields",
        "[method]incoming-request.consume": "func(self: borrow<incoming-request>) -> result<incoming-body>",
        "[constructor]outgoing-request": "func(headers: fields) -> outgoing-request",
        "[method]outgoing-request.body": "func(self: borrow<outgoing-request>) -> result<outgoing-body>",
        "[method]outgoing-request.method": "func(self: borrow<outgoing-request>) -> method",
        "[method]outgoing-request.set-method": "func(self: borrow<outgoing-request>, method: method) -> result",
        "[method]outgoing-request.path-with-query": "func(self: borrow<outgoing-request>) -> option<string>",
        "[method]outgoing-request.set-path-with-query": "func(self: borrow<outgoing-request>, "
        "path-with-query: option<string>) -> result",
        "[method]outgoing-request.scheme": "func(self: borrow<outgoing-request>) -> option<scheme>",
        "[method]outgoing-request.set-scheme": "func(self: borrow<outgoing-request>, scheme: option<scheme>) -> result",
        "[method]outgoing-request.authority": "func(self: borrow<outgoing-request>) -> option<string>",
        "[method]outgoing-request.set-authority": "func(self: borrow<outgoing-request>, authority: option<string>)"
        " -> result",
        "[method]outgoing-request.headers": "func(self: borrow<outgoing-request>) -> fields",
        "[constructor]request-options": "func() -> request-options",
        **_timeout("connect-timeout"),
        **_timeout("first-byte-timeout"),
        **_timeout("between-bytes-timeout"),
        "[static]response-outparam.set": "func(param: response-outparam, "
        "response: result<outgoing-response, error-code>)",
        "[method]incoming-response.status": "func(self: borrow<incoming-response>) -> status",
        "[method]incoming-response.headers": "func(self: borrow<incoming-response>) -> fields",
        "[method]incoming-response.consume": "func(self: borrow<incoming-response>) -> result<incoming-body>",
        "[method]incoming-body.stream": "func(self: borrow<incoming-body>) -> result<input-stream>",
        "[static]incoming-body.finish": "func(this: incoming-body) -> future-trailers",
        "[method]future-trailers.subscribe": "func(self: borrow<future-trailers>) -> pollable",
        "[method]future-trailers.get": "func(self: borrow<future-trailers>)"
        " -> option<result<result<option<fields>, error-code>>>",
        "[constructor]outgoing-response": "func(headers: fields) -> outgoing-response",
        "[method]outgoing-response.status-code": "func(self: borrow<outgoing-response>) -> status",
        "[method]outgoing-response.set-status-code": "func(self: borrow<outgoing-response>, status-code: status)"
        " -> result",
        "[method]outgoing-response.headers": "func(self: borrow<outgoing-response>) -> fields",
        "[method]outgoing-response.body": "func(self: borrow<outgoing-response>) -> result<outgoing-body>",
        "[method]outgoing-body.write": "func(self: borrow<outgoing-body>) -> result<output-stream>",
        "[static]outgoing-body.finish": "func(this: outgoing-body, trailers: option<fields>) -> result<_, error-code>",
        "[method]future-incoming-response.subscribe": "func(self: borrow<future-incoming-response>) -> pollable",
        "[method]future-incoming-response.get": "func(self: borrow<future-incoming-response>)"
        " -> option<result<result<incoming-response, error-code>>>",
    },
)

OUTGOING_FUNCTIONS = declare_functions(
    _TYPES,
    {
        "handle": "func(request: outgoing-request, options: option<request-options>)"
        " -> result<future-incoming-response, error-code>",
    },
)
