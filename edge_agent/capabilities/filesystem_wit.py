"""Signatures of `wasi:filesystem` 0.2.

Owns: names and types, as the WIT text has them (`wit/wasi-filesystem-0.2.12`). What the functions do is in
`filesystem.py`.
"""

from __future__ import annotations

from edge_agent.capabilities.base import declare_functions, declare_types
from fleet.wit_types import OwnType

PREOPENS = "wasi:filesystem/preopens@0.2.12"
TYPES = "wasi:filesystem/types@0.2.12"

_TYPES = declare_types(
    {
        "filesize": "u64",
        "link-count": "u64",
        "datetime": "record { seconds: u64, nanoseconds: u32 }",
        "descriptor-type": "enum { unknown, block-device, character-device, directory, fifo, symbolic-link, "
        "regular-file, socket }",
        "descriptor-flags": "flags { read, write, file-integrity-sync, data-integrity-sync, requested-write-sync, "
        "mutate-directory }",
        "path-flags": "flags { symlink-follow }",
        "open-flags": "flags { create, directory, exclusive, truncate }",
        "descriptor-stat": "record { type: descriptor-type, link-count: link-count, size: filesize, "
        "data-access-timestamp: option<datetime>, data-modification-timestamp: option<datetime>, "
        "status-change-timestamp: option<datetime> }",
        "new-timestamp": "variant { no-change, now, timestamp(datetime) }",
        "directory-entry": "record { type: descriptor-type, name: string }",
        "error-code": "enum { access, would-block, already, bad-descriptor, busy, deadlock, quota, exist, "
        "file-too-large, illegal-byte-sequence, in-progress, interrupted, invalid, io, is-directory, loop, "
        "too-many-links, message-size, name-too-long, no-device, no-entry, no-lock, insufficient-memory, "
        "insufficient-space, not-directory, not-empty, not-recoverable, unsupported, no-tty, no-such-device, overflow, "
        "not-permitted, pipe, read-only, invalid-seek, text-file-busy, cross-device }",
        "advice": "enum { normal, sequential, random, will-need, dont-need, no-reuse }",
        "metadata-hash-value": "record { lower: u64, upper: u64 }",
    },
    {
        name: OwnType(name)
        for name in ("descriptor", "directory-entry-stream", "input-stream", "output-stream", "error")
    },
)

_METHODS = {
    "read-via-stream": "func(self: borrow<descriptor>, offset: filesize) -> result<input-stream, error-code>",
    "write-via-stream": "func(self: borrow<descriptor>, offset: filesize) -> result<output-stream, error-code>",
    "append-via-stream": "func(self: borrow<descriptor>) -> result<output-stream, error-code>",
    "advise": "func(self: borrow<descriptor>, offset: filesize, length: filesize, advice: advice) "
    "-> result<_, error-code>",
    "sync-data": "func(self: borrow<descriptor>) -> result<_, error-code>",
    "get-flags": "func(self: borrow<descriptor>) -> result<descriptor-flags, error-code>",
    "get-type": "func(self: borrow<descriptor>) -> result<descriptor-type, error-code>",
    "set-size": "func(self: borrow<descriptor>, size: filesize) -> result<_, error-code>",
    "set-times": "func(self: borrow<descriptor>, data-access-timestamp: new-timestamp, "
    "data-modification-timestamp: new-timestamp) -> result<_, error-code>",
    "read": "func(self: borrow<descriptor>, length: filesize, offset: filesize) "
    "-> result<tuple<list<u8>, bool>, error-code>",
    "write": "func(self: borrow<descriptor>, buffer: list<u8>, offset: filesize) -> result<filesize, error-code>",
    "read-directory": "func(self: borrow<descriptor>) -> result<directory-entry-stream, error-code>",
    "sync": "func(self: borrow<descriptor>) -> result<_, error-code>",
    "create-directory-at": "func(self: borrow<descriptor>, path: string) -> result<_, error-code>",
    "stat": "func(self: borrow<descriptor>) -> result<descriptor-stat, error-code>",
    "stat-at": "func(self: borrow<descriptor>, path-flags: path-flags, path: string) "
    "-> result<descriptor-stat, error-code>",
    "set-times-at": "func(self: borrow<descriptor>, path-flags: path-flags, path: string, "
    "data-access-timestamp: new-timestamp, data-modification-timestamp: new-timestamp) -> result<_, error-code>",
    "link-at": "func(self: borrow<descriptor>, old-path-flags: path-flags, old-path: string, "
    "new-descriptor: borrow<descriptor>, new-path: string) -> result<_, error-code>",
    "open-at": "func(self: borrow<descriptor>, path-flags: path-flags, path: string, open-flags: open-flags, "
    "flags: descriptor-flags) -> result<descriptor, error-code>",
    "readlink-at": "func(self: borrow<descriptor>, path: string) -> result<string, error-code>",
    "remove-directory-at": "func(self: borrow<descriptor>, path: string) -> result<_, error-code>",
    "rename-at": "func(self: borrow<descriptor>, old-path: string, new-descriptor: borrow<descriptor>, "
    "new-path: string) -> result<_, error-code>",
    "symlink-at": "func(self: borrow<descriptor>, old-path: string, new-path: string) -> result<_, error-code>",
    "unlink-file-at": "func(self: borrow<descriptor>, path: string) -> result<_, error-code>",
    "is-same-object": "func(self: borrow<descriptor>, other: borrow<descriptor>) -> bool",
    "metadata-hash": "func(self: borrow<descriptor>) -> result<metadata-hash-value, error-code>",
    "metadata-hash-at": "func(self: borrow<descriptor>, path-flags: path-flags, path: string) "
    "-> result<metadata-hash-value, error-code>",
}

METHOD = "[method]descriptor."
NEXT_ENTRY = "[method]directory-entry-stream.read-directory-entry"
ERROR_CODE = "filesystem-error-code"

TYPES_SIGNATURES = declare_functions(
    _TYPES,
    {
        **{f"{METHOD}{name}": text for name, text in _METHODS.items()},
        NEXT_ENTRY: "func(self: borrow<directory-entry-stream>) -> result<option<directory-entry>, error-code>",
        ERROR_CODE: "func(err: borrow<error>) -> option<error-code>",
    },
)

PREOPENS_SIGNATURES = declare_functions(_TYPES, {"get-directories": "func() -> list<tuple<descriptor, string>>"})
