"""Where the client finds out whom to ask and as whom."""

import json
import os
import tempfile
import unittest
from unittest import mock

import deputy
from deputy import _addresses, _settings

from .node import Node, ok, problem
from .test_nouns import AGENT
from .test_sessions import SESSION, TOKEN


class Addresses(unittest.TestCase):
    def test_a_bare_loopback_address_is_http_and_any_other_https(self):
        for text, wanted in (
            ("127.0.0.1:8401", "http://127.0.0.1:8401"),
            ("localhost", "http://localhost"),
            ("[::1]:8401", "http://[::1]:8401"),
            ("node.example:8401", "https://node.example:8401"),
            ("10.0.0.1", "https://10.0.0.1"),
            ("localhost.example", "https://localhost.example"),
            ("http://node.example/deputy/", "http://node.example/deputy"),
            ("https://node.example:443", "https://node.example"),
        ):
            self.assertEqual(str(_addresses.parse(text)), wanted, text)

    def test_what_is_no_address_is_refused(self):
        for text in (
            "",
            "ftp://a",
            "http://",
            "http://a:port",
            "http://a:99999",
            "http://a b",
            "http://a?x=1",
            "http://a#x",
            "http://u:p@a",
            "http://" + "a" * 80,
        ):
            with self.assertRaises(deputy.ConfigurationError, msg=text):
                _addresses.parse(text)
        with self.assertRaises(deputy.ConfigurationError):
            deputy.Client([])
        with self.assertRaises(deputy.ConfigurationError):
            deputy.Client(["a"] * 17)


class Environment(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.home = folder.name
        self.environ = {"HOME": self.home, "XDG_CONFIG_HOME": self.home}

    def settings(self, **more):
        return _settings.from_environment({**self.environ, **more})

    def dev(self, text, mode=0o600):
        folder = os.path.join(self.home, "deputy")
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "dev.json")
        with open(path, "w") as f:
            f.write(text if isinstance(text, str) else json.dumps(text))
        os.chmod(path, mode)

    def test_as_the_command_reads_it(self):
        s = self.settings(DEPUTY_ADDR="http://a:1, b:2,,", DEPUTY_TOKEN=" dpt_1\n", DEPUTY_CLIENT_ID="z", DEPUTY_CLIENT_SECRET="s")
        self.assertEqual([str(a) for a in s.addresses], ["http://a:1", "https://b:2"])
        self.assertEqual(s.token, "dpt_1")
        self.assertEqual(s.credentials, deputy.Credentials("z", "s"))
        self.assertNotIn("dpt_1", repr(s))

    def test_without_anything_the_default_port_of_this_machine_is_asked(self):
        s = self.settings()
        self.assertEqual([str(a) for a in s.addresses], ["http://127.0.0.1:8401"])
        self.assertIsNone(s.token)
        self.assertIsNone(s.credentials)
        self.assertIsNone(_settings.from_environment({}).token)

    def test_a_development_node_of_the_same_user_is_found(self):
        self.dev({"address": "http://127.0.0.1:9", "token": "dpt_dev"})
        s = self.settings()
        self.assertEqual(([str(a) for a in s.addresses], s.token), (["http://127.0.0.1:9"], "dpt_dev"))
        self.assertEqual(self.settings(DEPUTY_ADDR="127.0.0.1:9").token, "dpt_dev", "the same node by another spelling")
        self.assertEqual(self.settings(DEPUTY_TOKEN="dpt_1").token, "dpt_1")

    def test_its_token_is_shown_to_nobody_else(self):
        self.dev({"address": "http://127.0.0.1:9", "token": "dpt_dev"})
        self.assertIsNone(self.settings(DEPUTY_ADDR="http://127.0.0.1:10").token)
        self.assertIsNone(self.settings(DEPUTY_ADDR="http://127.0.0.1:9,http://node.example").token)

    @unittest.skipUnless(os.name == "posix", "modes are POSIX's")
    def test_a_token_that_others_can_read_is_not_used(self):
        self.dev({"address": "http://127.0.0.1:9", "token": "dpt_dev"}, 0o644)
        with self.assertRaisesRegex(deputy.ConfigurationError, "chmod 600"):
            self.settings()
        self.assertEqual(self.settings(DEPUTY_ADDR="a", DEPUTY_TOKEN="t").token, "t", "it is not looked at where it isn't needed")

    def test_a_damaged_file_is_named(self):
        for text in ("{", "[]", "{}", '{"address": 7, "token": "t"}', '{"address": "ftp://a", "token": "t"}'):
            self.dev(text)
            with self.assertRaisesRegex(deputy.ConfigurationError, "dev.json"):
                self.settings()


class Default(unittest.TestCase):
    """deputy.agents and the others."""

    def environment(self, **variables):
        return mock.patch.dict(os.environ, {"XDG_CONFIG_HOME": "/nowhere", "HOME": "/nowhere", **variables})

    def test_module_level_calls_use_the_environment(self):
        with Node(ok(SESSION, 201, X_Deputy_Index="5"), ok(AGENT)) as node:
            with self.environment(DEPUTY_ADDR=node.url, DEPUTY_TOKEN="dpt_1"):
                session = deputy.agents.create_session(agent_id="a", principal_user_id=None)
                self.assertEqual(session.session_id, "ses_1")
                self.assertEqual(node.last.headers["authorization"], "SSWS dpt_1")
                deputy.agents.get("a")
                self.assertEqual(node.last.headers["x-deputy-index"], "5")
                self.assertEqual(len({a.connection for a in node.asked}), 1)
                self.assertIs(deputy.default_client(), deputy.default_client())
            with self.environment(DEPUTY_ADDR=node.url, DEPUTY_TOKEN="dpt_2"):
                deputy.agents.get("a")
                self.assertEqual(node.last.headers["authorization"], "SSWS dpt_2", "a new token is taken up")
                self.assertEqual(node.last.headers["x-deputy-index"], "5")
                deputy.default_client().close()

    def test_credentials_of_the_environment(self):
        with Node(ok(TOKEN)) as node:
            with self.environment(DEPUTY_ADDR=node.url, DEPUTY_CLIENT_ID="a", DEPUTY_CLIENT_SECRET="s"):
                deputy.tokens.client_credentials()
                self.assertEqual(node.last.headers["authorization"], "Basic YTpz")
                deputy.default_client().close()

    def test_an_explicit_client_does_not_look_at_the_environment(self):
        with Node(ok(AGENT)) as node, self.environment(DEPUTY_ADDR="http://127.0.0.1:1", DEPUTY_TOKEN="dpt_1"):
            with deputy.Client(addresses=[node.url], token="dpt_2") as c:
                c.agents.get("a")
            self.assertEqual(node.last.headers["authorization"], "SSWS dpt_2")

    def test_a_client_of_the_environment_can_be_made_too(self):
        with Node(problem(404, "not-found")) as node:
            environ = {"DEPUTY_ADDR": node.url, "DEPUTY_TOKEN": "dpt_3"}
            with deputy.Client.from_environment(environ, timeout=5) as c, self.assertRaises(deputy.NotFound):
                c.agents.get("a")
            self.assertEqual(node.last.headers["authorization"], "SSWS dpt_3")

    def test_options_that_mean_nothing_are_refused(self):
        for options in ({"timeout": 0}, {"ca_file": "x", "tls": object()}):
            with self.assertRaises(ValueError):
                deputy.Client("a", "t", **options)
        with self.assertRaises(deputy.ConfigurationError):
            deputy.Credentials("a", "")


if __name__ == "__main__":
    unittest.main()
