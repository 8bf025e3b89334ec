"""Everything that the Python client can do, at a node that holds what directory_test.go put there."""

import json
import os
from datetime import datetime, timezone

import deputy

GMAIL = deputy.Credentials("gmail", os.environ["GMAIL_SECRET"])
INBOX = deputy.Credentials("inbox-assistant", os.environ["INBOX_SECRET"])
DRAFTER = deputy.Credentials("draft-writer", os.environ["DRAFTER_SECRET"])
USER = "user@company.com"
ID_TOKEN = os.environ["ID_TOKEN"]  # of fourth@company.com


def refused(code, kind, call, *arguments, **options):
    try:
        call(*arguments, **options)
    except kind as e:
        assert e.code == code, e
        assert e.request_id and e.detail, vars(e)
        return e
    raise AssertionError(f"it was to be refused: {code}")


def provisioning(c):
    app = c.applications.create("jira", audience="https://jira.example", scopes=["jira.read"], tags=["production-write"])
    assert c.applications.get("jira") == app
    assert app.verification == "online" and app.tags == ["production-write"]
    assert [a.id for a in c.applications.list(page_size=1)] == ["gmail", "jira", "zendesk"]
    assert c.applications.update("jira", {"description": "tickets"}).description == "tickets"

    agent = c.agents.create(
        "release-notes",
        description="Writes what has changed",
        owner_group="docs",
        agent_type="scheduled",
        default_scopes=["jira.read"],
        max_session_duration_seconds=600,
        groups=["writers"],
        labels={"team": "docs"},
        with_secret=True,
    )
    assert agent.credential.client_id == agent.id and agent.credential.client_secret not in repr(agent)
    e = refused("already-exists", deputy.AlreadyExists, c.agents.create, "release-notes")
    assert e.status == 409
    again = c.agents.create("twice", idempotency_key="k-1"), c.agents.create("twice", idempotency_key="k-1")
    assert again[0] == again[1], "the same key and body give the same answer"
    own = deputy.Credentials(agent.id, agent.credential.client_secret)
    refused("application-not-assigned", deputy.Refused, c.agents.create_session, agent.id, credentials=own)
    agent = c.agents.update(agent.id, {"applications": ["jira"]})
    assert agent.applications == ["jira"] and agent.profile.owner_group == "docs"
    token = c.tokens.client_credentials(trigger_reason="nightly", max_duration_seconds=120, credentials=own)
    assert token.scopes == ["jira.read"] and token.expires_in == 120
    assert 0 < (token.expires_at - datetime.now(timezone.utc)).total_seconds() <= 120

    second = c.agents.create_credential(agent.id)
    assert {held.id for held in c.agents.credentials(agent.id)} == {agent.credentials[0].id, second.id}
    assert c.agents.revoke_credential(agent.id, agent.credentials[0].id, reason="leaked").committed
    refused("invalid_client", deputy.Unauthenticated, c.tokens.client_credentials, credentials=own)
    session = c.agents.create_session(agent.id, credentials=deputy.Credentials(agent.id, second.client_secret))
    assert session.principal_user_id is None and session.expires_in == 600

    assert "twice" in [a.id for a in c.agents.list(page_size=2)]
    assert c.agents.suspend("twice", reason="test").agent.status == "suspended"
    assert c.agents.activate("twice").agent.status == "active"
    assert c.agents.deactivate("twice").agent.status == "deactivated"
    assert c.agents.delete("twice", wait="fenced").fenced
    refused("not-found", deputy.NotFound, c.agents.get, "twice")
    refused("validation-failed", deputy.Refused, c.agents.create, "No Name")
    assert c.applications.delete("jira").committed


def lending(c):
    principal = c.principals.create("other@company.com", display_name="Other", groups=["sales"])
    assert c.principals.get(principal.id) == principal
    assert c.principals.update(principal.id, {"display_name": "Somebody"}).display_name == "Somebody"
    refused("delegation-missing", deputy.Refused, c.agents.create_session, "inbox-assistant", USER, credentials=INBOX)
    lent = c.delegations.create(USER, "inbox-assistant", ["gmail.read"], 3600, reason="asked for", ensure_principal=True)
    assert lent.status == "active" and c.delegations.get(lent.id) == lent
    assert [d.id for d in c.delegations.list(agent="inbox-assistant", active=True)] == [lent.id]
    assert [d.id for d in c.principals.delegations(USER)] == [lent.id]
    assert USER in [p.id for p in c.principals.list()]

    session = c.agents.create_session("inbox-assistant", USER, ["gmail.read"], credentials=INBOX)
    assert session.delegation_id == lent.id and session.principal_user_id == USER
    e = refused("scope-not-allowed", deputy.Refused, c.agents.create_session, "inbox-assistant", USER, ["gmail.send"])
    assert e.status == 403
    found = c.tokens.introspect(session.access_token, credentials=GMAIL)
    assert found.allows("gmail.read") and not found.allows("gmail.send")
    assert (found.subject, found.actors, found.session_id) == (USER, ["inbox-assistant"], session.session_id)
    assert abs((found.expires_at - session.expires_at).total_seconds()) < 1
    assert c.delegations.withdraw(lent.id, reason="no more").committed
    assert not c.tokens.introspect(session.access_token, credentials=GMAIL).active
    refused("delegation-withdrawn", deputy.Refused, c.agents.create_session, "inbox-assistant", USER, credentials=INBOX)
    assert c.principals.delete(principal.id).known


def stopping(c):
    def fresh():
        return c.agents.create_session("inbox-assistant", "third@company.com", ["gmail.read"])

    session = fresh()
    assert not c.sessions.get(session.session_id).revoked
    ended = c.sessions.end(session.session_id, reason="INC-42", wait="fenced", timeout_seconds=20)
    assert ended.fenced and ended.handles == [session.session_id], ended
    assert c.sessions.get(session.session_id).revocation["reason"] == "INC-42"

    session = fresh()
    c.tokens.revoke(session.access_token, credentials=INBOX)
    c.tokens.revoke("nonsense", credentials=INBOX)
    assert not c.tokens.introspect(session.access_token, credentials=GMAIL).active

    session = fresh()
    dry = c.agents.revoke("inbox-assistant", dry_run=True)
    assert dry.dry_run and dry.active_delegations == 1 and not dry.committed
    assert c.tokens.introspect(session.access_token, credentials=GMAIL).active
    assert c.agents.kill("inbox-assistant", keep_active=True).status == "active"
    assert not c.tokens.introspect(session.access_token, credentials=GMAIL).active
    kill = c.agents.kill("inbox-assistant", reason="INC-42")
    assert kill.fenced and kill.committed and kill.status == "suspended" and kill.nodes[0].state == "fenced"
    assert kill.validators_until <= kill.offline_until
    refused("agent-suspended", deputy.Refused, fresh)
    c.agents.activate("inbox-assistant")

    session = fresh()
    assert c.principals.revoke("third@company.com", reason="left").committed
    assert not c.tokens.introspect(session.access_token, credentials=GMAIL).active
    assert c.principals.kill("third@company.com").fenced


def exchanging(c):
    lent = c.delegations.create("fourth@company.com", "inbox-assistant", ["gmail.read", "gmail.draft"], 3600, ensure_principal=True)
    parent = c.tokens.for_delegation(lent.id, credentials=INBOX)
    assert parent.issued_token_type.endswith("access_token") and parent.scopes == ["gmail.draft", "gmail.read"]
    child = c.tokens.for_sub_agent(parent.access_token, scopes=["gmail.read"], credentials=DRAFTER)
    assert child.expires_at.timestamp() <= parent.expires_at.timestamp() + 1
    found = c.tokens.introspect(child.access_token, credentials=GMAIL)
    assert (found.subject, found.actors) == ("fourth@company.com", ["draft-writer", "inbox-assistant"])
    assert found.scopes == ["gmail.read"]
    c.sessions.end(parent.session_id)
    many = c.tokens.introspect_many([child.access_token, "nonsense", parent.access_token], credentials=GMAIL)
    assert [answer.active for answer in many] == [False] * 3

    token = c.tokens.for_user(ID_TOKEN, scopes=["gmail.read"], credentials=INBOX)
    many = c.tokens.introspect_many(["nonsense", token.access_token], credentials=GMAIL)
    assert [answer.subject for answer in many] == ["", "fourth@company.com"]
    assert [d.id for d in c.delegations.mine(ID_TOKEN, active=True)] == [lent.id]
    assert c.delegations.withdraw_mine(ID_TOKEN, lent.id, wait="fenced").fenced
    assert not c.tokens.introspect(token.access_token, credentials=GMAIL).active
    keys = c.agents.create_credential("draft-writer", jwks=json.loads(os.environ["JWKS"]))
    assert keys.kind == "private_key_jwt" and not keys.client_secret and keys.jwks["keys"][0]["crv"] == "P-256"


def listing(c):
    for i in range(3):
        c.agents.create_session("support-triage-agent", trigger_reason=f"run {i}")
    walk = c.sessions.list(agent="support-triage-agent", active=True, page_size=2)
    running = list(walk)
    assert walk.complete and not walk.missing and walk.nodes
    assert sorted(s.trigger_reason for s in running) == ["run 0", "run 1", "run 2"], running
    assert running[0].chain == ["support-triage-agent"] and running[0].principal_user_id is None
    state = c.sessions.get(running[0].session_id)
    assert state.known and state.trigger_reason == running[0].trigger_reason and not state.revoked
    c.sessions.end(running[0].session_id)
    assert len(list(c.sessions.list(agent="support-triage-agent", active=True))) == 2
    assert c.sessions.end_all(agent="support-triage-agent", dry_run=True).count.sessions == 2
    assert c.sessions.end_all(agent="support-triage-agent", reason="INC-42", wait="fenced").fenced
    assert not list(c.sessions.list(agent="support-triage-agent", active=True))
    c.agents.create_session("support-triage-agent")  # who may start anew


with deputy.Client.from_environment() as client:
    provisioning(client)
    lending(client)
    stopping(client)
    exchanging(client)
    listing(client)
    assert client.index > 0
with deputy.Client(os.environ["DEPUTY_ADDR"], "dpt_wrong") as client:
    refused("unauthenticated", deputy.Unauthenticated, client.agents.get, "a")
print("done")
