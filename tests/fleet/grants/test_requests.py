"""An upgrade keeps its grant only if it asks for nothing that was not reviewed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.errors import Code
from fleet.grants import (
    BASELINE,
    VOCABULARY,
    Request,
    check_request,
    parse_grant,
    request_digest,
    requested_interfaces,
    review_request,
)
from tests.fakes.documents import GRANT
from tests.fakes.refusals import refusal

REVIEWED = ("wasi:keyvalue/store", "wasi:logging/logging")
IMPORTS = ("wasi:keyvalue/store@0.2.0-draft2", "wasi:logging/logging", "wasi:io/poll@0.2.0")
NAMES = st.lists(st.sampled_from(sorted(VOCABULARY.keys() | BASELINE)), max_size=6)


def asked(request, imports, exports=()):
    return check_request(request, imports, exports, "climate/context", "context-agent@0.1.1")


def test_1_a_grant_without_a_request_admits_its_range():
    asked(None, ("wasi:http/outgoing-handler",))


def test_2_exactly_the_reviewed_set_passes():
    asked(Request(request_digest(REVIEWED)), IMPORTS)
    asked(review_request(REVIEWED), IMPORTS)


def test_3_less_passes_where_the_set_is_named():
    asked(review_request(REVIEWED), IMPORTS[:1])
    error = refusal(lambda: asked(Request(request_digest(REVIEWED)), IMPORTS[:1]))
    assert (error.code, error.detail["condition"]) == (Code.GRANT_NOT_APPLICABLE, "request_sha256")
    assert "nothing" in refusal(lambda: asked(Request(request_digest(REVIEWED)), ())).private


@pytest.mark.parametrize("more", [("wasi:nn/graph",), ("wasi:filesystem/preopens",), ("acme:unknown/thing@1.0.0",)])
def test_4_whatever_is_new_needs_a_revision(more):
    error = refusal(lambda: asked(review_request(REVIEWED), (*IMPORTS, *more)))
    assert (error.code, error.detail["condition"]) == (Code.GRANT_NOT_APPLICABLE, "request_sha256")
    assert more[0].partition("@")[0] in error.private
    assert "fleetctl grant propose climate/context --bundle context-agent@0.1.1" in error.remedy


def test_4_a_new_export_that_a_node_serves_is_new():
    error = refusal(lambda: asked(review_request(REVIEWED), IMPORTS, ("wasi:http/incoming-handler@0.2.0",)))
    assert "wasi:http/incoming-handler" in error.private
    asked(review_request(REVIEWED), IMPORTS, ("run", "acme:own/export"))


@given(NAMES, NAMES)
def test_a_request_admits_exactly_its_subsets(reviewed, imports):
    request = review_request(requested_interfaces(reviewed, ()))
    new = set(requested_interfaces(imports, ())) - set(requested_interfaces(reviewed, ()))
    if new:
        assert refusal(lambda: asked(request, imports)).detail["condition"] == "request_sha256"
    else:
        asked(request, imports)


def test_the_digest_is_of_the_set():
    assert request_digest(REVIEWED) == request_digest((*reversed(REVIEWED), REVIEWED[0]))
    assert request_digest(REVIEWED) != request_digest(REVIEWED[:1])
    assert requested_interfaces(IMPORTS, ()) == REVIEWED


def document(*lines):
    return GRANT.replace("validity:", "".join(f"  {line}\n" for line in lines) + "validity:").encode()


def test_documents_name_digest_and_set():
    digest = request_digest(REVIEWED)
    assert parse_grant(document(f"request_sha256: {digest}"), "g").request == Request(digest)
    text = document(f"request_sha256: {digest}", f"requests: {list(reversed(REVIEWED))}")
    assert parse_grant(text, "g").request == review_request(REVIEWED)


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        (["requests: []"], "request_sha256"),
        (["request_sha256: abc"], "request_sha256"),
        ([f"request_sha256: {request_digest(REVIEWED)}", "requests: []"], "requests"),
        ([f"request_sha256: {request_digest(REVIEWED)}", f"requests: {[*REVIEWED, REVIEWED[0]]}"], "requests"),
        ([f"request_sha256: {request_digest(REVIEWED)}", "requests: x"], "requests"),
    ],
)
def test_documents_that_contradict_themselves(lines, key):
    error = refusal(lambda: parse_grant(document(*lines), "g"))
    assert error.code is Code.GRANT_INVALID
    assert error.detail["place"] == f"g: applies_to.{key}"
