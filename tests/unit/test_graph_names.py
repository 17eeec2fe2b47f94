"""Names and paths that the simulator takes, and those that it refuses."""

import httpx
import pytest

from tests.graph.launch import code, item_url

pytest_plugins = ["tests.graph.fixtures"]


@pytest.mark.parametrize(
    "name",
    [
        *(f"a{character}b" for character in '"*:<>?\\|\x01\x1f'),
        *(" leading", "trailing ", "period.", "~tilde", "~$owner.docx"),
        *(".lock", "con", "PRN", "aux", "NUL", "com0", "LPT9", "desktop.ini", "a_vti_b", "forms", "Forms"),
    ],
)
def test_a_forbidden_name_is_refused_everywhere(graph: httpx.Client, graph_drive: str, name: str) -> None:
    raw = "".join(f"%{byte:02X}" for byte in name.encode())
    path = f"/v1.0/drives/{graph_drive}/root:/{raw}:"
    graph.put(item_url(graph_drive, "there", "/content"), content=b"x")

    answers = [
        graph.put(f"{path}/content", content=b"x"),
        graph.post(f"{path}/createUploadSession", json={}),
        graph.post(f"/v1.0/drives/{graph_drive}/root/children", json={"name": name, "folder": {}}),
        graph.patch(item_url(graph_drive, "there"), json={"name": name}),
    ]

    assert [code(answer) for answer in answers] == [(400, "invalidRequest", "invalidPath")] * 4


@pytest.mark.parametrize(
    "name",
    [
        "a.txt",
        "#1 100%",
        "it's",
        "a;b,c=d&e+f@g!$(h)[i]{j}^`",
        ".hidden",
        "conx",
        "con.txt",
        "ünï çødé",
        "日本",
        "😀",
        "a~",
        "a..b",
    ],
)
def test_any_other_name_is_kept_as_it_was_given(graph: httpx.Client, graph_drive: str, name: str) -> None:
    made = graph.put(item_url(graph_drive, name, "/content"), content=b"x")

    assert made.status_code == 201
    assert made.json()["name"] == name
    assert graph.get(item_url(graph_drive, name)).json()["id"] == made.json()["id"]


@pytest.mark.parametrize(("name", "other"), [("a.txt", "A.TXT"), ("Ünï", "üNÏ"), ("straße", "STRASSE")])
def test_case_makes_no_difference(graph: httpx.Client, graph_drive: str, name: str, other: str) -> None:
    made = graph.put(item_url(graph_drive, name, "/content"), content=b"x").json()

    assert graph.get(item_url(graph_drive, other)).json()["name"] == name
    assert graph.put(item_url(graph_drive, other, "/content"), content=b"y").json()["id"] == made["id"]


def test_forms_is_forbidden_at_the_root_alone(graph: httpx.Client, graph_drive: str) -> None:
    graph.post(f"/v1.0/drives/{graph_drive}/root/children", json={"name": "a", "folder": {}})

    assert graph.put(item_url(graph_drive, "a/forms", "/content"), content=b"x").status_code == 201


def test_a_path_of_400_characters_is_too_long(graph: httpx.Client, graph_drive: str) -> None:
    root = graph.get(f"/v1.0/drives/{graph_drive}/root").json()
    around = len("sites/haulage/Shared Documents/") + len("d" * 200) + 1
    graph.post(
        f"/v1.0/drives/{graph_drive}/items/{root['id']}/children", json={"name": "d" * 200, "folder": {}}
    )

    fits = graph.put(item_url(graph_drive, f"{'d' * 200}/{'f' * (399 - around)}", "/content"), content=b"x")
    too_long = graph.put(
        item_url(graph_drive, f"{'d' * 200}/{'f' * (400 - around)}", "/content"), content=b"x"
    )
    one_name = graph.put(item_url(graph_drive, "n" * 256, "/content"), content=b"x")

    assert fits.status_code == 201
    assert code(too_long) == code(one_name) == (400, "invalidRequest", "pathIsTooLong")


@pytest.mark.parametrize("raw", ["a//b", "a%2Fb", "%FF%FE"])
def test_a_malformed_path_is_refused(graph: httpx.Client, graph_drive: str, raw: str) -> None:
    answer = graph.get(f"/v1.0/drives/{graph_drive}/root:/{raw}")

    assert code(answer) == (400, "invalidRequest", "invalidPath")
