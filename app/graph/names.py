"""What a name becomes in OneDrive and SharePoint, which refuse some that the catalogue keeps as given.

Source: support.microsoft.com, "Restrictions and limitations in OneDrive and SharePoint". A character that is refused becomes
its full-width or pictured likeness, as rclone does it, whose users see the name they gave. Two names may become one: the
drive then says that the name is taken.
"""

import re

_LIKENESS = {ord(one): ord(one) + 0xFEE0 for one in '"*:<>?\\|'}
_LIKENESS |= {code: 0x2400 + code for code in range(1, 32)} | {127: 0x2421}
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]|\.lock|desktop\.ini", re.IGNORECASE)
_PRIVATE = re.compile("_(?=vti_)", re.IGNORECASE)  # "_vti_" may stand nowhere in a name


def mapped(name: str) -> str:
    """Return the name under which the drive takes what the catalogue calls `name`."""
    name = _PRIVATE.sub(_wide("_"), name.translate(_LIKENESS))
    if name[0] in " ~":
        name = _pictured(name[0]) + name[1:]
    if name[-1] in " .":
        name = name[:-1] + _pictured(name[-1])
    if _RESERVED.fullmatch(name):
        name = _wide(name[0]) + name[1:]
    return name


def _pictured(character: str) -> str:
    return "\u2420" if character == " " else _wide(character)


def _wide(character: str) -> str:
    return chr(ord(character) + 0xFEE0)
