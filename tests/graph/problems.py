"""What Graph says when it refuses: one exception, and the JSON that it becomes."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class GraphError(Exception):
    """A refusal in the form of "Microsoft Graph error responses and resource types".

    `inner` is the code of the nested object, one of that page's "detailed error codes".
    """

    status: int
    code: str
    message: str
    inner: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def as_json(self, request_id: str, client_request_id: str, date: str) -> dict[str, Any]:
        inner = {"date": date, "request-id": request_id, "client-request-id": client_request_id}
        if self.inner:
            inner = {"code": self.inner, **inner}
        return {"error": {"code": self.code, "message": self.message, "innererror": inner}}


def bad_request(message: str, inner: str = "") -> GraphError:
    return GraphError(400, "invalidRequest", message, inner)


def not_found(message: str = "The resource could not be found.", inner: str = "") -> GraphError:
    return GraphError(404, "itemNotFound", message, inner)


def name_taken(message: str = "The specified item name already exists.") -> GraphError:
    return GraphError(409, "nameAlreadyExists", message)


def changed_meanwhile() -> GraphError:
    return GraphError(
        412, "resourceModified", "ETag does not match current item's value", "entityTagDoesNotMatch"
    )


def drive_is_full() -> GraphError:
    return GraphError(507, "quotaLimitReached", "Insufficient Space Available", "insufficientStorage")
