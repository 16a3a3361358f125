"""The review page's application: its parts put together, the guards at its door, and errors as pages."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse

from shared.errors import ExitCode, SynthwardError
from site_node.airlock.accounts import Accounts
from site_node.airlock.review_app import decisions, pages, picture_pages, sign_in_pages
from site_node.airlock.review_app.context import Context, SignInNeeded, render
from site_node.airlock.review_app.desk import Desk
from site_node.airlock.review_app.guards import HEADERS, check_caller, door
from site_node.airlock.review_app.sessions import Sessions
from site_node.cases import PrivateStore
from site_node.settings import Home

_HERE = Path(__file__).parent
_MOST_BYTES = 64 * 1024  # of a request's body: forms here hold a reason at most
_STATUS = {ExitCode.USAGE: 400, ExitCode.INPUT: 400, ExitCode.TRUST: 403, ExitCode.POLICY: 403, ExitCode.STATE: 409}


def create_app(home: Home, *, accounts: Accounts | None = None, sessions: Sessions | None = None) -> FastAPI:
    """The application of one site. accounts, sessions: others than the defaults, with a clock or costs of a test's.

    Raises settings.invalid where the settings would open it to others.
    """
    store = PrivateStore(home.private)
    sessions = sessions or Sessions(store)
    here = door(home.settings())
    app = FastAPI(title="Synthward review", docs_url=None, redoc_url=None, openapi_url=None)
    app.state.context = Context(here, accounts or Accounts(store), sessions, Desk(home, store, sessions))
    app.mount("/static", StaticFiles(directory=_HERE / "static"), name="static")
    for module in (sign_in_pages, pages, picture_pages, decisions):
        app.include_router(module.router)

    @app.middleware("http")
    async def guard(request: Request, go_on: Callable[[Request], Awaitable[Response]]) -> Response:
        try:
            check_caller(here, request.headers, request.client.host if request.client else "")
            length = request.headers.get("content-length", "")
            if request.method not in ("GET", "HEAD") and not (length.isdigit() and int(length) <= _MOST_BYTES):
                raise SynthwardError("review.form", "the form is larger than any of this page's forms")
            response = await go_on(request)
        except SynthwardError as error:
            response = _error_page(request, error)
        for name, value in HEADERS.items():
            response.headers[name] = value
        return response

    @app.exception_handler(SynthwardError)
    def told(request: Request, error: SynthwardError) -> Response:
        if error.code == "airlock.unknown":  # its own advice is for the command line
            error = SynthwardError(error.code, "there is no such release", do="go to the queue")
        return _error_page(request, error)

    @app.exception_handler(SignInNeeded)
    def sign_in_needed(_request: Request, _error: SignInNeeded) -> Response:
        return RedirectResponse("/sign-in", status_code=303)

    @app.exception_handler(RequestValidationError)
    @app.exception_handler(HTTPException)
    def not_here(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 404
        if status in (404, 405):
            return _error_page(request, SynthwardError("review.page", "there is no such page", do="go to the queue"))
        return _error_page(request, SynthwardError("review.form", "the form is none of this page's forms"))

    @app.exception_handler(Exception)
    async def broken(request: Request, _error: Exception) -> Response:
        structlog.get_logger().error("the review page failed", exc_info=True)
        response = _error_page(
            request,
            SynthwardError("internal", "something went wrong on our side", do="tell your administrator the time"),
        )
        for name, value in HEADERS.items():  # this handler answers outside the guard
            response.headers[name] = value
        return response

    return app


def _error_page(request: Request, error: SynthwardError) -> Response:
    status = 404 if error.code in ("review.page", "airlock.unknown") else _STATUS.get(error.exit_code, 500)
    return render(request, "error.html", session=None, status=status, error=error)
