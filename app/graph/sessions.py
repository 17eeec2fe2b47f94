"""Upload sessions: fragments in order, on Microsoft's grid, and what to do when one did not come through.

Source: learn.microsoft.com/graph/api/driveitem-createuploadsession. From the field: part of a fragment may have been kept
(onedrive-api-docs#75), a 503 may stand for a success (#64), and an address knows nothing of itself once its file is complete (#1259).

A session is known by its `url`, the file's `size` and the `fragment` in use, all in bytes. What was learned on the way stands beside
them: the end of the range that is wanted (`until`), how many fragments have come through since the size changed (`through`), how
often the drive has refused what it asked for (`refused`), and that there is no going on (`spoilt`).
"""

import re

from app.errors import Disconnected, DriveFault, NameTaken, SessionLost
from app.graph.answers import SOON, Answer, trouble
from app.graph.client import Addresses
from app.models import Json

GRID = 320 * 2**10  # bytes; every fragment but the last is a multiple of it
FRAGMENT = 32 * GRID  # 10 MiB: the best size on good links, says Microsoft; 60 MiB would be too much
GROWS_AFTER = 32  # fragments in a row: where larger ones are always cut, trying costs a sixteenth
REFUSALS = 3  # in a row of what the drive says it wants


def opened(url: str, size: int, *, is_careful: bool) -> Json:
    """Return what a session is known by; a careful one begins with the smallest fragments."""
    return {"url": url, "size": size, "fragment": GRID if is_careful else FRAGMENT}


def position(addresses: Addresses, session: Json) -> int | None:
    """Ask Microsoft where to go on, in bytes; None if it knows no such session, be it for having been completed."""
    answer = addresses.ask("GET", session["url"])
    return None if answer.is_refusal else _next(answer, session)


def put(addresses: Addresses, session: Json, offset: int, data: bytes) -> int | Json:
    """Send as much of `data` as one fragment holds, from the byte `offset` on.

    Returns where to go on, or the finished file's item after the last byte. Raises SessionLost if the session came to an
    end, NameTaken if somebody took the name meanwhile, and Disconnected if it cannot be told what became of the last byte.
    A fragment that was refused for a reason of its own spoils the session: going on in it would meet the same.
    """
    data = data[: _most(session, offset)]
    end = offset + len(data)
    headers = {"Content-Range": f"bytes {offset}-{end - 1}/{session['size']}"}
    try:
        answer = addresses.ask("PUT", session["url"], data, headers)
    except Disconnected:
        found = position(addresses, session)
        if found is None and end == session["size"]:
            raise  # it may be finished: whoever goes on looks first
        return _after_a_cut(session, offset, found)
    if answer.status in (200, 201):
        return answer.object("id", "name")
    if answer.status == 202:
        return _moved_on(session, offset, end, _next(answer, session))
    if answer.status == 416:
        return _moved_on(session, offset, end, _position(addresses, session))
    if answer.status in (401, 403):
        return _after_a_refusal(session, offset, _position(addresses, session))
    if "namealreadyexists" in answer.codes:
        raise NameTaken("somebody took this name in the drive meanwhile")
    if answer.status in (400, 409):
        session["spoilt"] = answer.status == 400
        raise trouble(answer)
    raise SessionLost("the drive has ended the upload session")


def _most(session: Json, offset: int) -> int:
    """Return how much may be sent at once: up to the grid, and no byte behind the range that is wanted."""
    most: int = session["fragment"] - offset % GRID
    until = session.get("until") or 0
    return min(most, until - offset) if until > offset else most


def _moved_on(session: Json, offset: int, end: int, found: int) -> int:
    """Return where to go on after a fragment that was taken, or whose bytes were there already or came out of order."""
    if found == offset and offset < (session.get("until") or 0) < end:  # it wants less than it was sent
        return _after_a_refusal(session, offset, found)
    if found == offset:  # asked for again, it would be sent for ever
        session["spoilt"] = True
        raise DriveFault("the drive keeps nothing of what it is sent")
    session["refused"] = 0
    session["through"] = session.get("through", 0) + 1
    if session["through"] >= GROWS_AFTER and session["fragment"] < FRAGMENT:
        session |= {"fragment": min(2 * session["fragment"], FRAGMENT), "through": 0}
    return found


def _after_a_refusal(session: Json, offset: int, found: int) -> int:
    """Go on in a session that is there although a fragment was refused: from the field, in long transfers."""
    session["refused"] = 0 if found > offset else session.get("refused", 0) + 1
    if session["refused"] >= REFUSALS:
        session["spoilt"] = True
        raise DriveFault("the drive refuses the very bytes that it asks for")
    return found


def _after_a_cut(session: Json, offset: int, found: int | None) -> int:
    """Go on from where Microsoft is, in halves: what stands in the way may let smaller fragments through."""
    if found is None:
        raise SessionLost("the drive has ended the upload session")
    session["through"] = 0
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


def _next(answer: Answer, session: Json) -> int:
    """Return the first byte that is wanted, and note where the first range ends. There is none when all bytes are there."""
    wanted = answer.object("nextExpectedRanges")["nextExpectedRanges"]
    if wanted == []:
        return int(session["size"])
    found = re.match(r"(\d+)-(\d*)", str(wanted[0])) if isinstance(wanted, list) else None
    if found is None or int(found[1]) > session["size"]:
        raise DriveFault("the drive did not say where to go on")
    session["until"] = int(found[2]) + 1 if found[2] else None
    return int(found[1])


def cancel(addresses: Addresses, session: Json) -> None:
    """Let Microsoft forget the session, and free the name; one that is not there any more is fine.

    One whose address is on a foreign host was never used.
    """
    if addresses.knows(session["url"]):
        addresses.ask("DELETE", session["url"])
