"""What lies in deploy/, and what the pages about it say, against the programs and settings that are really there."""

import asyncio
import base64
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import uvicorn
import yaml
from prometheus_client.parser import text_string_to_metric_families

from app.drive_settings import GRAPH_URL, OneDriveSettings, readable
from app.errors import HaulageError, Postponed
from app.figures import Connection, Figures
from app.graph.client import MICROSOFT_HOSTS
from app.graph.credentials import LOGIN_URL
from app.models import DriveState, State
from app.pauses import Asked
from app.settings import Settings, settings
from app.web import metrics
from local.home import PROJECT
from tests.commands import blocks, check_command, commands_in

DEPLOY = PROJECT / "deploy"
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.yml").read_text())["services"]
UNITS = {path.name: path.read_text() for path in sorted((DEPLOY / "systemd").glob("*.service"))}
EXAMPLES = {path.name: path.read_text() for path in sorted((DEPLOY / "systemd" / "examples").iterdir())}
MANIFESTS = [
    one
    for path in sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    for one in yaml.safe_load_all(path.read_text())
]
PAGES = {name: (PROJECT / "docs" / name).read_text() for name in ("deploying.md", "upgrading.md")}
SETTINGS = {name.upper() for name in Settings.model_fields}
SLICE = Settings.model_fields["slice_seconds"].default


# Every command, against the program that it starts.


def words_of(unit: str) -> list[str]:
    [line] = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return shlex.split(line)


def pods() -> Iterator[tuple[str, dict[str, Any]]]:
    for one in MANIFESTS:
        if one["kind"] == "Pod":
            yield one["metadata"]["name"], one["spec"]
        elif "template" in one.get("spec", {}):
            yield one["metadata"]["name"], one["spec"]["template"]["spec"]


PODS = dict(pods())
CONTAINERS = {name: spec["containers"][0] for name, spec in PODS.items()}
[CONFIG] = [one["data"] for one in MANIFESTS if one["kind"] == "ConfigMap"]


def commands() -> Iterator[tuple[str, list[str]]]:
    for name, service in COMPOSE.items():
        yield f"compose {name}", service["command"]
        kind, *check = service.get("healthcheck", {}).get("test", ["none"])
        if kind == "CMD":
            yield f"compose {name}, health", check
    for name, text in UNITS.items():
        yield name, words_of(text)
    for name, container in CONTAINERS.items():
        yield f"kubernetes {name}", container["command"]
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            if "exec" in container.get(kind, {}):
                yield f"kubernetes {name}, {kind}", container[kind]["exec"]["command"]


@pytest.mark.parametrize(("where", "words"), [pytest.param(*one, id=one[0]) for one in commands()])
def test_every_command_is_one_that_its_program_knows(where: str, words: list[str]) -> None:
    check_command([str(word) for word in words])


@pytest.mark.parametrize(
    "words",
    [
        ["haulage", "heal", "worker"],
        ["haulage", "migrate", "--quickly"],
        ["celery", "-A", "tasks.worker", "worker", "--concurency", "4"],
        ["uvicorn", "app.web.main:app", "--prot", "80"],
        ["celery", "-A", "tasks.worker", "flower", "--adress=0.0.0.0"],
    ],
)
def test_a_word_that_no_program_knows_is_found(words: list[str]) -> None:
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        check_command(words)


def test_the_ways_to_run_it_start_the_same_programs() -> None:
    """So that what was tried in one is known of the others; addresses, and the names of workers, differ."""

    def essence(words: list[str]) -> list[str]:
        text = " ".join(str(word) for word in words).replace("/opt/haulage/bin/", "")
        return re.sub(r" ?--(host|hostname|address)[ =]\S+", "", text).split()

    for name in ("migrate", "web", "worker", "beat", "flower"):
        composed = essence(COMPOSE[name]["command"])
        unit = UNITS.get(f"haulage-{name}.service") or UNITS[f"haulage-{name}@.service"]
        assert essence(words_of(unit)) == composed
        assert essence(CONTAINERS[f"haulage-{name}"]["command"]) == composed


# systemd.


def values(text: str, name: str) -> list[str]:
    return re.findall(rf"^{name}=(.*)$", text, re.MULTILINE)


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_gets_settings_that_are_known_and_over_tls(name: str) -> None:
    given_files = values(UNITS[name], "EnvironmentFile")
    files = [value.removeprefix("-").removeprefix("/etc/haulage/") for value in given_files]
    given = dict(re.findall(r"^(\w+)=(.*)$", "\n".join(EXAMPLES[file] for file in files), re.MULTILINE))
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}

    assert required <= set(given) <= SETTINGS | {"FLOWER_BASIC_AUTH"}
    check_urls(given, "/etc/haulage/ca.crt")
    assert {re.search(r":(\w+)(@|$)", value)[1] for key, value in given.items() if "PASSWORD" in value} == {
        "PASSWORD"
    }


def check_urls(given: dict[str, str], ca: str) -> None:
    for key, value in given.items():
        if key.endswith("DATABASE_URL"):
            assert value.startswith("postgresql://haulage_")
            assert value.endswith(f"?sslmode=verify-full&sslrootcert={ca}")
        elif key == "REDIS_URL":
            assert value.startswith("rediss://:")
            assert value.endswith(f"?ssl_cert_reqs=required&ssl_ca_certs={ca}")


@pytest.mark.parametrize("name", UNITS)
def test_a_unit_can_do_nothing_that_it_need_not(name: str) -> None:
    text = UNITS[name]

    assert values(text, "User") == ["haulage"]
    assert values(text, "NoNewPrivileges") == ["yes"]
    assert values(text, "ProtectSystem") == ["strict"]
    assert values(text, "CapabilityBoundingSet") == [""]
    assert values(text, "ReadWritePaths") == values(text, "RequiresMountsFor") == ["/srv/haulage"]
    assert values(text, "MemoryMax")
    if values(text, "Type") != ["oneshot"]:
        assert values(text, "KillMode") == ["mixed"], "TERM is for the main process alone"
        assert values(text, "Restart") == ["always"]


def test_a_worker_has_longer_to_stop_than_a_slice_lasts() -> None:
    [seconds] = values(UNITS["haulage-worker@.service"], "TimeoutStopSec")

    assert int(seconds.removesuffix("s")) > SLICE
    assert PODS["haulage-worker"]["terminationGracePeriodSeconds"] > SLICE


def test_a_web_process_has_longer_to_stop_than_it_waits_for_requests() -> None:
    waits = 30
    assert str(waits) in COMPOSE["web"]["command"]

    assert int(COMPOSE["web"]["stop_grace_period"].removesuffix("s")) > waits
    assert int(values(UNITS["haulage-web.service"], "TimeoutStopSec")[0].removesuffix("s")) > waits
    assert PODS["haulage-web"]["terminationGracePeriodSeconds"] > waits + 5  # and the pause before


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not at hand")
def test_systemd_understands_the_units(tmp_path: Path) -> None:
    system, programs = tmp_path / "etc/systemd/system", tmp_path / "opt/haulage/bin"
    system.mkdir(parents=True)
    programs.mkdir(parents=True)
    for program in ("celery", "haulage", "uvicorn"):
        (programs / program).write_text("#!/bin/sh\n")
        (programs / program).chmod(0o755)
    for name, text in UNITS.items():
        (system / name).write_text(text)
    for target in ("basic", "sysinit", "shutdown", "network-online", "multi-user"):
        (system / f"{target}.target").write_text(f"[Unit]\nDescription={target}\n")
    for slice_ in ("system", "-", "system-haulage\\x2dworker"):
        (system / f"{slice_}.slice").write_text("[Unit]\nDescription=slice\n")
    names = [name.replace("@.", "@1.") for name in UNITS]
    analyze = ("systemd-analyze", f"--root={tmp_path}")

    verified = subprocess.run([*analyze, "verify", "--man=no", *names], capture_output=True, text=True)
    offline = ("security", "--offline=true", "--threshold=20", "--no-pager")
    secured = [subprocess.run([*analyze, *offline, name], capture_output=True, text=True) for name in names]

    assert (verified.returncode, verified.stderr) == (0, "")
    assert [one.stdout[-200:] for one in secured if one.returncode != 0] == [], "an exposure of 2.0 or less"


# Kubernetes.


@pytest.mark.parametrize("name", PODS)
def test_a_pod_can_do_nothing_that_it_need_not(name: str) -> None:
    spec, container = PODS[name], CONTAINERS[name]

    assert len(spec["containers"]) == 1
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]
    assert re.fullmatch(r"[\w./-]+:\d+\.\d+\.\d+", container["image"])


@pytest.mark.parametrize("name", PODS)
def test_a_pod_gets_settings_that_are_known_and_over_tls(name: str) -> None:
    given = {one["name"]: one.get("value", "") for one in CONTAINERS[name]["env"]}
    parts = set(re.findall(r"\$\((\w+)\)", " ".join(given.values())))
    required = {name.upper() for name, field in Settings.model_fields.items() if field.is_required()}

    assert parts <= set(given), "a $(NAME) that is not there would stay as it is"
    assert set(given) - parts <= SETTINGS | {"FLOWER_BASIC_AUTH", "FORWARDED_ALLOW_IPS"}
    assert required <= set(given) | {"STAGING_DIR", "INBOX_DIR", "DRIVE_DIR"}  # these the image sets
    check_urls(given, "/certificates/ca/ca.crt")
    before = set[str]()
    for one in CONTAINERS[name]["env"]:
        assert set(re.findall(r"\$\((\w+)\)", one.get("value", ""))) <= before, (
            "only what stands above is put in"
        )
        before.add(one["name"])


@pytest.mark.parametrize("name", PODS)
def test_no_secret_stands_in_a_manifest(name: str) -> None:
    for one in CONTAINERS[name]["env"]:
        if "PASSWORD" in one["name"]:
            assert set(one["valueFrom"]) == {"secretKeyRef"}
        elif "@" in one.get("value", ""):
            assert re.search(r":\$\(\w+_PASSWORD\)@", one["value"])
    assert "Secret" not in {one["kind"] for one in MANIFESTS}


@pytest.mark.parametrize("name", PODS)
def test_no_pod_is_told_of_services_as_if_they_were_settings(name: str) -> None:
    assert PODS[name]["enableServiceLinks"] is False


def test_all_who_touch_files_share_them() -> None:
    claims = {
        one["metadata"]["name"]: one["spec"] for one in MANIFESTS if one["kind"] == "PersistentVolumeClaim"
    }

    assert {tuple(spec["accessModes"]) for spec in claims.values()} == {("ReadWriteMany",)}
    for spec in PODS.values():
        used = {
            one["persistentVolumeClaim"]["claimName"]
            for one in spec["volumes"]
            if "persistentVolumeClaim" in one
        }
        assert used == set(claims)
        mounts = {one["name"] for one in spec["containers"][0]["volumeMounts"]}
        assert mounts == {one["name"] for one in spec["volumes"]}


def test_whoever_goes_on_is_probed_and_whoever_works_by_progress() -> None:
    for one in MANIFESTS:
        if one["kind"] == "Deployment":
            assert "livenessProbe" in CONTAINERS[one["metadata"]["name"]]
    for name in ("worker", "beat"):
        probe = CONTAINERS[f"haulage-{name}"]["livenessProbe"]
        assert probe["exec"]["command"] == ["haulage", "health", name]
        assert probe["timeoutSeconds"] > 20, (
            "the command looks for ten seconds before it says that somebody is ill"
        )
    assert CONTAINERS["haulage-web"]["readinessProbe"]["httpGet"]["path"] == "/readyz"
    assert CONTAINERS["haulage-web"]["livenessProbe"]["httpGet"]["path"] == "/healthz"


def test_workers_are_replaced_one_by_one() -> None:
    [worker] = [one["spec"] for one in MANIFESTS if one["metadata"]["name"] == "haulage-worker"]

    assert worker["strategy"]["rollingUpdate"] == {"maxUnavailable": 1, "maxSurge": 0}


def test_every_object_is_in_the_namespace_and_every_selector_finds_its_pods() -> None:
    labels = [
        one["spec"]["template"]["metadata"]["labels"] for one in MANIFESTS if one["kind"] == "Deployment"
    ]

    for one in MANIFESTS:
        assert one["kind"] == "Namespace" or one["metadata"]["namespace"] == "haulage"
        selector = one.get("spec", {}).get("selector")
        if selector is not None:
            assert selector.get("matchLabels", selector) in labels


@pytest.mark.parametrize(
    ("trusted", "proxy"),
    [
        pytest.param(COMPOSE["web"]["environment"]["FORWARDED_ALLOW_IPS"], "172.18.0.1", id="compose"),
        pytest.param(CONFIG["FORWARDED_ALLOW_IPS"], "10.42.3.7", id="kubernetes"),
        pytest.param(None, "127.0.0.1", id="systemd"),
    ],
)
def test_the_proxys_word_for_tls_is_taken(
    trusted: str | None, proxy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As uvicorn reads it: the page's cookie is Secure if the request came over https."""
    if trusted is not None:
        monkeypatch.setenv("FORWARDED_ALLOW_IPS", trusted)

    assert scheme_from(proxy) == "https"


def test_nobody_elses_word_for_tls_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORWARDED_ALLOW_IPS", CONFIG["FORWARDED_ALLOW_IPS"])

    assert scheme_from("192.0.2.7") == "http"


def scheme_from(proxy: str) -> str:
    """Return the scheme of a request that this proxy passed on, as an application under uvicorn sees it."""
    seen = []

    async def application(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["scheme"])

    config = uvicorn.Config(application, log_config=None)
    config.load()
    headers = [(b"x-forwarded-proto", b"https")]
    scope = {"type": "http", "scheme": "http", "client": (proxy, 4000), "headers": headers}
    asyncio.run(config.loaded_app(scope, None, None))
    return seen[0]


# Drives by name.

DRIVE_FILES = "/etc/haulage/drives"
DRIVES_EXAMPLE = EXAMPLES["drives.env"]
DRIVE_LINES = dict(re.findall(r"^#(\w+)=(.*)$", DRIVES_EXAMPLE, re.MULTILINE))


def test_who_reads_from_drives_may_have_their_settings_and_nobody_else() -> None:
    composed = {name: one["env_file"] for name, one in COMPOSE.items() if "env_file" in one}
    from_units = {
        name: values(text, "EnvironmentFile")[-1] for name, text in UNITS.items() if "drives" in text
    }
    from_pods = {name: one["envFrom"] for name, one in CONTAINERS.items() if "envFrom" in one}

    drives_env, secret = (
        {"path": "drives.env", "required": False},
        {"name": "haulage-drives", "optional": True},
    )
    assert composed == {name: [drives_env] for name in ("command", "web", "worker")}
    assert from_units == dict.fromkeys(
        ("haulage-web.service", "haulage-worker@.service"), "-/etc/haulage/drives.env"
    )
    names = ("haulage-command", "haulage-web", "haulage-worker")
    assert from_pods == {name: [{"secretRef": secret}] for name in names}
    [command] = re.findall(r"systemd-run .*?haulage corp", PAGES["deploying.md"], re.DOTALL)
    assert "--property=EnvironmentFile=-/etc/haulage/drives.env" in command


def test_they_may_read_the_files_that_these_name_and_not_write_them() -> None:
    composed = {
        name: volume for name, one in COMPOSE.items() for volume in one["volumes"] if DRIVE_FILES in volume
    }
    mounted = {name: one["volumeMounts"] for name, one in CONTAINERS.items() if "envFrom" in one}
    kept = {one["name"]: one for name in mounted for one in PODS[name]["volumes"]}

    assert composed == dict.fromkeys(
        ("command", "web", "worker"), f"./deploy/compose/drives:{DRIVE_FILES}:ro"
    )
    for mounts in mounted.values():
        assert {"name": "drive-files", "mountPath": DRIVE_FILES, "readOnly": True} in mounts
    secret = kept["drive-files"]["secret"]
    assert secret == {"secretName": "haulage-drive-files", "optional": True, "defaultMode": 0o440}
    files = {name: value for name, value in DRIVE_LINES.items() if name.endswith("_FILE")}
    assert len(files) == 3
    assert all(value.startswith(f"{DRIVE_FILES}/") for value in files.values())


def test_the_secrets_of_drives_get_into_no_repository() -> None:
    folder = DEPLOY / "compose" / "drives"

    assert "/drives.env" in (PROJECT / ".gitignore").read_text().splitlines()
    assert (folder / ".gitignore").read_text().splitlines()[-2:] == ["*", "!.gitignore"]


def test_the_example_has_every_setting_of_a_drive_with_its_default_and_sets_none() -> None:
    fields = OneDriveSettings.model_fields
    own = {
        name.removeprefix("DRIVE_REPORTS_"): value
        for name, value in DRIVE_LINES.items()
        if "_REPORTS_" in name
    }
    defaults = {
        name.upper(): str(one.default)
        for name, one in fields.items()
        if not one.is_required() and one.default
    }

    assert [line for line in DRIVES_EXAMPLE.splitlines() if not line.startswith("#")] == []
    assert set(own) == {name.upper() for name in fields}
    assert defaults.items() <= own.items()
    rest = {name for name in DRIVE_LINES if "_REPORTS_" not in name}
    assert rest == {"DRIVES", "SESSION_KEYS", "DRIVE_ARCHIVE_KIND", "DRIVE_ARCHIVE_DIR", "HTTPS_PROXY"}


def test_the_example_filled_in_is_good(monkeypatch: pytest.MonkeyPatch) -> None:
    required = {name: "x" for name, one in Settings.model_fields.items() if one.is_required()}
    urls = {"redis_url": "redis://x/0", "staging_dir": "/x", "inbox_dir": "/x"}
    filled = {name: value or "x" for name, value in DRIVE_LINES.items() if "CLIENT_SECRET" not in name}
    key = base64.urlsafe_b64encode(b"k" * 32).decode()
    for name, value in (
        required | urls | filled | {"SESSION_KEYS": key, "DRIVES": "reports,archive"}
    ).items():
        monkeypatch.setenv(name.upper(), value)
    settings.cache_clear()

    known, problems = readable()

    settings.cache_clear()
    assert problems == []
    assert {"reports", "archive"} <= set(known)


def test_the_page_says_which_ways_out_are_needed_and_nothing_here_shuts_them() -> None:
    [table] = re.findall(r"^\| host \|.*?\n\n", PAGES["deploying.md"], re.MULTILINE | re.DOTALL)
    worldwide = [one for one in MICROSOFT_HOSTS if one.endswith((".com", ".ms"))]

    assert len(worldwide) >= 4
    for host in (
        *(urlsplit(url).netloc for url in (LOGIN_URL, GRAPH_URL)),
        *(f"*{one}" for one in worldwide),
    ):
        assert f"`{host}`" in table
    assert "NetworkPolicy" not in {one["kind"] for one in MANIFESTS}
    for text in UNITS.values():
        assert values(text, "IPAddressDeny") == values(text, "PrivateNetwork") == []
        assert "AF_INET" in values(text, "RestrictAddressFamilies")[0].split()


# Metrics, alerts, dashboard.


@cache
def told() -> dict[str, set[str]]:
    """The names of samples that the web process tells, each with its labels, out of the text that Prometheus gets."""
    kinds = ("transferring", "stored", "bytes", "milliseconds")
    found = Figures(
        uploads=dict.fromkeys(State, 1),
        waiting_by_age={},
        oldest_waiting=1.0,
        since_sweep=1.0,
        totals={(kind, "filesystem"): 1 for kind in kinds},
        connections=[Connection(1, "worker", "host", 2, "TLSv1.3", "idle", 1.0, 1.0)],
        postponed={"drive_unavailable": 1},
        pauses={"reports": DriveState(name="reports", reason="drive_full")},
        asked={"reports": Asked(1, 2)},
    )
    families = text_string_to_metric_families(metrics._as_text(found).decode())
    samples = [one for family in families for one in family.samples]
    return {one.name: set(one.labels) for one in samples}


def check_expression(expression: str) -> None:
    names = set(re.findall(r"\bhaulage_\w+", expression))
    assert names or 'up{job="haulage"}' in expression, expression
    assert names <= set(told()), expression
    for name, inside in re.findall(r"\b(haulage_\w+)\{(.*?)\}", expression):
        assert set(re.findall(r"(\w+)\s*[=!]", inside)) <= told()[name], expression
    for inside, name in re.findall(r"\bby \((.*?)\) \((?:\w+\()?(haulage_\w+)", expression):
        assert set(re.findall(r"\w+", inside)) <= told()[name], expression


def codes_below(error: type[HaulageError]) -> set[str]:
    return {error.code}.union(*map(codes_below, error.__subclasses__()))


# A matter of course, or of seconds; a class that is never raised itself.
PASSING = {
    "postponed",
    "slice_ended",
    "shutting_down",
    "name_busy",
    "drive_item_busy",
    "drive_throttled",
    "drive_halted",
    "drive_pauses",  # told as the reason that the drive pauses for
}


def test_whatever_puts_uploads_off_for_long_has_its_alert() -> None:
    [alert] = [one for one in alerts() if one["alert"] == "HaulageUploadsPostponed"]
    [reasons] = re.findall(r'reason=~"(.*?)"', alert["expr"])

    assert set(reasons.split("|")) == codes_below(Postponed) - PASSING | {"database_busy"}
    assert '"database_busy"' in (PROJECT / "app" / "endings.py").read_text()
    assert alert["labels"]["severity"] == "critical"


def test_a_label_that_an_alert_names_has_such_values() -> None:
    text = "".join(alert["expr"] for alert in alerts())
    states = set(re.findall(r'\bstate="(\w+)"', text))

    assert states
    assert states <= set(State)
    assert set(re.findall(r'\btls="(.*?)"', text)) == {"none"}


def alerts() -> list[dict[str, Any]]:
    [group] = yaml.safe_load((DEPLOY / "prometheus" / "alerts.yml").read_text())["groups"]
    return group["rules"]


def test_every_alert_is_about_what_is_told() -> None:
    for alert in alerts():
        check_expression(alert["expr"])
        assert set(alert["annotations"]) == {"summary", "description"}
        assert alert["labels"]["severity"] in {"critical", "warning"}


def test_what_must_not_go_unnoticed_has_its_alert() -> None:
    expressions = " ".join(alert["expr"] for alert in alerts())

    for name in (
        "haulage_database_up", "haulage_sweep_age_seconds", "haulage_oldest_waiting_seconds", "haulage_failed_total",
        "haulage_workers_lost_total", "haulage_fenced_writes_total", 'haulage_database_sessions{tls="none"}',
        "haulage_uploads_postponed{reason=~",
    ):  # fmt: skip
        assert name in expressions


def test_every_alert_is_tried_in_promtools_test() -> None:
    text = (DEPLOY / "prometheus" / "alerts.test.yml").read_text()

    assert set(re.findall(r'alertname="(\w+)"', text)) == {alert["alert"] for alert in alerts()}
    for name in re.findall(r"series: '(haulage_\w+)", text):
        assert name in told()


def test_what_nobody_tells_is_found() -> None:
    for wrong in (
        "max(haulage_oldest) > 1",
        'haulage_uploads{status="failed"}',
        "sum by (drives) (haulage_stored_total)",
    ):
        with pytest.raises(AssertionError):
            check_expression(wrong)


def test_the_dashboard_shows_what_is_told() -> None:
    board = json.loads((DEPLOY / "grafana" / "haulage.json").read_text())
    expressions = [target["expr"] for panel in board["panels"] for target in panel["targets"]]

    for expression in expressions:
        check_expression(expression)
    shown = set(re.findall(r"haulage_\w+", " ".join(expressions)))
    assert shown == set(told()), "everything that is told is shown"


def test_the_dashboard_is_well_made() -> None:
    board = json.loads((DEPLOY / "grafana" / "haulage.json").read_text())
    taken = set[tuple[int, int]]()

    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


TOKEN_FILE = "/etc/prometheus/haulage-token"


def test_the_documented_scrape_sends_the_token_over_tls_and_waits_as_long() -> None:
    page = (PROJECT / "docs" / "operating.md").read_text()
    [text] = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    [job] = yaml.safe_load(text)["scrape_configs"]

    assert job["scheme"] == "https"
    assert job["authorization"] == {"credentials_file": TOKEN_FILE}
    assert (job["scrape_interval"], job["scrape_timeout"]) == ("30s", "25s")
    pages = [*(PROJECT / "docs").rglob("*.md"), *DEPLOY.rglob("*.yml"), PROJECT / "README.md"]
    named = {name for page in pages for name in re.findall(r"/etc/prometheus/[\w-]+", page.read_text())}
    assert named == {TOKEN_FILE}


def test_prometheus_comes_with_a_token_that_is_in_a_file() -> None:
    told_to = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())
    [job] = told_to["scrape_configs"]

    assert job["job_name"] == "haulage"
    assert job["authorization"] == {"type": "Bearer", "credentials_file": TOKEN_FILE}
    # Prometheus gives up after ten seconds, unless told otherwise: haulage_database_up 0 would never arrive.
    assert (told_to["global"]["scrape_interval"], job["scrape_timeout"]) == ("30s", "25s")
    assert all((DEPLOY / "prometheus" / name).exists() for name in told_to["rule_files"])


# What is installed: a checkout that is used in place has more than a package that is built from it.


def test_every_folder_of_ours_is_in_the_package() -> None:
    built = tomllib.loads((PROJECT / "pyproject.toml").read_text())["tool"]["setuptools"]
    files = [
        path
        for top in ("app", "tasks")
        for path in (PROJECT / top).rglob("*")
        if "__pycache__" not in path.parts
    ]
    folders = {".".join(path.parent.relative_to(PROJECT).parts) for path in files if path.suffix == ".py"}
    data = {
        str(path.relative_to(PROJECT / "app")) for path in files if path.is_file() and path.suffix != ".py"
    }

    assert folders == set(built["packages"])
    assert [one for one in data if not any(fnmatch(one, form) for form in built["package-data"]["app"])] == []


# The pages, and what the continuous integration does.


@pytest.mark.parametrize("name", PAGES)
def test_every_command_of_a_page_is_one_that_is_there(name: str) -> None:
    ours = commands_in(PAGES[name])

    assert ours
    for words in ours:
        check_command(words)


@pytest.mark.parametrize("name", PAGES)
def test_every_file_unit_and_service_of_a_page_is_there(name: str) -> None:
    text = PAGES[name]

    for path in re.findall(r"\bdeploy/[\w./@*-]+", text):
        assert list(PROJECT.glob(path.rstrip("./*") or path)), path
    for unit in re.findall(
        r"\bhaulage-(?:\w+)(?:@\w*)?(?=\.service|\s|`|$)", " ".join(re.findall(r"systemctl.*", text))
    ):
        assert re.sub(r"@.*", "@", unit) + ".service" in UNITS, unit
    for objects in re.findall(r"(?:deployment|job|pod)/(haulage-\w+)", text):
        assert objects in PODS, objects


def test_a_server_is_installed_as_the_image_is() -> None:
    """So that what the image's build proves is known of the page."""

    def installs(text: str) -> list[str]:
        found = re.findall(r"\bpip ((?:wheel|install) .+?)(?: \\)?$", text, re.MULTILINE)
        return [" ".join(one.replace("--no-cache-dir", "").split()) for one in found]

    in_image = installs((PROJECT / "Dockerfile").read_text())
    assert len(in_image) == 4
    assert "install --upgrade" in in_image[-1], "what is there already would be good enough"
    assert installs(blocks(PAGES["deploying.md"])) == 2 * in_image, "the first time, and the next release"


def block_with(words: str) -> str:
    [found] = [
        one
        for one in re.findall(r"^```\w*\n(.*?)^```", PAGES["deploying.md"], re.MULTILINE | re.DOTALL)
        if words in one
    ]
    return found


def test_the_first_block_run_again_leaves_passwords_as_they_are(tmp_path: Path) -> None:
    [copies] = [line for line in block_with("useradd").splitlines() if "systemd/examples" in line]
    command = ["sh", "-ec", copies.replace("/etc/haulage", str(tmp_path))]

    subprocess.run(command, cwd=PROJECT, check=True)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == EXAMPLES
    assert {path.stat().st_mode & 0o777 for path in tmp_path.iterdir()} == {0o600}
    (tmp_path / "web.environment").write_text("ours")
    subprocess.run(command, cwd=PROJECT, check=True)

    assert (tmp_path / "web.environment").read_text() == "ours"


def test_the_next_release_touches_no_password_and_ends_with_the_schema() -> None:
    lines = block_with("rm -rf build wheels").splitlines()

    assert lines[0] == "rm -rf build wheels", "the last release's would be found there"
    assert not [line for line in lines if "examples" in line or "/etc/haulage" in line or "useradd" in line]
    assert lines[-2:] == ["systemctl daemon-reload", "systemctl start haulage-migrate"]


def test_the_version_is_the_same_everywhere() -> None:
    version = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["version"]
    files = [*DEPLOY.rglob("*.yaml"), PROJECT / "docker-compose.yml", PROJECT / "docs" / "deploying.md"]

    named = {one for file in files for one in re.findall(r"\bhaulage:(\d[\w.]*)", file.read_text())}

    assert named == {version}


def test_the_proxys_part_is_told() -> None:
    assert "proxy_set_header X-Forwarded-Proto $scheme;" in PAGES["deploying.md"]
    assert "proxy_set_header Host $http_host;" in PAGES["deploying.md"]


def test_the_clusters_secret_is_made_of_what_its_pods_use() -> None:
    used = {
        one["valueFrom"]["secretKeyRef"]["key"]
        for container in CONTAINERS.values()
        for one in container["env"]
        if "secretKeyRef" in one.get("valueFrom", {})
    }
    [names] = re.findall(r"for name in ([A-Z ]+);", block_with("deploy/roles.sql"))

    assert {f"{name}_PASSWORD" for name in names.split()} == used
    assert set(re.findall(r"\\getenv \w+ (\w+)", (DEPLOY / "roles.sql").read_text())) <= used


def test_the_command_is_waited_for_before_it_is_used() -> None:
    for text in (block_with("70-command.yaml"), (DEPLOY / "kubernetes" / "70-command.yaml").read_text()):
        apply, wait, use = (
            text.index(words) for words in ("apply -f", "wait --for=condition=Ready", "exec haulage-command")
        )
        assert apply < wait < use


def test_each_way_says_what_has_not_been_run() -> None:
    [said] = re.findall(r"## What has been run\n(.*?)(?=\n## |\Z)", PAGES["deploying.md"], re.DOTALL)

    for name in ("Docker", "Kubernetes", "GitHub", "systemd"):
        assert name in said


def test_continuous_integration_runs_the_readmes_command_and_the_composed_system() -> None:
    workflow = yaml.safe_load((PROJECT / ".github" / "workflows" / "ci.yml").read_text())
    steps = [step for job in workflow["jobs"].values() for step in job["steps"]]
    runs = "\n".join(step["run"] for step in steps if "run" in step)

    for wanted in (
        "make test",
        "docker compose up --build --wait",
        "sh deploy/compose/smoke.sh",
        "haulage verify",
    ):
        assert wanted in runs
    assert "haulage verify" in runs
    assert "verify --corp" in (DEPLOY / "compose" / "smoke.sh").read_text()
    [python] = [step["with"]["python-version"] for step in steps if "setup-python" in step.get("uses", "")]
    [test] = [step for step in steps if step.get("run") == "make test"]
    assert test["env"] == {"PYTHON": f"python{python}"}, "local/setup.sh takes the newest one otherwise"
    assert all(re.search(r"@v\d+", step["uses"]) for step in steps if "uses" in step)
    assert workflow["permissions"] == {"contents": "read"}


@pytest.mark.parametrize("path", sorted((DEPLOY / "compose").glob("*.sh")), ids=lambda path: path.name)
def test_every_script_is_one_that_a_shell_reads(path: Path) -> None:
    done = subprocess.run(["sh", "-n", path], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text().splitlines()[0] == "#!/bin/sh"
    assert "set -eu" in path.read_text()
