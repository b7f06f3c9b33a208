#!/usr/bin/env python3
"""Is what the worker speaks with Google what Google speaks?

Usage: google_protocol.py PROTO_DIRECTORY

Compares each message, field, number, type and value of our description with those of Google's own library, then lets either
read what the other wrote: a configuration, sound and an answer, with every field of ours set.
"""

import pathlib
import re
import sys
import tempfile

from google.cloud.speech_v1.services.speech.transports.grpc import SpeechGrpcTransport
from google.cloud.speech_v1.types import cloud_speech
from google.cloud.texttospeech_v1.services.text_to_speech.transports.grpc import TextToSpeechGrpcTransport
from google.cloud.texttospeech_v1.types import cloud_tts
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
import grpc_tools

# Ours have no dependency for these.
RENAMED = {"google.cloud.speech.v1.Status": "google.rpc.Status"}


def described(directory, path):
    """Our description in a pool of its own, where Google's is not."""
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work, "set")
        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{directory}", f"-I{well_known}", "--include_imports", f"--descriptor_set_out={out}", path]
        if protoc.main(arguments) != 0:
            sys.exit("FAIL: our description cannot be compiled")
        files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes())
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    return pool


def same_message(ours, theirs, seen):
    """Fields of ours have the name, number and type that Google's have; gives how many there are."""
    if ours.full_name in seen:
        return 0
    seen.add(ours.full_name)
    fields = 0
    for field in ours.fields:
        other = theirs.fields_by_name.get(field.name)
        where = f"{ours.full_name}.{field.name}"
        assert other is not None, f"{where} is none of Google's"
        told = lambda one: (one.number, one.type, one.is_repeated, one.containing_oneof and one.containing_oneof.name)
        assert told(field) == told(other), f"{where}: {told(field)}, not {told(other)}"
        fields += 1
        if field.message_type:
            name = RENAMED.get(field.message_type.full_name, field.message_type.full_name)
            assert name == other.message_type.full_name, f"{where} is of {name}, not {other.message_type.full_name}"
            fields += same_message(field.message_type, other.message_type, seen)
        if field.enum_type:
            values = {value.name: value.number for value in other.enum_type.values}
            for value in field.enum_type.values:
                assert values.get(value.name) == value.number, f"{where}: {value.name} is not {value.number}"
    return fields


def fill(message):
    """Sets every field; of several that exclude each other, the last."""
    for field in message.DESCRIPTOR.fields:
        if field.message_type:
            one = getattr(message, field.name)
            fill(one.add() if field.is_repeated else one)
            continue
        number = field.number + 1
        by_type = {field.TYPE_STRING: f"text {number}", field.TYPE_BYTES: bytes([number]) * 3, field.TYPE_BOOL: True}
        by_type[field.TYPE_ENUM] = field.enum_type.values[-1].number if field.enum_type else 0
        value = by_type.get(field.type, number)
        if field.is_repeated:
            getattr(message, field.name).append(value)
        else:
            setattr(message, field.name, value)
    return message


def crosses(ours, theirs):
    """What either writes, the other reads without a rest and writes as the same bytes."""
    written = ours.SerializeToString(deterministic=True)
    read = type(theirs).FromString(written)
    again = read.SerializeToString(deterministic=True)
    assert written and again == written, f"{ours.DESCRIPTOR.full_name} does not come back"
    assert type(ours).FromString(again) == ours
    known = type(theirs)()
    known.CopyFrom(read)
    known.DiscardUnknownFields()
    assert known == read, f"Google's library does not know all of {ours.DESCRIPTOR.full_name}"


def asked_at(transport, method):
    """The way that a call of Google's library takes."""

    class Called(Exception):
        pass

    class Channel:
        def __getattr__(self, _):
            def way(path, **_kwargs):
                raise Called(path)

            return way

    bare = transport.__new__(transport)
    bare._stubs, bare._logged_channel = {}, Channel()
    try:
        getattr(bare, method)
    except Called as called:
        return str(called)
    return None


def compare(directory, file, name, theirs, transport):
    """One service of one streaming method: `name` is both, `theirs` are its messages."""
    pool = described(directory, file)
    described_file = pool.FindFileByName(file)
    service = pool.FindServiceByName(f"{described_file.package}.{name[0]}")
    method = service.methods_by_name[name[1]]
    assert method.client_streaming and method.server_streaming, name
    ours = [method.input_type, method.output_type]
    seen = set()
    fields = sum(same_message(one, other.DESCRIPTOR, seen) for one, other in zip(ours, theirs))
    # A field that nothing leads to would not be compared.
    all_of_ours = set(described_file.message_types_by_name)
    assert {name.rsplit(".", 1)[-1] for name in seen} >= all_of_ours, f"not compared: {all_of_ours}"
    request, response = (message_factory.GetMessageClass(one) for one in ours)
    # Each of what a request is one of.
    for one in ours[0].oneofs[0].fields:
        message = request()
        if one.message_type:
            fill(getattr(message, one.name))
        else:
            setattr(message, one.name, b"\xff\x00\x7f")
        crosses(message, theirs[0]())
    crosses(fill(response()), theirs[1]())
    path = asked_at(transport, re.sub("(?<!^)([A-Z])", r"_\1", name[1]).lower())
    assert path == f"/{service.full_name}/{method.name}", path
    print(f"google: {len(seen)} messages and {fields} fields are Google's, at {path}")


def main():
    directory = sys.argv[1]
    compare(
        directory,
        "google/cloud/speech/v1/cloud_speech.proto",
        ("Speech", "StreamingRecognize"),
        [cloud_speech.StreamingRecognizeRequest.pb(), cloud_speech.StreamingRecognizeResponse.pb()],
        SpeechGrpcTransport,
    )
    compare(
        directory,
        "google/cloud/texttospeech/v1/cloud_tts.proto",
        ("TextToSpeech", "StreamingSynthesize"),
        [cloud_tts.StreamingSynthesizeRequest.pb(), cloud_tts.StreamingSynthesizeResponse.pb()],
        TextToSpeechGrpcTransport,
    )


main()
