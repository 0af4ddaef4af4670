"""Our messages and RPCs are Triton's: compared with those of its own client, and on the wire."""

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, TypeVar

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, text_format
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from tritonclient.grpc import model_config_pb2 as their_config
from tritonclient.grpc import service_pb2 as their_service

from yais.protocol import kserve_pb2, model_config_pb2
from yais.protocol.descriptor_pool import POOL

M = TypeVar("M", bound=Message)
Node = descriptor_pb2.FileDescriptorProto | descriptor_pb2.DescriptorProto


def describe_message(message: descriptor_pb2.DescriptorProto) -> dict[str, str]:
    """All that is said about a message itself and its fields, in any order."""
    found = {}
    for field in message.field:
        where = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "no oneof"
        field.ClearField("oneof_index")
        found[f"field {field.name}"] = f"{where}: {field}"
    found["oneofs"] = str(sorted(oneof.name for oneof in message.oneof_decl))
    rest = descriptor_pb2.DescriptorProto()
    rest.CopyFrom(message)
    for part in ("field", "oneof_decl", "nested_type", "enum_type"):
        rest.ClearField(part)
    found["rest"] = str(rest)  # options, reservations, extensions
    return found


def walk(node: Node, scope: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Describe all enums and messages in a file or message, the nested ones too, by full name."""
    for enum in node.enum_type:
        values = {f"value {value.name}": str(value) for value in enum.value}
        enum.ClearField("value")
        yield f"{scope}.{enum.name}", values | {"rest": str(enum)}
    messages = node.message_type if isinstance(node, descriptor_pb2.FileDescriptorProto) else node.nested_type
    for message in messages:
        name = f"{scope}.{message.name}"
        yield name, describe_message(message)
        yield from walk(message, name)


def describe(*files: FileDescriptor) -> dict[str, dict[str, str]]:
    """Describe every message, enum and service of some files."""
    found: dict[str, dict[str, str]] = {}
    for file in files:
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        assert proto.syntax == "proto3"
        assert not proto.extension
        found |= walk(proto, proto.package)
        for service in proto.service:
            for rpc in service.method:
                if not rpc.options.ByteSize():
                    rpc.ClearField("options")  # "{}" after an RPC leaves empty ones behind
            found[f"{proto.package}.{service.name}"] = {f"rpc {rpc.name}": str(rpc) for rpc in service.method}
    return found


OUR_PARTS = describe(kserve_pb2.DESCRIPTOR, model_config_pb2.DESCRIPTOR)
THEIR_PARTS = describe(their_service.DESCRIPTOR, their_config.DESCRIPTOR)


@pytest.mark.parametrize("name", sorted(OUR_PARTS | THEIR_PARTS))
def test_every_message_enum_and_service_is_tritons(name: str) -> None:
    assert OUR_PARTS.get(name) == THEIR_PARTS.get(name)


def test_the_comparison_sees_something() -> None:
    assert len(OUR_PARTS["inference.GRPCInferenceService"]) == 20
    stream = OUR_PARTS["inference.GRPCInferenceService"]["rpc ModelStreamInfer"]
    assert "client_streaming: true" in stream
    assert "server_streaming: true" in stream
    assert "number: 17" in OUR_PARTS["inference.ModelConfig"]["field backend"]
    assert "scheduling_choice: " in OUR_PARTS["inference.ModelConfig"]["field dynamic_batching"]
    assert "TYPE_BF16" in OUR_PARTS["inference.DataType"]["value TYPE_BF16"]
    assert "map_entry: true" in OUR_PARTS["inference.ModelConfig.ParametersEntry"]["rest"]


def scalar(field: Any) -> Any:
    """Return a value for a field, but none for a message; for an enum the last one."""
    if field.enum_type:
        return field.enum_type.values[-1].number
    by_type = {
        field.TYPE_STRING: "text",
        field.TYPE_BYTES: b"\x00\xff",
        field.TYPE_BOOL: True,
        field.TYPE_FLOAT: 0.5,
        field.TYPE_DOUBLE: 0.25,
        field.TYPE_MESSAGE: None,
    }
    return by_type.get(field.type, 300)


def fill(message: M) -> M:
    """Set every field of a message, the fields of its parts too; of a oneof, the last one."""
    for field in message.DESCRIPTOR.fields:
        target = getattr(message, field.name)
        value = scalar(field)
        if field.message_type and field.message_type.GetOptions().map_entry:
            key, entry = field.message_type.fields
            if entry.message_type:
                fill(target[scalar(key)])
            else:
                target[scalar(key)] = scalar(entry)
        elif field.is_repeated:
            if field.message_type:
                fill(target.add())
            target.extend([value] * 2 if value is not None else [])
        elif field.message_type:
            target.SetInParent()
            fill(target)
        else:
            setattr(message, field.name, value)
    return message


PAIRS = [
    (vars(ours)[name], vars(theirs)[name])
    for ours, theirs in ((kserve_pb2, their_service), (model_config_pb2, their_config))
    for name in ours.DESCRIPTOR.message_types_by_name
]


@pytest.mark.parametrize(("ours", "theirs"), PAIRS, ids=[ours.__name__ for ours, _ in PAIRS])
def test_bytes_of_one_parse_in_the_other(ours: type[Message], theirs: type[Message]) -> None:
    for source, target in ((ours, theirs), (theirs, ours)):
        sent = fill(source())
        received = target.FromString(sent.SerializeToString())
        received.DiscardUnknownFields()
        assert text_format.MessageToString(received) == text_format.MessageToString(sent)
        assert source.FromString(received.SerializeToString()) == sent


def test_messages_are_in_our_pool_only() -> None:
    assert POOL.FindMessageTypeByName("inference.ModelConfig") is model_config_pb2.ModelConfig.DESCRIPTOR
    for file in ("kserve.proto", "model_config.proto"):
        assert POOL.FindFileByName(file).pool is POOL
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName("kserve.proto")


def test_classes_know_the_module_they_are_in() -> None:
    assert kserve_pb2.ModelInferRequest.__module__ == kserve_pb2.__name__
    assert model_config_pb2.ModelConfig.__module__ == model_config_pb2.__name__


BOTH = """
from google.protobuf import symbol_database
ours = kserve_pb2.ModelInferRequest(model_name="m", raw_input_contents=[b"12"])
ours.inputs.add(name="i", shape=[1, 2]).parameters["p"].int64_param = 3
theirs = service_pb2.ModelInferRequest.FromString(ours.SerializeToString())
assert theirs.inputs[0].parameters["p"].int64_param == 3
assert kserve_pb2.ModelInferRequest.FromString(theirs.SerializeToString()) == ours
default = symbol_database.Default().GetSymbol("inference.ModelInferRequest")
assert default is service_pb2.ModelInferRequest
"""
IMPORT_OURS = "from yais.protocol import kserve_pb2\n"
IMPORT_THEIRS = "import tritonclient.grpc\nfrom tritonclient.grpc import service_pb2\n"


@pytest.mark.parametrize("implementation", ["upb", "python"])
@pytest.mark.parametrize("imports", [IMPORT_OURS + IMPORT_THEIRS, IMPORT_THEIRS + IMPORT_OURS])
def test_one_process_imports_both_in_any_order(imports: str, implementation: str) -> None:
    environment = os.environ | {"PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION": implementation}
    command = [sys.executable, "-W", "error", "-c", imports + BOTH]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
