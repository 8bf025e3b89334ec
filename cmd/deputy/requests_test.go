package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// anything answers every request with an object that says no more than that what was asked for came to be, or with
// an empty list.
func anything(t *testing.T) *fakeNode {
	t.Helper()
	n := newFakeNode(t, nil)
	handler := n.Config.Handler
	n.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		handler.ServeHTTP(discard{}, r)
		body := `{"committed":true,"fenced":true}`
		if r.Method == http.MethodGet && (strings.HasSuffix(r.URL.Path, "s") && !strings.HasSuffix(r.URL.Path, "access") && !strings.HasSuffix(r.URL.Path, "settings")) {
			body = "[]"
			if r.URL.Path == "/api/v1/sessions" {
				body = `{"sessions":[],"complete":true,"nodes":[]}`
			}
		}
		_, _ = w.Write([]byte(body))
	})
	return n
}

type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(p []byte) (int, error) { return len(p), nil }
func (discard) WriteHeader(int)             {}

func TestCommandsSayWhatTheAPIUnderstands(t *testing.T) {
	for _, test := range []struct {
		args    []string
		request string // method, path and query
		body    string // JSON, or a form
	}{
		{
			[]string{"agent", "create", "a-1", "--description", "does", "--owner-group", "g", "--scope", "b", "--scope", "a", "--application", "z", "--label", "k=v", "--max-session", "30m", "--with-secret"},
			"POST /api/v1/agents?credentials=secret",
			`{"profile":{"name":"a-1","description":"does","owner_group":"g","agent_type":"autonomous"},"default_scopes":["a","b"],"max_session_duration_seconds":1800,"applications":["z"],"labels":{"k":"v"}}`,
		},
		{[]string{"agent", "list", "--limit", "5", "--after", "a"}, "GET /api/v1/agents?after=a&limit=5", ""},
		{[]string{"agent", "update", "a-1", "--description", "", "--scope", "x", "--revoke"}, "PATCH /api/v1/agents/a-1?revoke=true", `{"profile":{"description":""},"default_scopes":["x"]}`},
		{[]string{"agent", "delete", "a-1", "--reason", "old"}, "DELETE /api/v1/agents/a-1?reason=old", ""},
		{[]string{"agent", "suspend", "a-1", "--reason", "INC"}, "POST /api/v1/agents/a-1/lifecycle/suspend", `{"reason":"INC"}`},
		{[]string{"agent", "activate", "a-1"}, "POST /api/v1/agents/a-1/lifecycle/activate", ""},
		{[]string{"agent", "revoke", "a-1", "--reason", "INC", "--keep-active"}, "POST /api/v1/agents/a-1/revoke", `{"reason":"INC","keep_active":true}`},
		{[]string{"agent", "revoke", "a-1", "--dry-run"}, "POST /api/v1/agents/a-1/revoke?dry_run=true", `{}`},
		{[]string{"agent", "access", "a-1"}, "GET /api/v1/agents/a-1/access", ""},
		{[]string{"agent", "credential", "create", "a-1", "--expires-in", "1h"}, "POST /api/v1/agents/a-1/credentials", `{"expires_at":"2026-04-17T09:00:00.000Z"}`},
		{[]string{"agent", "credential", "list", "a-1"}, "GET /api/v1/agents/a-1/credentials", ""},
		{[]string{"agent", "credential", "revoke", "a-1", "crd_1", "--reason", "leak"}, "DELETE /api/v1/agents/a-1/credentials/crd_1?reason=leak", ""},
		{[]string{"principal", "create", "u@x", "--display-name", "U", "--group", "g"}, "POST /api/v1/principals", `{"id":"u@x","display_name":"U","groups":["g"]}`},
		{[]string{"principal", "get", "u@x/y"}, "GET /api/v1/principals/u@x/y", ""},
		{[]string{"principal", "update", "u@x", "--group", "g"}, "PATCH /api/v1/principals/u@x", `{"groups":["g"]}`},
		{[]string{"principal", "suspend", "u@x"}, "PATCH /api/v1/principals/u@x", `{"status":"suspended"}`},
		{[]string{"principal", "revoke", "u@x"}, "POST /api/v1/principals/u@x/revoke", `{}`},
		{[]string{"principal", "delete", "u@x"}, "DELETE /api/v1/principals/u@x", ""},
		{[]string{"principal", "delegations", "u@x"}, "GET /api/v1/principals/u@x/delegations", ""},
		{[]string{"app", "create", "z", "--audience", "https://z", "--scope", "a", "--tag", "t"}, "POST /api/v1/applications", `{"name":"z","audience":"https://z","scopes":["a"],"tags":["t"],"verification":"online"}`},
		{[]string{"application", "get", "z"}, "GET /api/v1/applications/z", ""},
		{[]string{"application", "update", "z", "--verification", "offline"}, "PATCH /api/v1/applications/z", `{"verification":"offline"}`},
		{[]string{"application", "delete", "z"}, "DELETE /api/v1/applications/z", ""},
		{[]string{"application", "credential", "create", "z"}, "POST /api/v1/applications/z/credentials", `{}`},
		{
			[]string{"delegation", "create", "--principal", "u@x", "--agent", "a-1", "--scope", "s", "--duration", "4h", "--reason", "r", "--max-hops", "1", "--ensure-principal"},
			"POST /api/v1/delegations?ensure_principal=true",
			`{"principal_id":"u@x","agent_id":"a-1","scopes":["s"],"duration_seconds":14400,"reason":"r","max_hops":1}`,
		},
		{[]string{"delegation", "list", "--agent", "a", "--principal", "u", "--active"}, "GET /api/v1/delegations?active=true&agent=a&principal=u", ""},
		{
			[]string{"trusted-issuer", "add", "https://login.x", "--client-id", "web", "--principal-claim", "sub", "--max-age", "10m", "--jwks-uri", "https://login.x/keys"},
			"POST /api/v1/trusted-issuers",
			`{"issuer":"https://login.x","client_ids":["web"],"principal_claim":"sub","max_age_seconds":600,"jwks_uri":"https://login.x/keys"}`,
		},
		{[]string{"trusted-issuer", "list"}, "GET /api/v1/trusted-issuers", ""},
		{[]string{"trusted-issuer", "get", "iss_1"}, "GET /api/v1/trusted-issuers/iss_1", ""},
		{[]string{"trusted-issuer", "remove", "iss_1"}, "DELETE /api/v1/trusted-issuers/iss_1", ""},
		{[]string{"agent", "credential", "create", "a-1", "--jwks-uri", "https://a/keys"}, "POST /api/v1/agents/a-1/credentials", `{"jwks_uri":"https://a/keys"}`},
		{[]string{"delegation", "get", "dlg_1"}, "GET /api/v1/delegations/dlg_1", ""},
		{[]string{"delegation", "withdraw", "dlg_1", "--reason", "r"}, "DELETE /api/v1/delegations/dlg_1?reason=r", ""},
		{
			[]string{"session", "create", "--agent", "a-1", "--principal", "u@x", "--scope", "s", "--reason", "r", "--duration", "4h", "--audience", "z"},
			"POST /api/v1/sessions",
			`{"agent_id":"a-1","principal_user_id":"u@x","requested_scopes":["s"],"trigger_reason":"r","max_duration_seconds":14400,"audience":["z"]}`,
		},
		{[]string{"session", "create", "--agent", "a-1"}, "POST /api/v1/sessions", `{"agent_id":"a-1"}`},
		{[]string{"session", "get", "ses_1"}, "GET /api/v1/sessions/ses_1", ""},
		{[]string{"session", "list", "--agent", "a", "--principal", "u", "--active", "--limit", "5", "--after", "ses_1"}, "GET /api/v1/sessions?active=true&after=ses_1&agent=a&limit=5&principal=u", ""},
		{[]string{"session", "end", "ses_1", "--reason", "r"}, "DELETE /api/v1/sessions/ses_1?reason=r", ""},
		{[]string{"session", "end", "--agent", "a-1", "--reason", "r"}, "DELETE /api/v1/sessions?agent=a-1&reason=r", ""},
		{[]string{"session", "end", "--principal", "u@x", "--wait", "fenced", "--wait-timeout", "5s"}, "DELETE /api/v1/sessions?principal=u%40x&timeout_seconds=5&wait=fenced", ""},
		{[]string{"session", "end", "--agent", "a-1", "--dry-run"}, "DELETE /api/v1/sessions?agent=a-1&dry_run=true", ""},
		{[]string{"revocation", "create", "--session", "ses_1", "--reason", "r"}, "POST /api/v1/revocations", `{"session_id":"ses_1","reason":"r"}`},
		{[]string{"revocation", "list"}, "GET /api/v1/revocations", ""},
		{[]string{"token", "explain", "tok", "--scope", "a", "--scope", "b", "--audience", "z"}, "POST /api/v1/tokens/explain", `{"token":"tok","audience":"z","scope":"a b"}`},
		{[]string{"cluster", "members"}, "GET /api/v1/cluster/members", ""},
		{[]string{"cluster", "join-token", "--duration", "1h"}, "POST /api/v1/cluster/join-tokens", `{"duration_seconds":3600}`},
		{[]string{"cluster", "drain", "n4"}, "POST /api/v1/cluster/members/n4/drain", `{"draining":true}`},
		{[]string{"cluster", "drain", "n4", "--undo"}, "POST /api/v1/cluster/members/n4/drain", `{"draining":false}`},
		{[]string{"cluster", "remove", "n4", "--reason", "r"}, "DELETE /api/v1/cluster/members/n4?reason=r", ""},
		{[]string{"cluster", "remove", "n4", "--force", "--compromised"}, "DELETE /api/v1/cluster/members/n4?compromised=true&force=true", ""},
		{[]string{"cluster", "rotate-keys"}, "POST /api/v1/cluster/rotate-keys", ""},
		{[]string{"cluster", "rotate-keys", "n4"}, "POST /api/v1/cluster/members/n4/rotate-key", ""},
		{[]string{"cluster", "rotate-gossip-key"}, "POST /api/v1/cluster/rotate-gossip-key", ""},
		{[]string{"cluster", "open", "--yes"}, "POST /api/v1/cluster/open", ""},
		{[]string{"cluster", "settings", "show"}, "GET /api/v1/settings", ""},
		{[]string{"cluster", "settings", "set", "--lease", "1500ms", "--key-rotation", "0"}, "PATCH /api/v1/settings", `{"lease_milliseconds":1500,"key_rotation_seconds":0}`},
		{[]string{"cluster", "settings", "set", "--offline-ttl", "2m", "--external-url", "https://a", "--external-url", "https://b"}, "PATCH /api/v1/settings", `{"offline_token_ttl_seconds":120,"external_urls":["https://a","https://b"]}`},
		{[]string{"cluster", "transfer-leadership", "--to", "n2"}, "POST /api/v1/cluster/transfer-leadership", `{"to":"n2"}`},
		{[]string{"api-token", "create", "ci", "--role", "runtime", "--agent", "*", "--expires-in", "24h"}, "POST /api/v1/api-tokens", `{"name":"ci","roles":["runtime"],"agents":["*"],"expires_at":"2026-04-18T08:00:00.000Z"}`},
		{[]string{"api-token", "list"}, "GET /api/v1/api-tokens", ""},
		{[]string{"api-token", "delete", "tok_1"}, "DELETE /api/v1/api-tokens/tok_1", ""},
	} {
		t.Run(strings.Join(test.args, " "), func(t *testing.T) {
			n := anything(t)
			got := deputy(t, "", test.args...)
			require.Equal(t, exitDone, got.code, got.err)
			asked := n.last(t)
			request := asked.method + " " + asked.path
			if asked.query != "" {
				request += "?" + asked.query
			}
			require.Equal(t, test.request, request)
			if test.body == "" {
				require.Empty(t, asked.body)
			} else {
				require.JSONEq(t, test.body, asked.body)
			}
			if asked.method == http.MethodPatch {
				require.Equal(t, "application/merge-patch+json", asked.header.Get("Content-Type"))
			}
		})
	}
}

func TestFileTravelsAsItStands(t *testing.T) {
	const text = "{\n  \"profile\": {\"name\": \"a-1\"},  \"from_a_newer_release\": 1\n}\n"
	path := filepath.Join(t.TempDir(), "agent.json")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	for _, args := range [][]string{
		{"agent", "create"},
		{"agent", "update", "a-1"},
		{"agent", "update", "a-1", "--replace"},
		{"application", "create"},
		{"principal", "create"},
		{"delegation", "create"},
		{"session", "create"},
		{"revocation", "create"},
		{"api-token", "create"},
	} {
		n := anything(t)
		require.Equal(t, exitDone, deputy(t, "", append(args, "-f", path)...).code, args)
		require.Equal(t, text, n.last(t).body)
		require.Equal(t, exitDone, deputy(t, text, append(args, "-f", "-")...).code, args)
		require.Equal(t, text, n.last(t).body)
	}
	require.Contains(t, deputy(t, "  \n", "agent", "create", "-f", "-").err, "is empty")
}

func TestMintTakesTheSecretFromAFileNeverFromAFlag(t *testing.T) {
	n := anything(t)
	got := deputy(t, "s3cret\n", "token", "mint", "--client-id", "a-1", "--client-secret-file", "-", "--scope", "x", "--scope", "y", "--duration", "1m")
	require.Equal(t, exitDone, got.code, got.err)
	id, secret, _ := (&http.Request{Header: n.last(t).header}).BasicAuth()
	require.Equal(t, "a-1 s3cret", id+" "+secret)
	require.Equal(t, "grant_type=client_credentials&max_duration_seconds=60&scope=x+y", n.last(t).body)

	t.Setenv(envClientID, "a-2")
	t.Setenv(envClientSecret, "other")
	require.Equal(t, exitDone, deputy(t, "tok", "token", "revoke", "-").code)
	id, secret, _ = (&http.Request{Header: n.last(t).header}).BasicAuth()
	require.Equal(t, "a-2 other", id+" "+secret)
	require.Equal(t, "/oauth2/revoke", n.last(t).path)
}

func TestAssignmentIsAddedAndTakenAway(t *testing.T) {
	var patches []string
	have := `["b","z"]`
	agent := func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"id":"a-1","applications":` + have + `}`))
	}
	n := newFakeNode(t, map[string]http.HandlerFunc{"GET /api/v1/agents/a-1": agent, "PATCH /api/v1/agents/a-1": agent})
	for _, args := range []string{"a z", "b", "b --remove", "c --remove"} {
		require.Equal(t, exitDone, deputy(t, "", append([]string{"agent", "assign", "a-1"}, strings.Fields(args)...)...).code)
		if last := n.last(t); last.method == http.MethodPatch {
			patches = append(patches, args+" "+last.body)
		}
	}
	require.Equal(t, []string{`a z {"applications":["a","b","z"]}`, `b --remove {"applications":["z"]}`}, patches,
		"what is so already is not written")
}

func TestLostSecretIsOwnedUpTo(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"POST /api/v1/agents/a-1/credentials": answer(`{"id":"crd_1","client_id":"a-1"}`),
		"POST /api/v1/api-tokens":             answer(`{"id":"tok_1"}`),
		"POST /api/v1/cluster/join-tokens":    answer(`{"id":"jtk_1"}`),
	})
	require.Contains(t, deputy(t, "", "agent", "credential", "create", "a-1").out, "lost with a broken connection")
	require.Contains(t, deputy(t, "", "api-token", "create", "ci", "--role", "auditor").out, "lost with a broken connection")
	require.Contains(t, deputy(t, "", "cluster", "join-token").out, "lost with a broken connection")
}

func TestUnknownRevocationIsDoubted(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"DELETE /api/v1/sessions/ses_1": answer(`{"handles":["ses_1"],"known":false,"committed":true,"index":3}`),
		"POST /api/v1/revocations":      answer(`{"handles":["dlg_1"],"known":false,"committed":true,"index":4}`),
	})
	got := deputy(t, "", "session", "end", "ses_1")
	require.Equal(t, exitDone, got.code)
	require.Contains(t, got.err, "'deputy session get ses_1' tells whether one does")
	got = deputy(t, "", "revocation", "create", "--delegation", "dlg_1")
	require.Equal(t, exitDone, got.code)
	require.Contains(t, got.err, "no node has seen that id; it is revoked all the same, but check the spelling")
}

func TestConfigurationErrorNamesItsLine(t *testing.T) {
	alone(t)
	path := filepath.Join(t.TempDir(), "deputy.yaml")
	require.NoError(t, os.WriteFile(path, []byte("node_id: n1\ndata_dir: data\npublic:\n  listne: 127.0.0.1:0\n"), 0o600))
	got := deputy(t, "", "server", "--config", path)
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "line 4")
	require.Contains(t, got.err, "listne")
}

func TestBulkBatchesKeepOrderAndLines(t *testing.T) {
	var batches []map[string][]json.RawMessage
	n := newFakeNode(t, nil)
	n.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		require.Equal(t, "/api/v1/bulk", r.URL.Path)
		require.NotEmpty(t, r.Header.Get("Idempotency-Key"))
		var body map[string][]json.RawMessage
		require.NoError(t, json.NewDecoder(r.Body).Decode(&body))
		batches = append(batches, body)
		var items []string
		for _, list := range []string{"agents", "principals", "delegations"} {
			for i, item := range body[list] {
				outcome := `"status":201`
				switch {
				case strings.Contains(string(item), "twice"):
					outcome = `"status":409,"code":"already-exists","detail":"there already"`
				case strings.Contains(string(item), "bad"):
					outcome = `"status":422,"code":"validation-failed","detail":"not valid","errors":[{"pointer":"/id","detail":"is bad"}]`
				}
				items = append(items, `{"pointer":"/`+list+`/`+count(i)+`",`+outcome+`}`)
			}
		}
		_, _ = w.Write([]byte(`{"index":1,"items":[` + strings.Join(items, ",") + `]}`))
	})
	var file strings.Builder
	for i := range 1000 {
		file.WriteString(`{"principal":{"id":"u` + count(i) + `"}}` + "\n")
	}
	file.WriteString("\n" + `{"agent":{"profile":{"name":"twice"}}}` + "\n")
	file.WriteString(`{"delegation":{"agent_id":"bad"}}` + "\n")

	got := deputy(t, file.String(), "bulk", "load", "-", "--skip-existing", "-o", "json")
	require.Equal(t, exitFailed, got.code)
	require.Contains(t, got.err, "line 1003: not valid; /id is bad\n")
	require.Contains(t, got.err, "error: 1 of 1002 lines were refused")
	require.JSONEq(t, `{"lines":1002,"created":1000,"existing":1,"refused":1,"batches":2,"seconds":0}`, got.out)
	require.Len(t, batches, 2)
	require.Len(t, batches[0]["principals"], 1000)
	require.Len(t, batches[1]["agents"], 1)

	got = deputy(t, `{"agent":{"profile":{"name":"twice"}}}`, "bulk", "load", "-")
	require.Equal(t, exitFailed, got.code, "without --skip-existing what is there already is a failure")
}

func TestBulkBodiesFitTheNodesBound(t *testing.T) {
	var sizes []int
	n := newFakeNode(t, map[string]http.HandlerFunc{"POST /api/v1/bulk": answer(`{"items":[]}`)})
	line := `{"principal":{"id":"` + strings.Repeat("x", 300<<10) + `"}}` + "\n"
	require.Equal(t, exitDone, deputy(t, strings.Repeat(line, 7), "bulk", "load", "-").code)
	for _, c := range n.calls {
		sizes = append(sizes, len(c.body))
		require.LessOrEqual(t, len(c.body), 1<<20)
	}
	require.Len(t, sizes, 3)
}

func TestBulkLinesAreReadStrictly(t *testing.T) {
	newFakeNode(t, nil)
	for text, want := range map[string]string{
		`{"agent":{}` + "\n":                   "line 1 is not an object",
		`{"agents":{}}`:                        "line 1 is not an object",
		"\n" + `{"agent":{},"principal":{}}`:   "line 2 holds 2 of",
		`{}`:                                   "line 1 holds 0 of",
		`"` + strings.Repeat("x", 2<<20) + `"`: "token too long",
	} {
		got := deputy(t, text, "bulk", "load", "-")
		require.Equal(t, exitFailed, got.code)
		require.Contains(t, got.err, want)
	}
}

func TestBulkThatBreaksSaysWhereAndHowFarItCame(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"POST /api/v1/bulk": problem(http.StatusBadRequest, identity.CodeInvalid, "no", `,"errors":[{"pointer":"/agents/0/x","detail":"is unknown"}]`),
	})
	got := deputy(t, `{"agent":{"x":1}}`, "bulk", "load", "-")
	require.Equal(t, exitFailed, got.code)
	require.Equal(t, "error: sending lines 1 to 1: no\n  /agents/0/x is unknown\n", got.err)
	require.Contains(t, got.out, "Created  0")
}

func TestBulkWaitsWhereItIsTooFast(t *testing.T) {
	asked := 0
	newFakeNode(t, map[string]http.HandlerFunc{"POST /api/v1/bulk": func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			problem(http.StatusTooManyRequests, identity.CodeRateLimited, "slower", "")(w, r)
			return
		}
		answer(`{"items":[{"pointer":"/agents/0","status":201}]}`)(w, r)
	}})
	require.Equal(t, exitDone, deputy(t, `{"agent":{}}`, "bulk", "load", "-").code)
	require.Equal(t, 2, asked)
}
