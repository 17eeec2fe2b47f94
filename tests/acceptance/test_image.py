"""What Dockerfile, docker-compose.yml and the units run, run: in plain Debian roots, since no container engine is at hand.

The roots are made by debootstrap. A service gets what the compose file says: its account, no capability but those it
names, a root file system that cannot be written to, its volumes and no others, its own host name; all of them share one
network of their own. What is not an engine's doing is as it will be: programs, certificates, roles, health checks.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import yaml
from sqlalchemy import make_url

from local import servers as local_servers
from local.home import PROJECT
from local.system import BIN, free_port
from tests.acceptance.conftest import Haulage, wait_until

COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())
PASSWORDS = {
    f"{name}_PASSWORD": f"{name.lower()}Secret1"
    for name in ("ADMIN", "OWNER", "WEB", "WORKER", "REDIS", "FLOWER")
}
SUITE = "bookworm"  # what the images are made from
PYTHON_IMAGE_PATH = "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"
WELL = {0, -signal.SIGTERM}  # uvicorn says goodbye, then ends by the signal that it got
NEEDED = ("debootstrap", "unshare", "nsenter", "ip", "openssl")

# What the entrypoint of PostgreSQL's image does before it runs the command.
POSTGRES_ENTRYPOINT = """
set -eu
export PATH=/usr/lib/postgresql/15/bin:$PATH PGDATA=/var/lib/postgresql/data
if [ ! -s $PGDATA/PG_VERSION ]; then
    echo "$POSTGRES_PASSWORD" > /tmp/password
    initdb --username=postgres --pwfile=/tmp/password --auth-local=trust --locale=C.UTF-8 > /dev/null
    echo "listen_addresses = '*'" >> $PGDATA/postgresql.conf
    pg_ctl --wait --options="-c listen_addresses=''" start > /dev/null
    sh /docker-entrypoint-initdb.d/roles.sh
    pg_ctl --wait --mode=fast stop > /dev/null
fi
exec "$@"
"""


def run(*command: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, **options)
    assert done.returncode == 0, f"{shlex.join(map(str, command))}\n{done.stdout[-5000:]}"
    return done


# The certificates and the scripts alone: these need no root.


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not at hand")
    made = tmp_path_factory.mktemp("certificates")
    make_certificates(made)
    return made


def make_certificates(made: Path) -> str:
    """Run the script as it is; who is not root cannot give files away, and need not for this."""
    stand_ins = made.parent / "stand-ins"
    stand_ins.mkdir(exist_ok=True)
    if os.geteuid() != 0:
        (stand_ins / "chown").symlink_to("/bin/true")
    environment = os.environ | {"PATH": f"{stand_ins}:{os.environ['PATH']}"}
    return run("sh", PROJECT / "deploy/compose/certificates.sh", made, env=environment).stdout


def test_the_certificates_are_made_once_and_pass_the_strictest_look(certificates: Path) -> None:
    before = (certificates / "ca/ca.crt").read_bytes()

    assert "are there already" in make_certificates(certificates)
    assert (certificates / "ca/ca.crt").read_bytes() == before
    for server in ("postgres", "redis"):
        files = {path.name: path for path in (certificates / server).iterdir()}
        assert set(files) == {"server.crt", "server.key"}
        assert {path.stat().st_mode & 0o777 for path in files.values()} == {0o600}
        strictly = ("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", certificates / "ca/ca.crt")
        run("openssl", *strictly, "-verify_hostname", server, files["server.crt"])
    if os.geteuid() == 0:
        assert {path.stat().st_uid for path in certificates.glob("*/server.*")} == {999}


def test_no_key_of_the_authority_is_kept(certificates: Path) -> None:
    assert [path.name for path in (certificates / "ca").iterdir()] == ["ca.crt"]
    assert "PRIVATE" not in (certificates / "ca/ca.crt").read_text()


def test_an_interrupted_run_is_done_again(certificates: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    shutil.copytree(certificates, made)
    (made / "ca/ca.crt").unlink()

    assert "were made" in make_certificates(made)
    assert (made / "ca/ca.crt").read_bytes() != (certificates / "ca/ca.crt").read_bytes()


def test_postgresql_proves_with_them_who_it_is(certificates: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    make_certificates(foreign)
    with local_servers.throwaway() as servers:
        if servers.postgres_pid < 0 or not servers.ca_file.exists():
            pytest.skip("the PostgreSQL of DATABASE_URL keeps its own certificate")
        data = next(servers.home.glob("postgres*/postgresql.auto.conf")).parent
        for name in ("server.crt", "server.key"):
            # Written into, not replaced: the file stays its account's.
            (data / name).write_bytes((certificates / "postgres" / name).read_bytes())
        os.kill(servers.postgres_pid, signal.SIGHUP)

        def connect(ca: Path, host: str = "postgres") -> None:
            url = make_url(servers.owner_url).set(host=host)
            query = {"sslmode": "verify-full", "sslrootcert": str(ca / "ca/ca.crt"), "hostaddr": "127.0.0.1"}
            full = url.set(query=query).render_as_string(hide_password=False)
            with closing(psycopg2.connect(full)) as connection:
                assert connection.info.ssl_in_use

        wait_until(lambda: connects(connect, certificates), "PostgreSQL has the new certificate")
        with pytest.raises(psycopg2.OperationalError, match="certificate verify failed"):
            connect(foreign)
        with pytest.raises(psycopg2.OperationalError, match="does not match host name"):
            connect(certificates, host="redis")


def test_the_smoke_test_passes_as_often_as_one_likes(haulage: Haulage) -> None:
    haulage.start_worker()
    haulage.start_beat()
    url = haulage.system.start_web(free_port())
    given = {"HAULAGE": str(BIN / "haulage"), "URL": url, "CORP": "9001"}
    smoke = ("sh", PROJECT / "deploy/compose/smoke.sh")

    said = [run(*smoke, env=haulage.system.environment | given).stdout for _ in range(2)]

    for number, one in enumerate(said, 1):
        assert re.search(rf"^{number} files .* 0 differences$", one, re.MULTILINE), one


def connects(connect: Any, ca: Path) -> bool:
    with suppress(psycopg2.OperationalError):
        connect(ca)
        return True
    return False


# The image and its services: these need root, debootstrap and a Debian mirror.


@dataclass
class Root:
    """A directory with a system in it, and how programs are run there while it is being built."""

    path: Path
    environment: dict[str, str] = field(default_factory=lambda: {"PATH": PYTHON_IMAGE_PATH})
    workdir: str = "/"
    user: str = "0:0"

    def build(self, command: str, extra: dict[str, str] | None = None) -> str:
        text = f"cd {self.workdir} && {command}"
        inside = ("chroot", f"--userspec={self.user}", self.path, "/bin/sh", "-c", text)
        return run(*inside, env=self.environment | (extra or {})).stdout

    def copy(self, to: Path) -> "Root":
        run("cp", "-a", self.path, to)
        return Root(to)

    def to(self, target: str) -> Path:
        return self.path / os.path.join(self.workdir, target).lstrip("/")  # noqa: PTH118  an absolute target wins


def debootstrap(path: Path) -> Root:
    packages = "python3,python3-venv,ca-certificates,openssl,curl"
    run("debootstrap", "--variant=minbase", f"--include={packages}", SUITE, path)
    root = Root(path)
    shutil.copy("/etc/resolv.conf", path / "etc/resolv.conf")
    (path / "etc/hosts").write_text("127.0.0.1 localhost postgres redis\n")
    root.build("python3 -m venv /usr/local")  # where Python's own image has `python` and `pip`
    return root


def pip_environment() -> dict[str, str]:
    """What pip is told on this machine about where packages come from, as environment variables."""
    told = run(sys.executable, "-m", "pip", "config", "list").stdout
    settings = dict(re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", told, re.MULTILINE))
    return {f"PIP_{name.upper().replace('-', '_')}": value for name, value in settings.items()}


def places(pip: dict[str, str]) -> set[str]:
    """The files and directories of this machine that pip reads; of an index in files also what lies beside it."""
    words = " ".join(pip.values()).split()
    named = [Path(word) for word in words if word.startswith("/")]
    named += [Path(word.removeprefix("file://")).parent for word in words if word.startswith("file:///")]
    return {str(path) for path in named if path.exists()}


@contextmanager
def lent(root: Root, names: set[str]) -> Iterator[None]:
    """Let a root see files of this machine for a while, at the same places."""
    mounted = []
    try:
        for name in sorted(names):
            target = root.path / name.lstrip("/")
            if Path(name).is_file():
                target.parent.mkdir(parents=True, exist_ok=True)
                target.touch()
            else:
                target.mkdir(parents=True, exist_ok=True)
            run("mount", "--bind", "-o", "ro", name, target)
            mounted.append(target)
        yield
    finally:
        for target in reversed(mounted):
            run("umount", target)


def instructions() -> list[tuple[str, str]]:
    text = re.sub(r"(?m)^#.*\n", "", (PROJECT / "Dockerfile").read_text()).replace("\\\n", " ")
    return [(line.split()[0], line.split(maxsplit=1)[1]) for line in text.splitlines() if line.strip()]


def build_image(base: Root, folder: Path) -> Root:
    """Follow the Dockerfile: every stage from the base, every instruction in its order."""
    stages: dict[str, Root] = {}
    pip = pip_environment()
    for name, rest in instructions():
        words = shlex.split(rest)
        if name == "FROM":
            assert words[0].endswith(f"-{SUITE}")
            stage = stages[words[-1]] = base.copy(folder / f"stage{len(stages)}")
        elif name == "RUN":
            with lent(stage, places(pip)):
                stage.build(rest, pip)
        elif name == "COPY" and words[0].startswith("--from="):
            source = stages[words[0].removeprefix("--from=")].to(words[1])
            run("cp", "-a", source, stage.to(words[2]))
        elif name == "COPY":
            copy_from_project(words[:-1], stage, words[-1])
        elif name == "ENV":
            stage.environment |= dict(word.split("=", 1) for word in words)
        elif name == "WORKDIR":
            stage.workdir = rest
            stage.to(".").mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            stage.user = rest
        else:
            assert name == "CMD", f"what does {name} do?"
    return stage


def copy_from_project(names: list[str], stage: Root, to: str) -> None:
    for name in names:
        if (PROJECT / name).is_dir():
            shutil.copytree(PROJECT / name, stage.to(to), ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(PROJECT / name, stage.to(to))


def build_servers(base: Root, folder: Path) -> Root:
    """Debian's PostgreSQL and Redis in the place of the official images, with the account of those."""
    root = base.copy(folder / "servers")
    (root.path / "usr/sbin/policy-rc.d").write_text("#!/bin/sh\nexit 101\n")  # nothing starts by itself
    (root.path / "usr/sbin/policy-rc.d").chmod(0o755)
    root.build("apt-get update -qq && apt-get install -qq -y --no-install-recommends postgresql redis-server")
    root.build("usermod --uid 999 postgres && groupmod --gid 999 postgres")
    return root


def privileges(service: dict[str, Any]) -> list[str]:
    """What setpriv is told of a service's capabilities, and of what its programs may gain; an engine's default is more."""
    told = ["--no-new-privs"] if "no-new-privileges:true" in service.get("security_opt", []) else []
    if service.get("cap_drop") == ["ALL"]:
        kept = "".join(f",+{one.lower()}" for one in service.get("cap_add", []))
        told += [f"--bounding-set=-all{kept}", "--inh-caps=-all"]
    return told


@dataclass
class Engine:
    """Stands in for the container engine, as far as the compose file and the units use one."""

    folder: Path
    image: Root
    servers: Root
    network: int  # the pid of a process in it
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def volume(self, name: str, target: str) -> Path:
        if name.startswith("."):
            return PROJECT / name
        made = self.folder / "volumes" / name
        if not made.exists():
            made.mkdir(parents=True)
            if target in {
                "/var/lib/postgresql/data",
                "/data",
            }:  # theirs in their images, and so in a new volume
                os.chown(made, 999, 999)
        return made

    def command(self, name: str, root: Root, service: dict[str, Any], words: list[str]) -> list[str]:
        """The whole way in: network, mounts, root, account, environment."""
        uid, gid = service["user"].split(":")
        lines = [f"mount --make-rprivate / && mount --bind {root.path} {root.path} && cd {root.path}"]
        lines += ["mount -t proc proc proc", "mount --rbind /dev dev", "mount -t tmpfs none dev/shm"]
        for target in [re.sub("^/var/run", "/run", one.split(":")[0]) for one in service["tmpfs"]]:  # a link
            lines += [f"mkdir -p .{target}", f"mount -t tmpfs -o mode=1777,size=64m none .{target}"]
        for source, target, *read_only in [one.split(":") for one in service["volumes"]]:
            place, made = f".{target}", self.volume(source, target)
            lines += [f"mkdir -p $(dirname {place})", f"test -d {made} && mkdir -p {place} || touch {place}"]
            lines += [f"mount --bind {made} {place}"] + [
                f"mount -o remount,bind,ro {place}" for _ in read_only
            ]
        drop = f"setpriv --reuid={uid} --regid={gid} --clear-groups {' '.join(privileges(service))}"
        environment = [
            f"{key}={value}" for key, value in (root.environment | service.get("environment", {})).items()
        ]
        lines.append(f"hostname {name.rstrip('@')}")
        if service.get("read_only"):
            lines.append(f"mount -o remount,bind,ro {root.path}")
        inside = shlex.join(
            ["env", "-i", *environment, "sh", "-c", f'cd {root.workdir} && exec "$@"', "sh", *words]
        )
        lines.append(f"exec chroot {root.path} {drop} {inside}")
        return [
            "nsenter",
            f"--net=/proc/{self.network}/ns/net",
            "unshare",
            "--mount",
            "--uts",
            "sh",
            "-ec",
            "\n".join(lines),
        ]

    def start(self, name: str, root: Root, service: dict[str, Any], words: list[str]) -> None:
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                self.command(name, root, service, words), stdout=log, stderr=log, stdin=subprocess.DEVNULL
            )

    def finish(self, name: str, root: Root, service: dict[str, Any], words: list[str]) -> str:
        return run(*self.command(name, root, service, words), timeout=300).stdout

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def stop(self, *names: str) -> dict[str, int]:
        """Tell the main processes to end, as TERM from an engine or with KillMode=mixed; return their exit codes."""
        ended = {}
        for name in names:
            self.processes[name].send_signal(signal.SIGTERM)
        for name in names:
            ended[name] = self.processes[name].wait(60)
            del self.processes[name]
        return ended

    def kill(self) -> None:
        for process in self.processes.values():
            children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.kill()
            process.wait()
            for child in children:
                with suppress(psutil.NoSuchProcess):
                    child.kill()


def service(name: str) -> tuple[dict[str, Any], list[str]]:
    """A service of the compose file with its variables put in, and the words of its command."""

    def put_in(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put_in(one) for key, one in value.items()}
        if isinstance(value, list):
            return [put_in(one) for one in value]
        if isinstance(value, str):
            return re.sub(r"\$\{(\w+):\?[^}]*\}", lambda found: PASSWORDS[found[1]], value).replace("$$", "$")
        return value

    chosen = put_in(COMPOSE["services"][name])
    words = chosen["command"]
    return chosen, ["sh", "-c", POSTGRES_ENTRYPOINT, "sh", *words] if name == "postgres" else words


def health_check(chosen: dict[str, Any]) -> list[str]:
    kind, *words = chosen["healthcheck"]["test"]
    return ["sh", "-c", *words] if kind == "CMD-SHELL" else words


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if os.geteuid() != 0 or missing:
        pytest.skip(f"needs root and {', '.join(NEEDED)}; not at hand: {', '.join(missing) or 'root'}")
    made = Path(f"/tmp/haulage-image-{os.getpid()}")
    made.mkdir()
    run(
        "mount", "-t", "tmpfs", "-o", "mode=755,size=6g", "none", made
    )  # about two are used; quick to make and to remove
    try:
        yield made
    finally:
        # Those who were killed may take a moment to let go of it.
        wait_until(
            lambda: subprocess.run(["umount", made], capture_output=True).returncode == 0, "it is unmounted"
        )
        made.rmdir()


@pytest.fixture(scope="module")
def engine(folder: Path) -> Iterator[Engine]:
    base = debootstrap(folder / "base")
    image, servers = build_image(base, folder), build_servers(base, folder)
    for name in ("staging", "inbox", "drive"):  # the units' places
        (image.path / "srv/haulage" / name).mkdir(parents=True)
    (image.path / "etc/haulage").mkdir()
    network = subprocess.Popen(["unshare", "--net", "sh", "-c", "ip link set lo up && exec sleep infinity"])
    made = Engine(folder, image, servers, network.pid)
    wait_until(
        lambda: "UP" in run("nsenter", f"--net=/proc/{network.pid}/ns/net", "ip", "link").stdout,
        "the network is up",
    )
    try:
        yield made
    finally:
        made.kill()
        network.kill()
        network.wait()


def start(engine: Engine, name: str, called: str | None = None) -> None:
    chosen, words = service(name)
    root = engine.servers if name in {"postgres", "redis"} else engine.image
    called = called or name
    if "healthcheck" not in chosen:
        engine.finish(called, root, chosen, words)
        return
    engine.start(called, root, chosen, words)
    check = engine.command(called, root, chosen, health_check(chosen))

    def is_well() -> bool:
        assert engine.processes[called].poll() is None, engine.log(called)
        return subprocess.run(check, capture_output=True).returncode == 0

    wait_until(is_well, f"{called} is healthy", 120, lambda: engine.log(called))


@pytest.mark.prove
@pytest.mark.timeout(2400)
def test_the_image_builds_and_the_composed_system_takes_a_file(engine: Engine) -> None:
    for name in ("init", "postgres", "redis", "migrate", "web", "worker", "beat", "flower"):
        start(engine, name)
    start(engine, "worker", "worker-2")

    chosen, _ = service("command")
    chosen["volumes"].append("./deploy/compose:/compose:ro")
    (engine.image.path / "compose").mkdir(exist_ok=True)
    smoke = engine.finish(
        "command",
        engine.image,
        chosen | {"environment": chosen["environment"] | {"HAULAGE": "haulage"}},
        ["sh", "/compose/smoke.sh"],
    )
    account = engine.finish("command", engine.image, chosen, ["id", "haulage"])
    sessions = ask_superuser(
        engine,
        "SELECT a.usename, s.version, count(*) FROM pg_stat_ssl s JOIN pg_stat_activity a USING (pid) WHERE a.usename LIKE 'haulage_%' GROUP BY 1, 2",
    )
    status = {
        name: Path(f"/proc/{process.pid}/status").read_text() for name, process in engine.processes.items()
    }
    said = {name: engine.log(name) for name in engine.processes}
    began = time.monotonic()
    ended = engine.stop("web", "worker", "worker-2", "beat", "flower")
    took = time.monotonic() - began

    assert re.search(
        r"^1 files \(3000000 bytes\) and \d+ folders compared, 0 differences$", smoke, re.MULTILINE
    ), smoke
    assert account.strip() == "uid=10001(haulage) gid=10001(haulage) groups=10001(haulage)"
    assert "haulage_worker|TLSv1.3|" in sessions
    assert "haulage_web|TLSv1.3|" in sessions
    assert {line.split("|")[1] for line in sessions.split()} == {"TLSv1.3"}
    for name, text in status.items():
        uid = "999" if name in {"postgres", "redis"} else "10001"
        assert re.search(r"^Uid:\s+(\d+)", text, re.MULTILINE)[1] == uid, name
        assert re.search(r"^CapBnd:\s+0+$", text, re.MULTILINE), name
        assert re.search(r"^NoNewPrivs:\s+1$", text, re.MULTILINE), name
    assert not [name for name, text in said.items() for secret in PASSWORDS.values() if secret in text]
    assert set(ended.values()) <= WELL, {name: engine.log(name)[-2000:] for name in ended}
    assert took < 60


def ask_superuser(engine: Engine, statement: str) -> str:
    into = ["nsenter", f"--mount=/proc/{engine.processes['postgres'].pid}/ns/mnt"]
    root = engine.servers.path
    asked = ["chroot", "--userspec=999:999", root, "psql", "--no-psqlrc", "-tAU", "postgres", "-c", statement]
    return run(*into, *asked, env={"PATH": PYTHON_IMAGE_PATH}).stdout


PROBE = """
for one in / /opt/haulage /certificates/ca; do touch $one/probe 2> /dev/null && rm $one/probe && echo "wrote to $one"; done
touch /tmp/probe && echo "wrote where it may"
grep -E "CapBnd|NoNewPrivs" /proc/self/status
"""


def probed(engine: Engine, without: str = "") -> list[str]:
    """What a service of ours could do, had it got in as root; and if one line of the compose file were not there."""
    chosen, _ = service("web")
    chosen.pop(without, None)
    said = engine.finish("web", engine.image, chosen | {"user": "0:0"}, ["sh", "-c", PROBE])
    return said.replace("\t", " ").splitlines()


@pytest.mark.prove
@pytest.mark.timeout(2400)
def test_a_service_of_ours_can_do_nothing_that_it_need_not_even_as_root(engine: Engine) -> None:
    lines = probed(engine)

    assert lines[0] == "wrote where it may"
    assert re.fullmatch("CapBnd: 0+", lines[1])
    assert lines[2:] == ["NoNewPrivs: 1"]


@pytest.mark.prove
@pytest.mark.timeout(2400)
@pytest.mark.parametrize(
    ("line", "then"),
    [
        ("read_only", r"wrote to /\nwrote to /opt/haulage\nwrote where it may\nCapBnd: 0+\nNoNewPrivs: 1"),
        ("cap_drop", r"wrote where it may\nCapBnd: 0*[1-9a-f][0-9a-f]+\nNoNewPrivs: 1"),
        ("security_opt", r"wrote where it may\nCapBnd: 0+\nNoNewPrivs: 0"),
    ],
)
def test_it_is_the_compose_files_lines_that_forbid_it(engine: Engine, line: str, then: str) -> None:
    assert re.fullmatch(then, "\n".join(probed(engine, without=line)))


def unit(name: str) -> tuple[dict[str, str], list[str], bool]:
    """A unit's environment and command, for the servers of this test; and whether it runs on."""
    text = (PROJECT / "deploy/systemd" / name).read_text()
    environment = {}
    for file in re.findall(r"^EnvironmentFile=/etc/haulage/(.+)$", text, re.MULTILINE):
        lines = (PROJECT / "deploy/systemd/examples" / file).read_text()
        role = {"environment": "REDIS"}.get(file, file.partition(".")[0].upper())
        lines = lines.replace("PASSWORD", PASSWORDS[f"{role}_PASSWORD"]).replace(".example.org", "")
        environment |= dict(re.findall(r"^(\w+)=(.*)$", lines, re.MULTILINE))
    [command] = re.findall(r"^ExecStart=(.*)$", text, re.MULTILINE)
    words = shlex.split(command.replace("%%", "\0").replace("%i", "1").replace("\0", "%"))
    return environment, words, "Type=oneshot" not in text


@pytest.mark.prove
@pytest.mark.timeout(2400)
def test_the_units_run_on_the_same_servers(engine: Engine) -> None:
    if "postgres" not in engine.processes:
        pytest.skip("follows the composed system")
    chosen, _ = service("command")
    places = [f"{name}:/srv/haulage/{name}" for name in ("staging", "inbox", "drive")]
    chosen |= {
        "volumes": [*places, "ca:/etc/haulage:ro", "./deploy/compose:/compose:ro"],
        "user": "10001:10001",
    }
    running = []
    for name in ("migrate", "web", "worker@", "beat", "flower"):
        environment, words, runs_on = unit(f"haulage-{name}.service")
        if runs_on:
            engine.start(name, engine.image, chosen | {"environment": environment}, words)
            running.append(name)
        else:
            engine.finish(name, engine.image, chosen | {"environment": environment}, words)

    owner, _, _ = unit("haulage-migrate.service")
    smoke = [
        "sh",
        "-c",
        "until curl -sf http://127.0.0.1:8000/readyz && curl -sf http://127.0.0.1:5555/healthcheck; do sleep 1; done; CORP=9002 HAULAGE=/opt/haulage/bin/haulage sh /compose/smoke.sh",
    ]
    said = engine.finish("smoke", engine.image, chosen | {"environment": owner}, smoke)
    wait_until(lambda: "worker1@worker" in engine.log("worker@"), "the worker has its name")
    ended = engine.stop(*running)

    assert "0 differences" in said
    assert set(ended.values()) <= WELL, {name: engine.log(name)[-2000:] for name in running}
