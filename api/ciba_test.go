package api

import (
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

func TestBackchannelPollsUntilSomebodyDecides(t *testing.T) {
	g, secret, application := newProduction(t, 2)
	n := g.nodes[1]
	own := basic("support-triage-agent", secret)
	ask := url.Values{"scope": {"zendesk.tickets.assign"}, "binding_message": {"ticket 7"}, "max_duration_seconds": {"300"}, "requested_expiry": {"120"}}
	asked := ok[wire.Backchannel](n.send("POST", "/oauth2/bc-authorize", ask, own), 200)
	require.EqualValues(t, 120, asked.ExpiresIn)
	require.EqualValues(t, 5, asked.Interval)
	poll := func(id string) answer {
		return n.send("POST", "/oauth2/token", url.Values{"grant_type": {grantCIBA}, "auth_req_id": {id}}, own)
	}
	poll(asked.AuthRequestID).refusedOAuth(400, "authorization_pending")
	require.Contains(t, poll(asked.AuthRequestID).refusedOAuth(400, "slow_down"), "leave 10 seconds")
	g.advance(9 * time.Second)
	poll(asked.AuthRequestID).refusedOAuth(400, "slow_down")
	g.advance(15 * time.Second)
	poll(asked.AuthRequestID).refusedOAuth(400, "authorization_pending")

	n.approve(asked.AuthRequestID, "approve")
	minted := ok[wire.Token](poll(asked.AuthRequestID), 200)
	require.Equal(t, "zendesk.tickets.assign", minted.Scope)
	require.EqualValues(t, 300, minted.ExpiresIn)
	require.True(t, n.introspect("zendesk", application, minted.AccessToken).Active)
	require.Contains(t, poll(asked.AuthRequestID).refusedOAuth(400, "invalid_grant"), "good for one token")

	second := ok[wire.Backchannel](n.send("POST", "/oauth2/bc-authorize", ask, own), 200)
	require.NotEqual(t, asked.AuthRequestID, second.AuthRequestID)
	n.approve(second.AuthRequestID, "deny")
	require.Contains(t, poll(second.AuthRequestID).refusedOAuth(400, "access_denied"), "INC-7")
	n.send("POST", "/oauth2/bc-authorize", ask, own).refusedOAuth(400, "access_denied")
	g.advance(2 * time.Minute)
	third := ok[wire.Backchannel](n.send("POST", "/oauth2/bc-authorize", ask, own), 200)
	g.advance(2 * time.Minute)
	poll(third.AuthRequestID).refusedOAuth(400, "expired_token")
}

func TestBackchannelRefusesWhatNoApprovalCouldAllow(t *testing.T) {
	g, secret, _ := newProduction(t, 2)
	n := g.nodes[1]
	own := basic("support-triage-agent", secret)
	for name, form := range map[string]url.Values{
		"invalid_scope":           {"scope": {"zendesk.tickets.delete"}},
		"invalid_grant":           {"login_hint": {"user@company.com"}},
		"invalid_request":         {"id_token_hint": {"x"}},
		"invalid_binding_message": {"binding_message": {strings.Repeat("x", 513)}},
		"invalid_target":          {"resource": {"https://nowhere.example"}},
	} {
		n.send("POST", "/oauth2/bc-authorize", form, own).refusedOAuth(400, name)
	}
	require.Zero(t, n.fsm.View().Counts().Approvals)
	n.send("POST", "/oauth2/bc-authorize", url.Values{}).refusedOAuth(401, "invalid_client")

	poll := func(id string, who option) answer {
		return n.send("POST", "/oauth2/token", url.Values{"grant_type": {grantCIBA}, "auth_req_id": {id}}, who)
	}
	poll("", own).refusedOAuth(400, "invalid_request")
	poll("apr_x", own).refusedOAuth(400, "invalid_grant")
	asked := ok[wire.Backchannel](n.send("POST", "/oauth2/bc-authorize", url.Values{}, own), 200)
	stranger := n.agentWithSecret(`{"profile":{"name":"stranger","owner_group":"x","agent_type":"autonomous"},"default_scopes":["x.y"],"max_session_duration_seconds":600}`)
	poll(asked.AuthRequestID, basic("stranger", stranger)).refusedOAuth(400, "invalid_grant")

	// A node that has not heard of it does not say that there is none.
	g.holdBack(1)
	late := ok[wire.Backchannel](g.nodes[0].send("POST", "/oauth2/bc-authorize", url.Values{"binding_message": {"later"}}, own), 200)
	poll(late.AuthRequestID, own).refusedOAuth(400, "authorization_pending")
	g.release(1)
	n.approve(late.AuthRequestID, "approve")
	ok[wire.Token](poll(late.AuthRequestID, own), 200)
}

// A human may be asked although no policy wants it, and on behalf of a user; the yes is good for one token all the same.
func TestBackchannelOnBehalfOfAUser(t *testing.T) {
	g, _, secret := newInbox(t, 2)
	g.addToken(t, approverToken, identity.APIToken{Name: "ann", Roles: []identity.Role{identity.RoleApprover}})
	n := g.nodes[1]
	own := basic("inbox-assistant", secret)
	ok[wire.Session](n.send("POST", "/api/v1/sessions", articleSession, token(runtimeToken)), 201)
	form := url.Values{"scope": {"gmail.read"}, "audience": {"gmail"}, "login_hint": {"user@company.com"}}
	asked := ok[wire.Backchannel](n.send("POST", "/oauth2/bc-authorize", form, own), 200)
	poll := func() answer {
		return n.send("POST", "/oauth2/token", url.Values{"grant_type": {grantCIBA}, "auth_req_id": {asked.AuthRequestID}}, own)
	}
	poll().refusedOAuth(400, "authorization_pending")
	n.approve(asked.AuthRequestID, "approve")
	g.setUp(t, fsm.SetPrincipalStatus{ID: "user@company.com", Status: identity.StatusSuspended})
	require.Equal(t, 400, poll().Status)
	require.Equal(t, identity.ApprovalApproved, ok[wire.Approval](n.send("GET", "/api/v1/approvals/"+asked.AuthRequestID, nil, own), 200).Status, "a refusal uses nothing up")
}

// What is remembered of polls is bounded, and who has not polled for a while is forgotten first.
func TestPacesAreBounded(t *testing.T) {
	var p paces
	now := time.Now()
	for i := range maxPaces {
		if wait := p.poll(fmt.Sprint("old", i), now); wait != 0 {
			t.Fatalf("the first poll of %d has to wait %s", i, wait)
		}
	}
	now = now.Add(longestInterval)
	require.Zero(t, p.poll("new", now))
	require.Equal(t, pollInterval*2, p.poll("new", now.Add(time.Second)))
	require.Len(t, p.last, 1)
	for i := range 2 * maxPaces {
		p.poll(fmt.Sprint(i), now)
	}
	require.LessOrEqual(t, len(p.last), maxPaces)
	wait := time.Duration(0)
	for range 30 {
		wait = p.poll("eager", now)
	}
	require.Equal(t, longestInterval, wait)
}
