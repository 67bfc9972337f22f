"""Changes to files by what they are made of: bytes, protobuf messages, JSON, archives of arrays.

Each takes a ``random.Random``: Hypothesis gives one that it can shrink, a fuzzer one with a seed.
"""

import io
import json
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import Message

NUMBERS = (0, 1, -1, 2, 7, 127, 255, 2**16, 2**31 - 1, -(2**31), 2**40, 10**11, 2**63 - 1, -(2**63))
FLOATS = (0.0, -1.0, 1e-45, 3e38, 1e308, float("inf"), float("-inf"), float("nan"))
TEXTS = ("", "a", "\0", "\x1b[31m", "\u202e", "é漢", "a" * 5000, "../x", "Conv", "scores", "w")
OPERATORS = ("Conv", "Gemm", "MatMul", "Relu", "Add", "Reshape", "Concat", "Gather", "Transpose")
OPERATORS += ("DequantizeLinear", "ConstantOfShape", "Loop", "If", "Softmax", "Sigmoid", "Nope")


def any_bytes(data: bytes, random: Random) -> bytes:
    """Bits flipped, bytes set, pieces taken out, put twice, or cut off."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 1, 2, 8))):
        if not changed:
            break
        at = random.randrange(len(changed))
        length = random.choice((1, 2, 4, 8, 64))
        way = random.randrange(7)
        if way == 0:
            changed[at] ^= 1 << random.randrange(8)
        elif way == 1:
            changed[at] = random.choice((0, 1, 0x7F, 0x80, 0xFF))
        elif way == 2:
            del changed[at : at + length]
        elif way == 3:
            changed[at:at] = changed[at : at + length]
        elif way == 4:
            del changed[at:]
        elif way == 5:
            number = random.choice(NUMBERS) & 0xFFFFFFFF
            changed[at : at + 4] = struct.pack(random.choice("<>") + "I", number)
        else:
            other = random.randrange(len(changed))
            changed[at : at + length] = changed[other : other + length]
    return bytes(changed)


def one_bit(data: bytes, random: Random) -> bytes:
    """One bit flipped."""
    changed = bytearray(data)
    place = random.randrange(8 * len(data))
    changed[place // 8] ^= 1 << place % 8
    return bytes(changed)


def message(data: bytes, random: Random) -> bytes:
    """A model of which a field, anywhere, has another value, is gone, or stands twice."""
    model = onnx.ModelProto()
    model.ParseFromString(data)
    for _ in range(random.choice((1, 1, 2, 4))):
        _change_message(random.choice(_messages(model)), random)
    return model.SerializeToString()


def _messages(root: Message) -> list[Message]:
    found, waiting = [], [root]
    while waiting:
        one = waiting.pop()
        found.append(one)
        for field, value in one.ListFields():
            if field.type == field.TYPE_MESSAGE:
                waiting.extend([value] if isinstance(value, Message) else value)
    return found


def _change_message(one: Message, random: Random) -> None:
    field = random.choice(one.DESCRIPTOR.fields)
    value = getattr(one, field.name)
    if isinstance(value, Message):
        one.ClearField(field.name) if random.random() < 0.5 else value.SetInParent()
    elif isinstance(value, int | float | str | bytes):
        setattr(one, field.name, _value(field, value, random))
    elif field.type == field.TYPE_MESSAGE:
        _change_messages(value, random)
    elif len(value) and random.random() < 0.7:
        value[random.randrange(len(value))] = _value(field, value[0], random)
    else:
        value.append(_value(field, None, random))


def _change_messages(values: Any, random: Random) -> None:
    if not len(values):
        values.add()
        return
    at, way = random.randrange(len(values)), random.randrange(3)
    if way == 0:
        del values[at]
    elif way == 1:
        values.add().CopyFrom(values[at])
    else:
        values[at].CopyFrom(values[random.randrange(len(values))])


def _value(field: Any, before: Any, random: Random) -> Any:
    if field.type == field.TYPE_BYTES:
        return any_bytes(before or b"0", random)
    if field.type == field.TYPE_STRING:
        return random.choice(OPERATORS if field.name == "op_type" else TEXTS)
    if field.type in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        return random.choice(FLOATS[:4] if field.type == field.TYPE_FLOAT else FLOATS)
    if field.type == field.TYPE_ENUM:
        return random.choice(field.enum_type.values).number
    number = random.choice(NUMBERS)
    wide = field.type in (field.TYPE_INT64, field.TYPE_SINT64)
    if field.type in (field.TYPE_UINT64, field.TYPE_UINT32):
        return abs(number) % 2 ** (64 if field.type == field.TYPE_UINT64 else 32)
    return number if wide else (number + 2**31) % 2**32 - 2**31


def value(document: Any, random: Random) -> Any:
    """A JSON value of which a part, anywhere, is another, is gone, or is called otherwise."""
    if isinstance(document, dict) and document and random.random() < 0.8:
        key, way = random.choice(sorted(document)), random.random()
        rest = {k: v for k, v in document.items() if k != key}
        if way < 0.7:
            return document | {key: value(document[key], random)}
        return rest if way < 0.85 else rest | {random.choice(TEXTS): document[key]}
    if isinstance(document, list) and document and random.random() < 0.8:
        at = random.randrange(len(document))
        end = random.choice((at, at + 1, at + 1))
        return [*document[:at], value(document[at], random), *document[end:]]
    deep: Any = []
    for _ in range(random.choice((1, 3000))):
        deep = [deep]
    others = (None, True, {}, [], deep, *NUMBERS, *FLOATS, *TEXTS)
    return random.choice(others)


def as_text(document: Any, random: Random) -> bytes:
    """Its text, now and then with a key twice or bytes changed."""
    try:
        text = json.dumps(document).encode()
    except (RecursionError, ValueError):
        text = b"[" * 5000
    if random.random() < 0.1:
        text = text.replace(b"{", b'{"schema": 2, "schema": 2, ', 1)
    return any_bytes(text, random) if random.random() < 0.2 else text


def archive(data: bytes, random: Random) -> bytes:
    """An archive of arrays with other members, headers, methods, or bytes."""
    with zipfile.ZipFile(io.BytesIO(data)) as before:
        members = {name: before.read(name) for name in before.namelist()}
        comment = before.comment
    name = random.choice(sorted(members))
    way = random.randrange(6)
    if way == 0:
        members[name] = _header(members[name], random)
    elif way == 1:
        members[name] = any_bytes(members[name], random)
    elif way == 2:
        members[random.choice(("x.npy", "y.npy", "std.npy", "z.npy", "x", "\x1b.npy"))] = _npy(
            random
        )
    elif way == 3:
        del members[name]
    elif way == 4:
        members[name] = _npy(random)
    out = io.BytesIO()
    method = random.choice((zipfile.ZIP_STORED, zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))
    with zipfile.ZipFile(out, "w", method) as after:
        for member, content in members.items():
            after.writestr(member, content)
        after.comment = comment
    return any_bytes(out.getvalue(), random) if way == 5 else out.getvalue()


def _header(member: bytes, random: Random) -> bytes:
    """An array whose header claims something else."""
    size = struct.unpack("<H", member[8:10])[0]
    shape = tuple(random.choice(NUMBERS) for _ in range(random.randrange(5)))
    kind = random.choice(("|u1", "<f4", ">f8", "<i8", "|O", "<c16", "<M8[s]", "|S0", "<U9", "V4"))
    said = {"descr": kind, "fortran_order": random.random() < 0.3, "shape": shape}
    text = repr(said).encode().ljust(size - 1)[: size - 1] + b"\n"
    return member[:10] + text + member[10 + size :]


def _npy(random: Random) -> bytes:
    """An array that does not belong."""
    arrays = (
        np.zeros((), np.float32),
        np.zeros((0, 3)),
        np.full((2, 8, 8, 3), np.nan, np.float32),
        np.array(["a", "b"]),
        np.arange(40),
        np.full(40, 2**62),
        np.zeros((40, 2), bool),
        np.array([1 + 2j]),
        np.zeros(3, [("a", "i4")]),
    )
    out = io.BytesIO()
    np.save(out, random.choice(arrays), allow_pickle=False)
    return out.getvalue()


Mutation = Callable[[bytes, Random], bytes]
