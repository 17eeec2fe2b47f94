"""Which names and paths a drive takes. It answers with documented codes and never changes a name."""

import re

from tests.graph.problems import GraphError, bad_request

FORBIDDEN = re.compile(r'["*:<>?/\\|\x00-\x1f\ud800-\udfff]')
RESERVED = re.compile(r"\.lock|con|prn|aux|nul|com[0-9]|lpt[0-9]|desktop\.ini|\.{1,2}", re.IGNORECASE)
LONGEST_PATH = 399
LONGEST_NAME = 255


def key(name: str) -> str:
    """Return what two names have in common that cannot stand beside each other in a folder."""
    return name.casefold()


def check(name: str, *, at_root: bool) -> None:
    """Raise unless an item of this name may be made.

    Sources: "Restrictions and limitations in OneDrive and SharePoint" (characters, spaces at either end, reserved
    names, `_vti_` anywhere, `~$` in front, `forms` at the root of a library) and "Addressing resources in a drive
    on OneDrive" (a tilde in front; a period at the end, stated there for folders, refused here for files as well).
    """
    if not name or FORBIDDEN.search(name) or RESERVED.fullmatch(name):
        raise _refused(name)
    if name != name.strip(" ") or name.startswith("~") or name.endswith("."):
        raise _refused(name)
    if "_vti_" in name.lower() or (at_root and name.lower() == "forms"):
        raise _refused(name)
    if len(name) > LONGEST_NAME:
        raise too_long()


def check_path(path: str) -> None:
    """Raise unless the decoded path, site and library included, is under 400 characters ("SharePoint limits")."""
    if len(path) > LONGEST_PATH:
        raise too_long()


def numbered(name: str, number: int) -> str:
    """Return the name that `rename` gives: `report 1.txt` for `report.txt`."""
    stem, dot, suffix = name.rpartition(".")
    return f"{stem} {number}.{suffix}" if dot and stem else f"{name} {number}"


def too_long() -> GraphError:
    return bad_request("The path of the item is too long.", "pathIsTooLong")


def _refused(name: str) -> GraphError:
    shown = name.encode("utf-8", "replace").decode()
    return bad_request(f"The name is not allowed: {shown!r}", "invalidPath")
