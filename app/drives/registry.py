"""Makes the drives that settings name, each once in a process, when it is first asked for."""

import logging
import os
import ssl
import threading
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from app.drive_settings import DriveSettings, FilesystemSettings, OneDriveSettings
from app.drives.base import Drive
from app.drives.filesystem import FilesystemDrive
from app.drives.onedrive import OneDrive
from app.errors import DriveRefuses, DriveUnknown
from app.graph.answers import SLOWLY
from app.graph.client import MICROSOFT_HOSTS, Addresses, Graph
from app.graph.credentials import Credentials, Identity
from app.graph.library import Library, Place
from app.graph.meter import Meter, Minute
from app.names import parts

log = logging.getLogger(__name__)

OTHERS_MAY = timedelta(seconds=1)  # know the drive that we do not; who waits for long is patient by itself


class Drives:
    """The drives of a process, shared by threads. Their connections are its own: a child that inherits this makes new ones."""

    def __init__(self, settings: Mapping[str, DriveSettings]) -> None:
        self.settings = settings
        self._forget()

    def _forget(self) -> None:
        self._pid, self._lock = os.getpid(), threading.Lock()  # a parent's lock may be held for ever
        self._made: dict[str, Drive] = {}
        self._meters: dict[str, Meter] = {}

    def named(self, name: str) -> Drive:
        """Return a drive; raises DriveUnknown if this process has no settings for it."""
        if self._pid != os.getpid():
            self._forget()
        with self._lock:
            if name not in self._made:
                if name not in self.settings:
                    raise DriveUnknown(
                        f"this process has no settings for the drive {name!r}: see DRIVES", OTHERS_MAY
                    )
                self._made[name] = self._make(name, self.settings[name])
            return self._made[name]

    def _make(self, name: str, chosen: DriveSettings) -> Drive:
        if isinstance(chosen, FilesystemSettings):
            return FilesystemDrive(chosen.dir, name)
        self._meters[name] = Meter(name)
        return onedrive(name, chosen, self._meters[name])

    def requests(self) -> list[Minute]:
        """Return, and forget, what this process asked of drives whose requests are counted."""
        if self._pid != os.getpid():
            self._forget()
        with self._lock:
            meters = list(self._meters.values())
        return [minute for meter in meters for minute in meter.take()]


def onedrive(name: str, chosen: OneDriveSettings, meter: Meter) -> OneDrive:
    """Make a drive; raises DriveRefuses if the CA of its settings cannot be read."""
    if chosen.ca_file is not None:
        _check_ca(chosen.ca_file, name)
    hosts = (*MICROSOFT_HOSTS, *chosen.hosts())
    return OneDrive(name, library(chosen, meter), Addresses(hosts, meter, _ca_file(chosen)))


def _check_ca(path: Path, name: str) -> None:
    try:
        ssl.create_default_context(cafile=path)
    except OSError as error:
        log.error("drive %s: no CA is to be had from %s: %s", name, path, error)  # noqa: TRY400  its message says why
        raise DriveRefuses(
            f"DRIVE_{name.upper()}_CA_FILE is not to be read as certificates: {_why(error)}", SLOWLY
        ) from None


def _why(error: OSError) -> str:
    return "they are no PEM" if isinstance(error, ssl.SSLError) else str(error.strerror)


def library(chosen: OneDriveSettings, meter: Meter) -> Library:
    graph = Graph(chosen.graph_url, Credentials(identity(chosen), meter.drive), meter, _ca_file(chosen))
    return Library(Place(chosen.drive_id, parts(chosen.folder), chosen.client_id), graph)


def _ca_file(chosen: OneDriveSettings) -> str | None:
    return str(chosen.ca_file) if chosen.ca_file else None


def identity(chosen: OneDriveSettings) -> Identity:
    return Identity(
        chosen.tenant_id,
        chosen.client_id,
        chosen.client_secret,
        chosen.client_secret_file,
        chosen.certificate_file,
        chosen.login_url,
        chosen.ca_file,
    )
