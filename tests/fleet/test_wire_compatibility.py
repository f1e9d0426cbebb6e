"""The protocol may grow but never change its past: today's descriptors against the recorded release."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor_pb2 import FieldDescriptorProto

from fleet.v1 import control_pb2, enrolment_pb2, error_pb2, model_pb2, node_pb2

RECORDED = Path(__file__).resolve().parents[2] / "protos" / "fleet.v1.binpb"


def _recorded() -> list[descriptor_pb2.FileDescriptorProto]:
    files = descriptor_pb2.FileDescriptorSet.FromString(RECORDED.read_bytes()).file
    return [file for file in files if file.package == "fleet.v1"]


def _today() -> list[descriptor_pb2.FileDescriptorProto]:
    result = []
    for module in (control_pb2, enrolment_pb2, error_pb2, model_pb2, node_pb2):
        proto = descriptor_pb2.FileDescriptorProto()
        module.DESCRIPTOR.CopyToProto(proto)
        result.append(proto)
    return result


def breaking_changes(
    old: list[descriptor_pb2.FileDescriptorProto], new: list[descriptor_pb2.FileDescriptorProto]
) -> list[str]:
    """Everything that a peer built from `old` would stumble over: removed or changed fields, values and methods."""
    found = []

    def fields(files: list[descriptor_pb2.FileDescriptorProto]) -> dict[tuple[str, int], FieldDescriptorProto]:
        pending = [(m.name, m) for f in files for m in f.message_type]
        result = {}
        while pending:
            path, message = pending.pop()
            result.update({(path, field.number): field for field in message.field})
            pending += [(f"{path}.{nested.name}", nested) for nested in message.nested_type]
        return result

    new_fields = fields(new)
    for (path, number), field in fields(old).items():
        now = new_fields.get((path, number))
        if now is None:
            found.append(f"{path}.{field.name} ({number}) was removed")
        elif (now.type, now.label, now.type_name, now.name) != (field.type, field.label, field.type_name, field.name):
            found.append(f"{path}.{field.name} ({number}) changed")
    new_values = {(e.name, v.name): v.number for f in new for e in f.enum_type for v in e.value}
    for enum in (e for f in old for e in f.enum_type):
        found += [
            f"{enum.name}.{v.name} changed" for v in enum.value if new_values.get((enum.name, v.name)) != v.number
        ]
    new_methods = {(s.name, m.name): m for f in new for s in f.service for m in s.method}
    for service in (s for f in old for s in f.service):
        for method in service.method:
            if new_methods.get((service.name, method.name)) != method:
                found.append(f"{service.name}.{method.name} changed")
    return found


def test_today_is_compatible_with_the_recorded_release() -> None:
    assert breaking_changes(_recorded(), _today()) == []


def test_a_removed_field_a_reused_number_and_a_changed_method_are_noticed() -> None:
    broken = _today()
    for file in broken:
        for message in file.message_type:
            if message.name == "Hello":
                message.field[0].type = FieldDescriptorProto.TYPE_BYTES
                del message.field[1]
        for service in file.service:
            if service.name == "NodeService":
                service.method[0].client_streaming = False
        for enum in file.enum_type:
            enum.value[1].number = 99
    assert sorted(breaking_changes(_recorded(), broken)) == [
        "Hello.agent_version (2) was removed",
        "Hello.boot_id (1) changed",
        "NodeService.Session changed",
        "Phase.PHASE_PENDING changed",
    ]
