package interop

import (
	"encoding/pem"
	"io"
	"log"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/internal/testcluster"
)

// The two ways in which a runtime starts a session need an import, DEPUTY_ADDR and DEPUTY_TOKEN, and nothing else.
func TestPythonSnippetsStartSessions(t *testing.T) {
	interpreter := python(t)
	n := startNode(t)
	d := n.populate(t)
	// Word for word what a runtime would have; what follows only shows the token to the test.
	start := func(snippet string) string {
		text, err := os.ReadFile("testdata/" + snippet)
		require.NoError(t, err)
		return strings.TrimSpace(script(t, interpreter, n.environment(), string(text)+"\nprint(session.access_token)\n", "-W", "error", "-"))
	}
	introspect := func(as client.Credentials, token string) *wire.Introspection {
		answer, err := n.Introspect(t.Context(), as, token)
		require.NoError(t, err)
		require.True(t, answer.Active)
		return answer
	}

	autonomous := introspect(d.zendesk, start("session_autonomous.py"))
	require.Equal(t, "support-triage-agent", autonomous.Subject)
	require.Nil(t, autonomous.Actor)
	require.Equal(t, "zendesk.tickets.assign zendesk.tickets.read", autonomous.Scope)
	require.EqualValues(t, 3600, autonomous.ExpiresAt-autonomous.IssuedAt)

	delegated := introspect(d.gmail, start("session_for_user.py"))
	require.Equal(t, user, delegated.Subject)
	require.Equal(t, &wire.Actor{Subject: "inbox-assistant"}, delegated.Actor)
	require.Equal(t, "gmail.draft gmail.read", delegated.Scope)
	require.EqualValues(t, 14400, delegated.ExpiresAt-delegated.IssuedAt)
}

func TestPythonClientDoesAllThatItHasMethodsFor(t *testing.T) {
	interpreter := python(t)
	n := startNode(t)
	d := n.populate(t)
	issuer := newSigningKey(t)
	n.trust(t, issuer)
	environment := append(n.environment(),
		"GMAIL_SECRET="+d.gmail.Secret, "INBOX_SECRET="+d.inbox.Secret, "DRAFTER_SECRET="+d.drafter.Secret,
		"ID_TOKEN="+issuer.idToken(t, "fourth@company.com"), "JWKS="+string(newSigningKey(t).jwks(t)))
	require.Equal(t, "done\n", script(t, interpreter, environment, "", "-W", "error", "testdata/sdk_tour.py"))
}

func TestPythonClientGoesOnAtAnotherNode(t *testing.T) {
	interpreter := python(t)
	c := testcluster.New(t, 3)
	c.AwaitVoters(3) // so that the two that stay are a majority
	environment := []string{"DEPUTY_ADDR=" + strings.Join([]string{c.URL(0), c.URL(1), c.URL(2)}, ","), "DEPUTY_TOKEN=" + c.RootToken()}
	c.Stop(0)
	require.Equal(t, "done\n", script(t, interpreter, environment, "", "-W", "error", "testdata/sdk_nodes.py"))
}

// Certificates are checked against those that the client is given, and a node whose certificate is not trusted is one
// that can't be reached.
func TestPythonClientChecksCertificates(t *testing.T) {
	interpreter := python(t)
	n := startNode(t)
	target, err := url.Parse(n.url)
	require.NoError(t, err)
	front := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target) }})
	front.Config.ErrorLog = log.New(io.Discard, "", 0) // of handshakes that the client breaks off
	front.StartTLS()
	defer front.Close()
	roots := filepath.Join(t.TempDir(), "ca.pem")
	require.NoError(t, os.WriteFile(roots, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw}), 0o600))
	environment := []string{"DEPUTY_ADDR=" + front.URL, "DEPUTY_TOKEN=" + n.token, "CA_FILE=" + roots}
	require.Equal(t, "done\n", script(t, interpreter, environment, `
import os
import deputy

address, token = os.environ["DEPUTY_ADDR"], os.environ["DEPUTY_TOKEN"]
with deputy.Client(address, token, ca_file=os.environ["CA_FILE"]) as client:
    assert [client.principals.create("u@x").id, client.principals.get("u@x").id] == ["u@x"] * 2
try:
    deputy.Client(address, token, timeout=2).principals.get("u@x")
except deputy.Unreachable as e:
    assert "certificate is not trusted" in str(e), e
    print("done")
`, "-W", "error", "-"))
}
