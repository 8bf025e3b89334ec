package api

import (
	"encoding/json"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/hostile"
)

// What an attacker would send, through the surface: each good form is taken, each forgery is refused by the right OAuth
// error, none of them has a panic or a server error for an answer.

func hostileKeys(t *testing.T) *hostile.Keys {
	t.Helper()
	keys, err := hostile.NewKeys()
	require.NoError(t, err)
	return keys
}

func TestForgedAssertionsAreRefusedByName(t *testing.T) {
	keys := hostileKeys(t)
	fresh := func() (*group, *node) { // good forms all have the same jti, which is good once at a node
		g := newGroup(t, 1)
		g.nodes[0].agentWithSecret(articleAgent)
		ok[wire.NewCredential](g.nodes[0].send("POST", "/api/v1/agents/support-triage-agent/credentials", wire.CredentialRequest{JWKS: keys.JWKS()}), 201)
		return g, g.nodes[0]
	}
	g, n := fresh()
	made := hostile.Assertion{ClientID: "support-triage-agent", Audience: testIssuer, Now: identity.InstantOf(g.time()), Keys: keys}
	cases := made.Cases()
	require.Greater(t, len(cases), 50)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			require.NotEmpty(t, c.Reason)
			n.send("POST", tokenPath, asserted(credentialsGrant, c.Token)).refusedOAuth(401, "invalid_client")
		})
	}
	for _, c := range made.Valid() {
		_, n := fresh()
		ok[wire.Token](n.send("POST", tokenPath, asserted(credentialsGrant, c.Token)), 200)
	}
}

func TestForgedIDTokensAreRefusedByName(t *testing.T) {
	l := newLent(t)
	keys := hostileKeys(t)
	ok[wire.TrustedIssuer](l.n.send("POST", issuersPath, wire.TrustedIssuerRequest{
		Issuer: "https://idp.company.com", ClientIDs: []string{"web"}, EmailDomains: []string{"company.com"}, JWKS: keys.JWKS(),
	}), 201)
	made := hostile.IDToken{
		Issuer: "https://idp.company.com", Audience: "web", Subject: "00u1", Email: "user@company.com",
		Now: identity.InstantOf(l.g.time()), Keys: keys,
	}
	for _, c := range made.Valid() {
		l.exchange(l.inbox, c.Token, typeIDToken, nil)
		ok[[]wire.Delegation](l.n.send("GET", myDelegationsPath, nil, bearer(c.Token)), 200)
	}
	cases := append(made.Cases(), made.Unverified()...)
	require.Greater(t, len(cases), 50)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			l.n.send("POST", tokenPath, exchangeForm(c.Token, typeIDToken, nil), l.inbox).refusedOAuth(400, "invalid_request")
			if printableHeader(c.Token) {
				l.n.send("GET", myDelegationsPath, nil, bearer(c.Token)).refused(identity.CodeUnauthenticated)
			}
		})
	}
}

// printableHeader reports whether a text can be sent in a header at all, and is not shortened there.
func printableHeader(text string) bool {
	if len(text) == 0 || len(text) > 8<<10 || text[0] == ' ' || text[len(text)-1] == ' ' {
		return false
	}
	for i := range len(text) {
		if text[i] <= ' ' || text[i] > '~' {
			return false
		}
	}
	return true
}

func TestForgedProofsAreRefusedByName(t *testing.T) {
	keys := hostileKeys(t)
	fresh := func() (*node, option, hostile.Proof) {
		n := newGroup(t, 1).nodes[0]
		who := basic("support-triage-agent", n.agentWithSecret(articleAgent))
		return n, who, hostile.Proof{
			Method: "POST", URL: testIssuer + tokenPath, Nonce: newSigner(t, "").nonce(n, credentialsGrant, who),
			Now: identity.InstantOf(n.group.time()), Keys: keys,
		}
	}
	n, who, made := fresh()
	cases := made.Cases()
	require.Greater(t, len(cases), 50)
	for _, c := range cases {
		if !printableHeader(c.Token) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			require.NotEmpty(t, c.Reason)
			a := n.send("POST", tokenPath, credentialsGrant, who, proven(c.Token))
			require.Equal(t, 400, a.Status, "%s", a.Body)
			var refusal wire.OAuthError
			require.NoError(t, json.Unmarshal(a.Body, &refusal))
			require.Contains(t, []string{"invalid_dpop_proof", "use_dpop_nonce"}, refusal.Error)
		})
	}
	for i := range made.Valid() {
		n, who, made := fresh()
		good := made.Valid()[i]
		minted := ok[wire.Token](n.send("POST", tokenPath, credentialsGrant, who, proven(good.Token)), 200)
		require.Equal(t, "DPoP", minted.TokenType, good.Name)
	}
}

func TestForgedAccessTokensAreGoodForNothing(t *testing.T) {
	l := newLent(t)
	good := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil).AccessToken
	cases, err := hostile.AccessToken{Token: good, Keys: hostileKeys(t)}.Cases()
	require.NoError(t, err)
	require.Greater(t, len(cases), 200)
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			if c.Token == "" {
				return // no token is no question
			}
			a := l.n.send("POST", "/oauth2/introspect", url.Values{"token": {c.Token}}, basic("gmail", l.application))
			require.Equal(t, `{"active":false}`, string(a.Body))
			l.n.send("POST", tokenPath, exchangeForm(c.Token, typeAccessToken, nil), l.sub).refusedOAuth(400, "invalid_request")
			require.Equal(t, 200, l.n.send("POST", "/oauth2/revoke", url.Values{"token": {c.Token}}, l.inbox).Status)
		})
	}
	require.True(t, l.n.introspect("gmail", l.application, good).Active)
}

func TestHostileKeysAreNotRegistered(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	n.agentWithSecret(articleAgent)
	for _, c := range hostile.KeySets(hostileKeys(t)) {
		t.Run(c.Name, func(t *testing.T) {
			if !json.Valid([]byte(c.Token)) || c.Token == "null" {
				return // no such body can be sent; null is as good as absent
			}
			a := n.send("POST", "/api/v1/agents/support-triage-agent/credentials", `{"jwks":`+c.Token+`}`)
			require.NotEmpty(t, c.Reason)
			require.Equal(t, 400, a.Status, "%s", a.Body)
		})
	}
}
