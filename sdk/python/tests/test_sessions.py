"""Sessions and tokens: what is asked for, what comes back, and what is never shown."""

import copy
import logging
import pickle
import traceback
import unittest
from datetime import datetime, timedelta, timezone

import deputy

from .node import Node, client, hang_up, oauth_error, ok, problem

SECRET = "eyJ.top.secret"
SESSION = {
    "session_id": "ses_1",
    "access_token": SECRET,
    "token_type": "Bearer",
    "expires_at": "2026-04-17T12:00:00.000Z",
    "expires_in": 14400,
    "scope": "gmail.draft gmail.read",
    "agent_id": "inbox-assistant",
    "principal_user_id": "user@company.com",
    "delegation_id": "dlg_1",
}
TOKEN = {
    "access_token": SECRET,
    "token_type": "Bearer",
    "expires_in": 3600,
    "scope": "zendesk.tickets.read",
    "session_id": "ses_2",
}
AGENT = deputy.Credentials("support-triage-agent", "dps_agent:sec/ret")
APPLICATION = deputy.Credentials("zendesk", "dps_app")


class CreateSession(unittest.TestCase):
    def test_a_session_for_a_user(self):
        with Node(ok(SESSION, 201)) as node, client(node) as c:
            session = c.agents.create_session(
                agent_id="inbox-assistant",
                principal_user_id="user@company.com",
                requested_scopes=["gmail.read", "gmail.draft"],
                trigger_reason="user clicked 'summarize inbox'",
                max_duration_seconds=14400,
            )
            asked = node.last
        self.assertEqual((asked.method, asked.path, asked.query), ("POST", "/api/v1/sessions", {}))
        self.assertEqual(asked.headers["authorization"], "SSWS dpt_secret")
        self.assertEqual(asked.headers["content-type"], "application/json")
        self.assertEqual(
            asked.json,
            {
                "agent_id": "inbox-assistant",
                "principal_user_id": "user@company.com",
                "requested_scopes": ["gmail.read", "gmail.draft"],
                "trigger_reason": "user clicked 'summarize inbox'",
                "max_duration_seconds": 14400,
            },
        )
        self.assertEqual(session.access_token, SECRET)
        self.assertEqual(session.session_id, "ses_1")
        self.assertEqual(session.delegation_id, "dlg_1")
        self.assertEqual(session.principal_user_id, "user@company.com")
        self.assertEqual(session.scope, "gmail.draft gmail.read")
        self.assertEqual(session.scopes, ["gmail.draft", "gmail.read"])
        self.assertEqual(session.expires_at, datetime(2026, 4, 17, 12, tzinfo=timezone.utc))
        self.assertEqual(session.authorization, "Bearer " + SECRET)
        self.assertFalse(session.expired(datetime(2026, 4, 17, 11, 59, 59, tzinfo=timezone.utc)))
        self.assertTrue(session.expired(datetime(2026, 4, 17, 12, tzinfo=timezone.utc)))

    def test_an_autonomous_run(self):
        answer = {k: v for k, v in SESSION.items() if k != "delegation_id"}
        answer["principal_user_id"] = None
        with Node(ok(answer, 201)) as node, client(node) as c:
            session = c.agents.create_session(agent_id="a", principal_user_id=None)
            self.assertEqual(node.last.json, {"agent_id": "a"})
        self.assertIsNone(session.principal_user_id)
        self.assertIsNone(session.delegation_id)

    def test_the_agent_itself_may_ask(self):
        with Node(ok(SESSION, 201)) as node:
            with client(node, credentials=AGENT, token=None) as c:
                c.agents.create_session("a")
                self.assertTrue(node.last.headers["authorization"].startswith("Basic "))
            with client(node, credentials=AGENT) as c:
                c.agents.create_session("a")
                self.assertEqual(node.last.headers["authorization"], "SSWS dpt_secret", "the token comes first")
                c.sessions.create("a", credentials=AGENT)
                self.assertTrue(node.last.headers["authorization"].startswith("Basic "))

    def test_an_empty_list_of_scopes_is_not_taken_for_all_of_them(self):
        with Node(ok(SESSION, 201)) as node, client(node) as c:
            for scopes, error in (([], ValueError), ("gmail.read", TypeError), ([1], TypeError)):
                with self.assertRaises(error):
                    c.agents.create_session("a", requested_scopes=scopes)
            self.assertEqual(node.asked, [])

    def test_a_refusal_says_which_rule(self):
        refusal = problem(403, "delegation-missing", "there is none", hint="lend it", errors=[{"pointer": "/a", "detail": "b"}])
        with Node(refusal) as node, client(node) as c, self.assertRaises(deputy.Refused) as caught:
            c.agents.create_session("a", "u@x")
        e = caught.exception
        self.assertEqual((e.code, e.status, e.detail, e.hint), ("delegation-missing", 403, "there is none", "lend it"))
        self.assertEqual((e.request_id, e.address, e.errors), ("req_7", node.url, [("/a", "b")]))
        self.assertEqual(str(e), "there is none: /a b [delegation-missing, 403, req_7] (hint: lend it)")
        self.assertIsInstance(e, deputy.Error)


class Tokens(unittest.TestCase):
    def test_client_credentials(self):
        with Node(ok(TOKEN)) as node, client(node, credentials=AGENT) as c:
            before = datetime.now(timezone.utc)
            token = c.tokens.client_credentials(
                scopes=["zendesk.tickets.read", "b"],
                audience=["zendesk", "jira"],
                resource=["https://z"],
                trigger_reason="cron",
                max_duration_seconds=600,
            )
            after = datetime.now(timezone.utc)
            asked = node.last
        self.assertEqual((asked.method, asked.path), ("POST", "/oauth2/token"))
        self.assertEqual(asked.headers["content-type"], "application/x-www-form-urlencoded")
        # RFC 6749 section 2.3.1: both halves are form-encoded before they are joined.
        self.assertEqual(asked.headers["authorization"], "Basic c3VwcG9ydC10cmlhZ2UtYWdlbnQ6ZHBzX2FnZW50JTNBc2VjJTJGcmV0")
        self.assertEqual(
            asked.form,
            [
                ("grant_type", "client_credentials"),
                ("scope", "zendesk.tickets.read b"),
                ("audience", "zendesk"),
                ("audience", "jira"),
                ("resource", "https://z"),
                ("trigger_reason", "cron"),
                ("max_duration_seconds", "600"),
            ],
        )
        self.assertEqual((token.access_token, token.session_id), (SECRET, "ses_2"))
        hour = timedelta(seconds=3600)
        self.assertTrue(before + hour <= token.expires_at <= after + hour)

    def test_exchanges(self):
        answer = {**TOKEN, "issued_token_type": "urn:ietf:params:oauth:token-type:access_token"}
        grant = ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange")
        kind = "urn:ietf:params:oauth:token-type:"
        with Node(ok(answer)) as node, client(node, credentials=AGENT) as c:
            token = c.tokens.for_user("id.to.ken", scopes=["a"])
            self.assertEqual(
                node.last.form,
                [grant, ("subject_token", "id.to.ken"), ("subject_token_type", kind + "id_token"), ("scope", "a")],
            )
            self.assertEqual(token.issued_token_type, kind + "access_token")
            c.tokens.for_delegation("dlg_1")
            self.assertEqual(
                node.last.form,
                [
                    grant,
                    ("subject_token", "dlg_1"),
                    ("subject_token_type", "urn:deputy:params:oauth:token-type:delegation"),
                ],
            )
            c.tokens.for_sub_agent("parent", audience=["z"])
            self.assertEqual(
                node.last.form,
                [grant, ("subject_token", "parent"), ("subject_token_type", kind + "access_token"), ("audience", "z")],
            )
            c.tokens.exchange(
                "s", "urn:s", actor_token="a", actor_token_type="urn:a", requested_token_type="urn:r", nonce="n"
            )
            self.assertEqual(
                node.last.form[1:],
                [
                    ("subject_token", "s"),
                    ("subject_token_type", "urn:s"),
                    ("actor_token", "a"),
                    ("actor_token_type", "urn:a"),
                    ("requested_token_type", "urn:r"),
                    ("nonce", "n"),
                ],
            )

    def test_introspection(self):
        answer = {
            "active": True,
            "scope": "a b",
            "client_id": "sub",
            "token_type": "Bearer",
            "exp": 1795480277,
            "iat": 1795476677,
            "sub": "u@x",
            "aud": "https://z",
            "iss": "https://d",
            "jti": "j",
            "sid": "ses_1",
            "act": {"sub": "sub", "act": {"sub": "agent"}},
            "agent_type": "user-delegated",
            "cnf": {"jkt": "k"},
            "of_a_later_release": 1,
        }
        with Node(ok(answer), ok({**answer, "aud": ["https://z", "https://y"]}), ok({"active": False})) as node:
            with client(node) as c:
                found = c.tokens.introspect(SECRET, credentials=APPLICATION)
                self.assertEqual(node.last.form, [("token", SECRET)])
                self.assertEqual((found.subject, found.actors, found.audience), ("u@x", ["sub", "agent"], ["https://z"]))
                self.assertEqual(found.expires_at, datetime.fromtimestamp(1795480277, timezone.utc))
                self.assertEqual((found.session_id, found.confirmation), ("ses_1", {"jkt": "k"}))
                self.assertTrue(found.allows("a", "b"))
                self.assertFalse(found.allows("a", "c"))
                self.assertEqual(len(c.tokens.introspect(SECRET, credentials=APPLICATION).audience), 2)
                dead = c.tokens.introspect(SECRET, credentials=APPLICATION)
                self.assertFalse(dead.active)
                self.assertFalse(dead.allows())
                self.assertEqual(dead.scopes, [])

    def test_many_tokens_at_once(self):
        answer = {"results": [{"active": False}, {"active": True, "scope": "a"}]}
        with Node(ok(answer)) as node, client(node, credentials=APPLICATION) as c:
            self.assertEqual([i.active for i in c.tokens.introspect_many(["x", "y"])], [False, True])
            self.assertEqual((node.last.path, node.last.json), ("/oauth2/introspect/batch", {"tokens": ["x", "y"]}))
            self.assertTrue(node.last.headers["authorization"].startswith("Basic "))
            with self.assertRaises(deputy.BadAnswer):
                c.tokens.introspect_many(["x", "y", "z"])
            for tokens, error in (([], ValueError), (["x"] * 101, ValueError), ("x", TypeError)):
                with self.assertRaises(error):
                    c.tokens.introspect_many(tokens)

    def test_what_does_not_say_whether_it_is_active_is_no_answer(self):
        for answer in ({}, {"active": "false"}, {"active": None}, []):
            with Node(ok(answer)) as node, client(node) as c, self.assertRaises(deputy.BadAnswer):
                c.tokens.introspect(SECRET, credentials=APPLICATION)

    def test_a_node_that_does_not_know_is_no_no(self):
        with Node(oauth_error(503, "temporarily_unavailable")) as node, client(node) as c:
            with self.assertRaises(deputy.Unavailable):
                c.tokens.introspect(SECRET, credentials=APPLICATION)

    def test_revocation(self):
        with Node(ok(b"")) as node, client(node, credentials=APPLICATION) as c:
            self.assertIsNone(c.tokens.revoke(SECRET))
            self.assertEqual((node.last.path, node.last.form), ("/oauth2/revoke", [("token", SECRET)]))

    def test_an_oauth_error_has_its_own_code(self):
        with Node(oauth_error(400, "invalid_scope", "not that one")) as node, client(node, credentials=AGENT) as c:
            with self.assertRaises(deputy.Refused) as caught:
                c.tokens.client_credentials()
        self.assertEqual((caught.exception.code, caught.exception.detail), ("invalid_scope", "not that one"))
        with Node(oauth_error(401, "invalid_client")) as node, client(node, credentials=AGENT) as c:
            with self.assertRaises(deputy.Unauthenticated):
                c.tokens.client_credentials()

    def test_who_has_no_credentials_is_told_so_before_anything_is_sent(self):
        with Node(ok(TOKEN)) as node:
            with client(node) as c, self.assertRaisesRegex(deputy.ConfigurationError, "DEPUTY_CLIENT_ID"):
                c.tokens.client_credentials()
            with client(node, token=None) as c, self.assertRaisesRegex(deputy.ConfigurationError, "DEPUTY_TOKEN"):
                c.agents.get("a")
            self.assertEqual(node.asked, [])


class Secrets(unittest.TestCase):
    """A token or a secret gets into no repr, no error and no log."""

    HIDDEN = (SECRET, "dpt_secret", "dps_agent", "dps_app", "dps_new")

    def hidden(self, text):
        for secret in self.HIDDEN:
            self.assertNotIn(secret, text)

    def test_reprs(self):
        new = {"id": "crd_1", "kind": "secret", "client_id": "a", "client_secret": "dps_new", "created_at": "2026-04-17T08:00:00.000Z"}
        with Node(ok(SESSION, 201), ok(TOKEN), ok(new, 201)) as node, client(node, credentials=AGENT) as c:
            session, token, credential = (
                c.agents.create_session("a"),
                c.tokens.client_credentials(),
                c.agents.create_credential("a"),
            )
            self.assertEqual(credential.client_secret, "dps_new")
            for value in (session, token, credential, AGENT, c, c.agents, c._transport):
                self.hidden(repr(value) + str(value) + f"{value}" + repr([value]))
            self.assertIn("ses_1", repr(session))
            self.assertEqual(pickle.loads(pickle.dumps(session)), session)
            self.assertEqual(copy.copy(session).access_token, SECRET)

    def test_errors_and_logs(self):
        with self.assertLogs("deputy", logging.DEBUG) as logs:
            for answer in (hang_up, problem(503, "no-leader"), problem(403, "forbidden"), ok(b"junk"), ok({"access_token": SECRET})):
                with Node(answer) as node, client(node, credentials=AGENT) as c:
                    for ask in (
                        lambda: next(c.delegations.mine(SECRET)),
                        lambda: c.agents.create_session("a"),
                        lambda: c.tokens.client_credentials(),
                        lambda: c.tokens.introspect(SECRET, credentials=APPLICATION),
                    ):
                        try:
                            ask()
                        except deputy.Error as e:
                            self.hidden("".join(traceback.format_exception(type(e), e, e.__traceback__)) + repr(e))
                        else:
                            self.fail("it was to be refused")
        self.hidden("\n".join(logs.output))

    def test_a_token_that_cannot_stand_in_a_header_is_not_shown_by_the_error(self):
        for bad in ("dpt_secret\nX: y", "dpt_secret\u2026", "dpt_secret\x00"):
            with self.assertRaises(deputy.ConfigurationError) as caught:
                deputy.Client("a", bad)
            self.hidden(str(caught.exception))
            with client("a") as c, self.assertRaises(deputy.ConfigurationError) as caught:
                c.delegations.withdraw_mine(bad, "dlg_1")
            self.hidden(str(caught.exception))

    def test_a_password_in_an_address_is_not_shown(self):
        for bad in ("http://me:dpt_secret@a", "me:dpt_secret@a:x", "ftp://me:dpt_secret@a"):
            with self.assertRaises(deputy.ConfigurationError) as caught:
                deputy.Client(bad, "t")
            self.hidden(str(caught.exception))


if __name__ == "__main__":
    unittest.main()
