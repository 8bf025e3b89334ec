"""A stand-in for a node, on loopback: it answers what a test tells it to and keeps what it was asked."""

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple
from urllib.parse import parse_qsl, urlsplit

import deputy
from deputy._http import Connections

PROBLEM = "urn:deputy:problem:"


class Asked(NamedTuple):
    """One request that the node got."""

    method: str
    path: str
    query: dict
    headers: dict
    body: bytes
    connection: int  # which connection it came over

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def form(self):
        return parse_qsl(self.body.decode(), keep_blank_values=True)


class Node:
    """Answers with what was put into ``answers``, in that order, and with the last one from then on. An answer is a
    (status, body, headers) tuple, or a function that gets the handler and does what it likes."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.asked = []
        self._lock = threading.Lock()
        node = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *_):
                pass

            def handle_one_request(self):
                try:
                    super().handle_one_request()
                except (ConnectionError, ValueError):
                    self.close_connection = True  # the test has hung up

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                parts = urlsplit(self.path)
                asked = Asked(
                    self.command,
                    parts.path if self.path.startswith("/") else self.path,
                    dict(parse_qsl(parts.query)),
                    {k.lower(): v for k, v in self.headers.items()},
                    body,
                    self.client_address[1],
                )
                with node._lock:
                    node.asked.append(asked)
                    answer = node.answers.pop(0) if len(node.answers) > 1 else node.answers[0]
                if callable(answer):
                    answer(self)
                    return
                status, value, headers = answer
                self.say(status, value, headers)

            def say(self, status, value, headers):
                text = value if isinstance(value, bytes) else json.dumps(value).encode()
                self.send_response(status)
                for name, header in headers.items():
                    self.send_header(name, header)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()
        self.url = "http://127.0.0.1:%d" % self._server.server_address[1]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def last(self):
        return self.asked[-1]


def ok(body=None, status=200, **headers):
    """An answer that says yes."""
    return status, {} if body is None else body, {k.replace("_", "-"): v for k, v in headers.items()}


def problem(status, code, detail="no", **more):
    """An answer that says no, as RFC 9457 has it."""
    headers = more.pop("headers", {})
    body = {"type": PROBLEM + code, "title": "t", "status": status, "detail": detail, "instance": "req_7", **more}
    return status, body, {"Content-Type": "application/problem+json", "X-Request-Id": "req_7", **headers}


def oauth_error(status, error, description="no", **headers):
    """An answer that says no, as RFC 6749 has it."""
    return status, {"error": error, "error_description": description}, headers


def hang_up(handler):
    """Takes the request and closes the connection without a word."""
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def nobody():
    """An address at which nobody listens: the kernel has just given it away and taken it back."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return "http://127.0.0.1:%d" % s.getsockname()[1]


class Clock:
    """A clock that only moves when somebody sleeps."""

    def __init__(self):
        self.now = 1000.0
        self.slept = []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def client(*nodes, token="dpt_secret", clock=None, **options):
    """A client of stand-ins, or of addresses, whose pauses take no time."""
    addresses = [n if isinstance(n, str) else n.url for n in nodes]
    made = deputy.Client(addresses, token, **options)
    clock = clock or Clock()
    transport = made._transport
    transport._sleep, transport._clock = clock.sleep, clock
    transport._connections = Connections(clock=clock)
    return made


