"""`make demo`: a real folder through all four doors of a real Haulage, and a verdict computed from the outside."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from app import names
from app.walk import Found, LeftOut, walk_inside
from benchmarks.classic import show_classic_fault
from local import doors, endings, servers, system, targets, verdict
from local.account import NoAccount
from local.discovery import NoServer
from local.home import PROJECT
from local.process import NotStarted
from local.servers import Servers
from local.system import NotUp, System
from local.targets import NoSuchDrive, Target
from local.verdict import Verdict

CORP = 7
STALLED_SECONDS = 120


def main() -> int:
    endings.heed()
    folder = os.environ.get("HAULAGE_DEMO_DIR")  # what to send; this checkout's files if not given
    kind = os.environ.get("HAULAGE_DEMO_DRIVE") or targets.KINDS[0]
    try:
        files, left_out = _gather(Path(folder) if folder else None)
        with (
            tempfile.TemporaryDirectory(prefix="haulage-demo-") as data,
            targets.chosen(kind, Path(data), CORP) as target,
            servers.throwaway() as running,
        ):
            return _show(running, Path(data), target, files, left_out)
    except (NoServer, NoAccount, NotStarted, NotUp, NoSuchDrive, NotADirectoryError) as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _gather(folder: Path | None) -> tuple[list[Found], list[LeftOut]]:
    if folder is None and (tracked := _tracked_files()):
        found: list[Found | LeftOut] = list(tracked)
    else:
        found = list(walk_inside(_existing(folder or PROJECT)))
    return [one for one in found if isinstance(one, Found)], [
        one for one in found if isinstance(one, LeftOut)
    ]


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise NotADirectoryError(f"DIR={names.printable(str(folder))} is not a folder")
    return folder


def _tracked_files() -> list[Found]:
    """Return this checkout's tracked files, or nothing where there is no git."""
    try:
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, check=True
        ).stdout.decode(errors="surrogateescape")
    except (OSError, subprocess.CalledProcessError):
        return []
    paths = [PROJECT / name for name in listed.split("\0") if name]
    return [_found(path) for path in paths if path.is_file() and not path.is_symlink()]


def _found(path: Path) -> Found:
    return Found(path, path.relative_to(PROJECT).parent.parts, path.name, path.stat().st_size)


def _show(running: Servers, data: Path, target: Target, files: list[Found], left_out: list[LeftOut]) -> int:
    began = time.monotonic()
    print(f"PostgreSQL (TLS) and Valkey are up. {len(files)} files to send.", flush=True)
    for one in left_out[:20]:
        print(f"  left out: {names.printable(str(one.path))}: {one.reason}")
    if len(left_out) > 20:
        print(f"  … and {len(left_out) - 20} more left out")
    with system.installed(running, data, data / "logs", **target.settings) as haulage:
        judged = _run(haulage, running, target, files)
        print(f"\n{haulage.run('tree', '--corp', str(CORP), '--depth', '2', '--width', '8')}")
    _print_verdict(judged, target.read_by, time.monotonic() - began)
    return 0 if _show_fault(running) and judged.good else 1


def _run(haulage: System, running: Servers, target: Target, files: list[Found]) -> Verdict:
    haulage.run("corp", "add", str(CORP), "Demo", "--drive", target.drive)
    token = haulage.run("token", "create", "--corp", str(CORP)).strip()
    url = haulage.start_web(system.free_port())
    haulage.start_worker(children=2)
    haulage.start_beat()
    shares = doors.share_out(files, target.key)
    stamped = {file: verdict.stamp(file.path) for file in files}
    print("; ".join(f"{len(share)} by {door}" for door, share in shares.items()), flush=True)
    meter = Meter(running, len(files))
    doors.by_celery(haulage, CORP, shares["celery"], meter.sent)
    doors.by_sql(haulage, CORP, shares["sql"], meter.sent)
    doors.over_http(url, token, CORP, shares["http"], meter.sent)
    doors.by_command(haulage, CORP, shares["command"], meter.sent)
    meter.wait_until_decided(haulage)
    os.environ.update(haulage.environment)  # from here on this process looks for itself
    judged = verdict.judge(stamped, running.owner_url, target.holding(), CORP, meter.tls)
    if target.read_by:
        _let_haulage_verify(haulage, judged)
    return judged


def _let_haulage_verify(haulage: System, judged: Verdict) -> None:
    try:
        judged.checked = haulage.run("verify", "--corp", str(CORP)).strip()
    except NotUp as found:
        judged.checked = "differences"
        judged.wrong.append(str(found))


class Meter:
    """Shows how far things have come, and notes the TLS version of every PostgreSQL session that it sees."""

    def __init__(self, running: Servers, total: int) -> None:
        self._running, self._total = running, total
        self._sent = 0
        self._shown_at = 0.0
        self.tls: dict[int, str] = {}

    def sent(self, number: int) -> None:
        self._sent += number
        if time.monotonic() - self._shown_at > 0.5:
            self._look()

    def wait_until_decided(self, haulage: System) -> None:
        """Return when every upload is decided; raises NotUp if a process ends, or if nothing happens any more."""
        last, since = -1, time.monotonic()
        while (decided := self._look()) < self._total:
            haulage.check()
            if decided > last:
                last, since = decided, time.monotonic()
            if time.monotonic() - since > STALLED_SECONDS:
                raise NotUp(f"nothing was decided for {STALLED_SECONDS} s:\n{haulage.last_lines('worker')}")
            time.sleep(0.25)
        self._look()
        print()

    def _look(self) -> int:
        self.tls |= verdict.tls_by_session(self._running.admin_url)
        states = verdict.progress(self._running.owner_url, CORP)
        stored, failed = states.get("stored", 0), states.get("failed", 0)
        self._show(f"  sent {self._sent}, stored {stored}, failed {failed} of {self._total}")
        return stored + failed

    def _show(self, line: str) -> None:
        """Keep one line up to date on a terminal; elsewhere add a line now and then."""
        on_terminal = sys.stdout.isatty()
        if on_terminal or time.monotonic() - self._shown_at > 5:
            print(f"\r{line}" if on_terminal else line, end="" if on_terminal else "\n", flush=True)
            self._shown_at = time.monotonic()


def _print_verdict(judged: Verdict, read_by: str, seconds: float) -> None:
    found = judged.items
    print(f"Verdict, computed from the outside, after {seconds:.0f} s:")
    print(f"  files sent                     {judged.sent}")
    print(f"  uploads stored                 {judged.stored}")
    print(f"  equal to their source, sha256  {judged.equal}")
    if read_by:
        print(f"  read back by                   {read_by}")
        print(f"  haulage verify                 {judged.checked}")
    print(
        f"  items                          {found.files} files, {found.folders} folders, {found.bytes} bytes"
    )
    print(
        f"  child_count = counted children {'yes' if not found.problems else 'NO'}, {found.folders} folders"
    )
    for process, sessions in sorted(judged.sessions.items()):
        for session, tls in sorted(sessions.items()):
            print(f"  served by process {process.split('@')[0]:>7}      PostgreSQL session {session}, {tls}")
    for line in judged.changed[:20]:
        print(f"  changed meanwhile, not compared: {line}")
    for line in judged.wrong[:20]:
        print(f"  WRONG: {line}")
    if len(judged.wrong) > 20:
        print(f"  WRONG: … and {len(judged.wrong) - 20} more")
    print(f"  {'Everything is stored, once.' if judged.good else f'{len(judged.wrong)} things are wrong.'}")


def _show_fault(running: Servers) -> bool:
    print("\nThe classic fault, beside it: a parent with a warm pool forks with no safeguard.")
    messages = show_classic_fault(running.owner_url)
    for message in messages:
        print(f"  {message}")
    if not messages:
        print("  It did not show itself this time.")
    return bool(messages)


if __name__ == "__main__":
    sys.exit(main())
