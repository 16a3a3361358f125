"""Signing in and out: by name and password, or by the name in the hospital's proxy's header where the settings say."""

from __future__ import annotations

import secrets

from fastapi import APIRouter, Request, Response
from starlette.concurrency import run_in_threadpool

from shared.errors import SynthwardError
from site_node.airlock.review_app.context import (
    Context,
    Fields,
    Parts,
    SignedIn,
    context_of,
    form_fields,
    render,
    session_of,
    to,
)
from site_node.airlock.review_app.guards import check_form, proxy_user
from site_node.airlock.review_app.sessions import form_token

router = APIRouter()
_NOT_A_STEWARD = "your administrator names stewards in policy.toml, if the hospital agrees"


@router.get("/sign-in")
def show(request: Request, context: Parts) -> Response:
    """The form; behind a proxy that signs in, the session at once."""
    if session_of(request) is not None:
        return to("/")
    if context.door.user_header:
        return _begin(request, context, proxy_user(context.door, request.headers), "proxy")
    return _form(request, context)


@router.post("/sign-in")
async def sign_in(request: Request) -> Response:
    """Checks name and password. The token is of a cookie that the form came with: nobody signs another browser in."""
    context = context_of(request)
    if context.door.user_header:
        raise SynthwardError("review.page", "there are no passwords here", do="open the queue")
    fields = await form_fields(request)
    before = request.cookies.get(_before(context), "")
    expected = form_token(before) if before else secrets.token_hex()
    check_form(context.door, request.headers, given=fields.get("token", ""), expected=expected)
    return await run_in_threadpool(_check, request, context, fields)


@router.post("/sign-out")
def sign_out(context: Parts, session: SignedIn, _fields: Fields) -> Response:
    """Ends the session."""
    context.sessions.end(session)
    answer = to("/sign-in")
    answer.delete_cookie(context.door.cookie, path="/", secure=context.door.secure, httponly=True, samesite="strict")
    return answer


def _check(request: Request, context: Context, fields: dict[str, str]) -> Response:
    name = fields.get("name", "").strip()
    try:
        context.accounts.authenticate(name, fields.get("password", ""))
        return _begin(request, context, name, "password")
    except SynthwardError as error:
        if error.code not in ("steward.password", "steward.waits"):
            raise
        return _form(request, context, error=error, name=name, status=429 if error.code == "steward.waits" else 403)


def _begin(request: Request, context: Context, name: str, how: str) -> Response:
    if name not in context.desk.policy.stewards:
        who = f"{name} is" if name else "nobody is"
        raise SynthwardError("policy.steward", f"{who} named as a steward here", do=_NOT_A_STEWARD)
    old = request.cookies.get(context.door.cookie)
    session = context.sessions.begin(name, instead_of=old, how=how)
    answer = to("/")
    _set_cookie(answer, context, context.door.cookie, session.token)
    answer.delete_cookie(_before(context), path="/", secure=context.door.secure, httponly=True, samesite="strict")
    return answer


def _form(
    request: Request, context: Context, *, error: SynthwardError | None = None, name: str = "", status: int = 200
) -> Response:
    before = request.cookies.get(_before(context)) or secrets.token_urlsafe(32)
    answer = render(
        request, "sign_in.html", session=None, status=status, token=form_token(before), error=error, name=name[:40]
    )
    _set_cookie(answer, context, _before(context), before)
    return answer


def _before(context: Context) -> str:
    return f"{context.door.cookie}-form"


def _set_cookie(answer: Response, context: Context, name: str, value: str) -> None:
    # Without an age, so that it goes with the browser; the server's own limits hold in any case.
    answer.set_cookie(name, value, path="/", secure=context.door.secure, httponly=True, samesite="strict")
