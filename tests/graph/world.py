"""Everything the server knows, in one place, under one lock."""

import secrets
import uuid
from dataclasses import dataclass
from pathlib import Path
from threading import RLock

from tests.graph.clock import Clock
from tests.graph.contents import Draft
from tests.graph.faults import Script
from tests.graph.journal import Journal
from tests.graph.problems import bad_request, not_found
from tests.graph.sessions import Sessions
from tests.graph.throttle import Throttle
from tests.graph.tokens import Authority
from tests.graph.tree import Drive, Site

HOST = "contoso.sharepoint.com"


@dataclass
class Options:
    """What the command line and control can set."""

    tenant: str
    folder: Path
    control_key: str = ""
    token_lifetime: float = 3599.0
    session_lifetime: float = 86_400.0
    latency: float = 0.0
    session_default: str = "fail"  # what a session without conflictBehavior does; see docs/graph-simulator.md
    upload_host: str = ""  # another name in upload URLs
    upload_port: int = 0  # another port for upload URLs, which then lead nowhere on the first one
    page: int = 1000  # the most items of a page of children or delta, whatever $top says


class World:
    def __init__(self, options: Options) -> None:
        self.options = options
        self.clock = Clock()
        self.lock = RLock()
        self.journal, self.script = Journal(), Script()
        self.authority = Authority(options.tenant, self.clock, options.token_lifetime)
        self.drafts = options.folder / "bytes"
        self.drafts.mkdir(parents=True)
        self.sessions = Sessions(self.drafts, self.clock, options.session_lifetime)
        self.throttle = Throttle(self.clock)
        self.drives: dict[str, Drive] = {}
        self.signing_key = secrets.token_bytes(32)

    def add_drive(self, drive_id: str, *, site: str, kind: str, quota: int) -> Drive:
        """Make an empty drive. Drives that name the same site belong to one site, the first of them as its default."""
        numbers = uuid.uuid5(uuid.NAMESPACE_URL, site), uuid.uuid5(uuid.NAMESPACE_DNS, site)
        where = Site(HOST, f"sites/{site}", f"{HOST},{numbers[0]},{numbers[1]}")
        made = self.drives[drive_id] = Drive(drive_id, where, self.clock, kind=kind, quota=quota)
        return made

    def drive(self, drive_id: str) -> Drive:
        """Return a drive, or say that its id is malformed or unknown."""
        if drive_id not in self.drives:
            if not drive_id.startswith("b!"):
                raise bad_request(
                    "The provided drive id appears to be malformed, or does not represent a valid drive."
                )
            raise not_found()
        return self.drives[drive_id]

    def site(self, wanted: str) -> Site:
        """Return a site by its id, by the first part of it, or by `host:/path`."""
        for drive in self.drives.values():
            site = drive.site
            if wanted in {site.id, site.host, f"{site.host}:/{site.path}"}:
                return site
        raise not_found("Requested site could not be found")

    def drives_of(self, site: Site) -> list[Drive]:
        return [drive for drive in self.drives.values() if drive.site == site]

    def draft(self) -> Draft:
        return Draft(self.drafts)
