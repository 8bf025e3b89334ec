"""What to ask and as whom, as the environment says it: in the same way as for the ``deputy`` command."""

from __future__ import annotations

import json
import os
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Mapping, Optional, Tuple

from . import _addresses
from ._addresses import Address
from .errors import ConfigurationError

ENV_ADDRESS = "DEPUTY_ADDR"
ENV_TOKEN = "DEPUTY_TOKEN"
ENV_CLIENT_ID = "DEPUTY_CLIENT_ID"
ENV_CLIENT_SECRET = "DEPUTY_CLIENT_SECRET"

DEFAULT_ADDRESS = "http://127.0.0.1:8401"


@dataclass(frozen=True)
class Credentials:
    """An agent's or an application's own: its id and a secret. The secret is never shown."""

    client_id: str
    client_secret: str = field(repr=False)

    def __post_init__(self) -> None:
        if not self.client_id or not self.client_secret:
            raise ConfigurationError("credentials need a client_id and a client_secret")


@dataclass(frozen=True)
class Settings:
    """All that the environment says."""

    addresses: Tuple[Address, ...]
    token: Optional[str] = field(default=None, repr=False)
    credentials: Optional[Credentials] = None


def from_environment(environ: Mapping[str, str]) -> Settings:
    """Reads DEPUTY_ADDR, DEPUTY_TOKEN, DEPUTY_CLIENT_ID and DEPUTY_CLIENT_SECRET. Where the first or the second
    is not set, a running ``deputy server --dev`` of the same user is found by itself."""
    texts = environ.get(ENV_ADDRESS, "")
    token = environ.get(ENV_TOKEN, "").strip() or None
    addresses = _addresses.parse_all(texts) if texts.strip(" ,") else ()
    if not addresses or token is None:
        dev = _read_dev_access(environ)
        if dev is not None:
            dev_address, dev_token = dev
            addresses = addresses or (dev_address,)
            # The development node's token is only for that node: it is never shown to anybody else.
            if token is None and addresses == (dev_address,):
                token = dev_token
    client_id, client_secret = environ.get(ENV_CLIENT_ID, ""), environ.get(ENV_CLIENT_SECRET, "").strip()
    return Settings(
        addresses=addresses or (_addresses.parse(DEFAULT_ADDRESS),),
        token=token,
        credentials=Credentials(client_id, client_secret) if client_id and client_secret else None,
    )


def _read_dev_access(environ: Mapping[str, str]) -> Optional[Tuple[Address, str]]:
    path = _config_folder(environ)
    if path is None:
        return None
    path = path / "deputy" / "dev.json"
    try:
        mode = path.stat().st_mode
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except OSError as e:
        raise ConfigurationError(f"{path} can't be read: {e.strerror}") from None
    if os.name == "posix" and stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(f"{path} holds a token and others can read it; remove it, or chmod 600 it")
    try:
        access = json.loads(text)
        address, token = access["address"], access["token"]
        if not isinstance(address, str) or not isinstance(token, str):
            raise TypeError
        return _addresses.parse(address), token
    except (ValueError, KeyError, TypeError, ConfigurationError):
        raise ConfigurationError(f"{path} is damaged; remove it") from None


def _config_folder(environ: Mapping[str, str]) -> Optional[Path]:
    """The user's configuration folder, at the place where the command has it."""
    if sys.platform == "win32":
        variable, below = "APPDATA", ()
    elif sys.platform == "darwin":
        variable, below = "HOME", ("Library", "Application Support")
    elif environ.get("XDG_CONFIG_HOME"):
        variable, below = "XDG_CONFIG_HOME", ()
    else:
        variable, below = "HOME", (".config",)
    root = environ.get(variable)
    # A user without such a folder, such as a service's, has no development node either.
    return Path(root, *below) if root and Path(root).is_absolute() else None
