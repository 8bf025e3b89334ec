package api

import (
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

const summaryAgent = `{"profile": {"name": "summary-agent", "owner_group": "productivity", "agent_type": "scheduled"},
	"default_scopes": ["gmail.read", "zendesk.tickets.read"], "max_session_duration_seconds": 3600, "applications": []}`

// lent is a cluster in which user@company.com has lent gmail.read and gmail.draft to the inbox assistant.
type lent struct {
	g           *group
	n           *node
	issuer      *signer
	inbox, sub  option // the agents' credentials
	application string // gmail's secret
	delegation  wire.Delegation
}

func newLent(t *testing.T) *lent {
	g := newGroup(t, 2)
	n := g.nodes[0]
	l := &lent{g: g, n: n, issuer: newSigner(t, "idp"), application: n.applicationWithSecret(gmail)}
	l.inbox = basic("inbox-assistant", n.agentWithSecret(inboxAgent))
	l.sub = basic("summary-agent", n.agentWithSecret(strings.Replace(summaryAgent, `"applications": []`, `"applications": ["gmail"]`, 1)))
	l.issuer.trust(n)
	l.delegation = ok[wire.Delegation](n.send("POST", "/api/v1/delegations?ensure_principal=true", wire.DelegationRequest{
		PrincipalID: "user@company.com", AgentID: "inbox-assistant", Scopes: "gmail.draft gmail.read", Duration: 14400,
	}), 201)
	return l
}

// exchange succeeds.
func (l *lent) exchange(who option, subject, kind string, more url.Values) wire.Token {
	l.n.t.Helper()
	return ok[wire.Token](l.n.send("POST", tokenPath, exchangeForm(subject, kind, more), who), 200)
}

func (l *lent) claims(token string) *tokens.Claims {
	l.n.t.Helper()
	claims, err := tokens.Decode([]byte(token))
	require.NoError(l.n.t, err)
	return claims
}

func TestIDTokenIsExchangedForASessionUnderTheUsersDelegation(t *testing.T) {
	l := newLent(t)
	minted := l.exchange(l.inbox, l.issuer.idToken(l.g, "user@company.com", nil), typeIDToken, url.Values{"scope": {"gmail.read"}})
	require.Equal(t, typeAccessToken, minted.IssuedTokenType)
	require.Equal(t, "gmail.read", minted.Scope)
	claims := l.claims(minted.AccessToken)
	require.Equal(t, "user@company.com", claims.Subject)
	require.Equal(t, []string{"inbox-assistant"}, claims.Actors)
	require.Contains(t, claims.Ancestry, identity.DelegationHandle(l.delegation.ID))
	require.True(t, l.g.nodes[1].introspect("gmail", l.application, minted.AccessToken).Active)
}

func TestDelegationIsExchangedByTheAgentThatItWasLentTo(t *testing.T) {
	l := newLent(t)
	minted := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil)
	require.Equal(t, "user@company.com", l.claims(minted.AccessToken).Subject)
	l.n.send("POST", tokenPath, exchangeForm(l.delegation.ID, typeDelegation, nil), l.sub).refusedOAuth(400, "invalid_request")
	ok[wire.Deleted](l.n.send("DELETE", "/api/v1/delegations/"+l.delegation.ID, nil), 200)
	l.n.send("POST", tokenPath, exchangeForm(l.delegation.ID, typeDelegation, nil), l.inbox).refusedOAuth(400, "invalid_grant")
	require.False(t, l.n.introspect("gmail", l.application, minted.AccessToken).Active)
}

func TestSubAgentGetsOneMoreHopAndNeverMore(t *testing.T) {
	l := newLent(t)
	parent := l.exchange(l.inbox, l.delegation.ID, typeDelegation, url.Values{"max_duration_seconds": {"600"}})
	hop := l.exchange(l.sub, parent.AccessToken, typeAccessToken, nil)
	require.Equal(t, "gmail.read", hop.Scope)
	require.LessOrEqual(t, hop.ExpiresIn, int64(600))
	outer, inner := l.claims(parent.AccessToken), l.claims(hop.AccessToken)
	require.Equal(t, "user@company.com", inner.Subject)
	require.Equal(t, []string{"summary-agent", "inbox-assistant"}, inner.Actors)
	require.Subset(t, inner.Ancestry, outer.Ancestry)
	require.Contains(t, inner.Ancestry, identity.KeyHandle(outer.KID))
	seen := l.n.introspect("gmail", l.application, hop.AccessToken)
	require.Equal(t, "summary-agent", seen.Actor.Subject)
	require.Equal(t, "inbox-assistant", seen.Actor.Actor.Subject)

	// Neither a third agent nor the same one again.
	third := basic("third-agent", l.n.agentWithSecret(strings.NewReplacer("summary-agent", "third-agent", `"applications": []`, `"applications": ["gmail"]`).Replace(summaryAgent)))
	l.n.send("POST", tokenPath, exchangeForm(hop.AccessToken, typeAccessToken, nil), third).refusedOAuth(400, "invalid_grant")
	l.n.send("POST", tokenPath, exchangeForm(parent.AccessToken, typeAccessToken, nil), l.inbox).refusedOAuth(400, "invalid_grant")
	// No scope and no audience that the parent lacks.
	l.n.send("POST", tokenPath, exchangeForm(parent.AccessToken, typeJWT, url.Values{"scope": {"zendesk.tickets.read"}}), l.sub).refusedOAuth(400, "invalid_scope")
	l.n.applicationWithSecret(zendesk)
	l.n.send("POST", tokenPath, exchangeForm(parent.AccessToken, typeJWT, url.Values{"audience": {"zendesk"}}), l.sub).refusedOAuth(400, "invalid_target")
	l.n.send("POST", tokenPath, exchangeForm(parent.AccessToken, typeJWT, url.Values{"resource": {"gmail"}}), l.sub).refusedOAuth(400, "invalid_target")

	// What ends the parent ends the hop.
	ok[wire.Revocation](l.n.send("DELETE", "/api/v1/sessions/"+parent.SessionID, nil), 200)
	require.False(t, l.g.nodes[1].introspect("gmail", l.application, hop.AccessToken).Active)
	l.n.send("POST", tokenPath, exchangeForm(parent.AccessToken, typeAccessToken, nil), l.sub).refusedOAuth(400, "invalid_request")
}

func TestActorTokenMustBeTheClientsOwn(t *testing.T) {
	l := newLent(t)
	parent := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil).AccessToken
	own := ok[wire.Token](l.n.send("POST", tokenPath, url.Values{"grant_type": {"client_credentials"}, "scope": {"gmail.read"}}, l.sub), 200).AccessToken
	l.exchange(l.sub, parent, typeAccessToken, url.Values{"actor_token": {own}, "actor_token_type": {typeAccessToken}})
	for name, form := range map[string]url.Values{
		"another agent's":    {"actor_token": {parent}, "actor_token_type": {typeAccessToken}},
		"not a token":        {"actor_token": {"x"}, "actor_token_type": {typeAccessToken}},
		"no type":            {"actor_token": {own}},
		"type without token": {"actor_token_type": {typeAccessToken}},
		"another type":       {"actor_token": {own}, "actor_token_type": {typeIDToken}},
	} {
		t.Run(name, func(t *testing.T) {
			l.n.send("POST", tokenPath, exchangeForm(parent, typeAccessToken, form), l.sub).refusedOAuth(400, "invalid_request")
		})
	}
}

func TestBadSubjectTokensAreRefused(t *testing.T) {
	l := newLent(t)
	l.issuer.trust2(l.n)
	stranger := newSigner(t, "idp")
	now := l.g.time().Unix()
	good := func(changes claimSet) string { return l.issuer.idToken(l.g, "user@company.com", changes) }
	access := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil).AccessToken
	for name, c := range map[string]struct {
		token, kind string
		more        url.Values
		error       string
	}{
		"another key":              {stranger.idToken(l.g, "user@company.com", nil), typeIDToken, nil, "invalid_request"},
		"issuer not trusted":       {good(claimSet{"iss": "https://evil.example"}), typeIDToken, nil, "invalid_request"},
		"another audience":         {good(claimSet{"aud": "somebody-else"}), typeIDToken, nil, "invalid_request"},
		"expired":                  {good(claimSet{"iat": now - 900, "exp": now - 600}), typeIDToken, nil, "invalid_request"},
		"too old":                  {good(claimSet{"iat": now - 7200}), typeIDToken, nil, "invalid_request"},
		"email not verified":       {good(claimSet{"email_verified": false}), typeIDToken, nil, "invalid_request"},
		"no email":                 {good(claimSet{"email": nil}), typeIDToken, nil, "invalid_request"},
		"another domain":           {l.issuer.idToken(l.g, "user@elsewhere.com", nil), typeIDToken, nil, "invalid_request"},
		"another nonce":            {good(claimSet{"nonce": "n1"}), typeIDToken, url.Values{"nonce": {"n2"}}, "invalid_request"},
		"may_act of another agent": {good(claimSet{"may_act": claimSet{"sub": "summary-agent"}}), typeIDToken, nil, "invalid_request"},
		"nobody lent anything":     {l.issuer.idToken(l.g, "other@company.com", nil), typeIDToken, nil, "invalid_grant"},
		"scope not lent":           {good(nil), typeIDToken, url.Values{"scope": {"gmail.send"}}, "invalid_grant"},
		"access token as ID token": {access, typeIDToken, nil, "invalid_request"},
		"ID token as access token": {good(nil), typeAccessToken, nil, "invalid_request"},
		"no such delegation":       {"dlg_01ks8n1x5b5e5fh2wwt0rrnq7a", typeDelegation, nil, "invalid_request"},
		"not a token":              {"x", typeAccessToken, nil, "invalid_request"},
		"no subject":               {"", typeAccessToken, nil, "invalid_request"},
		"no type":                  {access, "", nil, "invalid_request"},
		"SAML":                     {"x", "urn:ietf:params:oauth:token-type:saml2", nil, "invalid_request"},
		"a refresh token wanted":   {good(nil), typeIDToken, url.Values{"requested_token_type": {"urn:ietf:params:oauth:token-type:refresh_token"}}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			description := l.n.send("POST", tokenPath, exchangeForm(c.token, c.kind, c.more), l.inbox).refusedOAuth(400, c.error)
			require.NotContains(t, description, "eyJ")
		})
	}
	l.exchange(l.inbox, good(claimSet{"may_act": claimSet{"sub": "inbox-assistant"}, "nonce": "n1"}), typeIDToken, url.Values{"nonce": {"n1"}, "requested_token_type": {typeJWT}})
}

// trust2 adds a second issuer, so that one token can't be held to the other's rules.
func (s *signer) trust2(n *node) {
	n.t.Helper()
	ok[wire.TrustedIssuer](n.send("POST", issuersPath, wire.TrustedIssuerRequest{
		Issuer: "https://login.elsewhere.com", ClientIDs: []string{"somebody-else"}, PrincipalClaim: identity.ClaimSubject, JWKS: newSigner(n.t, "x").jwks(),
	}), 201)
}

func TestIssuersKeysAreDiscovered(t *testing.T) {
	l := newLent(t)
	var url string
	key := newSigner(t, "d")
	documents := map[string]func() []byte{
		"/.well-known/openid-configuration": func() []byte { return []byte(`{"issuer":"` + url + `","jwks_uri":"` + url + `/keys"}`) },
		"/keys":                             func() []byte { return key.jwks() },
	}
	url = documentServer(t, documents)
	ok[wire.TrustedIssuer](l.n.send("POST", issuersPath, wire.TrustedIssuerRequest{Issuer: url, ClientIDs: []string{"web"}, PrincipalClaim: identity.ClaimEmail}), 201)
	l.exchange(l.inbox, key.idToken(l.g, "user@company.com", claimSet{"iss": url}), typeIDToken, nil)
}

func TestTrustIsGivenAndTakenByAdmins(t *testing.T) {
	l := newLent(t)
	list := ok[[]wire.TrustedIssuer](l.n.send("GET", issuersPath, nil), 200)
	require.Len(t, list, 1)
	require.Equal(t, "https://login.company.com", list[0].Issuer)
	require.EqualValues(t, identity.DefaultIDTokenAgeSeconds, list[0].MaxAgeSeconds)
	require.Equal(t, list[0], ok[wire.TrustedIssuer](l.g.nodes[1].send("GET", issuersPath+"/"+list[0].ID, nil), 200))
	l.n.send("POST", issuersPath, wire.TrustedIssuerRequest{Issuer: "https://login.company.com", ClientIDs: []string{"web"}}).refused(identity.CodeAlreadyExists)
	l.n.send("POST", issuersPath, wire.TrustedIssuerRequest{Issuer: testIssuer, ClientIDs: []string{"web"}}).refused(identity.CodeInvalid)
	l.n.send("POST", issuersPath, wire.TrustedIssuerRequest{Issuer: "login", ClientIDs: []string{}}).refused(identity.CodeValidation)
	provisioner := l.g.addToken(t, "dpt_provisioner", identity.APIToken{Name: "p", Roles: []identity.Role{identity.RoleProvisioner}})
	require.NotEmpty(t, provisioner.ID)
	l.n.send("DELETE", issuersPath+"/"+list[0].ID, nil, token("dpt_provisioner")).refused(identity.CodeForbidden)

	session := l.exchange(l.inbox, l.issuer.idToken(l.g, "user@company.com", nil), typeIDToken, nil)
	ok[wire.Deleted](l.g.nodes[1].send("DELETE", issuersPath+"/"+list[0].ID, nil), 200)
	l.n.send("POST", tokenPath, exchangeForm(l.issuer.idToken(l.g, "user@company.com", nil), typeIDToken, nil), l.inbox).refusedOAuth(400, "invalid_request")
	require.True(t, l.n.introspect("gmail", l.application, session.AccessToken).Active, "what the issuer has begun goes on")
	l.n.send("GET", issuersPath+"/"+list[0].ID, nil).refused(identity.CodeNotFound)
	l.n.send("DELETE", issuersPath+"/"+list[0].ID, nil).refused(identity.CodeNotFound)
}

func bearer(token string) option { return with("Authorization", "Bearer "+token) }

func TestUsersSeeAndWithdrawTheirOwnDelegationsOnly(t *testing.T) {
	l := newLent(t)
	others := ok[wire.Delegation](l.n.send("POST", "/api/v1/delegations?ensure_principal=true", wire.DelegationRequest{
		PrincipalID: "other@company.com", AgentID: "inbox-assistant", Scopes: "gmail.read", Duration: 3600,
	}), 201)
	me := bearer(l.issuer.idToken(l.g, "user@company.com", nil))
	for _, n := range l.g.nodes {
		mine := ok[[]wire.Delegation](n.send("GET", myDelegationsPath, nil, me), 200)
		require.Len(t, mine, 1)
		require.Equal(t, l.delegation.ID, mine[0].ID)
		n.send("DELETE", myDelegationsPath+"/"+others.ID, nil, me).refused(identity.CodeNotFound)
		n.send("GET", "/api/v1/delegations", nil, me).refused(identity.CodeUnauthenticated)
		n.send("GET", myDelegationsPath, nil).refused(identity.CodeUnauthenticated) // an API token is no user
		n.send("GET", myDelegationsPath, nil, bearer(corrupt(l.issuer.idToken(l.g, "user@company.com", nil)))).refused(identity.CodeUnauthenticated)
		n.send("GET", myDelegationsPath, nil, anonymous).refused(identity.CodeUnauthenticated)
	}
	session := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil)
	withdrawn := ok[wire.Deleted](l.g.nodes[1].send("DELETE", myDelegationsPath+"/"+l.delegation.ID+"?reason=enough", nil, me), 200)
	require.Contains(t, withdrawn.Handles, identity.DelegationHandle(l.delegation.ID))
	require.False(t, l.n.introspect("gmail", l.application, session.AccessToken).Active)
	// Consent that was withdrawn is not given again by a runtime.
	l.n.send("POST", tokenPath, exchangeForm(l.issuer.idToken(l.g, "user@company.com", nil), typeIDToken, nil), l.inbox).refusedOAuth(400, "invalid_grant")
	require.Empty(t, ok[[]wire.Delegation](l.n.send("GET", myDelegationsPath+"?active=true", nil, me), 200))
}

func TestIntrospectionOfManyTokensAtOnce(t *testing.T) {
	l := newLent(t)
	minted := l.exchange(l.inbox, l.delegation.ID, typeDelegation, nil).AccessToken
	elsewhere := l.n.applicationWithSecret(zendesk)
	batch := wire.IntrospectionBatch{Tokens: []string{"x", minted, corrupt(minted), minted}}
	results := ok[wire.IntrospectionResults](l.g.nodes[1].send("POST", "/oauth2/introspect/batch", batch, basic("gmail", l.application)), 200).Results
	require.Len(t, results, 4)
	for i, active := range []bool{false, true, false, true} {
		require.Equal(t, active, results[i].Active, i)
	}
	require.Equal(t, l.n.introspect("gmail", l.application, minted), results[1])
	for _, result := range ok[wire.IntrospectionResults](l.n.send("POST", "/oauth2/introspect/batch", batch, basic("zendesk", elsewhere)), 200).Results {
		require.Equal(t, wire.Introspection{}, result, "a token is told of only to its audience")
	}
	send := func(body any, who option) answer { return l.n.send("POST", "/oauth2/introspect/batch", body, who) }
	me := basic("gmail", l.application)
	send(wire.IntrospectionBatch{Tokens: make([]string, wire.MaxIntrospectionBatch+1)}, me).refusedOAuth(400, "invalid_request")
	send(wire.IntrospectionBatch{Tokens: []string{}}, me).refusedOAuth(400, "invalid_request")
	send(wire.IntrospectionBatch{Tokens: []string{""}}, me).refusedOAuth(400, "invalid_request")
	send(`{"token":"x"}`, me).refusedOAuth(400, "invalid_request")
	send(batch, l.inbox).refusedOAuth(401, "invalid_client")
	send(batch, anonymous).refusedOAuth(401, "invalid_client")
	l.n.stale = true
	send(batch, me).refusedOAuth(503, "temporarily_unavailable")
}

func TestMetadataListsWhatWorks(t *testing.T) {
	n := newGroup(t, 1).nodes[0]
	m := ok[wire.Metadata](n.send("GET", "/.well-known/oauth-authorization-server", nil), 200)
	require.Equal(t, []string{grantClientCredentials, grantExchange, grantCIBA}, m.GrantTypesSupported)
	require.Equal(t, []string{"client_secret_basic", "client_secret_post", "private_key_jwt"}, m.TokenEndpointAuthMethods)
	require.Equal(t, []string{"EdDSA", "ES256", "RS256"}, m.TokenEndpointAuthAlgorithms)
	require.Equal(t, []string{"EdDSA", "ES256", "RS256"}, m.DPoPAlgorithms)
	require.Less(t, time.Minute, time.Duration(identity.MinKeyRotationSeconds)*time.Second/2, "keys are published longer before their use than they are cached")
}
