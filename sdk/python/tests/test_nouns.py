"""What each method says to a node, and how lists and stops are read."""

import unittest
from datetime import datetime, timezone

import deputy

from .node import Node, client, ok, problem

NOW = "2026-04-17T08:00:00.000Z"
AGENT = {
    "id": "a",
    "profile": {"name": "a", "agent_type": "autonomous", "owner_group": "g"},
    "default_scopes": ["x"],
    "max_session_duration_seconds": 3600,
    "applications": [],
    "groups": [],
    "labels": {},
    "status": "active",
    "credentials": [{"id": "crd_1", "kind": "secret", "created_at": NOW}],
    "handle": "agt_a#4",
    "created_at": NOW,
    "updated_at": NOW,
    "revision": 9,
}
PRINCIPAL = {
    "id": "u@x",
    "display_name": "U",
    "groups": [],
    "status": "active",
    "handle": "usr_u@x#1",
    "created_at": NOW,
    "updated_at": NOW,
    "revision": 7,
}
APPLICATION = {
    "id": "z",
    "name": "z",
    "description": "",
    "audience": "https://z",
    "scopes": ["x"],
    "tags": [],
    "verification": "online",
    "credentials": [],
    "created_at": NOW,
    "updated_at": NOW,
    "revision": 3,
}
DELEGATION = {
    "id": "dlg_1",
    "principal_id": "u@x",
    "agent_id": "a",
    "scopes": ["x"],
    "status": "active",
    "expired": False,
    "expires_at": NOW,
    "created_at": NOW,
    "max_hops": 2,
    "revision": 5,
}
CREDENTIAL = {"id": "crd_1", "kind": "secret", "client_id": "a", "client_secret": "s", "created_at": NOW}
STOP = {"id": "a", "status": "suspended", "handles": ["agt_a#4"], "known": True, "index": 8, "committed": True}
FENCED = {
    **STOP,
    "fenced": True,
    "nodes": [{"id": "n1", "state": "fenced", "after_ms": 1.3}],
    "denied": {"nodes": 1, "of": 1, "after_ms": 0.2},
    "validators_until": NOW,
    "offline_until": NOW,
}
RUNNING = {
    "session_id": "ses_1",
    "agent_id": "b",
    "principal_user_id": None,
    "chain": ["a", "b"],
    "scopes": ["x"],
    "audience": ["https://z"],
    "started_at": NOW,
    "expires_at": NOW,
    "node": "n1",
    "revoked": False,
}
STATE = {"session_id": "ses_1", "started_at": NOW, "ends_by": NOW, "revoked": False}


class Requests(unittest.TestCase):
    def test_methods_say_what_the_api_understands(self):
        for call, answer, request, body in (
            (lambda c: c.agents.get("a"), AGENT, "GET /api/v1/agents/a", None),
            (
                lambda c: c.agents.create(
                    "a",
                    description="d",
                    owner_group="g",
                    agent_type="scheduled",
                    default_scopes=["x"],
                    max_session_duration_seconds=60,
                    applications=["z"],
                    groups=["h"],
                    labels={"k": "v"},
                    with_secret=True,
                ),
                {**AGENT, "credential": CREDENTIAL},
                "POST /api/v1/agents?credentials=secret",
                {
                    "profile": {"name": "a", "agent_type": "scheduled", "description": "d", "owner_group": "g"},
                    "default_scopes": ["x"],
                    "max_session_duration_seconds": 60,
                    "applications": ["z"],
                    "groups": ["h"],
                    "labels": {"k": "v"},
                },
            ),
            (
                lambda c: c.agents.create("a"),
                AGENT,
                "POST /api/v1/agents",
                {"profile": {"name": "a", "agent_type": "autonomous"}},
            ),
            (
                lambda c: c.agents.update("a", {"applications": ["z"]}, revoke=True),
                AGENT,
                "PATCH /api/v1/agents/a?revoke=true",
                {"applications": ["z"]},
            ),
            (lambda c: c.agents.delete("a", reason="old"), STOP, "DELETE /api/v1/agents/a?reason=old", None),
            (lambda c: c.agents.activate("a"), {"agent": AGENT}, "POST /api/v1/agents/a/lifecycle/activate", None),
            (
                lambda c: c.agents.suspend("a", reason="r", wait="committed"),
                {"agent": AGENT},
                "POST /api/v1/agents/a/lifecycle/suspend?wait=committed",
                {"reason": "r"},
            ),
            (lambda c: c.agents.deactivate("a"), {"agent": AGENT}, "POST /api/v1/agents/a/lifecycle/deactivate", None),
            (lambda c: c.agents.revoke("a"), STOP, "POST /api/v1/agents/a/revoke", {}),
            (
                lambda c: c.agents.revoke("a", reason="r", keep_active=True),
                STOP,
                "POST /api/v1/agents/a/revoke",
                {"reason": "r", "keep_active": True},
            ),
            (
                lambda c: c.agents.revoke("a", dry_run=True, wait="fenced"),
                {**STOP, "dry_run": True},
                "POST /api/v1/agents/a/revoke?dry_run=true&wait=fenced",
                {},
            ),
            (
                lambda c: c.agents.kill("a", reason="r", timeout_seconds=20),
                FENCED,
                "POST /api/v1/agents/a/revoke?wait=fenced&timeout_seconds=20",
                {"reason": "r"},
            ),
            (
                lambda c: c.agents.create_credential("a", expires_at=datetime(2026, 4, 18, 8, tzinfo=timezone.utc)),
                CREDENTIAL,
                "POST /api/v1/agents/a/credentials",
                {"expires_at": "2026-04-18T08:00:00.000+00:00"},
            ),
            (
                lambda c: c.applications.create_credential("z", jwks={"kty": "OKP"}),
                CREDENTIAL,
                "POST /api/v1/applications/z/credentials",
                {"jwks": {"kty": "OKP"}},
            ),
            (
                lambda c: c.agents.create_credential("a", jwks_uri="https://a.example/keys"),
                CREDENTIAL,
                "POST /api/v1/agents/a/credentials",
                {"jwks_uri": "https://a.example/keys"},
            ),
            (
                lambda c: c.agents.revoke_credential("a", "crd_1", reason="leak"),
                STOP,
                "DELETE /api/v1/agents/a/credentials/crd_1?reason=leak",
                None,
            ),
            (
                lambda c: c.principals.create("u@x", display_name="U", groups=["g"]),
                PRINCIPAL,
                "POST /api/v1/principals",
                {"id": "u@x", "display_name": "U", "groups": ["g"]},
            ),
            (lambda c: c.principals.get("u@x/ü"), PRINCIPAL, "GET /api/v1/principals/u@x%2F%C3%BC", None),
            (
                lambda c: c.principals.update("u@x", {"status": "suspended"}),
                PRINCIPAL,
                "PATCH /api/v1/principals/u@x",
                {"status": "suspended"},
            ),
            (lambda c: c.principals.delete("u@x"), STOP, "DELETE /api/v1/principals/u@x", None),
            (lambda c: c.principals.revoke("u@x"), STOP, "POST /api/v1/principals/u@x/revoke", {}),
            (lambda c: c.principals.kill("u@x"), FENCED, "POST /api/v1/principals/u@x/revoke?wait=fenced", {}),
            (
                lambda c: c.applications.create("z", audience="https://z", scopes=["x"], tags=["t"], verification="offline"),
                APPLICATION,
                "POST /api/v1/applications",
                {"name": "z", "audience": "https://z", "scopes": ["x"], "tags": ["t"], "verification": "offline"},
            ),
            (lambda c: c.applications.get("z"), APPLICATION, "GET /api/v1/applications/z", None),
            (
                lambda c: c.applications.update("z", {"tags": []}),
                APPLICATION,
                "PATCH /api/v1/applications/z",
                {"tags": []},
            ),
            (lambda c: c.applications.delete("z"), STOP, "DELETE /api/v1/applications/z", None),
            (lambda c: c.applications.create_credential("z"), CREDENTIAL, "POST /api/v1/applications/z/credentials", {}),
            (
                lambda c: c.delegations.create("u@x", "a", ["x"], 3600, reason="r", origin="o", max_hops=1, ensure_principal=True),
                DELEGATION,
                "POST /api/v1/delegations?ensure_principal=true",
                {
                    "principal_id": "u@x",
                    "agent_id": "a",
                    "scopes": ["x"],
                    "duration_seconds": 3600,
                    "reason": "r",
                    "origin": "o",
                    "max_hops": 1,
                },
            ),
            (lambda c: c.delegations.get("dlg_1"), DELEGATION, "GET /api/v1/delegations/dlg_1", None),
            (
                lambda c: c.delegations.withdraw("dlg_1", reason="no more", wait="fenced"),
                FENCED,
                "DELETE /api/v1/delegations/dlg_1?reason=no+more&wait=fenced",
                None,
            ),
            (lambda c: c.sessions.get("ses_1"), STATE, "GET /api/v1/sessions/ses_1", None),
            (lambda c: c.sessions.end("ses_1", reason="r"), STOP, "DELETE /api/v1/sessions/ses_1?reason=r", None),
            (
                lambda c: c.sessions.end_all(principal="u@x", reason="r", wait="fenced", timeout_seconds=9),
                FENCED,
                "DELETE /api/v1/sessions?principal=u@x&reason=r&wait=fenced&timeout_seconds=9",
                None,
            ),
            (
                lambda c: c.sessions.end_all(agent="a", dry_run=True),
                {"dry_run": True, "count": {"sessions": 3, "complete": True, "nodes": []}},
                "DELETE /api/v1/sessions?agent=a&dry_run=true",
                None,
            ),
            (
                lambda c: c.request("get", "/api/v1/cluster/members", query={"a": "b c"}),
                [],
                "GET /api/v1/cluster/members?a=b+c",
                None,
            ),
            (lambda c: c.request("PUT", "/api/v1/agents/a", body={"x": 1}), AGENT, "PUT /api/v1/agents/a", {"x": 1}),
        ):
            with self.subTest(request), Node(ok(answer)) as node, client(node) as c:
                call(c)
                asked = node.last
                query = "&".join(f"{k}={v.replace(' ', '+')}" for k, v in asked.query.items())
                self.assertEqual(asked.method + " " + asked.path + ("?" + query if query else ""), request)
                self.assertEqual(asked.json if asked.body else None, body)
                kind = "application/merge-patch+json" if asked.method == "PATCH" else "application/json"
                self.assertEqual(asked.headers.get("content-type"), kind if asked.body else None)

    def test_a_user_is_known_by_an_id_token(self):
        with Node(ok([DELEGATION])) as node, client(node) as c:
            self.assertEqual([d.id for d in c.delegations.mine("id.to.ken", active=True)], ["dlg_1"])
            self.assertEqual((node.last.path, node.last.query), ("/api/v1/me/delegations", {"active": "true"}))
            self.assertEqual(node.last.headers["authorization"], "Bearer id.to.ken")
            node.answers = [ok(FENCED)]
            c.delegations.withdraw_mine("id.to.ken", "dlg_1", wait="fenced")
            self.assertEqual((node.last.method, node.last.path), ("DELETE", "/api/v1/me/delegations/dlg_1"))
            self.assertEqual(node.last.headers["authorization"], "Bearer id.to.ken")

    def test_an_id_is_one_segment_of_the_path(self):
        with Node(ok(AGENT)) as node, client(node) as c:
            for bad, error in (("", ValueError), ("..", ValueError), (None, TypeError), (7, TypeError)):
                with self.assertRaises(error):
                    c.agents.get(bad)
            c.agents.get("a/../b?c#d")
            self.assertEqual(node.last.path, "/api/v1/agents/a%2F..%2Fb%3Fc%23d")
            with self.assertRaises(ValueError):
                c.request("GET", "api/v1")
            self.assertEqual(len(node.asked), 1)

    def test_arguments_that_mean_nothing_are_refused_before_anything_is_sent(self):
        with Node(ok(STOP)) as node, client(node) as c:
            for call in (
                lambda: c.sessions.end("ses_1", wait="fence"),
                lambda: c.sessions.end("ses_1", timeout_seconds=3),
                lambda: c.sessions.end(""),
                lambda: c.sessions.end_all(),
                lambda: c.sessions.end_all(agent="a", principal="u@x"),
                lambda: c.agents.create_credential("a", expires_at=datetime(2026, 4, 18)),
                lambda: c.principals.create("u@x", idempotency_key="white space"),
                lambda: c.principals.create("u@x", idempotency_key="k" * 256),
                lambda: c.principals.create("u" * (1 << 20)),
            ):
                with self.assertRaises(ValueError):
                    call()
            self.assertEqual(node.asked, [])


class Answers(unittest.TestCase):
    def test_objects_are_read(self):
        with Node(ok({**AGENT, "credential": CREDENTIAL, "of_a_later_release": {}})) as node, client(node) as c:
            agent = c.agents.get("a")
        self.assertEqual((agent.id, agent.profile.owner_group, agent.profile.description), ("a", "g", ""))
        self.assertEqual(agent.created_at, datetime(2026, 4, 17, 8, tzinfo=timezone.utc))
        self.assertEqual(agent.credentials[0].id, "crd_1")
        self.assertIsNone(agent.credentials[0].expires_at)
        self.assertEqual(agent.credential.client_secret, "s")

    def test_a_time_that_cannot_be_read_is_a_bad_answer(self):
        with Node(ok({**AGENT, "created_at": "yesterday"})) as node, client(node) as c:
            with self.assertRaisesRegex(deputy.BadAnswer, "created_at"):
                c.agents.get("a")

    def test_a_list_is_walked_page_by_page_as_far_as_it_is_read(self):
        def page(*ids, after=None):
            headers = {"Link": f'<http://n/api/v1/agents?after={after}&limit=2>; rel="next"'} if after else {}
            return ok([{**AGENT, "id": i} for i in ids], **headers)

        with Node(page("a", "b", after="b"), page("c", "d%2Fe", after="d%2Fe"), page("f")) as node, client(node) as c:
            walk = c.agents.list(page_size=2)
            self.assertEqual(node.asked, [], "nothing is asked before somebody reads")
            self.assertEqual(next(walk).id, "a")
            self.assertEqual(len(node.asked), 1)
            self.assertEqual([a.id for a in walk], ["b", "c", "d%2Fe", "f"])
            self.assertEqual([a.query for a in node.asked], [{"limit": "2"}, {"limit": "2", "after": "b"}, {"limit": "2", "after": "d/e"}])

    def test_a_cursor_that_stands_still_ends_the_walk(self):
        same = ok([AGENT], Link='<http://n/api/v1/agents?after=a>; rel="next"')
        with Node(same) as node, client(node) as c:
            self.assertEqual(len(list(c.agents.list())), 2)

    def test_filters_of_lists(self):
        with Node(ok([DELEGATION])) as node, client(node) as c:
            self.assertEqual([d.id for d in c.delegations.list(agent="a", principal="u@x", active=True)], ["dlg_1"])
            self.assertEqual(node.last.query, {"agent": "a", "principal": "u@x", "active": "true"})
            list(c.principals.delegations("u@x", active=True))
            self.assertEqual((node.last.path, node.last.query), ("/api/v1/principals/u@x/delegations", {"active": "true"}))
        with Node(ok([PRINCIPAL]), ok([APPLICATION]), ok([CREDENTIAL])) as node, client(node) as c:
            self.assertEqual(next(c.principals.list()).id, "u@x")
            self.assertEqual(next(c.applications.list()).audience, "https://z")
            self.assertEqual(next(c.agents.credentials("a")).id, "crd_1")

    def test_a_list_of_sessions_says_which_nodes_did_not_reply(self):
        def page(*ids, nodes=(), complete=True, after=None):
            body = {"sessions": [{**RUNNING, "session_id": i} for i in ids], "complete": complete, "nodes": list(nodes)}
            return ok(body, **({"Link": f'</api/v1/sessions?after={after}>; rel="next"'} if after else {}))

        n1 = {"id": "n1", "replied": True, "complete": True, "dropped": 0, "since": NOW}
        n3 = {"id": "n3", "replied": False, "complete": False, "dropped": 0, "error": "timed out"}
        pages = (
            page("ses_1", nodes=[n1], after="ses_1"),
            page(nodes=[n1], after="ses_4"),
            page("ses_7", nodes=[n1, n3], complete=False),
        )
        with Node(*pages) as node, client(node) as c:
            walk = c.sessions.list(agent="a", principal="u@x", active=True, page_size=1)
            self.assertEqual(node.asked, [], "nothing is asked before somebody reads")
            first = next(walk)
            self.assertEqual((first.session_id, first.chain, first.principal_user_id), ("ses_1", ["a", "b"], None))
            self.assertTrue(walk.complete)
            self.assertEqual([s.session_id for s in walk], ["ses_7"], "an empty page is not the end")
            self.assertFalse(walk.complete)
            self.assertEqual((walk.missing, walk.nodes[1].error), (["n3"], "timed out"))
            query = {"agent": "a", "principal": "u@x", "active": "true", "limit": "1"}
            self.assertEqual([a.query for a in node.asked], [query, {**query, "after": "ses_1"}, {**query, "after": "ses_4"}])
        for answer in ([], {}, {"sessions": {}, "complete": True}, {"sessions": [{}], "complete": True}):
            with Node(ok(answer)) as node, client(node) as c, self.assertRaises(deputy.BadAnswer):
                next(c.sessions.list())


class Stops(unittest.TestCase):
    def test_a_fence_is_proof(self):
        with Node(ok(FENCED)) as node, client(node) as c:
            kill = c.agents.kill("a", reason="INC-42")
        self.assertTrue(kill.committed and kill.fenced)
        self.assertEqual((kill.nodes[0].id, kill.nodes[0].after_ms, kill.denied.of), ("n1", 1.3, 1))
        self.assertEqual(kill.handles, ["agt_a#4"])
        self.assertEqual(kill.offline_until, datetime(2026, 4, 17, 8, tzinfo=timezone.utc))

    def test_who_asked_for_a_fence_and_got_none_hears_it(self):
        waiting = {**STOP, "fenced": False, "nodes": [{"id": "n1", "state": "fenced", "after_ms": 1}, {"id": "n3", "state": "waiting", "after_ms": 15000}]}
        for call in (
            lambda c: c.agents.kill("a"),
            lambda c: c.principals.kill("u@x"),
            lambda c: c.sessions.end("ses_1", wait="fenced"),
            lambda c: c.delegations.withdraw("dlg_1", wait="fenced"),
            lambda c: c.agents.delete("a", wait="fenced"),
        ):
            with Node(ok(waiting)) as node, client(node) as c, self.assertRaisesRegex(deputy.NotFenced, "n3") as caught:
                call(c)
            self.assertEqual(caught.exception.waiting, ["n3"])
            self.assertTrue(caught.exception.answer.committed)

    def test_a_stop_that_is_kept_for_later_says_so(self):
        with Node(ok({"handles": ["ses_1"], "known": True, "committed": False}, 202)) as node, client(node) as c:
            self.assertFalse(c.sessions.end("ses_1").committed)

    def test_a_node_may_take_as_long_as_the_fence(self):
        with Node(ok(FENCED)) as node, client(node, timeout=1) as c:
            seen = []
            exchange = c._transport._connections.exchange
            c._transport._connections.exchange = lambda *a: seen.append(a[-1]) or exchange(*a)
            began = c._transport._clock()
            c.agents.kill("a", timeout_seconds=40)
            self.assertGreaterEqual(seen[0] - began, 45)


class Index(unittest.TestCase):
    def test_what_was_written_is_what_is_read_at_any_node(self):
        with Node(ok(PRINCIPAL, 201, X_Deputy_Index="812")) as first, Node(ok(PRINCIPAL)) as second, client(first, second) as c:
            c.principals.create("u@x")
            self.assertNotIn("x-deputy-index", first.last.headers, "nothing is known yet")
            self.assertEqual(c.index, 812)
            first.answers = [problem(503, "not-fresh")]
            c.principals.get("u@x")
            self.assertEqual(second.last.headers["x-deputy-index"], "812")

    def test_an_index_only_grows(self):
        with Node(ok(PRINCIPAL, X_Deputy_Index="5"), ok(PRINCIPAL, X_Deputy_Index="soon")) as node, client(node) as c:
            c.observe(9)
            c.principals.get("u@x")
            self.assertEqual(c.index, 9)
            c.principals.get("u@x")
            self.assertEqual(c.index, 9)


if __name__ == "__main__":
    unittest.main()
