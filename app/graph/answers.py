"""What Microsoft Graph answers, and what each refusal means for an upload.

Sources: learn.microsoft.com/graph/errors (only codes are stable, messages are not), driveitem-createuploadsession,
driveitem-put-content, and SharePoint's "How to avoid getting throttled or blocked". What each status is taken for is in the
table of docs/onedrive.md.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from app.errors import (
    DriveFault,
    DriveFull,
    DriveItemBusy,
    DriveMissing,
    DrivePathTooLong,
    DriveRefuses,
    DriveThrottled,
    DriveUnavailable,
    FileForbidden,
    FileRefused,
    HaulageError,
    NameRefused,
    NameTaken,
    TooLargeForDrive,
)
from app.models import Json

SOON = timedelta(seconds=30)
SLOWLY = timedelta(minutes=5)
_SHORTEST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(hours=1)  # asked for more than that, look again all the same


@dataclass(frozen=True)
class Answer:
    """A status, the headers by lower-case names, and the JSON object in the body; None if it was something else.

    `is_page` if that was made for people: a proxy's, or a sign-in page.
    """

    status: int
    headers: Mapping[str, str]
    body: Json | None
    is_page: bool = False

    @property
    def codes(self) -> frozenset[str]:
        """The error's code and those within it, in lower case; more and more exact ones are nested."""
        return frozenset(_codes((self.body or {}).get("error")))

    @property
    def request_id(self) -> str:
        return self.headers.get("request-id", "unknown")

    def object(self, *needed: str) -> Json:
        """Return the body, or raise DriveUnavailable: a proxy or a sign-in page in between answers with something else.

        `needed` are the properties without which it is not what was asked for.
        """
        if self.body is None or any(one not in self.body for one in needed):
            raise _not_documented()
        return self.body

    @property
    def speaks_for_itself(self) -> bool:
        """True if a code says what is wrong, whatever was asked; that a name is taken depends on who has it."""
        return bool(self.codes & _BY_CODE.keys() - {"namealreadyexists"})

    @property
    def is_refusal(self) -> bool:
        """True if the drive itself refuses what was asked for, and no code or throttle says that it is about more.

        SharePoint answers with plain text before it has come to what makes JSON.
        """
        is_text = self.status in (401, 403, 404, 410) and not self.is_page
        is_its_own = (self.body is not None or is_text) and not self.speaks_for_itself
        return is_its_own and 400 <= self.status < 500 and self.status != 429

    @property
    def is_too_much(self) -> bool:
        """True if somebody on the way gave up (504), or takes no request as large as this (413, and Graph says it in JSON)."""
        is_proxys = self.status == 413 and not self.codes
        return (is_proxys or self.status == 504) and not self.speaks_for_itself


def _codes(error: Any) -> Iterator[str]:
    while isinstance(error, dict):
        if isinstance(error.get("code"), str):
            yield error["code"].lower()
        error = error.get("innererror", error.get("innerError"))


def pause(answer: Answer, least: timedelta = SOON) -> timedelta:
    """Return how long nobody should ask: the greater of Retry-After and RateLimit-Reset, as asked, or `least` without.

    Never less than a second: a pause of nothing would have the whole fleet ask without a pause.
    """
    asked = [_seconds(answer, name) for name in ("retry-after", "ratelimit-reset")]
    told = [one for one in asked if one is not None]
    return min(max(*told, _SHORTEST_PAUSE), _LONGEST_PAUSE) if told else least


def _seconds(answer: Answer, header: str) -> timedelta | None:
    given = answer.headers.get(header, "").strip()
    if given.isdecimal():
        return timedelta(seconds=min(int(given), 86400))
    try:  # a date, by the clock of whoever sent it
        until = parsedate_to_datetime(given)
        now = parsedate_to_datetime(answer.headers["date"]) if "date" in answer.headers else datetime.now(UTC)
        return max(until - now, timedelta(0))
    except (TypeError, ValueError):
        return None


_BY_CODE: Mapping[str, Callable[[], HaulageError]] = {
    "pathistoolong": lambda: DrivePathTooLong(
        "the path would be longer than the drive allows (400 characters)"
    ),
    "invalidpath": lambda: NameRefused("the drive does not take this name"),
    "namecontainsinvalidcharacters": lambda: NameRefused("the drive does not take this name"),
    "maxfilesizeexceeded": lambda: TooLargeForDrive("the file is larger than the drive allows"),
    "malwaredetected": lambda: FileRefused("the drive calls the file malware"),
    "virussuspicious": lambda: FileRefused("the drive calls the file malware"),
    "quotalimitreached": lambda: DriveFull("the drive is full: make room, or raise its quota", SLOWLY),
    "insufficientstorage": lambda: DriveFull("the drive is full: make room, or raise its quota", SLOWLY),
    "namealreadyexists": lambda: NameTaken("the drive has something under this name already"),
    "resourcelocked": lambda: DriveItemBusy("somebody has the file open, or locked", SLOWLY),
}
_BY_STATUS: Mapping[int, Callable[[Answer], HaulageError]] = {
    401: lambda _: DriveRefuses("the drive does not accept our token", SLOWLY),
    403: lambda _: FileForbidden(
        "the drive forbids it, here: either the folder's own permissions, or the application has not Sites.ReadWrite.All "
        "or the role write on this one site (Files.ReadWrite.All is not enough for files above 10 MiB)"
    ),
    404: lambda _: DriveMissing(
        "the drive was not found: is its id right, and may the application see it?", SLOWLY
    ),
    409: lambda _: DriveItemBusy("another change of this item is under way", SOON),
    412: lambda _: DriveItemBusy("somebody has changed the item meanwhile", SOON),
    423: lambda _: DriveItemBusy("somebody has the file open, or locked", SLOWLY),
    507: lambda _: DriveFull("the drive is full: make room, or raise its quota", SLOWLY),
    429: lambda answer: DriveThrottled("the drive asks for a pause", pause(answer)),
    503: lambda answer: DriveThrottled("the drive asks for a pause", pause(answer)),
    509: lambda answer: DriveThrottled("the drive's bandwidth is used up", pause(answer, SLOWLY)),
}


def _not_documented() -> DriveUnavailable:
    return DriveUnavailable(
        "the drive's address answered with something other than the JSON that is documented: is a proxy in the way?",
        SOON,
    )


def trouble(answer: Answer) -> HaulageError:
    """Return the error that an answer stands for; whatever it may mean for the one who asked is looked at there."""
    for code in answer.codes & _BY_CODE.keys():
        return _BY_CODE[code]()
    if answer.status < 400:
        return _not_documented()
    # A throttle may well come as text, and so may what is wrong with the service.
    if answer.body is None and answer.status < 500 and answer.status != 429:
        return _not_documented()
    if answer.status in _BY_STATUS:
        return _BY_STATUS[answer.status](answer)
    if answer.status >= 500:
        return DriveUnavailable(f"the drive has trouble of its own (HTTP {answer.status})", SOON)
    code = min(answer.codes, default="no code")
    return DriveFault(
        f"the drive answered HTTP {answer.status} ({code}); its request id is {answer.request_id}"
    )
