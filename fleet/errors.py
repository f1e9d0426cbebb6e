"""The one error type of the project and the catalog of its codes.

Owns: `Code`, `FleetError` and, for each code, one catalog row: gRPC status, exit code of fleetctl, whether a retry
may help, the text a stranger may read, and the remedy. Never logs, never exits, never imports gRPC: the status is
kept by name and translated at the doors (`orchestrator/rpc/status.py`, `orchestrator/cli/client.py`).

Programmer's faults stay `ValueError` or `RuntimeError`; a `FleetError` is always the world's fault.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Exit codes of fleetctl; stable, documented in the README."""

    OK = 0
    ERROR = 1
    USAGE = 2
    CHANGES_PENDING = 3
    ROLLOUT_FAILED = 4
    TIMED_OUT = 5
    REFUSED = 6
    VERIFICATION_FAILED = 7
    NO_NODES = 8


class Code(StrEnum):
    """Stable names of everything that can go wrong; never renamed, never reused."""

    # documents and formats
    MANIFEST_INVALID = "MANIFEST_INVALID"
    GRANT_INVALID = "GRANT_INVALID"
    BUNDLE_INVALID = "BUNDLE_INVALID"
    COMPONENT_INVALID = "COMPONENT_INVALID"
    COMPONENT_UNSUPPORTED = "COMPONENT_UNSUPPORTED"
    MODEL_INVALID = "MODEL_INVALID"
    MESSAGE_INVALID = "MESSAGE_INVALID"
    CERTIFICATE_INVALID = "CERTIFICATE_INVALID"
    CONFIG_INVALID = "CONFIG_INVALID"
    WAVE_INVALID = "WAVE_INVALID"
    WIT_INVALID = "WIT_INVALID"
    VALUE_INVALID = "VALUE_INVALID"
    TOOL_MISSING = "TOOL_MISSING"
    BUILD_FAILED = "BUILD_FAILED"
    CRASH_INVALID = "CRASH_INVALID"
    SECRET_INVALID = "SECRET_INVALID"  # noqa: S105 - an error code, not a secret
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    # trust
    SIGNATURE_INVALID = "SIGNATURE_INVALID"
    TRUST_INVALID = "TRUST_INVALID"
    TRUST_EXPIRED = "TRUST_EXPIRED"
    TRUST_ROLLBACK = "TRUST_ROLLBACK"
    TARGET_UNSIGNED = "TARGET_UNSIGNED"
    DIGEST_MISMATCH = "DIGEST_MISMATCH"
    DEV_PROFILE_REFUSED = "DEV_PROFILE_REFUSED"
    STAGED_INVALID = "STAGED_INVALID"
    SIGNATURES_MISSING = "SIGNATURES_MISSING"
    PROOF_INVALID = "PROOF_INVALID"
    REVOKED = "REVOKED"
    RELEASE_TOO_OLD = "RELEASE_TOO_OLD"
    NODE_TOO_OLD = "NODE_TOO_OLD"
    AUDIT_INVALID = "AUDIT_INVALID"
    LOG_FORKED = "LOG_FORKED"
    QUORUM_MISSING = "QUORUM_MISSING"
    # assignments and generations
    ASSIGNMENT_INVALID = "ASSIGNMENT_INVALID"
    ASSIGNMENT_EXPIRED = "ASSIGNMENT_EXPIRED"
    ASSIGNMENT_WRONG_NODE = "ASSIGNMENT_WRONG_NODE"
    GENERATION_STALE = "GENERATION_STALE"
    GENERATION_CONFLICT = "GENERATION_CONFLICT"
    NODES_BEHIND = "NODES_BEHIND"
    # authority
    GRANT_MISSING = "GRANT_MISSING"
    GRANT_NOT_APPLICABLE = "GRANT_NOT_APPLICABLE"
    GRANT_EXPIRED = "GRANT_EXPIRED"
    IMPORT_NOT_GRANTED = "IMPORT_NOT_GRANTED"
    GUARDRAIL_REFUSED = "GUARDRAIL_REFUSED"
    CALL_DENIED = "CALL_DENIED"
    PERMISSION_DENIED = "PERMISSION_DENIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    ACTION_INVALID = "ACTION_INVALID"
    TOKEN_INVALID = "TOKEN_INVALID"  # noqa: S105 - an error code, not a secret
    NODE_LOCKED = "NODE_LOCKED"
    # control plane
    NOT_FOUND = "NOT_FOUND"
    ALREADY_EXISTS = "ALREADY_EXISTS"
    NO_MATCHING_NODES = "NO_MATCHING_NODES"
    PLAN_INVALID = "PLAN_INVALID"
    LINK_INVALID = "LINK_INVALID"
    ROLLOUT_FAILED = "ROLLOUT_FAILED"
    ROLLOUT_RUNNING = "ROLLOUT_RUNNING"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    UNAVAILABLE = "UNAVAILABLE"
    NODE_OFFLINE = "NODE_OFFLINE"
    # node runtime
    BLOB_MISSING = "BLOB_MISSING"
    BLOB_CORRUPT = "BLOB_CORRUPT"
    LEDGER_CORRUPT = "LEDGER_CORRUPT"
    STATE_CORRUPT = "STATE_CORRUPT"
    AGENT_NOT_RUNNING = "AGENT_NOT_RUNNING"
    AGENT_BUSY = "AGENT_BUSY"
    AGENT_TRAPPED = "AGENT_TRAPPED"
    EXPORT_NOT_FOUND = "EXPORT_NOT_FOUND"
    RUNNER_LOST = "RUNNER_LOST"
    STORAGE_FULL = "STORAGE_FULL"
    PORT_UNAVAILABLE = "PORT_UNAVAILABLE"
    VOLUME_UNAVAILABLE = "VOLUME_UNAVAILABLE"
    DEVICE_UNAVAILABLE = "DEVICE_UNAVAILABLE"
    KEY_UNAVAILABLE = "KEY_UNAVAILABLE"
    INTERNAL = "INTERNAL"


@dataclass(frozen=True, slots=True)
class CatalogRow:
    """What a code means to a client.

    Attributes:
        grpc_status: name of the `grpc.StatusCode` member.
        exit_code: exit code of fleetctl.
        retryable: whether the same request may succeed later without a change by the caller.
        public: one sentence that discloses nothing beyond what the caller already knows.
        remedy: what the reader should do next.
    """

    grpc_status: str
    exit_code: ExitCode
    retryable: bool
    public: str
    remedy: str


def _row(grpc_status: str, exit_code: ExitCode, public: str, remedy: str, *, retryable: bool = False) -> CatalogRow:
    return CatalogRow(grpc_status, exit_code, retryable, public, remedy)


_E = ExitCode
# One line per code, so that the catalog reads as a table.
# fmt: off
CATALOG: dict[Code, CatalogRow] = {
    Code.MANIFEST_INVALID: _row("INVALID_ARGUMENT", _E.ERROR, "The manifest is not valid.", "Correct the named place and run `fleetctl plan` again."),
    Code.GRANT_INVALID: _row("INVALID_ARGUMENT", _E.ERROR, "The grant document is not valid.", "Correct the named place; `fleetctl grant propose` writes a valid draft."),
    Code.BUNDLE_INVALID: _row("INVALID_ARGUMENT", _E.ERROR, "The bundle is not valid.", "Rebuild it with `fleetctl bundle build` and check it with `fleetctl bundle verify`."),
    Code.COMPONENT_INVALID: _row("INVALID_ARGUMENT", _E.ERROR, "The file is not a valid WebAssembly component.", "Build it as a component (`wasm-tools component new`), not as a core module."),
    Code.COMPONENT_UNSUPPORTED: _row("FAILED_PRECONDITION", _E.ERROR, "The component uses something this host cannot run.", "Remove the named type or import from the component's world."),
    Code.MODEL_INVALID: _row("INVALID_ARGUMENT", _E.ERROR, "The model cannot be loaded.", "Check the file with ONNX Runtime and rebuild the bundle."),
    Code.MESSAGE_INVALID: _row("INVALID_ARGUMENT", _E.ERROR, "The message is not valid.", "Check that both sides run the same release."),
    Code.CERTIFICATE_INVALID: _row("UNAUTHENTICATED", _E.ERROR, "The certificate is not valid.", "Join the node again with a new token, or run `fleetctl init` for an operator."),
    Code.CONFIG_INVALID: _row("INVALID_ARGUMENT", _E.USAGE, "The configuration is not valid.", "Correct the named setting."),
    Code.WAVE_INVALID: _row("INVALID_ARGUMENT", _E.USAGE, "The call or value is not valid WAVE text.", "Write it as in `wasmtime run --invoke`, for example 'handle-data({source: \"a\", value: 1.5, timestamp: 0})'."),
    Code.WIT_INVALID: _row("INVALID_ARGUMENT", _E.USAGE, "The WIT text is not valid, or names something that is not there.", "Correct the named place; packages that it uses belong into the folder `deps` beside it."),
    Code.VALUE_INVALID: _row("INVALID_ARGUMENT", _E.ERROR, "A value does not fit its WIT type.", "Correct the value at the named path."),
    Code.CRASH_INVALID: _row("INVALID_ARGUMENT", _E.ERROR, "The crash report is not valid, or holds too little for this.", "Fetch it again with `fleetctl crash show ID -o json`; it names what was kept."),
    Code.TOOL_MISSING: _row("FAILED_PRECONDITION", _E.ERROR, "A tool that the build needs is not installed.", "Install it as docs/languages.md says for the language."),
    Code.BUILD_FAILED: _row("FAILED_PRECONDITION", _E.ERROR, "The component could not be built.", "Correct what the tool's output names; it is printed above."),
    Code.SECRET_INVALID: _row("INVALID_ARGUMENT", _E.VERIFICATION_FAILED, "The secret, or what it is sealed with, is not valid.", "Look at `fleetctl secret list` and seal it again: `fleetctl secret reseal`."),
    Code.LIMIT_EXCEEDED: _row("RESOURCE_EXHAUSTED", _E.ERROR, "A size or count limit was exceeded.", "Make the input smaller, or raise the named limit."),
    Code.SIGNATURE_INVALID: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "A signature does not verify.", "Check who signed it and with which key: `fleetctl bundle verify`."),
    Code.TRUST_INVALID: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "The trust metadata does not verify.", "Publish again from the machine that holds the publisher keys."),
    Code.TRUST_EXPIRED: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "The trust metadata has expired.", "Run `fleetctl trust refresh` where the publisher keys are."),
    Code.TRUST_ROLLBACK: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "The trust metadata is older than what is already known.", "Publish from the newest repository; an older copy is refused."),
    Code.TARGET_UNSIGNED: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "No trusted role has signed this document.", "Sign and publish it: `fleetctl bundle push` or `fleetctl grant approve`."),
    Code.DIGEST_MISMATCH: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "The bytes do not match the signed digest.", "Fetch or build the file again; do not edit it after signing."),
    Code.DEV_PROFILE_REFUSED: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "This node refuses the development trust profile.", "Use a production root, or set `allow_dev_profile` on the node."),
    Code.STAGED_INVALID: _row("INVALID_ARGUMENT", _E.VERIFICATION_FAILED, "The staged change is not valid.", "Fetch the file again from whoever staged it; it is never edited by hand."),
    Code.SIGNATURES_MISSING: _row("FAILED_PRECONDITION", _E.REFUSED, "The change lacks signatures.", "Have it signed: `fleetctl trust sign FILE` where a named key is."),
    Code.PROOF_INVALID: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "A proof of the audit log does not verify.", "Run `fleetctl audit verify`; treat the coordinator as suspect until it passes."),
    Code.AUDIT_INVALID: _row("DATA_LOSS", _E.VERIFICATION_FAILED, "The audit log, or an export of it, does not verify.", "Compare it with another export and with what witnesses hold: `fleetctl audit verify`."),
    Code.LOG_FORKED: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "The audit log shows two histories, or lost its end.", "Stop the coordinator, collect the evidence (docs/audit.md) and compare what the witnesses hold."),
    Code.QUORUM_MISSING: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "Too few witnesses have cosigned the audit log.", "Look at `fleetctl audit witnesses` for who is absent; the order is sent as soon as they are back.", retryable=True),
    Code.REVOKED: _row("FAILED_PRECONDITION", _E.REFUSED, "It was revoked and may not be used any more.", "Deploy something that is not revoked; `policy/revocations.json` in the release says why this was."),
    Code.RELEASE_TOO_OLD: _row("FAILED_PRECONDITION", _E.REFUSED, "The release of the bundle is below the smallest that may still run.", "Deploy a newer release: `fleetctl bundle list`."),
    Code.NODE_TOO_OLD: _row("FAILED_PRECONDITION", _E.ERROR, "The software of the node is older than the fleet allows.", "Update edge-agent on the node; what runs there goes on, and nothing new is taken in until then."),
    Code.ASSIGNMENT_INVALID: _row("INVALID_ARGUMENT", _E.VERIFICATION_FAILED, "The assignment is not valid.", "Check that both sides run the same release."),
    Code.ASSIGNMENT_EXPIRED: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "The assignment has expired.", "Reconnect the node; the coordinator signs a fresh one."),
    Code.ASSIGNMENT_WRONG_NODE: _row("FAILED_PRECONDITION", _E.VERIFICATION_FAILED, "The assignment is for another node or enrolment.", "Check the node's name and epoch: `fleetctl nodes`."),
    Code.GENERATION_STALE: _row("FAILED_PRECONDITION", _E.ERROR, "The generation is older than the accepted one.", "Nothing to do: the newer generation stays in force."),
    Code.GENERATION_CONFLICT: _row("ABORTED", _E.ERROR, "Another change won the generation.", "Run the command again; it plans from the newest state.", retryable=True),
    Code.NODES_BEHIND: _row("FAILED_PRECONDITION", _E.REFUSED, "Nodes still need what would be withdrawn.", "Run the command again once the named nodes have followed: `fleetctl nodes`.", retryable=True),
    Code.GRANT_MISSING: _row("FAILED_PRECONDITION", _E.REFUSED, "The agent has no approved grant.", "Run `fleetctl grant propose` and `fleetctl grant approve`."),
    Code.GRANT_NOT_APPLICABLE: _row("FAILED_PRECONDITION", _E.REFUSED, "The grant does not apply to this agent, bundle or node.", "Run `fleetctl grant explain` to see which condition fails."),
    Code.GRANT_EXPIRED: _row("FAILED_PRECONDITION", _E.REFUSED, "The grant is outside its validity period.", "Approve a new revision: `fleetctl grant approve`."),
    Code.IMPORT_NOT_GRANTED: _row("FAILED_PRECONDITION", _E.REFUSED, "The component imports an interface that its grant does not name.", "Run the named `fleetctl grant propose` command, then approve it."),
    Code.GUARDRAIL_REFUSED: _row("FAILED_PRECONDITION", _E.REFUSED, "A guardrail of the fleet refuses the grant.", "Run `fleetctl grant check FILE`: it names every guardrail that refuses, and what mends it."),
    Code.CALL_DENIED: _row("PERMISSION_DENIED", _E.REFUSED, "The grant does not allow this call.", "Run `fleetctl grant explain` for the document that decides."),
    Code.PERMISSION_DENIED: _row("PERMISSION_DENIED", _E.REFUSED, "The caller may not do this.", "Use a context whose operator has the needed role."),
    Code.UNAUTHENTICATED: _row("UNAUTHENTICATED", _E.ERROR, "The caller is not known.", "Check the client certificate of the context."),
    Code.ACTION_INVALID: _row("UNAUTHENTICATED", _E.VERIFICATION_FAILED, "The operator's signed action is missing, or is not for this call.", "Run the command again; if it fails again, check that fleetctl and the coordinator are of one release."),
    Code.TOKEN_INVALID: _row("UNAUTHENTICATED", _E.ERROR, "The join token is not valid.", "Make a new one with `fleetctl node token`."),
    Code.NODE_LOCKED: _row("PERMISSION_DENIED", _E.REFUSED, "The node is locked.", "Find out why (`fleetctl events`), then join it again with a new token."),
    Code.NOT_FOUND: _row("NOT_FOUND", _E.ERROR, "No such object.", "List what exists with `fleetctl nodes`, `agents` or `deployments`."),
    Code.ALREADY_EXISTS: _row("ALREADY_EXISTS", _E.ERROR, "The object exists already.", "Choose another name or version."),
    Code.NO_MATCHING_NODES: _row("FAILED_PRECONDITION", _E.NO_NODES, "No node matches the placement.", "Compare the labels with `fleetctl nodes -o wide`."),
    Code.PLAN_INVALID: _row("FAILED_PRECONDITION", _E.ERROR, "The plan breaks a rule of the fleet.", "Correct the named place of the manifest."),
    Code.LINK_INVALID: _row("FAILED_PRECONDITION", _E.ERROR, "Two agents cannot be linked.", "Correct `links` in fleet.yaml, or build both components against one version of the interface."),
    Code.ROLLOUT_FAILED: _row("ABORTED", _E.ROLLOUT_FAILED, "The rollout failed and was rolled back.", "Look at `fleetctl events` for the first failing agent."),
    Code.ROLLOUT_RUNNING: _row("ABORTED", _E.ERROR, "Another rollout of this application is running.", "Wait for it, or cancel it.", retryable=True),
    Code.DEADLINE_EXCEEDED: _row("DEADLINE_EXCEEDED", _E.TIMED_OUT, "The time limit passed.", "Look at `fleetctl status`; the work may still go on.", retryable=True),
    Code.UNAVAILABLE: _row("UNAVAILABLE", _E.ERROR, "The coordinator cannot be reached.", "Start it with `fleetctl coordinator up`, or check the context's address.", retryable=True),
    Code.NODE_OFFLINE: _row("UNAVAILABLE", _E.ERROR, "The node has no open session.", "Check the node with `fleetctl nodes`; it reconnects by itself.", retryable=True),
    Code.BLOB_MISSING: _row("NOT_FOUND", _E.ERROR, "The blob is not stored.", "Push the bundle again: `fleetctl bundle push`.", retryable=True),
    Code.BLOB_CORRUPT: _row("DATA_LOSS", _E.VERIFICATION_FAILED, "A stored blob does not match its digest.", "It was removed and will be fetched again.", retryable=True),
    Code.LEDGER_CORRUPT: _row("DATA_LOSS", _E.ERROR, "The node's ledger cannot be read.", "The node fetches its desired state again; see its log for the file."),
    Code.STATE_CORRUPT: _row("DATA_LOSS", _E.ERROR, "The stored state of an application cannot be read.", "Restore `state/APPLICATION` on the node from a backup, or remove it to start with empty buckets."),
    Code.AGENT_NOT_RUNNING: _row("FAILED_PRECONDITION", _E.ERROR, "The agent is not running.", "Look at `fleetctl agents` for its phase and last exit.", retryable=True),
    Code.AGENT_BUSY: _row("RESOURCE_EXHAUSTED", _E.ERROR, "The agent's queue is full.", "Send more slowly.", retryable=True),
    Code.AGENT_TRAPPED: _row("ABORTED", _E.ERROR, "The agent trapped during the call.", "Look at `fleetctl events`; it restarts by itself.", retryable=True),
    Code.EXPORT_NOT_FOUND: _row("INVALID_ARGUMENT", _E.ERROR, "The component exports no such function.", "List its exports with `fleetctl bundle inspect`."),
    Code.RUNNER_LOST: _row("UNAVAILABLE", _E.ERROR, "The runner process ended.", "It restarts by itself; see `fleetctl events` for the cause.", retryable=True),
    Code.STORAGE_FULL: _row("RESOURCE_EXHAUSTED", _E.ERROR, "There is no room left on the device.", "Free space on the node's data directory.", retryable=True),
    Code.PORT_UNAVAILABLE: _row("UNAVAILABLE", _E.ERROR, "A port that the agent is granted cannot be opened.", "End what listens there (`ss -ltnp` on the node), or grant another port.", retryable=True),
    Code.DEVICE_UNAVAILABLE: _row("FAILED_PRECONDITION", _E.ERROR, "The node has no such device for models.", "Grant another device, or see `inference_gpu`, `inference_tpu` and `inference_cpu_fallback` in the node's settings."),
    Code.VOLUME_UNAVAILABLE: _row("UNAVAILABLE", _E.ERROR, "A volume that the agent is granted is not there.", "Declare it under `[volumes.NAME]` in the node's agent.toml and start edge-agent again, or grant another one.", retryable=True),
    Code.KEY_UNAVAILABLE: _row("UNAVAILABLE", _E.ERROR, "A key of the node cannot be used.", "Check the security chip (`tpm2_getcap properties-fixed`); a node whose chip was replaced joins again with a new token.", retryable=True),
    Code.INTERNAL: _row("INTERNAL", _E.ERROR, "Something went wrong inside.", "See the log of the process under the request id."),
}
# fmt: on

ABOUT_INPUT = frozenset({Code.WAVE_INVALID, Code.VALUE_INVALID, Code.EXPORT_NOT_FOUND})
"""Codes whose private text says only what is wrong with the caller's own words, so the caller may read it."""


class FleetError(Exception):
    """A fault of the world, with a stable code.

    Args:
        code: what went wrong.
        private: text for logs and for local users; never sent to another machine as it is.
        detail: facts for people and machines (place, digest, agent, command); values are shown, so never a secret.
            The keys `place` (file:line or path within a document) and `remedy` (a command that mends it) are shown
            first by fleetctl when present.
    """

    def __init__(self, code: Code, private: str, **detail: str | int) -> None:
        super().__init__(private)
        self.code = code
        self.private = private
        self.detail: dict[str, str | int] = detail

    @property
    def row(self) -> CatalogRow:
        """Catalog row of the code."""
        return CATALOG[self.code]

    @property
    def public(self) -> str:
        """What another machine may be told: the catalog's sentence and the facts.

        The private text only where it speaks of nothing but what that machine sent (`ABOUT_INPUT`).
        """
        reason = f" {self.private}" if self.code in ABOUT_INPUT else ""
        return self.row.public + reason + self._facts()

    @property
    def remedy(self) -> str:
        """What to do next: the specific remedy when the raiser knew one, else the catalog's."""
        return str(self.detail.get("remedy", self.row.remedy))

    def __str__(self) -> str:
        return f"{self.code}: {self.private}{self._facts()}"

    def _facts(self) -> str:
        return "".join(f" [{k}={v}]" for k, v in self.detail.items() if k != "remedy")
