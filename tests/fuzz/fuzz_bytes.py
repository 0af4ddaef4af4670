"""Damage to bytes, and to protobuf messages by their fields."""

from __future__ import annotations

from random import Random

ODD_NUMBERS = (
    *(0, 1, -1, 2, 3, 7, 8, 15, 16, 17, 63, 64, 65, 127, 128, 255, 256, 1023, 4096),
    *(2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**60, 2**62, 2**63 - 1, -(2**31), -(2**63)),
)

ODD_TEXTS = (
    *("", " ", "\0", "a\0b", ".", "..", "../..", "/", "/etc/passwd", "*", "a b", "é", "\U0001f40d", "'", '"'),
    *(
        "<script>",
        "%s",
        "{}",
        "%00",
        "0",
        "-1",
        "1e3",
        "true",
        "null",
        "\r\nX: y",
        "\\",
        "x" * 300,
        "x" * 5000,
    ),
)


def damaged(random: Random, data: bytes) -> bytes:
    """Return bytes with something wrong somewhere."""
    at = random.randrange(len(data) + 1)
    to = min(len(data), at + random.choice((1, 2, 4, 8, 64)))
    match random.randrange(7):
        case 0 if data:
            at = random.randrange(len(data))
            return data[:at] + bytes([data[at] ^ 1 << random.randrange(8)]) + data[at + 1 :]
        case 1:
            return data[:at]
        case 2:
            return data[:at] + data[to:]
        case 3:
            return data[:at] + random.randbytes(random.choice((1, 2, 4, 16))) + data[at:]
        case 4:
            return data[:to] + data[at:]
        case 5:
            return data[:at] + random.choice((b"\xff", b"\0", b"\x80")) * (to - at) + data[to:]
    return random.randbytes(random.choice((0, 1, 5, 30)))


def varint(number: int, *, longer: int = 0) -> bytes:
    """Encode a number; in so many bytes more than it takes."""
    number %= 1 << 64
    parts = []
    while number >= 0x80:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number | 0x80, *[0x80] * (longer - 1), 0] if longer else [*parts, number])


def fields(message: bytes) -> list[tuple[int, int, bytes]] | None:
    """Return number, wire type and contents of each field; None if it is no message."""
    found = []
    position = 0
    while position < len(message):
        tag, position = _number(message, position)
        kind = tag & 7
        if kind == 0:
            value, position = _number(message, position)
            contents = varint(value)
        elif kind in {1, 2, 5}:
            size, position = _number(message, position) if kind == 2 else ({1: 8, 5: 4}[kind], position)
            contents = message[position : position + size]
            position += size
        else:
            return None
        if position > len(message):
            return None
        found.append((tag >> 3, kind, contents))
    return found


def _number(message: bytes, position: int) -> tuple[int, int]:
    number = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            break
        byte = message[position]
        position += 1
        number |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return number, position
    return 0, len(message) + 1


def joined(parts: list[tuple[int, int, bytes]]) -> bytes:
    """Return the message of such fields."""
    return b"".join(_field(*part) for part in parts)


def _field(number: int, kind: int, contents: bytes) -> bytes:
    length = varint(len(contents)) if kind == 2 else b""
    return varint(number << 3 | kind) + length + contents


def damaged_message(random: Random, message: bytes) -> bytes:
    """Return a protobuf message with something wrong: in its bytes, or with a field somewhere in it."""
    parts = fields(message)
    if not parts or not random.randrange(6):
        return damaged(random, message)
    at = random.randrange(len(parts))
    number, kind, contents = parts[at]
    match random.randrange(10):
        case 0:
            del parts[at]
        case 1:
            parts += [parts[at]] * random.choice((1, 1, 2, 40))
        case 2:
            random.shuffle(parts)
        case 3:
            parts[at] = (random.choice((1, 2, 5, 15, 16, 99, 2**29 - 1)), kind, contents)
        case 4:  # another wire type; 3, 4, 6 and 7 have no contents, or are none
            parts[at] = (number, random.randrange(8), contents)
        case 5:
            huge = varint(random.choice(ODD_NUMBERS), longer=random.choice((0, 0, 1, 9)))
            parts[at] = (number, 0, huge)
        case 6:  # a length that is not that of the contents, or longer than it need be
            length = random.choice((len(contents), len(contents) + 1, 2**31, 2**63, *ODD_NUMBERS))
            wrong = varint(number << 3 | 2) + varint(length, longer=random.randrange(3)) + contents
            return joined(parts[:at]) + wrong + joined(parts[at + 1 :])
        case _ if kind == 2:
            parts[at] = (number, kind, damaged_message(random, contents))
        case _:
            parts[at] = (number, kind, varint(random.choice(ODD_NUMBERS)) if kind == 0 else contents[::-1])
    return joined(parts)
