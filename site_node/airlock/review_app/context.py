"""What the pages share: the site's desk, who is signed in, and how a template becomes an answer."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from fastapi import Depends, Request, Response
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import HTMLResponse, RedirectResponse

from shared.errors import SynthwardError
from site_node.airlock.accounts import Accounts
from site_node.airlock.policies import MAX_WORDS
from site_node.airlock.review_app import words
from site_node.airlock.review_app.desk import Desk
from site_node.airlock.review_app.guards import Door, check_form, proxy_user
from site_node.airlock.review_app.sessions import Session, Sessions

_templates = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_templates.globals["words"] = words
_templates.filters["count"] = lambda number, noun: f"{number:,} {noun}" + ("" if number == 1 else "s")
_templates.filters["moment"] = lambda at: at[:16].replace("T", " ") + " UTC"


@dataclass(frozen=True)
class Context:
    """The parts of one running review page."""

    door: Door
    accounts: Accounts
    sessions: Sessions
    desk: Desk


class SignInNeeded(Exception):
    """Nobody is signed in, or not any more."""


def context_of(request: Request) -> Context:
    """The application's parts."""
    context: Context = request.app.state.context
    return context


def session_of(request: Request) -> Session | None:
    """Who is signed in: by the cookie, still a steward, and behind a proxy that signs in, still the one it names."""
    context = context_of(request)
    session = context.sessions.find(request.cookies.get(context.door.cookie))
    if session is None or session.name not in context.desk.policy.stewards:
        return None
    if context.door.user_header and proxy_user(context.door, request.headers) != session.name:
        return None
    return session


def signed_in(request: Request) -> Session:
    """The session. Raises SignInNeeded."""
    session = session_of(request)
    if session is None:
        raise SignInNeeded
    return session


async def sent_form(request: Request) -> dict[str, str]:
    """A form's fields, after its origin and its token were checked. Raises SignInNeeded or review.forged."""
    session = signed_in(request)
    fields = await form_fields(request)
    check_form(context_of(request).door, request.headers, given=fields.get("token", ""), expected=session.form_token)
    return fields


async def form_fields(request: Request) -> dict[str, str]:
    """A form's fields as text; a file or a field that comes twice is none of ours."""
    sent = await request.form(max_files=0, max_fields=10)
    fields = {name: value for name, value in sent.items() if isinstance(value, str)}
    if len(fields) != len(sent.multi_items()):
        raise SynthwardError("review.form", "the form is none of this page's forms")
    return fields


Parts = Annotated[Context, Depends(context_of)]
SignedIn = Annotated[Session, Depends(signed_in)]
Fields = Annotated[dict[str, str], Depends(sent_form)]


def text_of(fields: dict[str, str], name: str, what: str) -> str:
    """A text that somebody must have written. Raises review.form."""
    text = " ".join(fields.get(name, "").split())
    if not text:
        raise SynthwardError("review.form", f"{what} is missing", do="go back and write it")
    if len(text) > MAX_WORDS:
        raise SynthwardError("review.form", f"{what} is longer than {MAX_WORDS} characters", do="go back, shorten it")
    return text


def render(
    request: Request, template: str, *, session: Session | None, status: int = 200, **values: Any
) -> Response:  # fmt: skip
    """A page. session: who is named in its head; None for a page that must not depend on anything, such as an error."""
    context = context_of(request)
    page = _templates.get_template(template).render(
        site=context.desk.site, session=session, proxied=bool(context.door.user_header), **values
    )
    return HTMLResponse(page, status_code=status)


def to(path: str) -> Response:
    """Sends the browser to a page of ours, after a form."""
    return RedirectResponse(path, status_code=303)
