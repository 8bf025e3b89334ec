package api

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

func TestTokenIsBoundToTheKeyOfItsProof(t *testing.T) {
	g := newGroup(t, 2)
	n := g.nodes[0]
	application := n.applicationWithSecret(zendesk)
	who := basic("support-triage-agent", n.agentWithSecret(zendeskAgent))
	key := newSigner(t, "")
	nonce := key.nonce(n, credentialsGrant, who)

	a := n.send("POST", tokenPath, credentialsGrant, who, proven(key.proof(g, nonce, nil)))
	minted := ok[wire.Token](a, 200)
	require.Equal(t, "DPoP", minted.TokenType)
	require.NotEmpty(t, a.Header.Get(wire.HeaderDPoPNonce), "a nonce for the next proof")
	for _, node := range g.nodes {
		seen := node.introspect("zendesk", application, minted.AccessToken)
		require.True(t, seen.Active)
		require.Equal(t, "DPoP", seen.TokenType)
		require.Equal(t, key.thumbprint(), seen.Confirmation.Thumbprint)
	}
	require.Equal(t, "Bearer", n.mint("support-triage-agent", n.secondSecret(), nil).TokenType)
}

func (n *node) secondSecret() string {
	n.t.Helper()
	return ok[wire.NewCredential](n.send("POST", "/api/v1/agents/support-triage-agent/credentials", nil), 201).Secret
}

func TestProofIsGoodOnceAndOnlyAtTheNodeOfItsNonce(t *testing.T) {
	g := newGroup(t, 2)
	n := g.nodes[0]
	who := basic("support-triage-agent", n.agentWithSecret(articleAgent))
	key := newSigner(t, "")
	nonce := key.nonce(n, credentialsGrant, who)
	proof := key.proof(g, nonce, nil)
	g.nodes[1].send("POST", tokenPath, credentialsGrant, who, proven(proof)).refusedOAuth(400, "use_dpop_nonce")
	ok[wire.Token](n.send("POST", tokenPath, credentialsGrant, who, proven(proof)), 200)
	n.send("POST", tokenPath, credentialsGrant, who, proven(proof)).refusedOAuth(400, "invalid_dpop_proof")
	g.advance(10 * time.Minute)
	n.send("POST", tokenPath, credentialsGrant, who, proven(key.proof(g, nonce, nil))).refusedOAuth(400, "use_dpop_nonce")
}

func TestBadProofsAreRefused(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	who := basic("support-triage-agent", n.agentWithSecret(articleAgent))
	key, other := newSigner(t, ""), newSigner(t, "")
	nonce := key.nonce(n, credentialsGrant, who)
	now := g.time().Unix()
	for name, proof := range map[string]string{
		"not a token":      "x",
		"signature":        corrupt(key.proof(g, nonce, nil)),
		"another's key":    other.sign(claimSet{"kid": nil, "typ": "dpop+jwt", "jwk": key.jwk()}, claimSet{"htm": "POST", "htu": testIssuer + tokenPath, "iat": now, "jti": jti(), "nonce": nonce}),
		"private key":      key.sign(claimSet{"kid": nil, "typ": "dpop+jwt", "jwk": claimSet(key.jwk()).but(claimSet{"d": b64(key.private.Seed())})}, claimSet{"htm": "POST", "htu": testIssuer + tokenPath, "iat": now, "jti": jti(), "nonce": nonce}),
		"no typ":           key.sign(claimSet{"kid": nil, "jwk": key.jwk()}, claimSet{"htm": "POST", "htu": testIssuer + tokenPath, "iat": now, "jti": jti(), "nonce": nonce}),
		"method":           key.proof(g, nonce, claimSet{"htm": "GET"}),
		"target":           key.proof(g, nonce, claimSet{"htu": testIssuer + "/oauth2/introspect"}),
		"another server":   key.proof(g, nonce, claimSet{"htu": "https://elsewhere.example" + tokenPath}),
		"old":              key.proof(g, nonce, claimSet{"iat": now - 600}),
		"of the future":    key.proof(g, nonce, claimSet{"iat": now + 600}),
		"no jti":           key.proof(g, nonce, claimSet{"jti": nil}),
		"no time":          key.proof(g, nonce, claimSet{"iat": nil}),
		"client assertion": key.assertion(g, "support-triage-agent", nil),
	} {
		t.Run(name, func(t *testing.T) {
			n.send("POST", tokenPath, credentialsGrant, who, proven(proof)).refusedOAuth(400, "invalid_dpop_proof")
		})
	}
	twice := func() option { return proven(key.proof(g, nonce, nil)) }
	n.send("POST", tokenPath, credentialsGrant, who, twice(), twice()).refusedOAuth(400, "invalid_dpop_proof")
}

func TestSessionsAreBoundToo(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	n.agentWithSecret(articleAgent)
	key := newSigner(t, "")
	body := wire.SessionRequest{AgentID: "support-triage-agent"}
	at := claimSet{"htu": testIssuer + "/api/v1/sessions"}
	a := n.send("POST", "/api/v1/sessions", body, proven(key.proof(g, "", at)))
	a.refused("use-dpop-nonce")
	made := ok[wire.Session](n.send("POST", "/api/v1/sessions", body, proven(key.proof(g, a.Header.Get(wire.HeaderDPoPNonce), at))), 201)
	require.Equal(t, "DPoP", made.TokenType)
}

// A token that is bound to a key is worth nothing without that key, at the exchange either.
func TestStolenBoundTokenIsNotExchanged(t *testing.T) {
	g := newGroup(t, 1)
	n := g.nodes[0]
	who := basic("support-triage-agent", n.agentWithSecret(articleAgent))
	sub := basic("summary-agent", n.agentWithSecret(summaryAgent))
	key, thief := newSigner(t, ""), newSigner(t, "")
	nonce := key.nonce(n, credentialsGrant, who)
	parent := ok[wire.Token](n.send("POST", tokenPath, credentialsGrant, who, proven(key.proof(g, nonce, nil))), 200).AccessToken
	form := exchangeForm(parent, typeAccessToken, nil)
	n.send("POST", tokenPath, form, sub).refusedOAuth(400, "invalid_dpop_proof")
	n.send("POST", tokenPath, form, sub, proven(thief.proof(g, nonce, nil))).refusedOAuth(400, "invalid_dpop_proof")
	hop := ok[wire.Token](n.send("POST", tokenPath, form, sub, proven(key.proof(g, nonce, nil))), 200)
	require.Equal(t, "DPoP", hop.TokenType)
}
