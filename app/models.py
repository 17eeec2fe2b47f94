"""Tables and their states; nothing that acts on them."""

from datetime import datetime
from enum import StrEnum
from typing import Any, cast
from uuid import UUID, uuid4

from sqlalchemy import (
    ARRAY,
    BigInteger,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    func,
)
from sqlalchemy.dialects.postgresql import JSONB, TIMESTAMP
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import UserDefinedType

SCHEMA = "corporate"

Json = dict[str, Any]


class State(StrEnum):
    RECEIVING = "receiving"  # bytes still arriving
    QUEUED = "queued"  # safe with us; waiting for a worker
    TRANSFERRING = "transferring"  # claimed by a worker
    STORED = "stored"  # in the drive, verified, and in the catalogue
    FAILED = "failed"  # for good, with a reason; a person may retry it
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # never came in completely


class OnConflict(StrEnum):
    FAIL = "fail"
    RENAME = "rename"
    REPLACE = "replace"


class Kind(StrEnum):
    FILE = "file"
    FOLDER = "folder"


UNFINISHED = (State.QUEUED, State.TRANSFERRING)
FINISHED = (State.STORED, State.FAILED, State.CANCELLED, State.EXPIRED)


class Xid8(UserDefinedType[int]):
    """PostgreSQL's 64-bit transaction id, which never wraps around."""

    cache_ok = True

    def get_col_spec(self, **_: object) -> str:
        return "xid8"


def one_of(column: str, values: type[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(str(value)) for value in values)})"


class Base(DeclarativeBase):
    metadata = MetaData(
        schema=SCHEMA,
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        },
    )
    type_annotation_map = {  # noqa: RUF012  SQLAlchemy's own way to declare it
        str: Text,
        int: BigInteger,
        datetime: TIMESTAMP(timezone=True),
        Json: JSONB(none_as_null=True),
        StrEnum: Text,
    }


def table(of: type[Base]) -> Table:
    """Return the table of a class, for statements that every upload needs: the class's own are prepared at each execution."""
    return cast("Table", of.__table__)


class Corporation(Base):
    __tablename__ = "corporations"

    corp_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    name: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    drive: Mapped[str] = mapped_column(
        server_default="filesystem"
    )  # by its name in the settings; never changes

    __table_args__ = (CheckConstraint("corp_index > 0", name="positive"),)


class Item(Base):
    """One file or folder in the drive. A corporation's root is the one folder without a parent."""

    __tablename__ = "vmb_items"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    corp_index: Mapped[int] = mapped_column(ForeignKey(Corporation.corp_index))
    drive_item_id: Mapped[str] = mapped_column("onedrive_item_id")
    parent_id: Mapped[str | None]  # the parent's onedrive_item_id
    name: Mapped[str]
    name_key: Mapped[str]
    kind: Mapped[Kind] = mapped_column(Text)
    child_count: Mapped[int] = mapped_column(server_default="0")
    size: Mapped[int | None]  # bytes; None for a folder, and for an item recorded without it
    sha256: Mapped[str | None]  # hexadecimal, of the bytes that were received
    drive_info: Mapped[Json | None]  # what the drive told: its hash, tag, address
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    changed_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (
        UniqueConstraint("corp_index", "onedrive_item_id"),
        UniqueConstraint("corp_index", "parent_id", "name_key"),
        Index("uq_vmb_items_root", "corp_index", unique=True, postgresql_where="parent_id IS NULL"),
        ForeignKeyConstraint(
            ["corp_index", "parent_id"],
            ["corporate.vmb_items.corp_index", "corporate.vmb_items.onedrive_item_id"],
        ),
        CheckConstraint("child_count >= 0", name="child_count_not_negative"),
        CheckConstraint("kind = 'folder' OR child_count = 0", name="only_folders_have_children"),
        CheckConstraint("parent_id IS NOT NULL OR kind = 'folder'", name="root_is_a_folder"),
        CheckConstraint("size >= 0", name="size_not_negative"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256_is_hexadecimal"),
        CheckConstraint(one_of("kind", Kind), name="kind_known"),
    )


class Upload(Base):
    __tablename__ = "uploads"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    corp_index: Mapped[int] = mapped_column(ForeignKey(Corporation.corp_index))
    state: Mapped[State] = mapped_column(Text, default=State.QUEUED)

    # Where it goes: `folder` is a path of names below `parent_id`, made where missing.
    parent_id: Mapped[str]
    folder: Mapped[list[str]] = mapped_column(ARRAY(Text), default=list)
    name: Mapped[str]
    on_conflict: Mapped[OnConflict] = mapped_column(Text, default=OnConflict.FAIL)

    # Where it comes from: staged bytes, or a file in the inbox that the first attempt stages.
    inbox_path: Mapped[str | None]
    staged_id: Mapped[UUID | None]
    size: Mapped[int | None]
    sha256: Mapped[str | None]
    quick_xor: Mapped[str | None]  # of the same bytes, in base64; None if an older release received them
    drive: Mapped[str] = mapped_column(server_default="filesystem")  # its corporation's: a trigger gives it
    idempotency_key: Mapped[str | None]
    task_id: Mapped[str | None]  # the Celery task whose sender waits for the result
    request_id: Mapped[
        str | None
    ]  # of the HTTP request it came with; it stands in every log line about the upload

    # The claim. `due_at` is the end of the lease while transferring, the next try while queued.
    token: Mapped[UUID | None]
    drive_token: Mapped[
        UUID | None
    ]  # the same, by who knows drives by name: 0.2.0 would put all files into DRIVE_DIR
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    due_at: Mapped[datetime] = mapped_column(server_default=func.now())
    woken_at: Mapped[datetime | None]
    deadline_at: Mapped[datetime | None]  # set by the first claim: it bounds what is tried, not what waits
    cancel_requested: Mapped[bool] = mapped_column(default=False, server_default="false")

    # How far it has come.
    drive_session: Mapped[Json | None]
    transferred: Mapped[int] = mapped_column(default=0, server_default="0")  # bytes the drive safely holds
    began_at: Mapped[datetime | None]  # when the last attempt began, and at which byte
    began_from: Mapped[int | None]
    sent: Mapped[int | None]  # bytes handed to the drive by then: to look at, never to go on from
    sent_at: Mapped[datetime | None]
    reserved_parent_id: Mapped[str | None]  # the place this upload is about to take; no other may
    reserved_name: Mapped[str | None]
    reserved_key: Mapped[str | None]

    # What came of it.
    item_id: Mapped[str | None]  # the item's onedrive_item_id
    reason: Mapped[str | None]  # a stable code: of the failure, or of the last setback
    message: Mapped[str | None]  # the same for people
    cleanup_due_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]

    __table_args__ = (
        UniqueConstraint("corp_index", "id"),
        UniqueConstraint("corp_index", "idempotency_key"),
        Index(
            "uq_uploads_reserved",
            "corp_index",
            "reserved_parent_id",
            "reserved_key",
            unique=True,
            postgresql_where="reserved_key IS NOT NULL",
        ),
        Index("ix_uploads_due", "due_at", postgresql_where="state IN ('queued', 'transferring')"),
        Index("ix_uploads_lease", "due_at", postgresql_where="state = 'transferring'"),
        Index("ix_uploads_deadline", "deadline_at", postgresql_where="state = 'queued'"),
        Index("ix_uploads_cancel", "id", postgresql_where="cancel_requested AND state = 'queued'"),
        Index("ix_uploads_listed", "corp_index", "created_at", "id"),
        Index(
            "ix_uploads_listed_not_stored",
            "corp_index",
            "created_at",
            "id",
            postgresql_where="state <> 'stored'",
        ),
        Index("ix_uploads_failed", "corp_index", "finished_at", postgresql_where="state = 'failed'"),
        Index(
            "ix_uploads_kept", "finished_at", postgresql_where="state = 'failed' AND staged_id IS NOT NULL"
        ),
        Index("ix_uploads_cleanup_due", "cleanup_due_at", postgresql_where="cleanup_due_at IS NOT NULL"),
        Index("ix_uploads_staged_id", "staged_id", postgresql_where="staged_id IS NOT NULL"),
        ForeignKeyConstraint(
            ["corp_index", "parent_id"],
            ["corporate.vmb_items.corp_index", "corporate.vmb_items.onedrive_item_id"],
        ),
        ForeignKeyConstraint(
            ["corp_index", "item_id"],
            ["corporate.vmb_items.corp_index", "corporate.vmb_items.onedrive_item_id"],
            deferrable=True,  # completing writes the upload first, because that write is the fence
            initially="DEFERRED",
        ),
        CheckConstraint(one_of("state", State), name="state_known"),
        CheckConstraint(
            "drive = 'filesystem' OR token IS NULL OR token IS NOT DISTINCT FROM drive_token",
            name="claimed_knowing_drives",
            postgresql_not_valid=True,  # what was there before is in DRIVE_DIR, and is not read for this
        ),
        CheckConstraint(one_of("on_conflict", OnConflict), name="on_conflict_known"),
        CheckConstraint("(state = 'stored') = (item_id IS NOT NULL)", name="stored_has_its_item"),
        CheckConstraint("state <> 'transferring' OR token IS NOT NULL", name="transferring_has_its_token"),
        CheckConstraint("state <> 'failed' OR reason IS NOT NULL", name="failed_has_its_reason"),
        CheckConstraint(
            "staged_id IS NOT NULL OR inbox_path IS NOT NULL OR finished_at IS NOT NULL", name="has_bytes"
        ),
        CheckConstraint(
            "(staged_id IS NULL) OR (size IS NOT NULL AND sha256 IS NOT NULL)", name="staged_is_measured"
        ),
        CheckConstraint("size >= 0", name="size_not_negative"),
        CheckConstraint("attempts >= 0", name="attempts_not_negative"),
        CheckConstraint("sha256 ~ '^[0-9a-f]{64}$'", name="sha256_is_hexadecimal"),
    )


class UploadEvent(Base):
    """What happened to an upload, written in the transaction that made it happen; never changed, never removed."""

    __tablename__ = "upload_events"

    id: Mapped[int] = mapped_column(Identity(always=True), primary_key=True)
    xid: Mapped[int] = mapped_column(Xid8, server_default=func.pg_current_xact_id())
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
    corp_index: Mapped[int]
    upload_id: Mapped[UUID]
    kind: Mapped[str]
    attempt: Mapped[int]
    detail: Mapped[Json | None]

    __table_args__ = (
        Index(None, "upload_id"),
        Index(None, "xid"),
        Index("ix_upload_events_at", "at", postgresql_using="brin", postgresql_with={"autosummarize": True}),
        ForeignKeyConstraint(
            ["corp_index", "upload_id"], ["corporate.uploads.corp_index", "corporate.uploads.id"]
        ),
    )


class ApiToken(Base):
    __tablename__ = "api_tokens"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    corp_index: Mapped[int | None] = mapped_column(ForeignKey(Corporation.corp_index))  # None: an operator's
    label: Mapped[str]
    sha256: Mapped[bytes] = mapped_column(LargeBinary, unique=True)  # 256 random bits need no slow hash
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class Tally(Base):
    """Events added up by kind and drive, as far as the horizon."""

    __tablename__ = "tallies"

    what: Mapped[str] = mapped_column(primary_key=True)
    drive: Mapped[str] = mapped_column(primary_key=True)  # empty where it does not matter
    amount: Mapped[int]


class TallyHorizon(Base):
    """The transaction before which every event is in the tallies."""

    __tablename__ = "tally_horizon"

    one_row: Mapped[bool] = mapped_column(primary_key=True, default=True)
    xid: Mapped[int] = mapped_column(Xid8)

    __table_args__ = (CheckConstraint("one_row", name="only_one"),)


class DriveState(Base):
    """A drive that pauses, or did: nobody is to ask it before `paused_until`."""

    __tablename__ = "drives"

    name: Mapped[str] = mapped_column(primary_key=True)
    paused_until: Mapped[datetime]
    reason: Mapped[str]  # a stable code, as of uploads
    message: Mapped[str]  # the same for people
    since: Mapped[datetime]  # when this trouble began


class DriveRequests(Base):
    """What one process asked of a drive in one minute, in requests and in Microsoft's resource units."""

    __tablename__ = "drive_requests"

    drive: Mapped[str] = mapped_column(primary_key=True)
    minute: Mapped[datetime] = mapped_column(primary_key=True)
    process: Mapped[str] = mapped_column(primary_key=True)
    requests: Mapped[int]
    units: Mapped[int]


class UpkeepRun(Base):
    """When each of the tasks that time sets off ran last."""

    __tablename__ = "upkeep_runs"

    task: Mapped[str] = mapped_column(primary_key=True)
    ran_at: Mapped[datetime]


class StagingIdentity(Base):
    """The one staging that this catalogue belongs to."""

    __tablename__ = "staging_identity"

    one_row: Mapped[bool] = mapped_column(primary_key=True, default=True)
    identity: Mapped[UUID]
    recorded_at: Mapped[datetime] = mapped_column(server_default=func.now())

    __table_args__ = (CheckConstraint("one_row", name="only_one"),)
