"""`wasi:http` 0.2: requests to other servers, and answers to requests of others.

Owns: the two interfaces that a guest imports. `types` needs no grant, since a message goes nowhere by itself;
`outgoing-handler` asks the grant for every request (`http_policy`), and a refusal is an error code:

| refused | code |
|---|---|
| host, port, path, scheme or method that no rule names | `HTTP-request-denied` |
| a secret attached, and a host or scheme that no rule of `fleet:secrets/http` names for it | `HTTP-request-denied` |
| an address behind the name in a network that no rule names | `destination-IP-prohibited` |
| more requests than the rule allows, or too many at a time | `connection-limit-reached` |
| a body that is too large | `HTTP-request-body-size`, `HTTP-response-body-size` |

Answers to incoming requests are `edge_agent.runner.http_requests`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from edge_agent.capabilities.base import HostInterface, bind
from edge_agent.capabilities.http_bodies import BodyFunctions, ErrorCode, OptionFunctions
from edge_agent.capabilities.http_client import HttpClient, Request
from edge_agent.capabilities.http_policy import HttpError, read_target
from edge_agent.capabilities.http_types import (
    FieldFunctions,
    FutureResponse,
    HttpHandles,
    IncomingFunctions,
    OutgoingFunctions,
)
from edge_agent.capabilities.http_wit import (
    FUNCTIONS,
    OUTGOING_FUNCTIONS,
    OUTGOING_HANDLER,
    OUTGOING_USES,
    TYPES,
    USES,
)
from fleet.wit_types import Err, Ok

if TYPE_CHECKING:
    from collections.abc import Callable

    from edge_agent.capabilities.base import AgentContext
    from edge_agent.capabilities.http_network import Network
    from edge_agent.capabilities.http_types import OutgoingMessage
    from fleet.grants import Authority
    from fleet.wit_types import WitValue

SECRETS = "fleet:secrets/http"
"""Interface whose rules say where an attached secret may go."""

_TIMEOUTS = ("connect-timeout", "first-byte-timeout", "between-bytes-timeout")


def interfaces(context: AgentContext, network: Network | None = None) -> tuple[HostInterface, ...]:
    """Both interfaces for one agent; `network` is that of the node unless a test gives another."""
    handles = context.shared(HttpHandles)
    options = OptionFunctions(handles)
    outgoing = _OutgoingHandler(handles, options, HttpClient(context, network), context.authority)
    return (
        _types(context, handles, options),
        HostInterface(OUTGOING_HANDLER, bind(OUTGOING_FUNCTIONS, {"handle": outgoing.handle}), uses=OUTGOING_USES),
    )


class _OutgoingHandler:
    def __init__(
        self, handles: HttpHandles, options: OptionFunctions, client: HttpClient, authority: Authority
    ) -> None:
        self._handles = handles
        self._authority = authority
        self._options = options
        self._client = client

    def handle(self, request: int, options: int | None) -> Ok[int] | Err[ErrorCode]:
        """Send a request."""
        message = self._handles.requests_out.take(request)
        timeouts = self._options.take(options)
        try:
            sending = self._client.send(_request(message, self._authority), timeouts)
        except HttpError as error:
            if message.body is not None:
                message.body.shut()
            return Err(error.code)
        return Ok(self._handles.responses.insert(FutureResponse(sending)))


def _request(message: OutgoingMessage, authority: Authority) -> Request:
    if message.body is None and message.length:
        raise HttpError("HTTP-request-body-size", message.length)
    target = read_target(message.method, message.scheme, message.authority, message.path)
    headers = list(message.headers.entries)
    for secret in message.secrets:
        if not authority.allows(SECRETS, name=secret.name, host=target.host, scheme=target.scheme) or not secret.value:
            raise HttpError("HTTP-request-denied")
        headers.append((secret.header, secret.prefix + bytes(secret.value)))
    return Request(target, headers, message.body)


def _types(context: AgentContext, handles: HttpHandles, options: OptionFunctions) -> HostInterface:
    fields = FieldFunctions(handles)
    bodies = BodyFunctions(context)
    requests_in = IncomingFunctions(handles, handles.requests_in)
    responses_in = IncomingFunctions(handles, handles.responses_in)
    requests_out = OutgoingFunctions(handles, handles.requests_out, "HTTP-request-body-size")
    responses_out = OutgoingFunctions(handles, handles.responses_out, "HTTP-response-body-size")
    calls: dict[str, Callable[..., WitValue]] = {
        "http-error-code": bodies.error_code,
        "[constructor]fields": fields.new,
        "[static]fields.from-list": fields.from_list,
        "[method]fields.get": fields.get,
        "[method]fields.has": fields.has,
        "[method]fields.set": fields.set,
        "[method]fields.delete": fields.delete,
        "[method]fields.append": fields.append,
        "[method]fields.entries": fields.entries,
        "[method]fields.clone": fields.clone,
        "[method]incoming-request.method": requests_in.method,
        "[method]incoming-request.path-with-query": requests_in.path,
        "[method]incoming-request.scheme": requests_in.scheme,
        "[method]incoming-request.authority": requests_in.authority,
        "[method]incoming-request.headers": requests_in.headers,
        "[method]incoming-request.consume": requests_in.consume,
        "[constructor]outgoing-request": requests_out.new,
        "[method]outgoing-request.body": requests_out.body,
        "[method]outgoing-request.method": requests_out.method,
        "[method]outgoing-request.set-method": requests_out.set_method,
        "[method]outgoing-request.path-with-query": requests_out.path,
        "[method]outgoing-request.set-path-with-query": requests_out.set_path,
        "[method]outgoing-request.scheme": requests_out.scheme,
        "[method]outgoing-request.set-scheme": requests_out.set_scheme,
        "[method]outgoing-request.authority": requests_out.authority,
        "[method]outgoing-request.set-authority": requests_out.set_authority,
        "[method]outgoing-request.headers": requests_out.headers,
        "[constructor]request-options": options.new,
        **{f"[method]request-options.{name}": options.getter(name) for name in _TIMEOUTS},
        **{f"[method]request-options.set-{name}": options.setter(name) for name in _TIMEOUTS},
        "[static]response-outparam.set": bodies.answer,
        "[method]incoming-response.status": responses_in.status,
        "[method]incoming-response.headers": responses_in.headers,
        "[method]incoming-response.consume": responses_in.consume,
        "[method]incoming-body.stream": bodies.read,
        "[static]incoming-body.finish": bodies.finish_reading,
        "[method]future-trailers.subscribe": bodies.trailers_come,
        "[method]future-trailers.get": bodies.trailers,
        "[constructor]outgoing-response": responses_out.new,
        "[method]outgoing-response.status-code": responses_out.status,
        "[method]outgoing-response.set-status-code": responses_out.set_status,
        "[method]outgoing-response.headers": responses_out.headers,
        "[method]outgoing-response.body": responses_out.body,
        "[method]outgoing-body.write": bodies.write,
        "[static]outgoing-body.finish": bodies.finish_writing,
        "[method]future-incoming-response.subscribe": bodies.response_comes,
        "[method]future-incoming-response.get": bodies.response,
    }
    return HostInterface(
        TYPES,
        bind(FUNCTIONS, calls),
        resources={
            "fields": handles.fields.drop,
            "incoming-request": requests_in.drop,
            "outgoing-request": requests_out.drop,
            "request-options": handles.options.drop,
            "response-outparam": handles.places.drop,
            "incoming-response": responses_in.drop,
            "incoming-body": bodies.drop_incoming,
            "future-trailers": handles.trailers.drop,
            "outgoing-response": responses_out.drop,
            "outgoing-body": bodies.drop_outgoing,
            "future-incoming-response": bodies.drop_response,
        },
        uses=USES,
    )
