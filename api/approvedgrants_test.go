package api

import (
	"encoding/json"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// approvalOfRefusal is what a refused request at the token endpoint has to be approved by.
func (n *node) approvalOfRefusal(a answer) string {
	n.t.Helper()
	a.refusedOAuth(400, "access_denied")
	var refused wire.OAuthError
	require.NoError(n.t, json.Unmarshal(a.Body, &refused))
	require.NotEmpty(n.t, refused.ApprovalID)
	return refused.ApprovalID
}

func (n *node) statusOf(id string) identity.ApprovalStatus {
	n.t.Helper()
	return ok[wire.Approval](n.send("GET", "/api/v1/approvals/"+id, nil), 200).Status
}

// What a human approves may be bound to a key, whether the client repeats its request or polls. A proof that is not good
// costs nobody's yes.
func TestApprovedMintIsBoundToTheKeyOfItsProof(t *testing.T) {
	g, secret, application := newProduction(t, 2)
	n := g.nodes[1]
	own := basic("support-triage-agent", secret)
	key, other := newSigner(t, ""), newSigner(t, "")
	form := url.Values{"grant_type": {grantClientCredentials}, "trigger_reason": {"ticket 7"}}
	mint := func(form url.Values, proof string) answer { return n.send("POST", tokenPath, form, own, proven(proof)) }
	nonce := func() string {
		a := mint(form, key.proof(g, "", nil))
		a.refusedOAuth(400, "use_dpop_nonce")
		return a.Header.Get(wire.HeaderDPoPNonce)
	}()
	proof := func(s *signer) string { return s.proof(g, nonce, nil) }
	bound := func(token wire.Token, to *signer) {
		t.Helper()
		require.Equal(t, "DPoP", token.TokenType)
		seen := n.introspect("zendesk", application, token.AccessToken)
		require.True(t, seen.Active)
		require.Equal(t, to.thumbprint(), seen.Confirmation.Thumbprint)
	}

	id := n.approvalOfRefusal(mint(form, proof(key)))
	n.approve(id, "approve")
	mint(form, corrupt(proof(key))).refusedOAuth(400, "invalid_dpop_proof")
	mint(form, key.proof(g, nonce, claimSet{"htu": testIssuer + backchannelPath})).refusedOAuth(400, "invalid_dpop_proof")
	stolen := other.sign(claimSet{"kid": nil, "typ": "dpop+jwt", "jwk": key.jwk()}, claimSet{"htm": "POST", "htu": testIssuer + tokenPath, "iat": g.time().Unix(), "jti": jti(), "nonce": nonce})
	mint(form, stolen).refusedOAuth(400, "invalid_dpop_proof")
	require.Equal(t, identity.ApprovalApproved, n.statusOf(id))
	altered := url.Values{"grant_type": {grantClientCredentials}, "trigger_reason": {"ticket 8"}, "approval_id": {id}}
	require.NotEqual(t, id, n.approvalOfRefusal(mint(altered, proof(key))))
	require.Equal(t, identity.ApprovalApproved, n.statusOf(id))
	used := proof(key)
	bound(ok[wire.Token](mint(form, used), 200), key)
	require.Equal(t, identity.ApprovalConsumed, n.statusOf(id))
	mint(form, used).refusedOAuth(400, "invalid_dpop_proof")
	require.NotEqual(t, id, n.approvalOfRefusal(mint(form, proof(key))), "the next one has to be approved anew")

	asked := ok[wire.Backchannel](n.send("POST", backchannelPath, url.Values{"binding_message": {"ticket 9"}}, own), 200)
	poll := url.Values{"grant_type": {grantCIBA}, "auth_req_id": {asked.AuthRequestID}}
	mint(poll, proof(key)).refusedOAuth(400, "authorization_pending")
	n.approve(asked.AuthRequestID, "approve")
	mint(poll, stolen).refusedOAuth(400, "invalid_dpop_proof")
	require.Equal(t, identity.ApprovalApproved, n.statusOf(asked.AuthRequestID))
	bound(ok[wire.Token](mint(poll, proof(other)), 200), other) // whose key it is, the token says; who asks, the client's credentials
	mint(poll, proof(other)).refusedOAuth(400, "invalid_grant")
}

// A session that a human approved by CIBA is handed on to a sub-agent, which a human has to approve as well: for this
// very parent, these scopes, once, and by whoever holds the parent's key.
func TestApprovedHopOfASubAgent(t *testing.T) {
	l := newLent(t)
	n := l.g.nodes[1]
	l.g.addToken(t, approverToken, identity.APIToken{Name: "ann", Roles: []identity.Role{identity.RoleApprover}})
	l.g.setUp(t, fsm.PutPolicy{Policy: identity.Policy{ID: "hops", Text: `@approval("required") forbid (principal is Agent, action == Action::"CreateSession", resource) when { context has parent_agent } unless { context.approval };`}})
	key, thief := newSigner(t, ""), newSigner(t, "")
	asked := ok[wire.Backchannel](n.send("POST", backchannelPath, url.Values{"login_hint": {"user@company.com"}, "scope": {"gmail.draft gmail.read"}}, l.inbox), 200)
	n.approve(asked.AuthRequestID, "approve")
	poll := url.Values{"grant_type": {grantCIBA}, "auth_req_id": {asked.AuthRequestID}}
	first := n.send("POST", tokenPath, poll, l.inbox, proven(key.proof(l.g, "", nil)))
	first.refusedOAuth(400, "use_dpop_nonce")
	nonce := first.Header.Get(wire.HeaderDPoPNonce)
	parent := ok[wire.Token](n.send("POST", tokenPath, poll, l.inbox, proven(key.proof(l.g, nonce, nil))), 200)
	require.Equal(t, "DPoP", parent.TokenType)

	hop := func(more url.Values, who *signer) answer {
		form := exchangeForm(parent.AccessToken, typeAccessToken, more)
		return n.send("POST", tokenPath, form, l.sub, proven(who.proof(l.g, nonce, nil)))
	}
	read := url.Values{"scope": {"gmail.read"}}
	id := n.approvalOfRefusal(hop(read, key))
	seen := ok[wire.Approval](n.send("GET", "/api/v1/approvals/"+id, nil, l.sub), 200)
	require.Equal(t, parent.SessionID, seen.ParentSessionID)
	require.Equal(t, "user@company.com", seen.PrincipalUserID)
	require.Equal(t, []string{"summary-agent"}, seen.RequestedBy)
	n.approve(id, "approve")

	hop(read, thief).refusedOAuth(400, "invalid_dpop_proof")
	for name, altered := range map[string]url.Values{
		"reason":   {"scope": {"gmail.read"}, "trigger_reason": {"other"}, "approval_id": {id}},
		"length":   {"scope": {"gmail.read"}, "max_duration_seconds": {"60"}, "approval_id": {id}},
		"audience": {"scope": {"gmail.read"}, "audience": {"gmail"}, "approval_id": {id}},
	} {
		require.NotEqual(t, id, n.approvalOfRefusal(hop(altered, key)), name)
	}
	hop(url.Values{"scope": {"gmail.draft"}, "approval_id": {id}}, key).refusedOAuth(400, "invalid_scope")
	n.send("POST", tokenPath, url.Values{"grant_type": {grantCIBA}, "auth_req_id": {id}}, l.sub).refusedOAuth(400, "invalid_grant") // a hop needs its parent's token
	require.Equal(t, identity.ApprovalApproved, n.statusOf(id), "none of these has used it up")

	// The yes is to a hop from this parent, and from no other session of the same agent for the same user.
	twin := ok[wire.Token](n.send("POST", tokenPath, exchangeForm(l.delegation.ID, typeDelegation, nil), l.inbox), 200)
	require.NotEqual(t, id, n.approvalOfRefusal(n.send("POST", tokenPath, exchangeForm(twin.AccessToken, typeAccessToken, read), l.sub)))

	handed := ok[wire.Token](hop(read, key), 200)
	require.Equal(t, "DPoP", handed.TokenType)
	inner := n.introspect("gmail", l.application, handed.AccessToken)
	require.Equal(t, "summary-agent", inner.Actor.Subject)
	require.Equal(t, "inbox-assistant", inner.Actor.Actor.Subject)
	require.Equal(t, key.thumbprint(), inner.Confirmation.Thumbprint)
	require.NotEqual(t, id, n.approvalOfRefusal(hop(read, key)), "once")

	// Where the parent was revoked between the yes and its use, there is no hop.
	third := n.approvalOfRefusal(hop(url.Values{"scope": {"gmail.read"}, "trigger_reason": {"later"}}, key))
	n.approve(third, "approve")
	ok[wire.Revocation](n.send("DELETE", "/api/v1/sessions/"+parent.SessionID, nil), 200)
	hop(url.Values{"scope": {"gmail.read"}, "trigger_reason": {"later"}}, key).refusedOAuth(400, "invalid_request")
	require.Equal(t, identity.ApprovalApproved, n.statusOf(third))
}
