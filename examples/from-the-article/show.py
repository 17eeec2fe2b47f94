"""Shows, by name, what goes wrong with the classic client, and what Haulage makes of the same: `show.py [NAME ...]`.

Exit code 0 if everything went as docs/from-the-article.md says.
"""

import argparse
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from stage import Stage, stage

MIB = 2**20
FRAGMENT = 10 * MIB
FORK_FAULTS = re.compile(
    r"decryption failed or bad record mac|SSL SYSCALL error: EOF detected|bad record mac"
)
MANY, TRIES = 40, 5


@dataclass
class Shown:
    """What was seen: lines to read, and which of them are not as the page says."""

    lines: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    def classic(self, words: str, *, as_told: bool) -> None:
        self._add(f"classic: {words}", as_told)

    def haulage(self, words: str, *, as_told: bool) -> None:
        self._add(f"Haulage: {words}", as_told)

    def _add(self, line: str, as_told: bool) -> None:
        self.lines.append(line)
        if not as_told:
            self.wrong.append(line)


def rows(on: Stage, name: str) -> int:
    return int(on.ask("SELECT count(*) FROM classic.vmb_items WHERE name = %s", name)[0][0])


def items(on: Stage, name: str) -> int:
    return int(on.ask("SELECT count(*) FROM corporate.vmb_items WHERE name = %s", name)[0][0])


def upload(on: Stage, name: str) -> tuple[str, int, str | None]:
    """Return state, attempts and reason of our last upload with that name."""
    found = "SELECT state, attempts, reason FROM corporate.uploads WHERE name = %s ORDER BY created_at DESC LIMIT 1"
    known = on.ask(found, name)
    return known[0] if known else ("not known yet", 0, None)


def digest(on: Stage, name: str) -> str:
    return sha256((on.data / "inbox" / "7" / name).read_bytes()).hexdigest()


def is_whole(on: Stage, name: str) -> bool:
    """True if the drive has what Haulage was given, once."""
    return on.in_drive("Haulage/7", name.partition(".")[0]) == {name: digest(on, name)}


def fork(on: Stage, shown: Shown) -> None:
    """The pool crosses the fork: what was read at import left a connection in it."""
    for number in range(TRIES):
        names = [on.file(f"fork {number} {one}.txt", 100) for one in range(MANY)]
        with on.classic_worker(4, CLASSIC_POOL="inherited"):
            on.classic(*names)()
        said = sorted(set(FORK_FAULTS.findall(on.said("classic"))))
        if said:
            break
    shown.classic(f"in its log: {', '.join(said) or 'nothing'}", as_told=bool(said))
    stored = [one.state for one in on.ours(*names)()].count("SUCCESS")
    clean = not FORK_FAULTS.search(on.said("worker"))
    shown.haulage(
        f"{stored} of {MANY} stored, {'nothing' if clean else 'errors'} in its log",
        as_told=stored == MANY and clean,
    )


def child_count(on: Stage, shown: Shown) -> None:
    """Four children add to one count, each to what it read before its upload began."""
    names = [on.file(f"count {one}.txt", 100) for one in range(MANY)]
    before = on.ask("SELECT count(*) FROM classic.vmb_items WHERE parent_id = 1")[0][0]
    on.ask("UPDATE classic.vmb_items SET child_count = %s WHERE id = 1", before)
    on.simulator.control("POST settings", latency=0.05)
    try:
        with on.classic_worker(4):
            on.classic(*names)()
            open_ones = on.ask(
                "SELECT max(child_count), (SELECT count(*) FROM classic.vmb_items WHERE parent_id = 1)"
                " FROM classic.vmb_items WHERE id = 1"
            )
        [(noted, children)] = open_ones
        shown.classic(
            f"{children} children, child_count {noted}",
            as_told=children == before + MANY and noted < children,
        )
        on.ours(*names)()
    finally:
        on.simulator.control("POST settings", latency=0)
    [(noted, children)] = on.ask(
        "SELECT p.child_count, count(c) FROM corporate.vmb_items p JOIN corporate.vmb_items c ON c.parent_id = p.onedrive_item_id"
        " WHERE p.parent_id IS NULL AND p.corp_index = 7 GROUP BY 1"
    )
    shown.haulage(f"{children} children, child_count {noted}", as_told=children == noted >= MANY)


def lost_answer(on: Stage, shown: Shown) -> None:
    """The last fragment arrives, its answer does not: the retry puts the file there once more, under another name."""
    name = on.file("lost answer.bin", FRAGMENT + MIB)
    lost: dict[str, Any] = {
        "method": "PUT",
        "path": "uploadSession",
        "nth": 2,
        "action": "cut",
        "when": "after",
    }
    on.fault(**lost)
    with on.classic_worker():
        [made] = on.classic(name)()
    there = sorted(on.in_drive("classic", "lost answer"))
    shown.classic(
        f"{made.state}; in the drive {there}, in the table {rows(on, name)} row",
        as_told=made.state == "SUCCESS" and len(there) == 2 and rows(on, name) == 1,
    )
    on.fault(**lost)
    wait = on.ours(name)
    on.until(lambda: upload(on, name)[2] == "drive_disconnected", "the answer was lost")
    on.hurry()
    [made] = wait()
    shown.haulage(
        f"{made.state}; in the drive {sorted(on.in_drive('Haulage/7', 'lost answer'))}, in the table {items(on, name)} row",
        as_told=made.state == "SUCCESS" and is_whole(on, name) and items(on, name) == 1,
    )


def overwritten(on: Stage, shown: Shown) -> None:
    """Two files of one name: a PUT that says nothing of conflicts replaces what is there."""
    first, second = b"the first report", b"another report"
    name = on.file("report.txt", 0, first)
    with on.classic_worker():
        on.classic(name)()
        on.ours(name)()
        on.file(name, 0, second)
        [made] = on.classic(name)()
    kept = list(on.in_drive("classic", "report").values())
    gone = kept == [sha256(second).hexdigest()]
    shown.classic(
        f"{made.state}; of the first {'nothing is left' if gone else 'something is left'}, and {rows(on, name)} rows name one file",
        as_told=made.state == "SUCCESS" and gone and rows(on, name) == 2,
    )
    [made] = on.ours(name)()
    kept = list(on.in_drive("Haulage/7", "report").values())
    state, _, reason = upload(on, name)
    shown.haulage(
        f"the second {state}: {reason}; the first is {'there' if kept == [sha256(first).hexdigest()] else 'GONE'}",
        as_told=kept == [sha256(first).hexdigest()] and (state, reason) == ("failed", "name_taken"),
    )


def number_sign(on: Stage, shown: Shown) -> None:
    """A name with a #: nobody has quoted it, and for a URL the path ends there."""
    name = on.file("number #1.txt", 100)
    with on.classic_worker():
        [made] = on.classic(name)()
    there = on.in_drive("classic", "number")
    shown.classic(f"{made.state}; {len(there)} files", as_told=made.state == "FAILURE" and not there)
    [made] = on.ours(name)()
    shown.haulage(f"{made.state}", as_told=made.state == "SUCCESS" and is_whole(on, name))


def unverified(on: Stage, shown: Shown) -> None:
    """The drive tells a hash that is not the file's: it holds other bytes than were sent, for all that is known."""
    name = on.file("unverified.txt", 100)
    other: dict[str, Any] = {"method": "PUT", "path": "content", "action": "amend"}
    other["set"] = {"/file/hashes/quickXorHash": "AAAAAAAAAAAAAAAAAAAAAAAAAAA="}
    on.fault(**other)
    with on.classic_worker():
        [made] = on.classic(name)()
    shown.classic(f"{made.state}, and nobody looked", as_told=made.state == "SUCCESS")
    on.fault(**other)
    wait = on.ours(name)
    on.until(lambda: upload(on, name)[0] == "stored", "it was put there again")
    wait()
    attempts = upload(on, name)[1]
    shown.haulage(
        f"taken back, and stored in attempt {attempts}", as_told=attempts == 2 and is_whole(on, name)
    )


def cut(on: Stage, shown: Shown) -> None:
    """The connection ends in the first fragment, of which the server keeps a part: the retry meets the session left behind."""
    name = on.file("cut.bin", FRAGMENT + MIB)
    half: dict[str, Any] = {"method": "PUT", "path": "uploadSession", "action": "cut", "when": "body"}
    half |= {"bytes": 5 * MIB, "keep": 3 * MIB}
    on.fault(**half)
    with on.classic_worker():
        [made] = on.classic(name)()
    held = "409 Client Error" in on.said("classic")
    there = on.in_drive("classic", "cut")
    shown.classic(
        f"{made.state}{': 409' if held else ''}; {len(there)} files",
        as_told=made.state == "FAILURE" and held and not there,
    )
    on.fault(**half)
    [made] = on.ours(name)()
    [session] = on.sessions(name)[1:]
    starts = [one["start"] for one in session["fragments"]]
    shown.haulage(
        f"{made.state} in attempt {upload(on, name)[1]}, from the bytes {starts} on",
        as_told=made.state == "SUCCESS" and starts[:2] == [0, 3 * MIB] and is_whole(on, name),
    )


def authorization(on: Stage, shown: Shown) -> None:
    """The session's header goes along to the upload's address, which answers 401; and whoever sees it there has a token."""
    name = on.file("authorization.bin", FRAGMENT + MIB)
    with on.classic_worker(1, CLASSIC_VERSION="first"):
        [made] = on.classic(name)()
    refused = [one for one in on.requests("uploadSession") if one["authorization"] and one["status"] == 401]
    said = "401 Client Error" in on.said("classic")
    shown.classic(
        f"{made.state}; the token went to the upload's address {len(refused)} time(s), answered with 401",
        as_told=made.state == "FAILURE" and bool(refused) and said,
    )
    before = len(on.requests("uploadSession"))
    [made] = on.ours(name)()
    ours = on.requests("uploadSession")[before:]
    along = sum(one["authorization"] for one in ours if one["method"] == "PUT")
    shown.haulage(
        f"{made.state}; {along} tokens went along with {len(ours)} requests",
        as_told=made.state == "SUCCESS" and not along and is_whole(on, name),
    )


def killed(on: Stage, shown: Shown) -> None:
    """A child gets kill -9 in the second fragment of three: what a session's address was held in is gone."""
    name, size = on.file("killed.bin", 2 * FRAGMENT + MIB), 2 * FRAGMENT + MIB
    stalled: dict[str, Any] = {"method": "PUT", "path": "uploadSession", "nth": 2}
    stalled |= {"action": "stall", "when": "before", "name": name}
    on.fault(**stalled)
    with on.classic_worker(1):
        wait = on.classic(name)
        on.until(lambda: on.simulator.control("GET stalls", name=name, wait=5), "the second fragment")
        waits = on.look(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = '' AND state = 'idle in transaction'"
        )[0][0]
        shown.classic(f"{waits} transaction is open while the bytes are on their way", as_told=waits == 1)
        on.kill_classic()
        on.simulator.control("POST release", name=name, then="cut")
        [made] = wait()
        [left] = on.sessions(name)
        shown.classic(
            f"{made.state}; {rows(on, name)} rows, {len(on.in_drive('classic', 'killed'))} files, and a session that is "
            f"{left['state']} with {left['kept']:,} bytes in it, whose address nobody has",
            as_told=(made.state, rows(on, name), left["state"], left["kept"])
            == ("FAILURE", 0, "open", FRAGMENT),
        )
        on.forget_faults()
        [made] = on.classic(name)()
        held = "409 Client Error" in on.said("classic")
        shown.classic(
            f"sent again: {made.state}{': 409, the lost session holds the name' if held else ''}",
            as_told=made.state == "FAILURE" and held,
        )
    on.fault(**stalled)
    wait = on.ours(name)
    on.until(lambda: on.simulator.control("GET stalls", name=name, wait=5), "the second fragment")
    session = on.holder(name)[1]
    does = on.look("SELECT state FROM pg_stat_activity WHERE pid = %s", session)[0][0]
    shown.haulage(
        f"its PostgreSQL session is {does} while the bytes are on their way", as_told=does == "idle"
    )
    on.kill_ours(name)
    on.simulator.control("POST release", name=name, then="cut")
    on.until(lambda: upload(on, name)[0] == "stored", "another child has gone on")
    ours = on.sessions(name)[1:]
    again = sum(one["received"] for one in ours) - size
    shown.haulage(
        f"{upload(on, name)[0]} with {len(ours)} session; {again:,} bytes were sent twice",
        as_told=is_whole(on, name) and len(ours) == 1 and again <= FRAGMENT,
    )


def token(on: Stage, shown: Shown) -> None:
    """An hour later: the token that was made at import has ended, and with it every task until somebody restarts the worker."""
    name = on.file("token.txt", 100)
    with on.classic_worker():
        on.simulator.control("POST tokens", action="expire")
        [made] = on.classic(name)()
    said = "401 Client Error" in on.said("classic")
    shown.classic(f"{made.state}{': 401' if said else ''}", as_told=made.state == "FAILURE" and said)
    [made] = on.ours(name)()
    attempts = upload(on, name)[1]
    shown.haulage(
        f"{made.state} in attempt {attempts}",
        as_told=made.state == "SUCCESS" and attempts == 1 and is_whole(on, name),
    )


def throttled(on: Stage, shown: Shown) -> None:
    """Microsoft asks for a pause, five times: every one of them costs a task one of its retries."""
    name = on.file("throttled.txt", 100)
    pause: dict[str, Any] = {
        "method": "PUT",
        "path": "content",
        "action": "answer",
        "status": 429,
        "times": 5,
    }
    pause["headers"] = {"Retry-After": "1"}
    on.fault(**pause)
    with on.classic_worker():
        [made] = on.classic(name)()
    shown.classic(
        f"{made.state}; {rows(on, name)} rows", as_told=made.state == "FAILURE" and not rows(on, name)
    )
    on.fault(**pause)
    wait = on.ours(name)
    on.until(lambda: upload(on, name)[0] == "stored", "the pauses are over")
    wait()
    attempts = upload(on, name)[1]
    shown.haulage(
        f"{upload(on, name)[0]} in attempt {attempts}", as_told=attempts == 1 and is_whole(on, name)
    )


SCENARIOS: dict[str, Callable[[Stage, Shown], None]] = {
    "fork": fork,
    "child-count": child_count,
    "lost-answer": lost_answer,
    "cut": cut,
    "overwritten": overwritten,
    "number-sign": number_sign,
    "unverified": unverified,
    "authorization": authorization,
    "killed": killed,
    "token": token,
    "throttled": throttled,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(SCENARIOS))
    names = parser.parse_args().names or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(SCENARIOS)}")
    wrong: list[str] = []
    with stage() as on:
        for name in names:
            shown = Shown()
            print(f"\n{name}: {SCENARIOS[name].__doc__}", flush=True)
            SCENARIOS[name](on, shown)
            on.forget_faults()
            print("\n".join(f"  {line}" for line in shown.lines), flush=True)
            wrong += shown.wrong
    for line in wrong:
        print(f"NOT AS TOLD: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
