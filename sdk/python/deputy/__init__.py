"""A client for Deputy, the identity layer for AI agents. It needs nothing but the standard library.

    import deputy

    session = deputy.agents.create_session(
        agent_id="support-triage-agent",
        principal_user_id=None,  # autonomous run
        requested_scopes=["zendesk.tickets.read", "zendesk.tickets.assign"],
        trigger_reason="scheduled run at 2026-04-17T08:00Z",
    )
    session.access_token  # for the tools that the agent calls

``deputy.agents``, ``deputy.sessions`` and the others ask the nodes in ``DEPUTY_ADDR`` (several, separated by commas)
with the API token in ``DEPUTY_TOKEN``, as the ``deputy`` command does. ``deputy.Client(addresses=[…], token=…)`` is
told explicitly.
"""

from ._agents import Agents
from ._applications import Applications
from ._client import Client, FromEnvironment
from ._delegations import Delegations
from ._principals import Principals
from ._sessions import Sessions, SessionWalk
from ._settings import Credentials
from ._tokens import Tokens
from ._version import __version__
from .errors import (
    AlreadyExists,
    BadAnswer,
    ConfigurationError,
    Error,
    NotFenced,
    NotFound,
    OutcomeUnknown,
    RateLimited,
    Refused,
    Unauthenticated,
    Unavailable,
    Unreachable,
)
from .models import (
    Agent,
    AgentStatus,
    Application,
    Credential,
    Delegation,
    Deleted,
    Introspection,
    Kill,
    NewCredential,
    Principal,
    Revocation,
    Session,
    SessionInfo,
    SessionsEnded,
    SessionState,
    Token,
)

_environment = FromEnvironment()

agents = Agents(_environment)
applications = Applications(_environment)
delegations = Delegations(_environment)
principals = Principals(_environment)
sessions = Sessions(_environment)
tokens = Tokens(_environment)

default_client = _environment.client

__all__ = [
    "Agent",
    "AgentStatus",
    "Agents",
    "AlreadyExists",
    "Application",
    "Applications",
    "BadAnswer",
    "Client",
    "ConfigurationError",
    "Credential",
    "Credentials",
    "Delegation",
    "Delegations",
    "Deleted",
    "Error",
    "Introspection",
    "Kill",
    "NewCredential",
    "NotFenced",
    "NotFound",
    "OutcomeUnknown",
    "Principal",
    "Principals",
    "RateLimited",
    "Refused",
    "Revocation",
    "Session",
    "SessionInfo",
    "SessionState",
    "SessionWalk",
    "Sessions",
    "SessionsEnded",
    "Token",
    "Tokens",
    "Unauthenticated",
    "Unavailable",
    "Unreachable",
    "__version__",
    "agents",
    "applications",
    "default_client",
    "delegations",
    "errors",
    "models",
    "principals",
    "sessions",
    "tokens",
]
