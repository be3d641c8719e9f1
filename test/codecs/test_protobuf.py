"""Protocol Buffers: bodies by generated classes, binary and in their JSON form."""

from __future__ import annotations

import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from service_scaffold import codecs, errors

PROTOBUF = 'application/protobuf'


def generated() -> type:
    """What protoc makes of `message Level { required string tank = 1; int32 litres = 2; }`."""
    file = descriptor_pb2.FileDescriptorProto(name='level.proto', package='plant')
    level = file.message_type.add(name='Level')
    for number, (name, kind) in enumerate([('tank', 'TYPE_STRING'), ('litres', 'TYPE_INT32')], 1):
        level.field.add(
            name=name,
            number=number,
            type=getattr(descriptor_pb2.FieldDescriptorProto, kind),
            label=descriptor_pb2.FieldDescriptorProto.LABEL_REQUIRED
            if number == 1
            else descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL,
        )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName('plant.Level'))


Level = generated()


@pytest.mark.parametrize(
    'content_type', [PROTOBUF, 'application/x-protobuf', None, 'application/msgpack']
)
def test_a_message_comes_back_as_it_went(content_type):
    level = Level(tank='north', litres=3)

    body, sent_as = codecs.encode(level, content_type)
    decoded = codecs.Decoder(Level).decode(body, sent_as)

    assert decoded == level
    assert type(decoded) is Level


def test_the_binary_form_is_that_of_the_class():
    level = Level(tank='north', litres=3)

    assert codecs.encode(level, PROTOBUF) == (level.SerializeToString(), PROTOBUF)


def test_without_a_content_type_it_is_json_that_others_read():
    body, sent_as = codecs.encode(Level(tank='north', litres=3))

    assert codecs.decode(body, sent_as) == {'tank': 'north', 'litres': 3}


def test_what_is_no_message_is_not_encoded():
    for value in ({'tank': 'north'}, 3, Level, Level()):  # the last one lacks its tank
        with pytest.raises(errors.EncodeError):
            codecs.encode(value, PROTOBUF)


def test_bytes_that_are_none_are_undecodable():
    with pytest.raises(errors.DecodeError, match='Not a Level'):
        codecs.Decoder(Level).decode(b'\xff\xff', PROTOBUF)
    with pytest.raises(errors.DecodeError, match='declares its message class'):
        codecs.decode(b'', PROTOBUF)


@pytest.mark.parametrize('content_type', [None, 'application/msgpack'])
def test_a_wrong_shape_is_invalid(content_type):
    body, _ = codecs.encode({'tank': 'north', 'litres': 'many'}, content_type)
    with pytest.raises(errors.InvalidBody, match='Not a Level'):
        codecs.Decoder(Level).decode(body, content_type)
    with pytest.raises(errors.DecodeError) as raised:
        codecs.Decoder(Level).decode(b'{')
    assert not isinstance(raised.value, errors.InvalidBody)


def test_the_package_is_loaded_by_the_first_body_only():
    source = "import sys; from service_scaffold import codecs; assert 'google' not in sys.modules"

    subprocess.run([sys.executable, '-c', source], check=True, timeout=30)
