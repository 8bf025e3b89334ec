package api

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

var credentialsGrant = url.Values{"grant_type": {"client_credentials"}}

func TestPrivateKeyJWTProvesAgentsAndApplications(t *testing.T) {
	g := newGroup(t, 2)
	n, other := g.nodes[0], g.nodes[1]
	secret := n.applicationWithSecret(zendesk)
	n.agentWithSecret(zendeskAgent)
	agentKey, applicationKey := newSigner(t, "a"), newSigner(t, "z")
	credential := agentKey.register(n, "/api/v1/agents/support-triage-agent")
	require.Equal(t, identity.CredentialKeys, credential.Kind)
	require.Empty(t, credential.Secret)
	applicationKey.register(n, "/api/v1/applications/zendesk")

	for name, aud := range map[string]any{
		"issuer": testIssuer, "token endpoint": testIssuer + tokenPath, "one of several": []string{"https://elsewhere.example", testIssuer},
	} {
		minted := ok[wire.Token](n.send("POST", tokenPath, asserted(credentialsGrant, agentKey.assertion(g, "support-triage-agent", claimSet{"aud": aud}))), 200)
		require.True(t, n.introspect("zendesk", secret, minted.AccessToken).Active, name)
	}
	minted := n.mintAsserted(agentKey, "support-triage-agent")
	form := url.Values{"token": {minted.AccessToken}}
	aud := testIssuer + "/oauth2/introspect"
	seen := ok[wire.Introspection](other.send("POST", "/oauth2/introspect", asserted(form, applicationKey.assertion(g, "zendesk", claimSet{"aud": aud}))), 200)
	require.True(t, seen.Active)

	// The token carries the credential: to remove it ends what was minted with it, and nothing else.
	bySecret := n.mint("support-triage-agent", ok[wire.NewCredential](n.send("POST", "/api/v1/agents/support-triage-agent/credentials", nil), 201).Secret, nil)
	ok[wire.Deleted](n.send("DELETE", "/api/v1/agents/support-triage-agent/credentials/"+credential.ID, nil), 200)
	require.False(t, other.introspect("zendesk", secret, minted.AccessToken).Active)
	require.True(t, other.introspect("zendesk", secret, bySecret.AccessToken).Active)
	n.send("POST", tokenPath, asserted(credentialsGrant, agentKey.assertion(g, "support-triage-agent", nil))).refusedOAuth(401, "invalid_client")
}

func (n *node) mintAsserted(key *signer, client string) wire.Token {
	n.t.Helper()
	return ok[wire.Token](n.send("POST", tokenPath, asserted(credentialsGrant, key.assertion(n.group, client, nil))), 200)
}

func TestAssertionIsGoodOnceAtANode(t *testing.T) {
	g := newGroup(t, 2)
	n := g.nodes[0]
	n.agentWithSecret(articleAgent)
	key := newSigner(t, "a")
	key.register(n, "/api/v1/agents/support-triage-agent")
	assertion := key.assertion(g, "support-triage-agent", nil)
	ok[wire.Token](n.send("POST", tokenPath, asserted(credentialsGrant, assertion)), 200)
	require.Contains(t, n.send("POST", tokenPath, asserted(credentialsGrant, assertion)).refusedOAuth(401, "invalid_client"), "jti")
	// Another node has another memory; docs/clients.md says so.
	ok[wire.Token](g.nodes[1].send("POST", tokenPath, asserted(credentialsGrant, assertion)), 200)
}

// A refusal that has nothing to do with the assertion must not let it be used again.
func TestAssertionIsUsedUpByARefusedRequest(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	n.agentWithSecret(articleAgent)
	key := newSigner(t, "a")
	key.register(n, "/api/v1/agents/support-triage-agent")
	assertion := key.assertion(g, "support-triage-agent", nil)
	n.send("POST", tokenPath, asserted(url.Values{"grant_type": {"client_credentials"}, "scope": {"root"}}, assertion)).refusedOAuth(400, "invalid_scope")
	n.send("POST", tokenPath, asserted(credentialsGrant, assertion)).refusedOAuth(401, "invalid_client")
}

func TestBadAssertionsAreRefused(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	n.agentWithSecret(articleAgent)
	secret := n.agentWithSecret(inboxAgentAlone)
	key, stranger := newSigner(t, "a"), newSigner(t, "a")
	key.register(n, "/api/v1/agents/support-triage-agent")
	now := g.time().Unix()
	const client = "support-triage-agent"
	good := func(changes claimSet) string { return key.assertion(g, client, changes) }
	for name, c := range map[string]struct {
		form   url.Values
		status int
		error  string
	}{
		"another's key":       {asserted(credentialsGrant, stranger.assertion(g, client, nil)), 401, "invalid_client"},
		"no such client":      {asserted(credentialsGrant, key.assertion(g, "nobody", nil)), 401, "invalid_client"},
		"client without keys": {asserted(credentialsGrant, key.assertion(g, "inbox-assistant", nil)), 401, "invalid_client"},
		"signature":           {asserted(credentialsGrant, corrupt(good(nil))), 401, "invalid_client"},
		"audience":            {asserted(credentialsGrant, good(claimSet{"aud": "https://elsewhere.example"})), 401, "invalid_client"},
		"no audience":         {asserted(credentialsGrant, good(claimSet{"aud": nil})), 401, "invalid_client"},
		"expired":             {asserted(credentialsGrant, good(claimSet{"iat": now - 200, "exp": now - 100})), 401, "invalid_client"},
		"too long":            {asserted(credentialsGrant, good(claimSet{"exp": now + 3600})), 401, "invalid_client"},
		"no end":              {asserted(credentialsGrant, good(claimSet{"exp": nil})), 401, "invalid_client"},
		"no jti":              {asserted(credentialsGrant, good(claimSet{"jti": nil})), 401, "invalid_client"},
		"before the start":    {asserted(credentialsGrant, good(claimSet{"iat": now - 3, "exp": now + 60})), 401, "invalid_client"},
		"issuer of another":   {asserted(credentialsGrant, good(claimSet{"iss": "inbox-assistant"})), 401, "invalid_client"},
		"DPoP proof":          {asserted(credentialsGrant, key.proof(g, "", nil)), 401, "invalid_client"},
		"not a token":         {asserted(credentialsGrant, "x"), 401, "invalid_client"},
		"another client_id":   {asserted(url.Values{"grant_type": {"client_credentials"}, "client_id": {"inbox-assistant"}}, good(nil)), 400, "invalid_request"},
		"another type":        {url.Values{"grant_type": {"client_credentials"}, "client_assertion": {good(nil)}, "client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:saml2-bearer"}}, 400, "invalid_request"},
		"no type":             {url.Values{"grant_type": {"client_credentials"}, "client_assertion": {good(nil)}}, 400, "invalid_request"},
		"a secret beside it":  {asserted(url.Values{"grant_type": {"client_credentials"}, "client_id": {"inbox-assistant"}, "client_secret": {secret}}, good(nil)), 400, "invalid_request"},
		"an access token":     {asserted(credentialsGrant, n.mintAsserted(key, client).AccessToken), 401, "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			n.send("POST", tokenPath, c.form).refusedOAuth(c.status, c.error)
		})
	}
	n.send("POST", tokenPath, asserted(credentialsGrant, good(nil)), basic("inbox-assistant", secret)).refusedOAuth(400, "invalid_request")
}

// inboxAgentAlone needs no application.
var inboxAgentAlone = strings.Replace(inboxAgent, `, "applications": ["gmail"]`, "", 1)

func TestKeysArePublicOrRefused(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	n.agentWithSecret(articleAgent)
	const path = "/api/v1/agents/support-triage-agent/credentials"
	for name, c := range map[string]struct{ body, says string }{
		"private":       {`{"jwks":{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A"}}`, "private"},
		"symmetric":     {`{"jwks":{"kty":"oct","k":"c2VjcmV0"}}`, "/jwks"},
		"no keys":       {`{"jwks":{"keys":[]}}`, "/jwks"},
		"both":          {fmt.Sprintf(`{"jwks":%s,"jwks_uri":"https://a.example/keys"}`, newSigner(t, "a").jwks()), "one of the two"},
		"no address":    {`{"jwks_uri":"keys"}`, "/jwks_uri"},
		"not an object": {`{"jwks":"x"}`, "must be an object"},
	} {
		t.Run(name, func(t *testing.T) {
			p := n.send("POST", path, c.body).problem()
			require.Equal(t, 400, p.Status)
			require.Contains(t, fmt.Sprint(p), c.says)
		})
	}
}

// keyServer publishes keys and counts who asks.
func keyServer(t *testing.T, keys func() []byte) (url string, asked *atomic.Int64) {
	asked = new(atomic.Int64)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		body := keys()
		if body == nil {
			w.WriteHeader(500)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(body)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestPublishedKeysAreFetchedAndRollOver(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	n.agentWithSecret(articleAgent)
	first, second := newSigner(t, "one"), newSigner(t, "two")
	published := new(atomic.Pointer[signer])
	published.Store(first)
	url, asked := keyServer(t, func() []byte { return published.Load().jwks() })
	ok[wire.NewCredential](n.send("POST", "/api/v1/agents/support-triage-agent/credentials", wire.CredentialRequest{JWKSURI: url}), 201)

	n.mintAsserted(first, "support-triage-agent")
	n.mintAsserted(first, "support-triage-agent")
	require.EqualValues(t, 1, asked.Load())
	published.Store(second)
	g.advance(31 * time.Second) // so often a source is asked for a key that it did not have
	n.mintAsserted(second, "support-triage-agent")
	require.EqualValues(t, 2, asked.Load())
}

func TestKeysThatCantBeHadAreNotWrong(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	n.agentWithSecret(articleAgent)
	key := newSigner(t, "one")
	url, _ := keyServer(t, func() []byte { return nil })
	ok[wire.NewCredential](n.send("POST", "/api/v1/agents/support-triage-agent/credentials", wire.CredentialRequest{JWKSURI: url}), 201)
	a := n.send("POST", tokenPath, asserted(credentialsGrant, key.assertion(g, "support-triage-agent", nil)))
	a.refusedOAuth(503, "temporarily_unavailable")
	require.NotEmpty(t, a.Header.Get("Retry-After"))
}
