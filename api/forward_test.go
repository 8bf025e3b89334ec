package api

import (
	"context"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

func TestWriteAtAFollowerIsReadThereAtOnce(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 3)
	a := g.nodes[1].send("POST", "/api/v1/agents", articleAgent)
	ok[wire.Agent](a, 201)
	require.Equal(t, "/api/v1/agents/support-triage-agent", a.Header.Get("Location"))
	require.NotEmpty(t, a.Header.Get(wire.HeaderIndex))
	ok[wire.Agent](g.nodes[1].send("GET", "/api/v1/agents/support-triage-agent", nil), 200)
	g.nodes[2].send("POST", "/api/v1/agents", articleAgent).refused(identity.CodeAlreadyExists)
}

func TestLeaderAuthenticatesTheForwardedCallerAgain(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	g.mu.Lock()
	g.lag[1] = true // the follower still believes in the token
	g.mu.Unlock()
	id := identity.HashSecret(g.nodes[0].root)
	before, known := g.nodes[1].fsm.View().APITokenByHash(id)
	require.True(t, known)
	g.addToken(t, "dpt_second", identity.APIToken{Name: "second", Roles: []identity.Role{identity.RoleAdmin}})
	ok[wire.Deleted](g.nodes[0].send("DELETE", "/api/v1/api-tokens/"+before.ID, nil), 200)
	g.nodes[1].send("POST", "/api/v1/agents", articleAgent).refused(identity.CodeUnauthenticated)
	g.release(1)
}

func TestWriteWaitsOutAnElection(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	g.mu.Lock()
	g.leader = -1
	g.mu.Unlock()
	done := make(chan answer, 1)
	go func() { done <- g.nodes[1].send("POST", "/api/v1/agents", articleAgent) }()
	time.AfterFunc(50*time.Millisecond, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.leader = 0
	})
	ok[wire.Agent](<-done, 201)
}

func TestWriteWithoutALeaderIsRefusedInTime(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	g.mu.Lock()
	g.leader = -1
	g.mu.Unlock()
	started := time.Now()
	a := g.nodes[0].send("POST", "/api/v1/agents", articleAgent)
	a.refused(identity.CodeNoLeader)
	require.Equal(t, "1", a.Header.Get("Retry-After"))
	require.Less(t, time.Since(started), 5*electionWait)
}

func TestUnknownOutcomeIsRepeatedAsTheSameCommand(t *testing.T) {
	t.Parallel()
	for name, number := range map[string]int{"at the leader": 0, "forwarded": 1} {
		t.Run(name, func(t *testing.T) {
			g := newGroup(t, 2)
			failed := false
			g.mu.Lock()
			g.onPropose = func(committed bool) error { // applied, but the answer is lost
				if committed && !failed {
					failed = true
					return identity.Errorf(identity.CodeOutcomeUnknown, "leadership was lost")
				}
				return nil
			}
			g.mu.Unlock()
			agent := ok[wire.Agent](g.nodes[number].send("POST", "/api/v1/agents?credentials=secret", articleAgent), 201)
			require.True(t, failed)
			require.Len(t, agent.Credentials, 1)
			// The secret that is shown is the one that the first attempt stored.
			g.nodes[0].mint("support-triage-agent", agent.Credential.Secret, nil)
		})
	}
}

func TestNarrowingWithRevokeSurvivesAnUnknownOutcome(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	n := g.nodes[0]
	ok[wire.Agent](n.send("POST", "/api/v1/agents", articleAgent), 201)
	proposals := 0
	g.mu.Lock()
	g.onPropose = func(committed bool) error {
		if committed {
			if proposals++; proposals == 2 { // the kill was applied, its answer lost
				return identity.Errorf(identity.CodeOutcomeUnknown, "leadership was lost")
			}
		}
		return nil
	}
	g.mu.Unlock()
	agent := ok[wire.Agent](n.send("PATCH", "/api/v1/agents/support-triage-agent?revoke=true", `{"default_scopes":[]}`, mergePatchBody), 200)
	require.Empty(t, agent.DefaultScopes)
	require.Equal(t, 4, proposals)
	require.Len(t, ok[[]wire.RevocationRecord](n.send("GET", "/api/v1/revocations", nil), 200), 1, "killed once")
}

// loseAnAnswer has the next proposal be applied and its answer be lost.
func (g *group) loseAnAnswer() {
	g.mu.Lock()
	defer g.mu.Unlock()
	lost := false
	g.onPropose = func(committed bool) error {
		if committed && !lost {
			lost = true
			return identity.Errorf(identity.CodeOutcomeUnknown, "leadership was lost")
		}
		return nil
	}
}

func TestNothingIsSaidToBeUndoneThatMayHaveBeenDone(t *testing.T) {
	t.Parallel()
	const agent = "/api/v1/agents/support-triage-agent"
	lost := identity.Errorf(identity.CodeOutcomeUnknown, "leadership was lost")
	for name, number := range map[string]int{"at the leader": 0, "forwarded": 1} {
		t.Run(name+", the next leader knows the agent no more", func(t *testing.T) {
			g := newGroup(t, 2)
			ok[wire.Agent](g.nodes[0].send("POST", "/api/v1/agents", articleAgent), 201)
			failed, deleted := false, make(chan struct{})
			g.mu.Lock()
			g.onPropose = func(committed bool) error {
				if !committed || failed {
					return nil
				}
				failed = true
				g.leader = -1
				go func() { // somebody else deletes it before the change is repeated
					defer close(deleted)
					g.lead(0)
					g.nodes[0].send("DELETE", agent, nil)
				}()
				return lost
			}
			g.mu.Unlock()
			a := g.nodes[number].send("PATCH", agent, `{"profile":{"description":"changed"}}`, mergePatchBody)
			<-deleted
			if a.Status != 200 { // the change was repeated first, and the log knew it
				a.refused(identity.CodeOutcomeUnknown)
			}
		})
		t.Run(name+", there is no next leader", func(t *testing.T) {
			g := newGroup(t, 2)
			g.mu.Lock()
			g.onPropose = func(committed bool) error {
				if committed {
					g.leader = -1
					return lost
				}
				return nil
			}
			g.mu.Unlock()
			g.nodes[number].send("POST", "/api/v1/agents", articleAgent).refused(identity.CodeOutcomeUnknown)
		})
		t.Run(name+", the log itself refuses the repetition", func(t *testing.T) {
			g := newGroup(t, 2)
			failed := false
			g.mu.Lock()
			g.onPropose = func(committed bool) error {
				if !committed && !failed { // it never got into the log
					failed = true
					return lost
				}
				return nil
			}
			g.mu.Unlock()
			ok[wire.Agent](g.nodes[number].send("POST", "/api/v1/agents", articleAgent), 201)
			g.mu.Lock()
			failed = false
			g.mu.Unlock()
			g.nodes[number].send("POST", "/api/v1/agents", articleAgent).refused(identity.CodeAlreadyExists)
		})
	}
}

func TestEveryAnswerAboutTheStateSaysHowNewItIs(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	n := g.nodes[0]
	made := n.send("POST", "/api/v1/agents", articleAgent)
	for _, a := range []answer{
		n.send("GET", "/api/v1/agents/support-triage-agent", nil),
		n.send("GET", "/api/v1/agents", nil),
		n.send("GET", "/api/v1/agents/nobody", nil),
		n.send("PATCH", "/api/v1/agents/nobody", `{}`, mergePatchBody),
	} {
		require.Equal(t, made.Header.Get(wire.HeaderIndex), a.Header.Get(wire.HeaderIndex), "%d %s", a.Status, a.Body)
	}
	require.Empty(t, n.send("GET", "/api/v1/agents", nil, token("dpt_stranger")).Header.Get(wire.HeaderIndex), "not to strangers")
}

func TestWriteIsAuthenticatedByANodeThatLeads(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	n := g.nodes[1]
	made := g.addToken(t, "dpt_brief", identity.APIToken{Name: "brief", Roles: []identity.Role{identity.RoleAdmin}})
	g.holdBack(1) // has not applied yet what it is about to
	ok[wire.Deleted](g.nodes[0].send("DELETE", "/api/v1/api-tokens/"+made.ID, nil), 200)
	g.lead(-1)
	n.onIsLeader = func() { // asked once the request was authenticated
		g.release(1)
		g.lead(1)
	}
	n.send("POST", "/api/v1/agents", articleAgent, token("dpt_brief")).refused(identity.CodeUnauthenticated)
}

func TestForwardedClientIsLookedUpByANodeThatLeads(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	g.holdBack(0)
	g.lead(1)
	ok[wire.APIToken](g.nodes[1].send("POST", "/api/v1/api-tokens", wire.APITokenRequest{Name: "x", Roles: []identity.Role{identity.RoleAuditor}}), 201)
	g.addToken(t, "dpt_new", identity.APIToken{Name: "new", Roles: []identity.Role{identity.RoleAdmin}})
	g.lead(0)
	g.nodes[0].onIsLeader = func() { g.release(0) } // a new leader first applies what was acknowledged
	ok[wire.Agent](g.nodes[1].send("POST", "/api/v1/agents", articleAgent, token("dpt_new")), 201)
}

func TestInternalErrorsAreLoggedAndNotTold(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 1)
	n := g.nodes[0]
	g.mu.Lock()
	g.onPropose = func(bool) error { return context.DeadlineExceeded }
	g.mu.Unlock()
	p := n.send("POST", "/api/v1/agents", articleAgent).refused(identity.CodeInternal)
	require.NotContains(t, p.Detail, "deadline")
	require.Contains(t, n.logs.String(), "deadline")
	require.Contains(t, n.logs.String(), p.Instance)
}

func TestForwardedMessagesAreHeldToTheirForm(t *testing.T) {
	t.Parallel()
	a := newGroup(t, 1).nodes[0].api
	e := envelope{
		method: "POST", uri: "/api/v1/agents?x=1", source: netip.MustParseAddr("192.0.2.7"), body: []byte("{}"),
		headers: []header{{"Authorization", "SSWS x"}},
	}
	encoded := e.encode()
	decoded, err := decodeEnvelope(encoded)
	require.NoError(t, err)
	require.Equal(t, &e, decoded)
	for cut := range encoded {
		_, err := a.ServeForwarded(t.Context(), encoded[:cut])
		require.Error(t, err)
	}
	_, err = decodeEnvelope(append(encoded, 0))
	require.Error(t, err)
	read := envelope{method: "GET", uri: "/api/v1/agents", source: e.source}
	_, err = a.ServeForwarded(t.Context(), read.encode())
	require.ErrorContains(t, err, "only writes")
	_, err = decodeReply([]byte{1, 2})
	require.Error(t, err)
}

func TestForwardedRequestIsNotForwardedAgain(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	e := envelope{
		method: "POST", uri: "/api/v1/agents", body: []byte(articleAgent), source: netip.MustParseAddr("192.0.2.7"),
		headers: []header{{"Authorization", "SSWS " + g.nodes[1].root}, {"Content-Type", contentTypeJSON}},
	}
	answered, err := g.nodes[1].api.ServeForwarded(t.Context(), e.encode())
	require.NoError(t, err)
	reply, err := decodeReply(answered)
	require.NoError(t, err)
	require.Equal(t, identity.CodeNoLeader, reply.code)
}

func FuzzEnvelope(f *testing.F) {
	e := envelope{method: "POST", uri: "/x", source: netip.MustParseAddr("::1"), headers: []header{{"a", "b"}}, body: []byte("c")}
	f.Add(e.encode())
	p := reply{status: 200, code: "x", headers: []header{{"a", "b"}}, body: []byte("c")}
	f.Add(p.encode())
	f.Fuzz(func(t *testing.T, data []byte) {
		if e, err := decodeEnvelope(data); err == nil {
			again, err := decodeEnvelope(e.encode())
			require.NoError(t, err)
			require.Equal(t, e.uri, again.uri)
		}
		if p, err := decodeReply(data); err == nil {
			require.NotEmpty(t, p.encode())
		}
	})
}

func TestClientSecretPostIsForwardedToo(t *testing.T) {
	t.Parallel()
	g := newGroup(t, 2)
	application := g.nodes[0].applicationWithSecret(zendesk)
	secret := g.nodes[0].agentWithSecret(zendeskAgent)
	minted := g.nodes[1].mint("support-triage-agent", secret, nil).AccessToken
	form := url.Values{"token": {minted}, "client_id": {"zendesk"}, "client_secret": {application}}
	require.Equal(t, 200, g.nodes[1].send("POST", "/oauth2/revoke", form).Status)
	require.False(t, g.nodes[0].introspect("zendesk", application, minted).Active)
	require.False(t, strings.Contains(g.nodes[0].logs.String()+g.nodes[1].logs.String(), minted))
}
