"""Spyne on Twisted: the transport that takes a request through the Application, and waits.

Spyne's own Twisted transport does not import with a current Twisted; this one does what is
needed here over the same `ServerBase`: a request is answered once its Deferred fires.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from spyne import Fault
from spyne.context import MethodContext
from spyne.server import ServerBase
from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from receiptd.soap.service import SmsApplication, SoapPost

_log = Logger(namespace="receiptd.soap")

INTERNAL_ERROR = "something went wrong here; the log says what"


class Response(NamedTuple):
    """An envelope to send, and the fault in it where there is one."""

    envelope: bytes
    fault: Fault | None


class _Context(MethodContext):  # type: ignore[misc]
    """A context that takes what is set on it without asking each time whether it may."""

    __setattr__ = object.__setattr__


class _Unheard(_Context):
    """A context of whose events nobody wants to hear, as by default: a call has five."""

    def fire_event(self, event: str, *args: Any, **kwargs: Any) -> None:
        """Nothing."""

    def close(self) -> None:
        """No file is open, and Python collects its garbage when it will."""
        self.is_closed = True


class SoapTransport(ServerBase):  # type: ignore[misc]
    """Takes SOAP bodies through the Application."""

    transport = "http://schemas.xmlsoap.org/soap/http"

    def __init__(self, application: SmsApplication) -> None:
        super().__init__(application)
        # A context has some seventy attributes, and setting them costs more than parsing the
        # request. Here they are the class's, and a context has but those that were set on it.
        attributes = dict(vars(_Context(self, MethodContext.SERVER)))
        self._heard = type("Heard", (_Context,), attributes)
        self._unheard = type("Unheard", (_Unheard,), attributes)

    def submit(self, body: bytes, charset: str | None, post: SoapPost) -> Deferred[Response]:
        """Run one request; fires with its response once the service method's Deferred has fired.

        :param charset: the Content-Type's.
        """
        ctx = self._context()
        ctx.in_string = (body,)
        ctx.udc = post
        (ctx,) = self.generate_contexts(ctx, charset)
        if ctx.in_error is None:
            self.get_in_object(ctx)
        if ctx.in_error is None:
            self.get_out_object(ctx)
        if ctx.out_error is None and isinstance(ctx.out_object, Deferred):
            returned: Deferred[Any] = ctx.out_object
            return returned.addCallbacks(self._returned, self._failed, (ctx,), {}, (ctx,))
        return succeed(self._response(ctx))

    def fault(self, fault: Fault) -> bytes:
        """The envelope of a fault that no request has led to."""
        ctx = self._context()
        ctx.out_error = fault
        return self._response(ctx).envelope

    def _context(self) -> Any:
        """A fresh context."""
        kind: Any = self._heard if self.app.has_listeners else self._unheard
        ctx = kind.__new__(kind)
        ctx.files, ctx.pusher_stack = [], []
        return ctx

    def _returned(self, result: Any, ctx: Any) -> Response:
        ctx.out_object = result
        return self._response(ctx)

    def _failed(self, failure: Failure, ctx: Any) -> Response:
        error = failure.value
        if not isinstance(error, Fault):
            _log.failure(
                "the service method failed",
                failure=failure,
                request_id=ctx.udc.origin.request_id,
            )
            error = Fault("Server", INTERNAL_ERROR)
        ctx.out_object, ctx.out_error = None, error
        ctx.fire_event("method_exception_object")
        return self._response(ctx)

    def _response(self, ctx: Any) -> Response:
        self.get_out_string(ctx)
        if ctx.out_error is not None:
            # By its traceback, and by that of what it was raised for, the fault would keep the
            # context, and so itself and the body, until garbage is collected.
            ctx.out_error.__traceback__ = ctx.out_error.__context__ = None
        response = Response(ctx.out_string[0], ctx.out_error)
        ctx.close()
        return response
