"""Requests that change nothing: drives, items, children, content, versions."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import Any
from urllib.parse import quote

from tests.graph import downloads, names
from tests.graph.answers import Answer, json_answer
from tests.graph.calls import Call
from tests.graph.items import Item, Version
from tests.graph.problems import bad_request, not_found
from tests.graph.tree import Drive


def drive_json(drive: Drive) -> dict[str, Any]:
    """Show a drive ("drive resource type", "quota resource type")."""
    left = max(drive.quota - drive.used, 0)
    ratio = drive.used / drive.quota if drive.quota else 1.0
    state = "exceeded" if not left else "critical" if ratio > 0.99 else "nearing" if ratio > 0.9 else "normal"
    return {
        "id": drive.id,
        "name": drive.name,
        "driveType": drive.kind,
        "webUrl": f"https://{drive.site.host}/{quote(drive.web_path)}",
        "quota": {"total": drive.quota, "used": drive.used, "remaining": left, "deleted": 0, "state": state},
    }


def item_json(call: Call, item: Item) -> dict[str, Any]:
    shown = item.as_json()
    if not item.is_folder:
        shown["@microsoft.graph.downloadUrl"] = downloads.url(call.world, call.exchange.base, item.content)
    return shown


def show(call: Call) -> Answer:
    call.check_options()
    return json_answer(call.selected(item_json(call, call.item())))


def children(call: Call) -> Answer:
    """List a folder, page by page, by name ("List children of a driveItem", "Paging Microsoft Graph data")."""
    call.check_options()
    folder = call.item()
    if not folder.is_folder:
        raise bad_request("The item is not a folder.")
    after = _read_token(call.exchange.query.get("$skiptoken", ""))
    keys = sorted(key for key in folder.children if key > after)
    size = call.page_size()
    listed = [call.selected(item_json(call, folder.children[key])) for key in keys[:size]]
    page: dict[str, Any] = {"value": listed}
    if len(keys) > size:
        page["@odata.nextLink"] = _next_link(call, keys[size - 1])
    return json_answer(page)


def content(call: Call) -> Answer:
    """Answer 302 with the download URL, or 304 ("Download the contents of a DriveItem")."""
    item = call.item()
    if item.is_folder:
        raise bad_request("A folder has no content.")
    if call.exchange.headers.get("if-none-match") in {item.etag, item.ctag}:
        return Answer(304)
    return Answer(302, {"Location": downloads.url(call.world, call.exchange.base, item.content)})


def versions(call: Call) -> Answer:
    """List the versions, the newest first ("List versions of a driveItem")."""
    return json_answer({"value": [one.as_json() for one in reversed(_file(call).versions)]})


def version(call: Call, version_id: str) -> Answer:
    return json_answer(find_version(_file(call), version_id).as_json())


def version_content(call: Call, version_id: str) -> Answer:
    found = find_version(_file(call), version_id)
    return Answer(302, {"Location": downloads.url(call.world, call.exchange.base, found.content)})


def find_version(item: Item, version_id: str) -> Version:
    for one in item.versions:
        if f"{one.number}.0" == version_id:
            return one
    raise not_found()


def _file(call: Call) -> Item:
    item = call.item()
    if item.is_folder:
        raise bad_request("A folder has no versions.")
    return item


def _next_link(call: Call, last: str) -> str:
    kept = {name: value for name, value in call.exchange.query.items() if name != "$skiptoken"}
    kept["$skiptoken"] = urlsafe_b64encode(last.encode()).decode()
    query = "&".join(f"{name}={quote(value)}" for name, value in kept.items())
    return f"{call.exchange.base}{call.exchange.raw_path}?{query}"


def _read_token(token: str) -> str:
    try:
        return names.key(urlsafe_b64decode(token).decode())
    except ValueError as error:
        raise bad_request("The $skiptoken is malformed.", "invalidQueryOption") from error
