package main

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
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

// A user's issuer, an agent that proves itself by a key, a token that is bound to another, and the user who takes consent
// back: all by commands.
func TestExchangeAndConsentByCommandLine(t *testing.T) {
	devNode(t)
	file := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	application := into[wire.Application](t, gmailApplication, "application", "create", "-f", "-", "--with-secret")
	into[wire.Agent](t, inboxAgent, "agent", "create", "-f", "-")
	require.Equal(t, exitDone, deputy(t, "", "agent", "assign", "inbox-assistant", "gmail").code)

	own, bound := filepath.Join(t.TempDir(), "own.pem"), filepath.Join(t.TempDir(), "bound.pem")
	public := deputy(t, "", "token", "key", "--new-file", own)
	require.Equal(t, exitDone, public.code, public.err)
	require.Equal(t, exitUsage, deputy(t, "", "token", "key", "--new-file", own).code, "a key is never overwritten")
	require.Equal(t, exitDone, deputy(t, "", "token", "key", "--new-file", bound).code)
	require.Equal(t, public.out, deputy(t, "", "token", "key", "--from-file", own).out)
	credential := into[wire.NewCredential](t, public.out, "agent", "credential", "create", "inbox-assistant", "--jwks-file", "-")
	require.Equal(t, identity.CredentialKeys, credential.Kind)
	leaked := deputy(t, string(mustRead(t, own)), "agent", "credential", "create", "inbox-assistant", "--jwks-file", "-")
	require.Equal(t, exitUsage, leaked.code)
	require.NotContains(t, leaked.err, "PRIVATE KEY")

	issuer, err := client.NewKey()
	require.NoError(t, err)
	trusted := into[wire.TrustedIssuer](t, string(issuer.JWK()), "trusted-issuer", "add", "https://login.company.com", "--client-id", "web", "--email-domain", "company.com", "--jwks-file", "-")
	require.Len(t, *into[[]wire.TrustedIssuer](t, "", "trusted-issuer", "list"), 1)
	lent := into[wire.Delegation](t, "", "delegation", "create", "--principal", "user@company.com", "--agent", "inbox-assistant", "--scope", "gmail.read", "--duration", "1h", "--ensure-principal")
	idToken := file("id-token", signedIDToken(t, issuer, "user@company.com"))

	as := []string{"--client-id", "inbox-assistant", "--client-key-file", own}
	token := into[wire.Token](t, string(mustRead(t, idToken)), append([]string{"token", "exchange", "-", "--type", "id-token", "--dpop-key-file", bound}, as...)...)
	require.Equal(t, "DPoP", token.TokenType)
	asGmail := []string{"--client-id", "gmail", "--client-secret-file", file("secret", application.Credential.Secret)}
	introspect := func() *wire.Introspection {
		return into[wire.Introspection](t, token.AccessToken, append([]string{"token", "introspect", "-"}, asGmail...)...)
	}
	require.NotNil(t, introspect().Confirmation)
	require.Equal(t, "DPoP", into[wire.Token](t, "", append([]string{"token", "exchange", lent.ID, "--dpop-key-file", bound}, as...)...).TokenType)

	require.Len(t, *into[[]wire.Delegation](t, "", "consent", "list", "--active", "--id-token-file", idToken), 1)
	got := deputy(t, "", "consent", "withdraw", lent.ID, "--id-token-file", idToken, "--reason", "enough")
	require.Equal(t, exitDone, got.code, got.err)
	require.False(t, introspect().Active)
	refused := deputy(t, string(mustRead(t, idToken)), append([]string{"token", "exchange", "-", "--type", "id-token"}, as...)...)
	require.Equal(t, exitFailed, refused.code)
	require.Contains(t, refused.err, "withdrew")

	require.Equal(t, exitDone, deputy(t, "", "trusted-issuer", "remove", trusted.ID).code)
	require.Equal(t, exitFailed, deputy(t, "", "consent", "list", "--id-token-file", idToken).code)
	require.Equal(t, exitUsage, deputy(t, "", "consent", "list").code)
}

func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	return text
}

// signedIDToken is what https://login.company.com would issue to its client "web".
func signedIDToken(t *testing.T, issuer *client.Key, email string) string {
	t.Helper()
	block, _ := pem.Decode(issuer.PEM())
	private, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	require.NoError(t, err)
	now := time.Now().Unix()
	part := func(v map[string]any) string {
		text, err := json.Marshal(v)
		require.NoError(t, err)
		return base64.RawURLEncoding.EncodeToString(text)
	}
	signed := part(map[string]any{"alg": "EdDSA", "kid": issuer.Thumbprint()}) + "." + part(map[string]any{
		"iss": "https://login.company.com", "sub": "00u1", "aud": "web", "email": email, "email_verified": true, "iat": now, "exp": now + 600,
	})
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(private.(ed25519.PrivateKey), []byte(signed)))
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
