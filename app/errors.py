"""The tree of errors that Haulage promises.

    HaulageError
    ├── Unfit                 this process must not run: say why in one sentence and stop
    │   ├── BadSettings
    │   ├── DatabaseRefused
    │   └── WrongStaging
    ├── Refused               the sender is told; the same request again gives the same answer
    │   ├── Unauthorised
    │   ├── BadName
    │   ├── PathTooLong
    │   ├── BadRequest
    │   ├── CorporationUnknown
    │   ├── NotFound
    │   ├── TooLarge
    │   ├── Incomplete
    │   ├── KeyReused
    │   └── NotPossible
    ├── Hopeless              an upload fails for good, with a reason a person can act on
    │   ├── NameTaken
    │   ├── NotAFolder
    │   ├── DrivePathTooLong
    │   ├── NameRefused
    │   ├── TooLargeForDrive
    │   ├── FileRefused
    │   ├── FolderGone
    │   ├── InboxFileMissing
    │   ├── InboxFileRefused
    │   ├── SourceDamaged
    │   └── Cancelled
    ├── Setback               this attempt failed; another one is worth its cost
    │   ├── SourceMissing
    │   ├── SourceChanged
    │   ├── NotVerified
    │   ├── SessionLost
    │   ├── DriveFault
    │   └── FileForbidden
    ├── Postponed             nothing failed: the attempt is taken back and made again later
    │   ├── SliceEnded
    │   ├── ShuttingDown
    │   ├── NameBusy
    │   ├── StagingFull       these two a sender is told too
    │   ├── StagingUnavailable
    │   ├── InboxUnavailable
    │   ├── DriveItemBusy
    │   └── DriveUnavailable
    │       ├── Disconnected
    │       ├── DriveUnknown
    │       ├── DrivePauses
    │       └── DriveHalted   what holds for every upload to this drive
    │           ├── DriveThrottled
    │           ├── DriveFull
    │           ├── DriveRefuses
    │           └── DriveMissing
    ├── NotExamined           another project's worker could not be looked at
    └── LostClaim             another attempt has taken over; stop without a word

Two questions give the tree its shape: may the sender be told, and is another attempt worth while? Every class has a
`code`, stable for programs; the message is for people.
"""

from datetime import timedelta


class HaulageError(Exception):
    code = "internal_error"


class Unfit(HaulageError):
    code = "unfit"


class BadSettings(Unfit):
    code = "bad_settings"


class DatabaseRefused(Unfit):
    code = "database_refused"


class WrongStaging(Unfit):
    code = "wrong_staging"


class Refused(HaulageError):
    code = "refused"


class Unauthorised(Refused):
    code = "unauthorised"


class BadName(Refused):
    code = "bad_name"


class PathTooLong(Refused):
    code = "path_too_long"


class BadRequest(Refused):
    code = "bad_request"


class CorporationUnknown(Refused):
    code = "corporation_unknown"


class NotFound(Refused):
    code = "not_found"


class TooLarge(Refused):
    code = "too_large"


class Incomplete(Refused):
    code = "incomplete_body"


class KeyReused(Refused):
    code = "idempotency_key_reused"


class NotPossible(Refused):
    """What was asked does not fit the state that things are in."""

    code = "not_possible"


class Hopeless(HaulageError):
    code = "failed"


class NameTaken(Hopeless):
    code = "name_taken"


class NotAFolder(Hopeless):
    code = "not_a_folder"


class DrivePathTooLong(Hopeless):
    code = "path_too_long"


class NameRefused(Hopeless):
    code = "name_refused"


class TooLargeForDrive(Hopeless):
    code = "too_large_for_drive"


class FileRefused(Hopeless):
    code = "file_refused"


class FolderGone(Hopeless):
    code = "folder_gone"


class InboxFileMissing(Hopeless):
    code = "inbox_file_missing"


class InboxFileRefused(Hopeless):
    code = "inbox_file_refused"


class SourceDamaged(Hopeless):
    code = "staged_bytes_damaged"


class Cancelled(Hopeless):
    code = "cancelled"


class Setback(HaulageError):
    code = "setback"


class SourceMissing(Setback):
    code = "staged_bytes_missing"


class SourceChanged(Setback):
    code = "source_changed"


class NotVerified(Setback):
    code = "not_verified"


class SessionLost(Setback):
    code = "upload_session_lost"


class DriveFault(Setback):
    """The drive gave an answer that it has not documented."""

    code = "drive_fault"


class FileForbidden(Setback):
    code = "file_forbidden"


class Postponed(HaulageError):
    """Carries the time after which the next attempt is worth while."""

    code = "postponed"

    def __init__(self, message: str, delay: timedelta = timedelta(0)) -> None:
        super().__init__(message)
        self.delay = delay


class SliceEnded(Postponed):
    code = "slice_ended"


class ShuttingDown(Postponed):
    code = "shutting_down"


class NameBusy(Postponed):
    code = "name_busy"


class StagingFull(Postponed):
    code = "staging_full"


class StagingUnavailable(Postponed):
    code = "staging_unavailable"


class InboxUnavailable(Postponed):
    code = "inbox_unavailable"


class DriveUnavailable(Postponed):
    code = "drive_unavailable"


class Disconnected(DriveUnavailable):
    """The connection ended in the middle: what was asked may have been done."""

    code = "drive_disconnected"


class DriveUnknown(DriveUnavailable):
    """Only this process has no settings for the drive: others may have them, so it is no reason to pause it."""

    code = "drive_unknown"


class DrivePauses(DriveUnavailable):
    """Another process was told that nobody is to ask this drive; the code is what that one was told."""

    code = "drive_pauses"

    def __init__(self, message: str, delay: timedelta = timedelta(0), reason: str = code) -> None:
        super().__init__(message, delay)
        self.code = reason


class DriveHalted(DriveUnavailable):
    """Whatever was asked of this drive would get the same answer: nobody need ask again before the delay is over."""

    code = "drive_halted"


class DriveThrottled(DriveHalted):
    code = "drive_throttled"


class DriveFull(DriveHalted):
    code = "drive_full"


class DriveRefuses(DriveHalted):
    code = "drive_refuses"


class DriveMissing(DriveHalted):
    code = "drive_missing"


class DriveItemBusy(Postponed):
    code = "drive_item_busy"


class NotExamined(HaulageError):
    """Why the doctor could not look at another project's worker."""

    code = "not_examined"


class LostClaim(HaulageError):
    code = "lost_claim"
