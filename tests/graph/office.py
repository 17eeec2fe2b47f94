"""Office files in a SharePoint library are not what was sent: the library writes properties of its own into them."""

import secrets

from tests.graph.contents import Draft

# rclone#2599 and onedrive-api-docs#935 name these kinds; "SharePoint property promotion" is Microsoft's word for it.
KINDS = (
    ".docx",
    ".docm",
    ".dotx",
    ".xlsx",
    ".xlsm",
    ".xltx",
    ".pptx",
    ".pptm",
    ".potx",
    ".doc",
    ".xls",
    ".ppt",
)


def alter(draft: Draft, name: str) -> bool:
    """Change the bytes of an Office file, by another length each time; tell whether it was one."""
    if not name.lower().endswith(KINDS) or not draft.size:
        return False
    draft.append(secrets.token_bytes(512 + secrets.randbelow(4096)))
    return True
