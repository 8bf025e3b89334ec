"""Which node is asked, how often, and what is not repeated."""

import socket
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import deputy
from deputy import _transport

from .node import Clock, Node, client, hang_up, nobody, oauth_error, ok, problem

NOT_FRESH = problem(503, "not-fresh", headers={"Retry-After": "1"})
PRINCIPAL = {
    "id": "u@x",
    "display_name": "",
    "groups": [],
    "status": "active",
    "handle": "usr_u@x#1",
    "created_at": "2026-04-17T08:00:00.000Z",
    "updated_at": "2026-04-17T08:00:00.000Z",
    "revision": 7,
}


class Retries(unittest.TestCase):
    def test_another_node_is_asked_where_one_cannot_vouch_for_its_state(self):
        for refusal in (
            NOT_FRESH,
            problem(503, "no-leader"),
            problem(503, "draining"),
            problem(503, "overloaded"),
            problem(412, "stale-index"),
            oauth_error(503, "temporarily_unavailable"),
            (502, b"<html>bad gateway</html>", {}),
            hang_up,
        ):
            with Node(refusal) as first, Node(ok(PRINCIPAL)) as second:
                clock = Clock()
                with client(first, second, clock=clock) as c:
                    self.assertEqual(c.principals.get("u@x").id, "u@x")
                self.assertEqual((len(first.asked), len(second.asked)), (1, 1))
                self.assertEqual(clock.slept, [], "the second node is asked at once")

    def test_a_node_that_cannot_be_reached_is_passed_over_and_the_one_that_answered_is_asked_first_from_then_on(self):
        with Node(ok(PRINCIPAL)) as second:
            with client(nobody(), second) as c:
                c.principals.get("u@x")
                self.assertEqual(c._transport._preferred, 1)
                c.principals.get("u@x")
            self.assertEqual(len(second.asked), 2)

    def test_a_refusal_that_no_other_node_would_mend_is_final(self):
        for refusal, kind in (
            (problem(403, "scope-not-allowed"), deputy.Refused),
            (problem(401, "unauthenticated"), deputy.Unauthenticated),
            (problem(404, "not-found"), deputy.NotFound),
            (problem(409, "already-exists"), deputy.AlreadyExists),
            (problem(429, "rate-limited", headers={"Retry-After": "2"}), deputy.RateLimited),
            (oauth_error(429, "temporarily_unavailable"), deputy.RateLimited),
            (problem(503, "minting-closed"), deputy.Unavailable),
            (problem(503, "disk-full"), deputy.Unavailable),
            (problem(500, "internal"), deputy.Refused),
            ((302, b"", {"Location": "http://127.0.0.1:1/"}), deputy.Refused),
        ):
            with Node(refusal) as first, Node(ok(PRINCIPAL)) as second, client(first, second) as c:
                with self.assertRaises(kind) as caught:
                    c.principals.get("u@x")
                self.assertEqual(caught.exception.status, refusal[0])
                self.assertEqual((len(first.asked), len(second.asked)), (1, 0))

    def test_rounds_are_bounded_and_pauses_grow(self):
        with Node(problem(503, "no-leader")) as first, Node(problem(503, "no-leader")) as second:
            clock = Clock()
            with client(first, second, clock=clock) as c, self.assertRaises(deputy.Unavailable) as caught:
                c.principals.get("u@x")
            self.assertEqual(caught.exception.code, "no-leader")
            self.assertEqual(len(first.asked) + len(second.asked), 2 * _transport.ROUNDS)
            self.assertEqual(len(clock.slept), _transport.ROUNDS - 1)
            for pause, wanted in zip(clock.slept, (0.1, 0.2, 0.4)):
                self.assertTrue(0.74 * wanted < pause < 1.26 * wanted, clock.slept)

    def test_retry_after_is_honoured(self):
        with Node(problem(503, "no-leader", headers={"Retry-After": "3"}), ok(PRINCIPAL)) as node:
            clock = Clock()
            with client(node, clock=clock) as c:
                c.principals.get("u@x")
            self.assertEqual(len(clock.slept), 1)
            self.assertAlmostEqual(clock.slept[0], 3, delta=0.01)

    def test_a_node_that_asked_for_longer_is_left_alone_while_another_may_be_asked(self):
        long = problem(503, "draining", headers={"Retry-After": "20"})
        with Node(long) as first, Node(problem(503, "no-leader"), ok(PRINCIPAL)) as second:
            clock = Clock()
            with client(first, second, clock=clock) as c:
                c.principals.get("u@x")
            self.assertEqual((len(first.asked), len(second.asked)), (1, 2))
            self.assertLess(sum(clock.slept), 1)

    def test_a_retry_after_beyond_the_timeout_ends_the_call_at_once(self):
        with Node(problem(503, "not-fresh", headers={"Retry-After": "60"})) as node:
            clock = Clock()
            with client(node, clock=clock, timeout=5) as c, self.assertRaises(deputy.Unavailable) as caught:
                c.principals.get("u@x")
            self.assertEqual(caught.exception.retry_after, 60)
            self.assertEqual(clock.slept, [])

    def test_nobody_there(self):
        one, other = nobody(), nobody()
        with client(one, other) as c, self.assertRaises(deputy.Unreachable) as caught:
            c.principals.get("u@x")
        self.assertEqual(set(caught.exception.failures), {one, other})
        self.assertFalse(caught.exception.unknown)
        self.assertIn("refused", str(caught.exception))

    def test_a_write_is_repeated_under_one_idempotency_key(self):
        with Node(hang_up) as first, Node(ok(PRINCIPAL, 201)) as second, client(first, second) as c:
            c.principals.create("u@x")
            keys = [n.last.headers["idempotency-key"] for n in (first, second)]
            self.assertEqual(keys[0], keys[1])
            self.assertGreater(len(keys[0]), 20)
            c.principals.create("u@x")
            self.assertNotEqual(second.last.headers["idempotency-key"], keys[0])
            c.principals.create("u@x", idempotency_key="mine-1")
            self.assertEqual(second.last.headers["idempotency-key"], "mine-1")

    def test_mints_questions_and_stops_are_repeated_without_a_key(self):
        credentials = deputy.Credentials("zendesk", "s")
        token = {"access_token": "e", "token_type": "Bearer", "expires_in": 60, "scope": "a", "session_id": "ses_1"}
        for ask, answer in (
            (lambda c: c.tokens.client_credentials(credentials=credentials), token),
            (lambda c: c.tokens.introspect("t", credentials=credentials), {"active": False}),
            (lambda c: c.sessions.end("ses_1"), {"committed": True}),
            (lambda c: c.agents.revoke("a"), {"committed": True}),
        ):
            with Node(hang_up) as first, Node(ok(answer)) as second, client(first, second) as c:
                ask(c)
                for node in (first, second):
                    self.assertEqual(len(node.asked), 1)
                    self.assertNotIn("idempotency-key", node.last.headers)

    def test_a_post_that_may_do_harm_twice_is_not_repeated_once_it_was_sent(self):
        with Node(hang_up) as first, Node(ok({})) as second, client(first, second) as c:
            with self.assertRaises(deputy.Unreachable) as caught:
                c.request("POST", "/api/v1/cluster/transfer-leadership", body={})
            self.assertTrue(caught.exception.unknown)
            self.assertEqual(len(second.asked), 0)
        with Node(ok({})) as second, client(nobody(), second) as c:
            c.request("POST", "/api/v1/cluster/transfer-leadership", body={})
            self.assertEqual(len(second.asked), 1, "what was never sent can be sent elsewhere")

    def test_a_write_whose_answer_was_lost_is_not_called_undone(self):
        with Node(hang_up, problem(503, "no-leader")) as node, client(node) as c:
            with self.assertRaises(deputy.OutcomeUnknown) as caught:
                c.principals.create("u@x")
            self.assertEqual(caught.exception.code, "outcome-unknown")
        with Node(hang_up) as node, client(node) as c:
            with self.assertRaises(deputy.Unreachable) as caught:
                c.principals.create("u@x")
            self.assertTrue(caught.exception.unknown)
        with Node(hang_up) as node, client(node) as c:
            with self.assertRaises(deputy.Unreachable) as caught:
                c.principals.get("u@x")
            self.assertFalse(caught.exception.unknown, "a question has no outcome")

    def test_an_answer_that_broke_off_is_no_answer(self):
        def half(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", "1000")
            handler.end_headers()
            handler.wfile.write(b'{"id":')
            hang_up(handler)

        with Node(half) as first, Node(ok(PRINCIPAL)) as second, client(first, second) as c:
            self.assertEqual(c.principals.get("u@x").id, "u@x")

    def test_what_is_not_json_is_nobodys_answer(self):
        with Node(ok(b"<html>welcome</html>")) as node, client(node) as c, self.assertRaises(deputy.BadAnswer):
            c.principals.get("u@x")
        with Node(ok([1])) as node, client(node) as c, self.assertRaises(deputy.BadAnswer):
            c.principals.get("u@x")
        with Node(ok({"id": "u@x"})) as node, client(node) as c, self.assertRaises(deputy.BadAnswer):
            c.principals.get("u@x")


class Time(unittest.TestCase):
    """Here the clock is the real one."""

    def test_a_node_that_says_nothing_does_not_hold_the_caller(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = "http://127.0.0.1:%d" % silent.getsockname()[1]
            began = time.monotonic()
            with deputy.Client(url, "t", timeout=0.3) as c, self.assertRaises(deputy.Unreachable) as caught:
                c.principals.get("u@x")
            self.assertLess(time.monotonic() - began, 5)
            self.assertIn("timed out", str(caught.exception))

    def test_a_node_that_trickles_does_not_either(self):
        def trickle(handler):
            handler.send_response(200)
            handler.send_header("Content-Length", "1000000")
            handler.end_headers()
            for _ in range(400):
                handler.wfile.write(b" ")
                handler.wfile.flush()
                time.sleep(0.02)

        with Node(trickle) as node:
            began = time.monotonic()
            with deputy.Client(node.url, "t", timeout=0.3) as c, self.assertRaises(deputy.Unreachable):
                c.principals.get("u@x")
            self.assertLess(time.monotonic() - began, 4)

    def test_one_silent_node_of_two_leaves_time_for_the_other(self):
        with socket.create_server(("127.0.0.1", 0)) as silent, Node(ok(PRINCIPAL)) as node:
            url = "http://127.0.0.1:%d" % silent.getsockname()[1]
            original = _transport.ATTEMPT_SECONDS
            _transport.ATTEMPT_SECONDS = 0.2
            self.addCleanup(setattr, _transport, "ATTEMPT_SECONDS", original)
            with deputy.Client([url, node.url], "t") as c:
                self.assertEqual(c.principals.get("u@x").id, "u@x")


class Connection(unittest.TestCase):
    def test_connections_are_kept(self):
        with Node(ok(PRINCIPAL)) as node, client(node) as c:
            for _ in range(3):
                c.principals.get("u@x")
            self.assertEqual(len({asked.connection for asked in node.asked}), 1)

    def test_many_threads_share_a_client(self):
        with Node(ok(PRINCIPAL, X_Deputy_Index="7")) as node, client(node) as c:
            with ThreadPoolExecutor(16) as pool:
                found = list(pool.map(lambda _: c.principals.get("u@x").id, range(200)))
            self.assertEqual(found, ["u@x"] * 200)
            self.assertEqual(len(node.asked), 200)
            kept = c._transport._connections._idle[c._transport.addresses[0]]
            self.assertLessEqual(len(kept), 8)

    def test_a_kept_connection_that_the_node_has_closed_is_not_used(self):
        def goodbye(handler):
            handler.say(200, PRINCIPAL, {})
            hang_up(handler)

        # The one-off cannot be repeated, so that it fails where the dead connection is used.
        with Node(goodbye, ok({})) as node, client(node) as c:
            c.principals.get("u@x")
            sock = c._transport._connections._idle[c._transport.addresses[0]][0][1].sock
            sock.settimeout(5)
            self.assertEqual(sock.recv(1, socket.MSG_PEEK), b"", "the node hangs up")
            c.request("POST", "/api/v1/cluster/transfer-leadership")
            self.assertEqual(len(node.asked), 2)

    def test_an_old_connection_is_not_used(self):
        with Node(ok(PRINCIPAL)) as node:
            clock = Clock()
            with client(node, clock=clock) as c:
                c.principals.get("u@x")
                clock.now += 61
                c.principals.get("u@x")
            self.assertEqual(len({asked.connection for asked in node.asked}), 2)

    def test_a_node_that_closes_after_each_answer_is_understood(self):
        with Node(ok(PRINCIPAL, Connection="close")) as node, client(node) as c:
            c.principals.get("u@x")
            c.principals.get("u@x")
            self.assertEqual(len(node.asked), 2)

    def test_a_child_process_does_not_speak_over_its_parents_connection(self):
        with Node(ok(PRINCIPAL)) as node, client(node) as c:
            c.principals.get("u@x")
            c._transport._connections._pid += 1  # as it is after a fork
            parents = c._transport._connections._idle[c._transport.addresses[0]][0][1]
            self.addCleanup(parents.close)
            c.principals.get("u@x")
            self.assertEqual(len({asked.connection for asked in node.asked}), 2)

    def test_proxies_are_used_but_never_for_loopback(self):
        with Node(ok(PRINCIPAL)) as proxy:
            with mock.patch.dict("os.environ", {"http_proxy": proxy.url.replace("://", "://me:pw@"), "no_proxy": ""}):
                with client("http://node.invalid:8401/deputy") as c:
                    c.principals.get("u@x")
                self.assertEqual(proxy.last.path, "http://node.invalid:8401/deputy/api/v1/principals/u@x")
                self.assertEqual(proxy.last.headers["proxy-authorization"], "Basic bWU6cHc=")
                self.assertEqual(proxy.last.headers["host"], "node.invalid:8401")
                with Node(ok(PRINCIPAL)) as node, client(node) as c:
                    c.principals.get("u@x")
                    self.assertEqual(len(node.asked), 1)

    def test_a_proxy_that_refuses_a_tunnel_is_named(self):
        with Node(ok({})) as proxy:
            with mock.patch.dict("os.environ", {"https_proxy": proxy.url, "no_proxy": ""}):
                with client("https://node.invalid") as c, self.assertRaises(deputy.Unreachable) as caught:
                    c.principals.get("u@x")
            self.assertIn("501", str(caught.exception))  # the stand-in knows no CONNECT

    def test_too_long_an_answer_is_not_read(self):
        with mock.patch("deputy._http.MAX_ANSWER", 10), Node(ok(PRINCIPAL)) as node, client(node) as c:
            with self.assertRaises(deputy.BadAnswer):
                c.principals.get("u@x")


if __name__ == "__main__":
    unittest.main()
