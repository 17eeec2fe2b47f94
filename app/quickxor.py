"""quickXorHash, the one hash that OneDrive and SharePoint tell of every file.

Each byte is XORed into 160 bits, eleven bits further on than the byte before it, around the end; the length is XORed into
the last 64 bits. Source: learn.microsoft.com/onedrive/developer/code-snippets/quickxorhash.
"""

import base64

_BITS, _STEP = 160, 11
_LANE = 160  # bytes: after so many the shift is back where it began, since 160 * 11 is a multiple of 160
_STRIDE = 100 * _LANE  # whole lanes at a time: Python is quick with numbers that fit a processor's cache


class QuickXor:
    """Like an object of hashlib: `update` with any pieces, then ask for the digest."""

    def __init__(self) -> None:
        self._stride = 0  # every stride so far, XORed; the first byte is the lowest
        self._length = 0

    def update(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            shift = self._length % _STRIDE
            piece = left[: _STRIDE - shift]
            self._stride ^= int.from_bytes(piece, "little") << 8 * shift
            self._length += len(piece)
            left = left[len(piece) :]

    def digest(self) -> str:
        """Return the hash as Microsoft writes it: 20 bytes in base64."""
        state = self._length << _BITS - 64
        for place, byte in enumerate(_one_lane(self._stride)):
            turned = byte << place * _STEP % _BITS
            state ^= turned & (1 << _BITS) - 1 ^ turned >> _BITS
        return base64.b64encode(state.to_bytes(_BITS // 8, "little")).decode()


def _one_lane(stride: int) -> bytes:
    lane, rest = 0, stride.to_bytes(_STRIDE, "little")
    for first in range(0, _STRIDE, _LANE):
        lane ^= int.from_bytes(rest[first : first + _LANE], "little")
    return lane.to_bytes(_LANE, "little")
