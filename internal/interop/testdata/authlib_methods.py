"""Gets a token in each way of client authentication that the node lists, and asks about it as an application.

Reads from standard input what to use, writes to standard output what came of it, both as JSON.
"""

import json
import sys

import requests
from authlib.integrations.requests_client import OAuth2Session, OAuthError
from authlib.oauth2.rfc7523 import PrivateKeyJWT, private_key_jwt_sign

plan = json.load(sys.stdin)
metadata = requests.get(plan["deputy"] + "/.well-known/oauth-authorization-server", timeout=30).json()
token_endpoint = metadata["token_endpoint"]


class ShortLived(PrivateKeyJWT):
    """By itself authlib makes assertions that are good for an hour."""

    def sign(self, auth, token_endpoint):
        return private_key_jwt_sign(
            auth.client_secret, client_id=auth.client_id, token_endpoint=token_endpoint, alg=self.alg, expires_in=60
        )


def session(method, secret):
    made = OAuth2Session(plan["agent"], secret, token_endpoint_auth_method=method, scope="zendesk.tickets.read")
    if method == "private_key_jwt":
        made.register_client_auth_method(ShortLived(token_endpoint, alg="ES256"))
    return made


def introspect(method, token):
    asking = OAuth2Session("zendesk", plan["zendesk_secret"], token_endpoint_auth_method=method)
    answer = asking.introspect_token(metadata["introspection_endpoint"], token=token, token_type_hint="access_token")
    answer.raise_for_status()
    return answer.json()


outcome = {}
for method in plan["methods"]:
    secret = plan["agent_key"] if method == "private_key_jwt" else plan["agent_secret"]
    token = session(method, secret).fetch_token(token_endpoint, grant_type="client_credentials")
    asking = "client_secret_basic" if method == "private_key_jwt" else method
    outcome[method] = {"token": token, "introspection": introspect(asking, token["access_token"])}

try:
    session("client_secret_basic", "dps_wrong").fetch_token(token_endpoint, grant_type="client_credentials")
except OAuthError as e:
    outcome["wrong secret"] = {"error": e.error}

# RFC 7009, as the agent itself: its session ends, and the application hears it.
ended = outcome["client_secret_basic"]["token"]["access_token"]
session("client_secret_basic", plan["agent_secret"]).revoke_token(
    metadata["revocation_endpoint"], token=ended
).raise_for_status()
outcome["revoked"] = {"introspection": introspect("client_secret_basic", ended)}

json.dump(outcome, sys.stdout)
