#!/usr/bin/env python3
"""Is what the worker speaks with Google what Google speaks?

Usage: google_speech.py PROTO_DIRECTORY

Compares each message, field, number, type and value of our description with those of Google's own library, then lets either
read what the other wrote: a configuration, sound and an answer, with every field of ours set.
"""

import pathlib
import sys
import tempfile

from google.cloud.speech_v1.services.speech.transports.grpc import SpeechGrpcTransport
from google.cloud.speech_v1.types import cloud_speech
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
import grpc_tools

FILE = "google/cloud/speech/v1/cloud_speech.proto"
PACKAGE = "google.cloud.speech.v1."
# Ours has no dependency for this one.
RENAMED = {PACKAGE + "Status": "google.rpc.Status"}


def described(directory):
    """Our description in a pool of its own, where Google's is not."""
    with tempfile.TemporaryDirectory() as work:
        out = pathlib.Path(work, "set")
        well_known = pathlib.Path(grpc_tools.__file__).parent / "_proto"
        arguments = ["protoc", f"-I{directory}", f"-I{well_known}", "--include_imports", f"--descriptor_set_out={out}", FILE]
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


def main():
    pool = described(sys.argv[1])
    service = pool.FindServiceByName(PACKAGE + "Speech")
    method = service.methods_by_name["StreamingRecognize"]
    ours = [method.input_type, method.output_type]
    theirs = [cloud_speech.StreamingRecognizeRequest.pb(), cloud_speech.StreamingRecognizeResponse.pb()]
    seen = set()
    fields = sum(same_message(one, other.DESCRIPTOR, seen) for one, other in zip(ours, theirs))
    # A field that nothing leads to would not be compared.
    all_of_ours = set(pool.FindFileByName(FILE).message_types_by_name)
    assert {name.rsplit(".", 1)[-1] for name in seen} >= all_of_ours, f"not compared: {all_of_ours}"
    request, response = (message_factory.GetMessageClass(one) for one in ours)
    config, sound = request(), request(audio_content=b"\xff\x00\x7f")
    fill(config.streaming_config)
    for message, other in [(config, theirs[0]), (sound, theirs[0]), (fill(response()), theirs[1])]:
        crosses(message, other())

    class Called(Exception):
        """The way that a call of Google's library takes."""

    class Channel:
        def __getattr__(self, _):
            def way(path, **_kwargs):
                raise Called(path)

            return way

    transport = SpeechGrpcTransport.__new__(SpeechGrpcTransport)
    transport._stubs, transport._logged_channel = {}, Channel()
    try:
        transport.streaming_recognize
    except Called as called:
        path = str(called)
    assert path == f"/{service.full_name}/{method.name}", path
    print(f"google_speech: {len(seen)} messages and {fields} fields are Google's, at {path}")


main()
