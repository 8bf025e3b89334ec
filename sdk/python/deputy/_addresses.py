"""Where nodes are."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Iterable, Tuple, Union
from urllib.parse import urlsplit

from .errors import ConfigurationError

MAX_ADDRESSES = 16  # more nodes belong behind a name or a load balancer

_DEFAULT_PORT = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Address:
    """One node's address, taken apart."""

    scheme: str
    host: str  # without the brackets of IPv6
    port: int
    path: str

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == _DEFAULT_PORT[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"


def parse(text: str) -> Address:
    """Reads a URL, or host:port. A bare loopback address means http, any other https: a secret never crosses a
    network in clear text because a scheme was left out."""
    text = text.strip()
    if text and "://" not in text:
        text = ("http://" if is_loopback(_host_of(text)) else "https://") + text
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
        (host or "").encode("idna")  # what a look-up would stumble over later
    except ValueError:
        parts, host, port = None, None, None
    if parts is None or parts.scheme not in _DEFAULT_PORT or not host or host.split() != [host]:
        # An address may hold a password by mistake, so that it is only shown where it can't.
        shown = "what was given" if "@" in text else repr(text)
        raise ConfigurationError(f"{shown} is not the address of a node; give one such as http://127.0.0.1:8401")
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError(f"the address of {host} holds more than scheme, host, port and path")
    return Address(parts.scheme, host, port or _DEFAULT_PORT[parts.scheme], parts.path.rstrip("/"))


def parse_all(texts: Union[str, Iterable[str]]) -> Tuple[Address, ...]:
    """Reads several addresses; a string holds them separated by commas."""
    if isinstance(texts, str):
        texts = texts.replace(",", " ").split()
    addresses = tuple(parse(text) for text in texts)
    if not addresses:
        raise ConfigurationError("no address of a node is given; set DEPUTY_ADDR, or give addresses=[…]")
    if len(addresses) > MAX_ADDRESSES:
        raise ConfigurationError(f"{len(addresses)} addresses are given; at most {MAX_ADDRESSES} are of use")
    return addresses


def is_loopback(host: str) -> bool:
    """Tells whether a name or an IP address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _host_of(text: str) -> str:
    try:
        return urlsplit("//" + text).hostname or ""
    except ValueError:
        return ""
