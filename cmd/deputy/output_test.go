package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/deputy-id/deputy/api/wire"
)

const twoAgents = `[
 {"id":"inbox-assistant","profile":{"name":"inbox-assistant","owner_group":"productivity","agent_type":"user-delegated"},
  "default_scopes":["gmail.draft","gmail.read"],"max_session_duration_seconds":14400,"applications":["gmail"],"groups":[],"labels":{},
  "status":"active","credentials":[],"handle":"agt_inbox-assistant#2","created_at":"2026-04-17T07:00:00.000Z","updated_at":"2026-04-17T07:58:30.000Z","revision":9},
 {"id":"support-triage-agent","profile":{"name":"support-triage-agent","agent_type":"autonomous"},
  "default_scopes":[],"max_session_duration_seconds":3600,"applications":[],"groups":[],"labels":{},
  "status":"suspended","credentials":[],"handle":"agt_support-triage-agent#1","created_at":"2026-04-01T00:00:00.000Z","updated_at":"2026-04-01T00:00:00.000Z","revision":4}]`

func agentsNode(t *testing.T) *fakeNode {
	t.Helper()
	return newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/agents": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", `</api/v1/agents?after=support-triage-agent>; rel="next"`)
			_, _ = io.WriteString(w, twoAgents)
		},
		"GET /api/v1/agents/inbox-assistant": answer(twoAgents[strings.Index(twoAgents, "{"):strings.Index(twoAgents, ",\n {\"id\":\"support")]),
	})
}

func TestTableIsAlignedAndTellsOfMore(t *testing.T) {
	agentsNode(t)
	got := deputy(t, "", "agent", "list")
	require.Equal(t, `NAME                  TYPE            STATUS     OWNER         APPLICATIONS  SCOPES                  UPDATED
inbox-assistant       user-delegated  active     productivity  gmail         gmail.draft gmail.read  1m30s ago
support-triage-agent  autonomous      suspended  -             -             -                       2026-04-01 00:00Z
`, got.out)
	require.Equal(t, "there are more: --after support-triage-agent, or --all\n", got.err)
}

func TestObjectIsDrawnLineByLine(t *testing.T) {
	agentsNode(t)
	require.Equal(t, `Name             inbox-assistant
Owner group      productivity
Type             user-delegated
Status           active
Default scopes   gmail.draft gmail.read
Longest session  4h
Applications     gmail
Handle           agt_inbox-assistant#2
Created          1h ago
Updated          1m30s ago
`, deputy(t, "", "agent", "get", "inbox-assistant").out)
}

func TestJSONHasTheAPIsOwnFieldsAndTimes(t *testing.T) {
	agentsNode(t)
	got := deputy(t, "", "agent", "list", "-o", "json")
	require.JSONEq(t, twoAgents, got.out)
	require.Equal(t, exitDone, got.code)
}

func TestYAMLHasTheFieldsOfJSONInTheirOrder(t *testing.T) {
	agentsNode(t)
	require.Equal(t, `id: inbox-assistant
profile:
  name: inbox-assistant
  owner_group: productivity
  agent_type: user-delegated
default_scopes:
  - gmail.draft
  - gmail.read
max_session_duration_seconds: 14400
applications:
  - gmail
groups: []
labels: {}
status: active
credentials: []
handle: agt_inbox-assistant#2
created_at: "2026-04-17T07:00:00.000Z"
updated_at: "2026-04-17T07:58:30.000Z"
revision: 9
`, deputy(t, "", "agent", "get", "inbox-assistant", "-o", "yaml").out)
}

func TestYAMLSurvivesTextThatLooksLikeSomethingElse(t *testing.T) {
	given := map[string]any{
		"a": "true", "b": "12", "c": "null", "d": "", "e": "a: b", "f": "- x", "g": "two\nlines", "h": "\u2028 <&> \"q\" \\",
		"i": true, "j": nil, "k": "2026-04-17", "l": "~", "m": "ünïcödé 😀", "n": "0x1f", "o": []any{}, "p": " padded ",
	}
	var out bytes.Buffer
	require.NoError(t, writeYAML(&out, given))
	var back map[string]any
	require.NoError(t, yaml.Unmarshal(out.Bytes(), &back))
	require.Equal(t, given, back, out.String())
}

func TestEmptyListIsAListInEveryFormat(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{"GET /api/v1/agents": answer(`[]`)})
	require.Equal(t, "[]\n", deputy(t, "", "agent", "list", "-o", "json").out)
	require.Equal(t, "[]\n", deputy(t, "", "agent", "list", "-o", "yaml").out)
	require.Equal(t, "NAME  TYPE  STATUS  OWNER  APPLICATIONS  SCOPES  UPDATED\n", deputy(t, "", "agent", "list").out)
}

func TestListReadsEveryPageWhenAsked(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{
		"GET /api/v1/principals": func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Query().Get("after") == "" {
				w.Header().Set("Link", `</api/v1/principals?after=a>; rel="next"`)
				_, _ = io.WriteString(w, `[{"id":"a"}]`)
				return
			}
			_, _ = io.WriteString(w, `[{"id":"b"}]`)
		},
	})
	got := deputy(t, "", "principal", "list", "--all", "-o", "json")
	var list []wire.Principal
	require.NoError(t, json.Unmarshal([]byte(got.out), &list))
	require.Len(t, list, 2)
	require.Empty(t, got.err)
}

func TestInactiveTokenIsExactlyThat(t *testing.T) {
	n := newFakeNode(t, map[string]http.HandlerFunc{"POST /oauth2/introspect": answer(`{"active":false}`)})
	t.Setenv(envClientID, "zendesk")
	t.Setenv(envClientSecret, "s")
	got := deputy(t, "eyJ.x.y\n", "token", "introspect", "-", "-o", "json")
	require.JSONEq(t, `{"active":false}`, got.out)
	require.Equal(t, "token=eyJ.x.y", n.last(t).body)
	id, secret, _ := (&http.Request{Header: n.last(t).header}).BasicAuth()
	require.Equal(t, "zendesk s", id+" "+secret)
}

func TestIntrospectionTellsTheChain(t *testing.T) {
	newFakeNode(t, map[string]http.HandlerFunc{"POST /oauth2/introspect": answer(
		`{"active":true,"scope":"a b","sub":"user@company.com","aud":["https://a","https://b"],"exp":1776416400,"sid":"ses_x","act":{"sub":"sub-agent","act":{"sub":"agent"}}}`)})
	t.Setenv(envClientID, "zendesk")
	t.Setenv(envClientSecret, "s")
	require.Equal(t, `Active    yes
Subject   user@company.com
Actors    agent → sub-agent
Scope     a b
Audience  https://a https://b
Session   ses_x
Ends      in 1h
`, deputy(t, "", "token", "introspect", "t").out)
}
