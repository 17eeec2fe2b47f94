"""What changed in a drive, page by page ("driveItem: delta")."""

import json
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from datetime import datetime
from typing import Any

from tests.graph.answers import Answer, json_answer
from tests.graph.calls import Call
from tests.graph.items import Item
from tests.graph.problems import GraphError, bad_request

TAIL = re.compile(r"/delta(?:\(token='(?P<token>[^']*)'\))?")


def delta(call: Call, in_path: str | None) -> Answer:
    """Enumerate everything, or what changed since a token; a new token comes with the last page."""
    call.check_options()
    drive = call.drive
    token = in_path or call.exchange.query.get("token", "")
    if token == "latest":
        return json_answer({"value": [], "@odata.deltaLink": _link(call, since=drive.changes)})
    state = _state(call, token)
    if 0 < state["since"] < drive.forgotten:
        raise _start_again(call)
    rest = [item for item in _due(call, state) if _order(item) > (state["depth"], state["after"])]
    size = call.page_size()
    page: dict[str, Any] = {"value": [call.selected(_shown(item)) for item in rest[:size]]}
    if len(rest) > size:
        depth, after = _order(rest[size - 1])
        page["@odata.nextLink"] = _link(call, **(state | {"depth": depth, "after": after}))
    else:
        page["@odata.deltaLink"] = _link(call, since=state["until"])
    return json_answer(page)


def is_cheap(call_query: dict[str, str], tail: str) -> bool:
    """A request with a token costs less ("Avoid getting throttled")."""
    found = TAIL.fullmatch(tail)
    return bool(call_query.get("token") or (found and found["token"]))


def _due(call: Call, state: dict[str, int]) -> list[Item]:
    """Return the changed items and, unless a header says no, the folders above them."""
    changed = {one for one in call.drive.changed_since(state["since"]) if one.changed <= state["until"]}
    if not state["since"]:
        changed = {one for one in changed if not one.deleted}
    elif "deltaexcludeparent" not in call.exchange.headers:
        changed |= {folder for item in changed for folder in item.lineage() if not folder.deleted}
    return sorted(changed, key=_order)


def _order(item: Item) -> tuple[int, int]:
    """Folders come before what is in them: the page calls it enumerating the hierarchy, and rclone relies on it."""
    return len(item.lineage()), item.changed


def _shown(item: Item) -> dict[str, Any]:
    """Leave out what delta leaves out: the path of the parent, and the cTag ("Remarks")."""
    if item.deleted:
        return item.deleted_json()
    shown = item.as_json(with_path=False)
    shown.pop("cTag", None)
    return shown


def _state(call: Call, token: str) -> dict[str, int]:
    fresh = {"since": 0, "until": call.drive.changes, "depth": 0, "after": 0}
    if not token:
        return fresh
    if re.match(r"\d{4}-\d\d-\d\dT", token):
        return fresh | {"since": _count_at(call, token)}
    try:
        given = json.loads(urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        return fresh | {name: int(given[name]) for name in fresh if name in given}
    except (ValueError, TypeError, KeyError) as error:
        raise bad_request("The delta token is malformed.", "invalidParameterFormat") from error


def _count_at(call: Call, moment: str) -> int:
    """Return the count of changes at a time, which work and school accounts take instead of a token."""
    try:
        wanted = datetime.fromisoformat(moment)
        older = [one.changed for one in call.drive.changed_since(0) if (one.modified or one.created) < wanted]
    except (ValueError, TypeError) as error:
        raise bad_request("The time is malformed.", "invalidParameterFormat") from error
    return max(older, default=0)


def _start_again(call: Call) -> GraphError:
    """A token that is too old: 410, and in Location where to begin afresh. Codes: that page, and "error responses"."""
    message = "Resync required. Replace any local items with the server's version."
    location = f"{_base(call)}?token={_encoded({'since': 0})}"
    return GraphError(410, "resyncRequired", message, "resyncChangesApplyDifferences", {"Location": location})


def _link(call: Call, **state: int) -> str:
    kept = "".join(
        f"&{name}={value}" for name, value in call.exchange.query.items() if name in {"$top", "$select"}
    )
    return f"{_base(call)}?token={_encoded(state)}{kept}"


def _base(call: Call) -> str:
    return f"{call.exchange.base}{call.exchange.raw_path.partition('/delta')[0]}/delta"


def _encoded(state: dict[str, int]) -> str:
    return urlsafe_b64encode(json.dumps(state).encode()).decode().rstrip("=")
