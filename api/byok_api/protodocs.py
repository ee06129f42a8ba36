"""The gRPC reference from the comments in the `.proto`."""

from pathlib import Path

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    EnumDescriptorProto,
    FieldDescriptorProto,
    FileDescriptorSet,
    ServiceDescriptorProto,
)

# Field numbers in descriptor.proto, of which the paths in SourceCodeInfo are made.
_MESSAGE, _ENUM, _SERVICE = 4, 5, 6
_FIELD, _NESTED_ENUM, _VALUE, _METHOD = 2, 4, 2, 2

_Place = tuple[int, ...]


def grpc_page(descriptor_set: bytes, proto: Path) -> str:
    """Describe services and messages of `proto`, given protoc's descriptor set with source information."""
    files = FileDescriptorSet.FromString(descriptor_set).file
    file = next(candidate for candidate in files if candidate.name == proto.as_posix())
    comments = {
        tuple(location.path): " ".join(location.leading_comments.split())
        for location in file.source_code_info.location
        if location.leading_comments
    }
    detached = next((location for location in file.source_code_info.location if tuple(location.path) == (12,)), None)
    intro = " ".join(detached.leading_comments.split()) if detached else ""
    parts = [f"# gRPC\n\nPackage `{file.package}`, [{proto.name}](../../api/{proto.as_posix()}). {intro}\n"]
    parts += [_service(service, (_SERVICE, index), comments) for index, service in enumerate(file.service)]
    parts += [_message(message, (_MESSAGE, index), comments) for index, message in enumerate(file.message_type)]
    return "".join(parts)


def _service(service: ServiceDescriptorProto, place: _Place, comments: dict[_Place, str]) -> str:
    rows = []
    for index, method in enumerate(service.method):
        request = ("stream " if method.client_streaming else "") + _link(method.input_type)
        response = ("stream " if method.server_streaming else "") + _link(method.output_type)
        rows.append(f"| `{method.name}` | {request} | {response} | {comments.get((*place, _METHOD, index), '')} |\n")
    head = "| method | request | response | what it does |\n| --- | --- | --- | --- |\n"
    return f"\n## Service {service.name}\n\n{comments.get(place, '')}\n\n{head}{''.join(rows)}"


def _message(message: DescriptorProto, place: _Place, comments: dict[_Place, str]) -> str:
    rows = [
        f"| `{field.name}` | {field.number} | {_type(field, message)} | {comments.get((*place, _FIELD, index), '')} |\n"
        for index, field in enumerate(message.field)
    ]
    head = "| field | number | type | what it says |\n| --- | --- | --- | --- |\n"
    enums = [_enum(enum, (*place, _NESTED_ENUM, index), comments) for index, enum in enumerate(message.enum_type)]
    fields = head + "".join(rows) if rows else "No fields.\n"
    return f"\n## {message.name}\n\n{comments.get(place, '')}\n\n{fields}{''.join(enums)}"


def _enum(enum: EnumDescriptorProto, place: _Place, comments: dict[_Place, str]) -> str:
    rows = [
        f"| `{value.name}` | {value.number} | {comments.get((*place, _VALUE, index), '')} |\n"
        for index, value in enumerate(enum.value)
    ]
    head = "| value | number | what it says |\n| --- | --- | --- |\n"
    return f"\n### {enum.name}\n\n{comments.get(place, '')}\n\n{head}{''.join(rows)}"


def _type(field: FieldDescriptorProto, message: DescriptorProto) -> str:
    entry = next((nested for nested in message.nested_type if field.type_name.endswith(f".{nested.name}")), None)
    if entry is not None:
        return f"map of {_type(entry.field[0], message)} to {_type(entry.field[1], message)}"
    name = FieldDescriptorProto.Type.Name(field.type).removeprefix("TYPE_").lower()
    shown = _link(field.type_name) if field.type_name else name
    repeated = "repeated " if field.label == FieldDescriptorProto.LABEL_REPEATED else ""
    one_of = f" (one of {message.oneof_decl[field.oneof_index].name})" if field.HasField("oneof_index") else ""
    return f"{repeated}{shown}{one_of}"


def _link(type_name: str) -> str:
    name = type_name.rpartition(".")[2]
    return f"[{name}](#{name.lower()})" if type_name.startswith(".byok.") else f"`{type_name.lstrip('.')}`"
