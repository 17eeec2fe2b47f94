"""Upload sessions: fragments in order, on Microsoft's grid, and what to do when one did not come through.

Source: learn.microsoft.com/graph/api/driveitem-createuploadsession. From the field: part of a fragment may have been kept
(onedrive-api-docs#75), a 503 may stand for a success (#64), and an address knows nothing of itself once its file is complete (#1259).
"""

import re

from app.errors import Disconnected, DriveFault, NameTaken, SessionLost
from app.graph.answers import SOON, Answer, trouble
from app.graph.client import Addresses
from app.models import Json

GRID = 320 * 2**10  # bytes; every fragment but the last is a multiple of it
FRAGMENT = 32 * GRID  # 10 MiB: the best size on good links, says Microsoft; 60 MiB would be too much


def opened(url: str, size: int, *, is_careful: bool) -> Json:
    """Return what a session is known by; a careful one begins with the smallest fragments."""
    return {"url": url, "size": size, "fragment": GRID if is_careful else FRAGMENT}


def position(addresses: Addresses, session: Json) -> int | None:
    """Ask Microsoft where to go on, in bytes; None if it knows no such session, be it for having been completed."""
    answer = addresses.ask("GET", session["url"])
    if answer.status in (401, 403, 404):
        return None
    return _next(answer, session["size"])


def put(addresses: Addresses, session: Json, offset: int, data: bytes) -> int | Json:
    """Send as much of `data` as one fragment holds, from the byte `offset` on.

    Returns where to go on, or the finished file's item after the last byte. Raises SessionLost if the session came to an
    end, NameTaken if somebody took the name meanwhile, and Disconnected if it cannot be told what became of the last byte.
    A fragment that was refused for a reason of its own spoils the session: going on in it would meet the same.
    """
    data = data[: session["fragment"] - offset % GRID]
    is_last = offset + len(data) == session["size"]
    headers = {"Content-Range": f"bytes {offset}-{offset + len(data) - 1}/{session['size']}"}
    try:
        answer = addresses.ask("PUT", session["url"], data, headers)
    except Disconnected:
        found = position(addresses, session)
        if found is None and is_last:
            raise  # it may be finished: whoever goes on looks first
        return _after_a_cut(session, offset, found)
    if answer.status in (200, 201):
        return answer.object("id", "name")
    if answer.status in (202, 416):
        return _moved_on(addresses, session, offset, answer)
    if "namealreadyexists" in answer.codes:
        raise NameTaken("somebody took this name in the drive meanwhile")
    if answer.status in (400, 409):
        session["spoilt"] = answer.status == 400
        raise trouble(answer)
    raise SessionLost("the drive has ended the upload session")


def _moved_on(addresses: Addresses, session: Json, offset: int, answer: Answer) -> int:
    """Return where to go on after 202, or after 416: the bytes are there already, or came out of order."""
    found = _next(answer, session["size"]) if answer.status == 202 else _position(addresses, session)
    if found == offset:  # asked for again, it would be sent for ever
        raise DriveFault("the drive keeps nothing of what it is sent")
    return found


def _after_a_cut(session: Json, offset: int, found: int | None) -> int:
    """Go on from where Microsoft is, in halves: what stands in the way may let smaller fragments through."""
    if found is None:
        raise SessionLost("the drive has ended the upload session")
    if found <= offset:
        if session["fragment"] == GRID:
            raise Disconnected("not even the smallest fragment comes through to the drive", SOON)
        session["fragment"] = max(session["fragment"] // 2 // GRID * GRID, GRID)
    return found


def _position(addresses: Addresses, session: Json) -> int:
    found = position(addresses, session)
    if found is None:
        raise SessionLost("the drive has ended the upload session")
    return found


def _next(answer: Answer, size: int) -> int:
    """Return the first byte that is wanted. More ranges than the first may be named, or none when all bytes are there."""
    wanted = answer.object("nextExpectedRanges")["nextExpectedRanges"]
    if wanted == []:
        return size
    found = re.match(r"(\d+)-", str(wanted[0])) if isinstance(wanted, list) else None
    if found is None or int(found[1]) > size:
        raise DriveFault("the drive did not say where to go on")
    return int(found[1])


def cancel(addresses: Addresses, session: Json) -> None:
    """Let Microsoft forget the session, and free the name; one that is not there any more is fine.

    One whose address is on a foreign host was never used.
    """
    if addresses.knows(session["url"]):
        addresses.ask("DELETE", session["url"])
