import base64
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.quickxor import QuickXor


def bit_by_bit(data: bytes) -> str:
    """The definition, as slow as it is plain: each byte is XORed in eleven bits further on, around the end of 160."""
    state, place = len(data) << 96, 0
    for byte in data:
        for bit in range(8):
            if byte >> bit & 1:
                state ^= 1 << (place + bit) % 160
        place = (place + 11) % 160
    return base64.b64encode(state.to_bytes(20, "little")).decode()


def in_pieces(data: bytes, sizes: list[int]) -> str:
    made, at = QuickXor(), 0
    for size in sizes:
        made.update(data[at : at + size])
        at += size
    made.update(data[at:])
    return made.digest()


def test_of_nothing_it_is_nothing() -> None:
    assert QuickXor().digest() == "AAAAAAAAAAAAAAAAAAAAAAAAAAA="


@given(st.binary(max_size=500), st.lists(st.integers(0, 200), max_size=6))
def test_it_is_the_definition_however_the_bytes_come(data: bytes, sizes: list[int]) -> None:
    assert in_pieces(data, sizes) == bit_by_bit(data)


@pytest.mark.parametrize("size", [15_999, 16_000, 16_001, 40_000])
def test_long_files_are_hashed_across_strides(size: int) -> None:
    data = random.Random(size).randbytes(size)

    assert in_pieces(data, [7, 15_990, 16_000]) == bit_by_bit(data)


def test_a_change_of_one_bit_shows() -> None:
    assert in_pieces(b"\x00" * 5000, []) != in_pieces(b"\x00" * 4999 + b"\x01", [])
