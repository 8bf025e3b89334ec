package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

// devNode starts a real node in this process, to which the commands of the test then speak by themselves.
func devNode(t *testing.T) (end func() int) {
	t.Helper()
	alone(t)
	out, end := started(t, "server", "--dev", "--listen", "127.0.0.1:0")
	require.Eventually(t, func() bool { return strings.Contains(out.String(), "export "+envToken) }, 20*time.Second, 10*time.Millisecond,
		"the node did not start: %s", out)
	return end
}

// into runs a command with JSON output and reads it.
func into[T any](t *testing.T, stdin string, args ...string) *T {
	t.Helper()
	got := deputy(t, stdin, append(args, "-o", "json")...)
	require.Equal(t, exitDone, got.code, "deputy %v: %s", args, got.err)
	out := new(T)
	require.NoError(t, json.Unmarshal([]byte(got.out), out))
	return out
}

func TestLifeOfASessionByCommandLine(t *testing.T) {
	end := devNode(t)

	app := into[wire.Application](t, zendeskApplication, "application", "create", "-f", "-", "--with-secret")
	agent := into[wire.Agent](t, triageAgent, "agent", "create", "-f", "-", "--with-secret")
	require.Equal(t, "support-triage-agent", agent.ID)
	secret := func(text string) string {
		path := filepath.Join(t.TempDir(), "secret")
		require.NoError(t, os.WriteFile(path, []byte(text+"\n"), 0o600))
		return path
	}
	asZendesk := []string{"--client-id", "zendesk", "--client-secret-file", secret(app.Credential.Secret)}
	asAgent := []string{"--client-id", agent.ID, "--client-secret-file", secret(agent.Credential.Secret)}
	introspect := func(token string) *wire.Introspection {
		return into[wire.Introspection](t, token, append([]string{"token", "introspect", "-"}, asZendesk...)...)
	}

	refused := deputy(t, "", append([]string{"token", "mint"}, asAgent...)...)
	require.Equal(t, exitFailed, refused.code, "the agent is not assigned yet")

	require.Equal(t, exitDone, deputy(t, "", "agent", "assign", agent.ID, "zendesk").code)
	token := into[wire.Token](t, "", append([]string{"token", "mint", "--scope", "zendesk.tickets.read"}, asAgent...)...)
	answer := introspect(token.AccessToken)
	require.True(t, answer.Active)
	require.Equal(t, "zendesk.tickets.read", answer.Scope)
	explained := into[wire.Explanation](t, token.AccessToken, "token", "explain", "-", "--scope", "zendesk.tickets.assign")
	require.True(t, explained.Active)
	require.False(t, explained.Allowed)

	require.Equal(t, exitDone, deputy(t, "", "session", "end", token.SessionID, "--reason", "test").code)
	require.Equal(t, `{"active":false}`, compact(t, deputy(t, token.AccessToken, append([]string{"token", "introspect", "-", "-o", "json"}, asZendesk...)...).out))
	require.True(t, into[wire.SessionState](t, "", "session", "get", token.SessionID).Revoked)

	session := into[wire.Session](t, triageSession, "session", "create", "-f", "-")
	require.True(t, introspect(session.AccessToken).Active)
	kill := into[wire.Kill](t, "", "agent", "kill", agent.ID, "--reason", "INC-42")
	require.Equal(t, agent.Handle, kill.Handles[0])
	require.False(t, introspect(session.AccessToken).Active)
	require.Contains(t, deputy(t, triageSession, "session", "create", "-f", "-").err, "suspended")

	require.Zero(t, end(), "a node that is told to stop stops in order")
	require.Equal(t, exitUnreachable, deputy(t, "", "agent", "list").code, "the stopped node has left no address behind")
}

func TestUserDelegatedSessionByCommandLine(t *testing.T) {
	devNode(t)
	into[wire.Application](t, gmailApplication, "application", "create", "-f", "-")
	into[wire.Agent](t, inboxAgent, "agent", "create", "-f", "-")
	require.Equal(t, exitDone, deputy(t, "", "agent", "assign", "inbox-assistant", "gmail").code)
	session := into[wire.Session](t, inboxSession, "session", "create", "-f", "-")
	require.EqualValues(t, 14400, session.ExpiresIn)
	require.Equal(t, "user@company.com", *session.PrincipalUserID)

	got := deputy(t, "", "delegation", "withdraw", session.DelegationID)
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, session.DelegationID)
	explained := into[wire.Explanation](t, session.AccessToken, "token", "explain", "-")
	require.False(t, explained.Active)
	delegation := into[wire.Delegation](t, "", "delegation", "get", session.DelegationID)
	require.Equal(t, "withdrawn", string(delegation.Status))
}

func TestFleetIsLoadedFromLines(t *testing.T) {
	devNode(t)
	var lines strings.Builder
	for i := range 1500 {
		lines.WriteString(`{"agent":{"profile":{"name":"a-` + count(i) + `","agent_type":"autonomous"},"default_scopes":["mail.read"]}}` + "\n")
		lines.WriteString(`{"delegation":{"principal_id":"u` + count(i%7) + `@x","agent_id":"a-` + count(i) + `","scopes":["mail.read"],"duration_seconds":3600}}` + "\n")
	}
	got := deputy(t, lines.String(), "bulk", "load", "-", "--ensure-principal")
	require.Equal(t, exitDone, got.code, got.err)
	require.Contains(t, got.out, "Created  3000")
	require.Len(t, *into[[]wire.Agent](t, "", "agent", "list", "--all"), 1500)
	require.Len(t, *into[[]wire.Delegation](t, "", "delegation", "list", "--all", "--principal", "u3@x"), 214)
}

func compact(t *testing.T, text string) string {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(text), &v))
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}
