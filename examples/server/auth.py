"""Who may do what on the server: each user has a token, and sees the threads that are his.

`cd examples/server && langgraph dev --no-browser --config langgraph_auth.json`; the clients then send a token with each
request, `get_client(url=..., headers={"Authorization": "Bearer alice-secret"})`. Without `disable_studio_auth` there,
whoever sends the header `x-auth-scheme: langsmith` would be a user, too.
"""

import hmac
import os
from typing import Any

from langgraph_sdk import Auth

TOKENS = dict(pair.split(":") for pair in os.environ.get("TOKENS", "alice:alice-secret,bob:bob-secret").split(","))
"""The users' tokens. A real server asks whoever issued the token."""

auth = Auth()


@auth.authenticate
async def user_of(authorization: str | None) -> str:
    """The user that a request's token belongs to."""
    scheme, _, token = (authorization or "").partition(" ")
    for user, secret in TOKENS.items():
        if scheme.lower() == "bearer" and hmac.compare_digest(token.encode(), secret.encode()):
            return user
    raise Auth.exceptions.HTTPException(status_code=401, detail="A token is needed.")


@auth.on
async def nothing(ctx: Auth.types.AuthContext, value: Any) -> bool:  # noqa: ARG001 - the server's signature
    """What is not allowed below is forbidden: assistants of one's own, schedules, the store."""
    return False


@auth.on(resources="assistants", actions=["read", "search"])
async def graphs(ctx: Auth.types.AuthContext, value: Any) -> bool:  # noqa: ARG001 - the server's signature
    """Everybody may ask which graphs there are."""
    return True


@auth.on.threads
async def own_threads(ctx: Auth.types.AuthContext, value: Any) -> Auth.types.FilterType:
    """A thread, with its runs, is its owner's: made with his name, and found by it."""
    value.setdefault("metadata", {})["owner"] = ctx.user.identity
    return {"owner": ctx.user.identity}
