package main

import (
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

const twoSessions = `{"sessions":[
	{"session_id":"ses_1","agent_id":"sub","principal_user_id":"u@x","chain":["inbox","sub"],"scopes":["a","b"],"audience":["https://x"],
	 "started_at":"2026-04-17T07:58:00Z","expires_at":"2026-04-17T09:00:00Z","node":"n1","revoked":true,"revoked_by":"agt_inbox#4"},
	{"session_id":"ses_2","agent_id":"triage","principal_user_id":null,"chain":["triage"],"scopes":[],"audience":["https://x"],
	 "started_at":"2026-04-17T07:59:00Z","expires_at":"2026-04-17T08:30:00Z","node":"n2","revoked":false}],`

func TestSessionsAreListedWithWhatTheListLacks(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{"GET /api/v1/sessions": answer(twoSessions + `"complete":false,"nodes":[
		{"id":"n1","replied":true,"complete":true,"dropped":0},
		{"id":"n2","replied":true,"complete":false,"dropped":12,"dropped_until":"2026-04-17T08:10:00Z"},
		{"id":"n3","replied":false,"error":"it did not answer","complete":false,"dropped":0},
		{"id":"n4","replied":true,"since":"2026-04-17T07:00:00Z","complete":false,"dropped":0}]}`)})
	got := deputy(t, "", "session", "list")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, strings.TrimPrefix(`
SESSION  AGENT        PRINCIPAL  SCOPES  STARTED  ENDS    STATE    NODE
ses_1    inbox > sub  u@x        a b     2m ago   in 1h   revoked  n1
ses_2    triage       -          -       1m ago   in 30m  active   n2
`, "\n"), got.out)
	require.Equal(t, `warning: n2 had no room for 12 sessions, which may run until 2026-04-17T08:10:00.000Z
warning: the sessions that n3 has started are missing: it did not answer
warning: n4 was restarted, and has forgotten what it had started before 2026-04-17T07:00:00.000Z
`, got.err)
	require.NotContains(t, got.err, "n1")
}

func TestWholeListOfSessionsRemembersEveryGap(t *testing.T) {
	page := func(id, next, node string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			if next != "" {
				w.Header().Set("Link", `</api/v1/sessions?after=`+next+`>; rel="next"`)
			}
			_, _ = w.Write([]byte(`{"sessions":[{"session_id":"` + id + `"}],"complete":` + map[bool]string{true: "true", false: "false"}[node == ""] +
				`,"nodes":[{"id":"n1","replied":` + map[bool]string{true: "true", false: "false"}[node == ""] + `,"complete":true,"error":"` + node + `"}]}`))
		}
	}
	pages := map[string]http.HandlerFunc{"": page("ses_1", "ses_1", ""), "ses_1": page("ses_2", "ses_2", "away"), "ses_2": page("ses_3", "", "")}
	newFakeNode(t, map[string]http.HandlerFunc{"GET /api/v1/sessions": func(w http.ResponseWriter, r *http.Request) {
		pages[r.URL.Query().Get("after")](w, r)
	}})
	list := into[wire.SessionList](t, "", "session", "list", "--all")
	require.Len(t, list.Sessions, 3)
	require.False(t, list.Complete)
	require.Len(t, list.Nodes, 1)
	require.Equal(t, "away", list.Nodes[0].Error)

	got := deputy(t, "", "session", "list", "-o", "yaml")
	require.Equal(t, exitDone, got.code)
	require.Contains(t, got.out, "sessions:\n  - session_id: ses_1\n")
	require.Equal(t, "there are more: --after ses_1, or --all\n", got.err)
	require.Contains(t, deputy(t, "", "session", "list", "--all").err, "the sessions that n1 has started are missing: away")
}

func TestSessionIsShownAsFarAsItIsKnown(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/sessions/ses_1": answer(`{"session_id":"ses_1","started_at":"2026-04-17T07:58:00Z","ends_by":"2026-04-18T07:58:00Z","revoked":true,"revoked_by":"agt_inbox#4",
			"revocation":{"handle":"agt_inbox#4","reason":"INC-42","by":"tok_1","revoked_at":"2026-04-17T07:59:00Z"},"known":true,"agent_id":"sub","principal_user_id":"u@x",
			"chain":["inbox","sub"],"scopes":["a","b"],"audience":["https://x"],"delegation_id":"dlg_1","parent_session_id":"ses_0","trigger_reason":"a click",
			"expires_at":"2026-04-17T09:00:00Z","node":"n1"}`),
		"GET /api/v1/sessions/ses_2": answer(`{"session_id":"ses_2","started_at":"2026-04-17T07:58:00Z","ends_by":"2026-04-18T07:58:00Z","revoked":false,"known":false,
			"nodes":[{"id":"n2","replied":false,"error":"it did not answer","complete":false,"dropped":0}]}`),
	})
	got := deputy(t, "", "session", "get", "ses_1")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, `Session       ses_1
Agent         sub
Chain         inbox > sub
On behalf of  u@x
Delegation    dlg_1
Hop of        ses_0
Scopes        a b
Audience      https://x
Set off by    a click
Node          n1
Began         2m ago
Ends          in 1h
Revoked       yes
By way of     agt_inbox#4
Revoked at    1m ago
By            tok_1
Reason        INC-42
`, got.out)
	require.Empty(t, got.err)
	got = deputy(t, "", "session", "get", "ses_2")
	require.Equal(t, "Session  ses_2\nBegan    2m ago\nOver by  in 23h58m\nRevoked  no\n", got.out)
	require.Contains(t, got.err, "no node that answered remembers it")
	require.Contains(t, got.err, "the sessions that n2 has started are missing")
}

func TestEndOfAllSessionsIsToldAndCounted(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{"DELETE /api/v1/sessions": func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("dry_run") == "true" {
			_, _ = w.Write([]byte(`{"agent_id":"inbox","status":"active","handles":["agt_inbox#4"],"known":true,"dry_run":true,
				"count":{"sessions":212,"truncated":true,"complete":false,"nodes":[{"id":"n2","replied":false,"error":"it did not answer"}]}}`))
			return
		}
		_, _ = w.Write([]byte(`{"agent_id":"inbox","status":"active","handles":["agt_inbox#4"],"known":true,"committed":true,"index":9}`))
	}})
	got := deputy(t, "", "session", "end", "--agent", "inbox", "--dry-run")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, "Dry run       nothing was changed\nSessions of   inbox\nStatus        active\nWould revoke  agt_inbox#4\nWould end     212 or more\n", got.out)
	require.Contains(t, got.err, "n2 has started are missing")
	got = deputy(t, "", "session", "end", "--agent", "inbox")
	require.Equal(t, exitDone, got.code, got.err)
	require.Equal(t, "Sessions of  inbox\nStatus       active\nRevoked      agt_inbox#4\nCommitted    yes\n", got.out)
	require.Equal(t, exitFailed, deputy(t, "", "session", "end", "--agent", "inbox", "--wait", "fenced").code, "it is not fenced")
}

func TestSessionsByCommandLine(t *testing.T) {
	devNode(t)
	into[wire.Agent](t, triageAgent, "agent", "create", "-f", "-")
	first := into[wire.Session](t, "", "session", "create", "--agent", "support-triage-agent", "--reason", "by hand")
	list := into[wire.SessionList](t, "", "session", "list", "--agent", "support-triage-agent")
	require.Equal(t, first.SessionID, list.Sessions[0].SessionID)
	require.Equal(t, "by hand", list.Sessions[0].TriggerReason)
	require.True(t, list.Complete)
	require.EqualValues(t, 1, into[wire.SessionsEnded](t, "", "session", "end", "--agent", "support-triage-agent", "--dry-run").Count.Sessions)
	require.True(t, into[wire.SessionsEnded](t, "", "session", "end", "--agent", "support-triage-agent", "--wait", "fenced").Fenced)
	require.Empty(t, into[wire.SessionList](t, "", "session", "list", "--active").Sessions)
	state := into[wire.SessionState](t, "", "session", "get", first.SessionID)
	require.True(t, state.Known)
	require.True(t, state.Revoked)
}
