"""Tokens, the OAuth way."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any, List, Optional, Tuple

from . import errors
from ._reading import build
from ._resource import Names, Resource, names, scopes_wanted
from ._settings import Credentials
from ._transport import Call, Effect, Identify
from .models import Introspection, Token

CLIENT_CREDENTIALS = "client_credentials"
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
DELEGATION = "urn:deputy:params:oauth:token-type:delegation"

MAX_BATCH = 100  # tokens in one introspect_many

Form = List[Tuple[str, str]]


class Tokens(Resource):
    """``deputy.tokens``, and ``tokens`` of a client.

    The caller is a client in OAuth's sense, an agent or an application: the one whose ``credentials`` are given, or
    else the client's own, from DEPUTY_CLIENT_ID and DEPUTY_CLIENT_SECRET.
    """

    def client_credentials(
        self,
        *,
        scopes: Optional[Names] = None,
        audience: Optional[Names] = None,
        resource: Optional[Names] = None,
        trigger_reason: Optional[str] = None,
        max_duration_seconds: Optional[int] = None,
        credentials: Optional[Credentials] = None,
    ) -> Token:
        """Gets a token for an autonomous session of the agent's own (RFC 6749 section 4.4). Without ``scopes`` it
        has all that the agent may get. ``audience`` names applications, ``resource`` audience URIs (RFC 8707)."""
        form = [("grant_type", CLIENT_CREDENTIALS)]
        return self._mint(form, scopes, audience, resource, trigger_reason, max_duration_seconds, credentials)

    def for_user(self, id_token: str, **options: Any) -> Token:
        """Gets a token for a user, proven by their ID token of a trusted issuer, under the delegation that they gave
        the agent. Options are those of :meth:`exchange`."""
        return self.exchange(id_token, ID_TOKEN, **options)

    def for_delegation(self, delegation_id: str, **options: Any) -> Token:
        """Gets a token under a delegation, by its id. Options are those of :meth:`exchange`."""
        return self.exchange(delegation_id, DELEGATION, **options)

    def for_sub_agent(self, parent_token: str, **options: Any) -> Token:
        """Gets a token for a sub-agent that runs under another agent's session: never with more scope or time than
        that has. The caller is the sub-agent, by its own credentials. Options are those of :meth:`exchange`."""
        return self.exchange(parent_token, ACCESS_TOKEN, **options)

    def exchange(
        self,
        subject_token: str,
        subject_token_type: str,
        *,
        actor_token: Optional[str] = None,
        actor_token_type: Optional[str] = None,
        requested_token_type: Optional[str] = None,
        scopes: Optional[Names] = None,
        audience: Optional[Names] = None,
        resource: Optional[Names] = None,
        trigger_reason: Optional[str] = None,
        max_duration_seconds: Optional[int] = None,
        nonce: Optional[str] = None,
        credentials: Optional[Credentials] = None,
    ) -> Token:
        """Exchanges one token for another (RFC 8693). ``nonce`` is what that of an ID token must be."""
        form = [
            ("grant_type", TOKEN_EXCHANGE),
            ("subject_token", subject_token),
            ("subject_token_type", subject_token_type),
        ]
        for name, value in (
            ("actor_token", actor_token),
            ("actor_token_type", actor_token_type),
            ("requested_token_type", requested_token_type),
            ("nonce", nonce),
        ):
            if value is not None:
                form.append((name, value))
        return self._mint(form, scopes, audience, resource, trigger_reason, max_duration_seconds, credentials)

    def introspect(self, token: str, *, credentials: Optional[Credentials] = None) -> Introspection:
        """Asks whether a token is good for the application whose credentials are used (RFC 7662).

        A node that can't vouch for its answer gives none: :class:`deputy.Unavailable` and
        :class:`deputy.Unreachable` mean that nobody knows, and that the token must not be taken.
        """
        form = [("token", token)]
        call = Call(
            "POST", "/oauth2/introspect", form=form, effect=Effect.READ, identify=Identify.CLIENT, credentials=credentials
        )
        return _introspected(self._sender.send(call).body)

    def introspect_many(self, tokens: Names, *, credentials: Optional[Credentials] = None) -> List[Introspection]:
        """Asks about up to 100 tokens at once; the answers are in the order of the tokens. See :meth:`introspect`."""
        asked = names("tokens", tokens) or []
        if not 0 < len(asked) <= MAX_BATCH:
            raise ValueError(f"{len(asked)} tokens are given; a node answers for 1 to {MAX_BATCH} at once")
        call = Call(
            "POST",
            "/oauth2/introspect/batch",
            body={"tokens": asked},
            effect=Effect.READ,
            identify=Identify.CLIENT,
            credentials=credentials,
        )
        answer = self._sender.send(call)
        results = answer.body.get("results") if isinstance(answer.body, dict) else None
        if not isinstance(results, list) or len(results) != len(asked):
            raise errors.BadAnswer(f"the answer of {answer.address} does not say how each of the tokens is")
        return [_introspected(result) for result in results]

    def revoke(self, token: str, *, credentials: Optional[Credentials] = None) -> None:
        """Ends the session of a token (RFC 7009): an agent one of its own, an application one that came to it. It
        succeeds for a token that is no good any more as well."""
        self._sender.send(
            Call(
                "POST",
                "/oauth2/revoke",
                form=[("token", token)],
                effect=Effect.STOP,
                identify=Identify.CLIENT,
                credentials=credentials,
            )
        )

    def _mint(
        self,
        form: Form,
        scopes: Optional[Names],
        audience: Optional[Names],
        resource: Optional[Names],
        trigger_reason: Optional[str],
        max_duration_seconds: Optional[int],
        credentials: Optional[Credentials],
    ) -> Token:
        wanted = scopes_wanted("scopes", scopes)
        if wanted:
            form.append(("scope", " ".join(wanted)))
        form += [("audience", name) for name in names("audience", audience) or ()]
        form += [("resource", uri) for uri in names("resource", resource) or ()]
        if trigger_reason is not None:
            form.append(("trigger_reason", trigger_reason))
        if max_duration_seconds is not None:
            form.append(("max_duration_seconds", str(max_duration_seconds)))
        answer = self._sender.send(
            Call(
                "POST", "/oauth2/token", form=form, effect=Effect.MINT, identify=Identify.CLIENT, credentials=credentials
            )
        )
        if not isinstance(answer.body, dict) or not isinstance(answer.body.get("expires_in"), int):
            raise errors.BadAnswer(f"the answer of {answer.address} is not that of a token endpoint")
        # Counted from before the request was sent: never later than the node means.
        asked = datetime.fromtimestamp(answer.asked_at, timezone.utc)
        return build(Token, {**answer.body, "expires_at": asked + timedelta(seconds=answer.body["expires_in"])})


def _introspected(body: Any) -> Introspection:
    answer = build(Introspection, body)
    if not isinstance(answer.active, bool):  # whoever answered "false" in quotes would else be taken for yes
        raise errors.BadAnswer("a node's answer to an introspection does not say whether the token is active")
    return answer
