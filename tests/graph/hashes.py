"""quickXorHash, written from Microsoft's description ("Code Snippets: QuickXorHash Algorithm"); shares no code with app."""

from base64 import b64encode
from dataclasses import dataclass, replace

WIDTH = 160  # bits of the result
SHIFT = 11  # byte number i is turned left by 11 * i bits, so the pattern repeats after WIDTH bytes
LANE = WIDTH * 256  # bytes taken as one number; this many is quick


@dataclass
class QuickXorHash:
    """The hash of what has come so far; `copy` is cheap, so that a broken request can be forgotten."""

    folded: int = 0
    length: int = 0

    def copy(self) -> "QuickXorHash":
        return replace(self)

    def update(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        first = min(-self.length % WIDTH, len(view))  # up to where the pattern begins again
        self.folded ^= int.from_bytes(view[:first], "little") << 8 * (self.length % WIDTH)
        lane = 0
        for start in range(first, len(view), LANE):
            lane ^= int.from_bytes(view[start : start + LANE], "little")
        self.folded ^= _folded(lane)
        self.length += len(view)

    def digest(self) -> str:
        """Return the hash as Graph shows it, in base64."""
        turned = 0
        for number, byte in enumerate(self.folded.to_bytes(WIDTH, "little")):
            turned ^= _rotated(byte, number * SHIFT)
        turned ^= self.length << (WIDTH - 64)  # the length goes over the last eight bytes
        return b64encode(turned.to_bytes(WIDTH // 8, "little")).decode()


def _folded(lane: int) -> int:
    """Lay one half over the other until one WIDTH is left: LANE is WIDTH times a power of two."""
    length = LANE // 2
    while length >= WIDTH:
        lane = (lane >> 8 * length) ^ (lane & ((1 << 8 * length) - 1))
        length //= 2
    return lane


def _rotated(value: int, bits: int) -> int:
    bits %= WIDTH
    return (value << bits | value >> (WIDTH - bits)) & ((1 << WIDTH) - 1)
