"""The demo page's server: the standard library's, for this machine alone.

A page of another site that the same browser shows can send requests here as well. It is kept out by the names under
which it may ask (``Host``, against DNS rebinding) and by where the request comes from (``Origin``).
"""

from __future__ import annotations

import socket
import sys
import threading
from contextlib import ExitStack
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from urllib.parse import parse_qs, urlsplit

from bihrnet_edge.console import json_text
from bihrnet_edge.errors import UserError
from bihrnet_edge.runtimes.demo.models import DemoModels
from bihrnet_edge.runtimes.people import parse_box

ADDRESS = "127.0.0.1"
DEFAULT_PORT = 8017
#: Largest picture file that is taken.
MAX_BYTES = 32 * 2**20
#: Pictures that are received or wait for the models at once; each may take MAX_BYTES and its pixels.
_MAX_PICTURES = 3
_SECONDS_OF_SILENCE = 20.0
_MAX_PARAMETERS = 8
_PAGE = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/demo.css": ("demo.css", "text/css; charset=utf-8"),
    "/demo.js": ("demo.js", "text/javascript; charset=utf-8"),
    "/picture.js": ("picture.js", "text/javascript; charset=utf-8"),
}
_JSON = "application/json"
_HEADERS = {
    # Even if a text slipped into the page as HTML, a browser would load and run nothing but the page's own files.
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; "
        "media-src 'self' blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(self), microphone=(), geolocation=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class DemoServer(ThreadingHTTPServer):
    """Serves the page and the models' answers on this machine's loopback address; ``serve_forever`` runs it.

    Args:
        models: opened; the caller closes them.
        port: 0 takes a free one.

    Raises:
        UserError: the port is taken, or may not be used.
    """

    daemon_threads = True

    def __init__(self, models: DemoModels, port: int = DEFAULT_PORT) -> None:
        self.models = models
        folder = files("bihrnet_edge.runtimes.demo") / "page"
        self.page = {path: ((folder / name).read_bytes(), kind) for path, (name, kind) in _PAGE.items()}
        self.places = threading.BoundedSemaphore(_MAX_PICTURES)
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            raise UserError(f"cannot listen on {ADDRESS}:{port} ({reason}); choose another --port.") from error
        port = self.server_address[1]
        self.url = f"http://{ADDRESS}:{port}/"
        names = (ADDRESS, "localhost")
        self.hosts = {f"{name}:{port}" for name in names} | ({*names} if port == 80 else set())

    def handle_error(self, request: object, client_address: object) -> None:
        """Who goes away in the middle is no error."""
        if not isinstance(sys.exc_info()[1], (ConnectionError, TimeoutError)):
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    server: DemoServer
    connection: socket.socket
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "bihrnet-edge", ""
    timeout = _SECONDS_OF_SILENCE
    # Head and body go out as two writes; the second must not wait for the first one's acknowledgement.
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        if not self._is_ours():
            return
        path = urlsplit(self.path).path
        if path == "/models":
            self._send(HTTPStatus.OK, json_text({"models": self.server.models.describe(), "max_bytes": MAX_BYTES}))
        elif path in self.server.page:
            self._send(HTTPStatus.OK, *self.server.page[path])
        else:
            self._refuse(HTTPStatus.NOT_FOUND, "there is no such page; open /.")

    def do_POST(self) -> None:
        if not self._is_ours():
            return
        address = urlsplit(self.path)
        if address.path != "/predict":
            self._refuse(HTTPStatus.NOT_FOUND, "pictures go to /predict.")
            return
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "the request does not say how long the picture is.")
        elif int(length[:20]) > MAX_BYTES:
            limit = f"{MAX_BYTES // 2**20} MiB"
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"the picture file is larger than {limit}; make it smaller."
            )
        elif not self.server.places.acquire(blocking=False):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "other pictures are still being worked on; try again.")
        else:
            self._predict(int(length), address.query)

    def _predict(self, length: int, query: str) -> None:
        with ExitStack() as place:
            place.callback(self.server.places.release)
            data = self.rfile.read(length)
            if len(data) < length:  # the sender went away
                self.close_connection = True
                return
            try:
                with place:  # given back before the answer is out: its reader may send the next picture
                    text = parse_qs(query, max_num_fields=_MAX_PARAMETERS).get("box", [""])[-1]
                    answer = self.server.models.predict(data, parse_box(text, "the box") if text else None)
            except UserError as error:
                self._send(HTTPStatus.BAD_REQUEST, json_text({"error": str(error)}))
            except ValueError as error:  # too many parameters
                self._send(HTTPStatus.BAD_REQUEST, json_text({"error": f"the address is malformed ({error})."}))
            except Exception:  # ours: the page says so, the terminal shows where
                self._refuse(
                    HTTPStatus.INTERNAL_SERVER_ERROR, "the demo failed on this picture; its terminal says where."
                )
                raise
            else:
                self._send(HTTPStatus.OK, json_text(answer))

    def _is_ours(self) -> bool:
        """Whether the request is for this machine, and not from another site's page; refuses it otherwise."""
        hosts = self.headers.get_all("Host", [])
        origin = self.headers.get("Origin")
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST, f"this server answers to {self.server.url} only.")
            return False
        if origin is not None and origin.lower() not in {f"http://{host}" for host in self.server.hosts}:
            self._refuse(HTTPStatus.FORBIDDEN, "requests from other sites' pages are not answered.")
            return False
        return True

    def _refuse(self, status: HTTPStatus, sentence: str) -> None:
        """An error after which what is left of the request is not read."""
        self.close_connection = True
        self._send(status, json_text({"error": sentence}))

    def _send(self, status: HTTPStatus, content: str | bytes, kind: str = _JSON) -> None:
        body = content.encode() if isinstance(content, str) else content
        self.send_response(status)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *arguments: object) -> None:
        """The terminal is for what goes wrong."""
