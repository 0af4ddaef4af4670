"""The operations of the OpenAPI description: what all of them have in common."""

from __future__ import annotations

from typing import Any

__all__ = ["PARAMETERS", "Operation", "json_content", "operation"]

Operation = dict[str, Any]

PARAMETERS: dict[str, Any] = {
    name: {
        "name": name,
        "in": "path",
        "required": True,
        "description": text,
        "schema": {"type": "string", "minLength": 1},
        "example": example,
    }
    for name, text, example in (
        ("model", "The name of a model.", "simple"),
        ("version", "A version of it: a number of 1 or more.", "1"),
        ("repository", "The name of a repository; a server has one, without a name.", "models"),
        ("region", "The name of a region of shared memory.", "input"),
    )
}
"""The parameters of paths, by their names."""

_NOTHING: dict[str, Any] = {"description": "Done."}


def json_content(value: Any, example: Any = None) -> dict[str, Any]:
    """Return contents in JSON: a schema, and an example of it."""
    return {"application/json": {"schema": value} | ({} if example is None else {"example": example})}


def operation(
    tag: str,
    summary: str,
    answer: dict[str, Any] | None = None,
    *,
    body: dict[str, Any] | None = None,
    required: bool = False,
    responses: dict[str, Any] | None = None,
) -> Operation:
    """Return an operation.

    Parameters
    ----------
    answer
        Contents of the answer; None for none.
    body
        Contents of the request; None for none.
    required
        Whether it may not be left out.
    responses
        Further ones.
    """
    good = _NOTHING if answer is None else {"description": "The answer.", "content": answer}
    error = {"$ref": "#/components/responses/Error"}
    made: Operation = {
        "tags": [tag],
        "summary": summary,
        "responses": {"200": good, **(responses or {}), "default": error},
    }
    if body is not None:
        made["requestBody"] = {"required": required, "content": body}
    return made
