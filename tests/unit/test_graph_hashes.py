"""The simulator's quickXorHash against Microsoft's description, followed to the letter, and against known values."""

from base64 import b64encode
from random import Random

import pytest

from tests.graph.hashes import LANE, WIDTH, QuickXorHash

KNOWN = {
    b"": "AAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    b"J": "SgAAAAAAAAAAAAAAAQAAAAAAAAA=",
    b"hello world": "aCgDG9jwBhDc4Q1yawMZAAAAAAA=",
}


def to_the_letter(data: bytes) -> str:
    """Turn each byte left by eleven bits more than the last, in a ring of 160 bits; at the end lay the length over it."""
    ring = 0
    for number, byte in enumerate(data):
        turned = byte << (number * 11) % 160
        ring ^= (turned & (1 << 160) - 1) ^ (turned >> 160)
    result = bytearray(ring.to_bytes(20, "little"))
    for place, byte in enumerate(len(data).to_bytes(8, "little")):
        result[12 + place] ^= byte
    return b64encode(result).decode()


def hashed(*pieces: bytes) -> str:
    made = QuickXorHash()
    for piece in pieces:
        made.update(piece)
    return made.digest()


@pytest.mark.parametrize(("data", "known"), KNOWN.items())
def test_known_values_come_out(data: bytes, known: str) -> None:
    assert hashed(data) == to_the_letter(data) == known


@pytest.mark.parametrize(
    "size", [2, 19, 20, 159, 160, 161, 1759, 1761, LANE - 1, LANE, LANE + 1, 3 * LANE + 7]
)
def test_any_length_is_hashed_as_the_description_says(size: int) -> None:
    data = Random(size).randbytes(size)

    assert hashed(data) == to_the_letter(data)


def test_it_does_not_matter_where_the_pieces_end() -> None:
    random = Random(7)
    data = random.randbytes(4 * LANE + 33)
    cuts = sorted(random.randrange(len(data)) for _ in range(60))
    pieces = [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    assert hashed(*pieces) == hashed(data)


def test_a_copy_goes_its_own_way() -> None:
    made = QuickXorHash()
    made.update(b"a" * WIDTH)
    copy = made.copy()

    copy.update(b"b")

    assert made.digest() == hashed(b"a" * WIDTH)
    assert copy.digest() == hashed(b"a" * WIDTH + b"b")
