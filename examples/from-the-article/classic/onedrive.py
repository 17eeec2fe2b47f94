"""Puts a file into OneDrive: one PUT if it is small, an upload session if it is not."""

import os
from pathlib import Path

import requests
from msal import ConfidentialClientApplication

SMALL = 4 * 2**20
CHUNK = 32 * 320 * 2**10  # a multiple of 320 KiB, as the documentation asks
DRIVE = f"{os.environ['GRAPH_URL']}/drives/{os.environ['DRIVE_ID']}"

application = ConfidentialClientApplication(
    os.environ["CLIENT_ID"],
    authority=f"{os.environ['LOGIN_URL']}/{os.environ['TENANT_ID']}",
    client_credential=os.environ["CLIENT_SECRET"],
    instance_discovery=False,  # of the simulator's address Microsoft knows nothing
)
token = application.acquire_token_for_client(["https://graph.microsoft.com/.default"])["access_token"]
graph = requests.Session()
graph.headers["Authorization"] = f"Bearer {token}"

# The first version sent everything through that session. Then somebody saw the 401s, and took a bare request.
put_fragment = graph.put if os.environ.get("CLASSIC_VERSION") == "first" else requests.put


def upload(folder: str, filename: str, path: Path) -> dict:
    size = path.stat().st_size
    if size <= SMALL:
        answer = graph.put(f"{DRIVE}/root:/{folder}/{filename}:/content", data=path.read_bytes())
        answer.raise_for_status()
        return answer.json()
    body = {"item": {"@microsoft.graph.conflictBehavior": "rename"}}
    answer = graph.post(f"{DRIVE}/root:/{folder}/{filename}:/createUploadSession", json=body)
    answer.raise_for_status()
    upload_url = answer.json()["uploadUrl"]
    sent = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            headers = {"Content-Range": f"bytes {sent}-{sent + len(chunk) - 1}/{size}"}
            answer = put_fragment(upload_url, data=chunk, headers=headers)
            answer.raise_for_status()
            sent += len(chunk)
    return answer.json()
