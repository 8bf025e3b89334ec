package faults

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// stopKind is what is said stop to.
type stopKind string

const (
	stopAgent      stopKind = "agent"
	stopSession    stopKind = "session"
	stopDelegation stopKind = "delegation"
	stopPrincipal  stopKind = "principal"
)

var stopKinds = []stopKind{stopAgent, stopSession, stopDelegation, stopPrincipal}

// subject is a session that will be stopped, and all that must not go on after that.
type subject struct {
	kind        stopKind
	application client.Credentials
	agent       client.Credentials
	principal   string // "" for an autonomous run
	delegation  string
	token       string
	session     string
}

// newSubject makes an agent of its own, lends it authority where that is what will be stopped, and starts a session
// at the given node.
func newSubject(t *testing.T, admin *client.Client, application client.Credentials, kind stopKind, name string, at *client.Client) *subject {
	t.Helper()
	ctx := within(t, requestWait)
	s := &subject{kind: kind, application: application}
	agentType := identity.AgentAutonomous
	if kind == stopDelegation || kind == stopPrincipal {
		agentType = identity.AgentUserDelegated
		s.principal = name + "@example.com"
	}
	agent, err := admin.CreateAgent(ctx, &wire.AgentRequest{
		Profile: wire.Profile{Name: name, AgentType: agentType}, DefaultScopes: scope, Applications: []string{application.ID},
	}, true)
	require.NoError(t, err)
	s.agent = client.Credentials{ID: agent.Credential.ClientID, Secret: agent.Credential.Secret}
	for s.agent.Secret == "" { // the answer that showed it was lost, and a repeated one leaves it out
		another, err := admin.CreateAgentCredential(ctx, name, wire.CredentialRequest{})
		require.NoError(t, err)
		s.agent.Secret = another.Secret
	}
	if s.principal != "" {
		lent, err := admin.CreateDelegation(ctx, &wire.DelegationRequest{
			PrincipalID: s.principal, AgentID: name, Scopes: scope, Duration: 4 * 3600, Reason: "to be stopped",
		}, true)
		require.NoError(t, err)
		s.delegation = lent.ID
	}
	at.Observe(admin.Index())
	if s.principal == "" {
		token, err := at.MintToken(ctx, s.agent, client.TokenOptions{})
		require.NoError(t, err)
		s.token, s.session = token.AccessToken, token.SessionID
		return s
	}
	session, err := at.CreateSession(ctx, &wire.SessionRequest{AgentID: name, PrincipalUserID: &s.principal}, &s.agent)
	require.NoError(t, err)
	s.token, s.session = session.AccessToken, session.SessionID
	return s
}

// introspect asks about the token.
func (s *subject) introspect(ctx context.Context, a *asker) answer {
	return a.introspect(ctx, s.application, s.token)
}

// questions are all that a node must say no to once the subject is stopped. The end of one session is no reason not
// to start another.
func (s *subject) questions() []func(context.Context, *asker) answer {
	ask := []func(context.Context, *asker) answer{s.introspect}
	switch {
	case s.kind == stopSession:
	case s.principal == "":
		ask = append(ask, func(ctx context.Context, a *asker) answer { return a.mint(ctx, s.agent) })
	default:
		ask = append(ask, func(ctx context.Context, a *asker) answer { return a.mintFor(ctx, s.agent, s.principal) })
	}
	return ask
}

// stopped is the answer to a stop, whatever was stopped.
type stopped struct {
	Committed bool           `json:"committed"`
	Fenced    bool           `json:"fenced"`
	Index     uint64         `json:"index"`
	Nodes     []stoppedNode  `json:"nodes"`
	Denied    map[string]any `json:"denied"`
}

type stoppedNode struct {
	ID      string  `json:"id"`
	State   string  `json:"state"`
	AfterMS float64 `json:"after_ms"`
}

// stop says stop at one node and waits there for the fence.
func (s *subject) stop(ctx context.Context, a *asker, token string, patience time.Duration) (stopped, error) {
	path, body := "/api/v1/revocations", map[string]any{"reason": "it is a test", "wait": "fenced"}
	switch s.kind {
	case stopAgent:
		path = "/api/v1/agents/" + s.agent.ID + "/revoke"
	case stopPrincipal:
		path = "/api/v1/principals/" + s.principal + "/revoke"
	case stopSession:
		body["session_id"] = s.session
	case stopDelegation:
		body["delegation_id"] = s.delegation
	}
	var said stopped
	path += fmt.Sprintf("?timeout_seconds=%d", int(patience/time.Second))
	_, err := a.command(ctx, token, http.MethodPost, path, body, &said)
	return said, err
}

// ask puts all questions to one node and counts its answers, and reports whether all were a clear no.
func (c *tally) ask(ctx context.Context, s *subject, a *asker) (clear bool) {
	clear = true
	for _, question := range s.questions() {
		one, cancel := context.WithTimeout(ctx, 5*time.Second)
		got := question(one, a)
		cancel()
		c.add(got)
		clear = clear && got.verdict == refused
	}
	return clear
}

// requireFenced says stop at one node until it answers that it is fenced.
func requireFenced(t *testing.T, s *subject, a *asker, token string) (said stopped) {
	t.Helper()
	eventually(t, requestWait, "the stop of "+s.agent.ID+" to be fenced", func() (err error) {
		said, err = s.stop(within(t, requestWait), a, token, 10*time.Second)
		if err == nil && !said.Fenced {
			err = fmt.Errorf("not fenced: %+v", said)
		}
		return err
	})
	return said
}
