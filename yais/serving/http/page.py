"""The page for people: models, and what they do now. It asks the routes beside it; nothing is made here."""

from __future__ import annotations

import base64
import functools
import hashlib
import re
from collections.abc import Mapping
from importlib import resources

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

__all__ = ["page"]


async def page(request: Request) -> Response:  # noqa: ARG001
    """Answer the page. It holds nothing secret: whoever opens it may be asked for a token by itself."""
    text, headers = _loaded()
    return HTMLResponse(text, headers=headers)


@functools.cache
def _loaded() -> tuple[str, Mapping[str, str]]:
    text = resources.files(__package__).joinpath("page.html").read_text("utf-8")
    policy = {
        "default-src": "'none'",
        "script-src": _digest(text, "script"),
        "style-src": _digest(text, "style"),
        "img-src": "data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    return text, {
        "content-security-policy": "; ".join(f"{name} {value}" for name, value in policy.items()),
        "x-content-type-options": "nosniff",
        "referrer-policy": "no-referrer",
        "cache-control": "no-cache",
    }


def _digest(text: str, tag: str) -> str:
    """Return what allows the one inline script or style of the page, and no other."""
    (contents,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(contents.encode()).digest()).decode()}'"
