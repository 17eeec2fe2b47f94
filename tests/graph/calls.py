"""What the routes of Graph share: who calls, which drive and item are meant, and the conditions of the request."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.graph.addresses import Address
from tests.graph.clients import Client
from tests.graph.exchange import Exchange
from tests.graph.items import Item
from tests.graph.problems import bad_request, changed_meanwhile, not_found
from tests.graph.tree import Conflict, Drive, Times
from tests.graph.world import World

BEHAVIOUR = "@microsoft.graph.conflictBehavior"
ETAG = re.compile(r'"[^"]*"')
OPTIONS = {"$select", "$top", "$expand", "$orderby", "$skiptoken"}


@dataclass(frozen=True)
class Call:
    world: World
    exchange: Exchange
    client: Client
    drive: Drive
    address: Address

    def require(self, needed: set[str]) -> None:
        self.client.require(needed, self.drive)

    def item(self) -> Item:
        """Return the item that is meant, or raise 404."""
        found = self.drive.find(self.drive.get(self.address.start), list(self.address.segments))
        if found is None:
            raise not_found()
        return found

    def place(self) -> tuple[Item, str, Item | None]:
        """Return the folder, the name in it and the item of that name, if there is one.

        No folder is made on the way: the pages promise none (the live service is known to make them).
        """
        if not self.address.segments:
            item = self.item()
            if item.is_folder or not item.parent:
                raise bad_request("The item is a folder, which has no content.")
            return item.parent, item.name, item
        *above, name = self.address.segments
        parent = self.drive.find(self.drive.get(self.address.start), above)
        if parent is None:
            raise not_found()
        if not parent.is_folder:
            raise bad_request("The parent is not a folder.")
        return parent, name, self.drive.find(parent, [name])

    def conflict(self, default: Conflict, body: dict[str, Any] | None = None) -> Conflict:
        """Return the conflictBehavior of the URL or, where the pages show it there, of the body."""
        wanted = (body or {}).get(BEHAVIOUR, self.exchange.query.get(BEHAVIOUR, default))
        try:
            return Conflict(wanted)
        except ValueError as error:
            raise bad_request(f"conflictBehavior is fail, replace or rename, not {wanted!r}") from error

    def check_conditions(self, item: Item | None) -> None:
        """Raise 412 as If-Match and If-None-Match say; either the eTag or the cTag may be given.

        Errors: "Microsoft Graph error responses": entityTagDoesNotMatch; malformedEntityTag, "must be quoted".
        """
        tags = {item.etag, item.ctag} if item else set()
        for header, wanted in (("if-match", True), ("if-none-match", False)):
            given = self.exchange.headers.get(header)
            if given is None:
                continue
            if not ETAG.fullmatch(given):
                raise bad_request("ETags must be quoted strings.", "malformedEntityTag")
            if (given in tags) is not wanted:
                raise changed_meanwhile()

    def check_options(self) -> None:
        for option in self.exchange.query:
            if option.startswith("$") and option not in OPTIONS:
                raise bad_request(f"The query option {option!r} is not supported.", "invalidQueryOption")

    def page_size(self) -> int:
        given = self.exchange.query.get("$top", "200")
        if not given.isdecimal() or int(given) < 1:
            raise bad_request("$top is not a positive number.", "invalidQueryOption")
        return min(int(given), self.world.options.page)

    def selected(self, shown: dict[str, Any]) -> dict[str, Any]:
        wanted = self.exchange.query.get("$select", self.exchange.query.get("select", ""))
        names = {one.strip() for one in wanted.split(",") if one.strip()}
        return {name: value for name, value in shown.items() if name in names} if names else shown


def check_properties(given: dict[str, Any], known: set[str]) -> None:
    """Refuse a property that the resource does not have; an unknown annotation is passed over ("OData JSON Format 4.0", 4.6)."""
    unknown = {name for name in given if "@" not in name} - known
    if unknown:
        raise bad_request(
            f"The property {min(unknown)!r} does not exist or cannot be set here.", "propertyNotUpdateable"
        )


def times_of(given: Any) -> Times:
    """Read a fileSystemInfo ("fileSystemInfo resource type": ISO 8601, UTC); parts of a second are lost."""
    if given is None:
        return Times()
    if not isinstance(given, dict):
        raise bad_request("fileSystemInfo is malformed.")
    check_properties(given, {"createdDateTime", "lastModifiedDateTime", "lastAccessedDateTime"})
    return Times(_moment(given.get("createdDateTime")), _moment(given.get("lastModifiedDateTime")))


def _moment(given: Any) -> datetime | None:
    if given is None:
        return None
    try:
        moment = datetime.fromisoformat(given)
    except (TypeError, ValueError) as error:
        raise bad_request("A time is malformed.", "invalidParameterFormat") from error
    if moment.tzinfo is None:
        raise bad_request("A time has no zone.", "invalidParameterFormat")
    return moment.astimezone(UTC)
