"""Credentials of agents and of applications."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Dict, Iterator, Mapping, Optional

from ._resource import Resource, at, given, instant
from ._transport import Effect
from .models import Credential, Deleted, NewCredential


class Credentialed(Resource):
    """A noun whose members have credentials."""

    _path: str

    def create_credential(
        self,
        id: str,
        *,
        jwks: Optional[Mapping[str, Any]] = None,
        jwks_uri: Optional[str] = None,
        expires_at: Optional[datetime] = None,
        idempotency_key: Optional[str] = None,
    ) -> NewCredential:
        """Makes one more secret, which is in the answer, once; or registers public keys for ``private_key_jwt`` in its
        place: one JWK or a set (RFC 7517), or the address where the holder publishes them. Without ``expires_at`` it
        never expires."""
        keys = None if jwks is None else dict(jwks)
        body: Dict[str, Any] = given({"jwks": keys, "jwks_uri": jwks_uri, "expires_at": instant(expires_at)})
        return self._write(NewCredential, "POST", at(self._path, id, "credentials"), body, key=idempotency_key)

    def credentials(self, id: str) -> Iterator[Credential]:
        """Lists credentials, without their secrets."""
        return self._all(Credential, at(self._path, id, "credentials"), {}, None)

    def revoke_credential(
        self,
        id: str,
        credential_id: str,
        *,
        reason: Optional[str] = None,
        wait: Optional[str] = None,
        timeout_seconds: Optional[int] = None,
    ) -> Deleted:
        """Removes a credential and ends every token that was asked for with it."""
        path = at(self._path, id, "credentials", credential_id)
        return self._stop(Deleted, "DELETE", path, wait, timeout_seconds, query={"reason": reason}, effect=Effect.WRITE)
