package interop

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

const (
	audienceZendesk = "https://company.zendesk.com"
	audienceGmail   = "https://gmail.googleapis.com"
	user            = "user@company.com"
)

// directory is what the tests find at a node: two applications, an autonomous agent, one that works for users, and a
// sub-agent that runs under it, each with a secret of its own.
type directory struct {
	zendesk, gmail         client.Credentials
	triage, inbox, drafter client.Credentials
}

func (n *node) populate(t *testing.T) *directory {
	t.Helper()
	d := &directory{}
	for _, a := range []struct {
		to       *client.Credentials
		name     string
		audience string
		scopes   []string
	}{
		{&d.zendesk, "zendesk", audienceZendesk, []string{"zendesk.tickets.read", "zendesk.tickets.assign"}},
		{&d.gmail, "gmail", audienceGmail, []string{"gmail.read", "gmail.draft", "gmail.send"}},
	} {
		application, err := n.CreateApplication(t.Context(), &wire.ApplicationRequest{
			Name: a.name, Audience: a.audience, Scopes: scopes(t, a.scopes...),
		}, true)
		require.NoError(t, err)
		*a.to = client.Credentials{ID: application.ID, Secret: application.Credential.Secret}
	}
	for _, a := range []struct {
		to          *client.Credentials
		name        string
		kind        identity.AgentType
		application string
		scopes      []string
		seconds     int64
	}{
		{&d.triage, "support-triage-agent", identity.AgentAutonomous, "zendesk", []string{"zendesk.tickets.read", "zendesk.tickets.assign"}, 3600},
		{&d.inbox, "inbox-assistant", identity.AgentUserDelegated, "gmail", []string{"gmail.read", "gmail.draft"}, 14400},
		{&d.drafter, "draft-writer", identity.AgentUserDelegated, "gmail", []string{"gmail.read", "gmail.draft", "gmail.send"}, 14400},
	} {
		agent, err := n.CreateAgent(t.Context(), &wire.AgentRequest{
			Profile:       wire.Profile{Name: a.name, AgentType: a.kind},
			DefaultScopes: scopes(t, a.scopes...), MaxSessionDuration: a.seconds, Applications: []string{a.application},
		}, true)
		require.NoError(t, err)
		*a.to = client.Credentials{ID: agent.ID, Secret: agent.Credential.Secret}
	}
	return d
}

// lend has the user lend the inbox assistant two scopes for an hour.
func (n *node) lend(t *testing.T) *wire.Delegation {
	t.Helper()
	delegation, err := n.CreateDelegation(t.Context(), &wire.DelegationRequest{
		PrincipalID: user, AgentID: "inbox-assistant", Scopes: scopes(t, "gmail.read", "gmail.draft"), Duration: 3600,
	}, true)
	require.NoError(t, err)
	return delegation
}

func scopes(t *testing.T, names ...string) identity.Scopes {
	t.Helper()
	s, err := identity.NewScopes(names)
	require.NoError(t, err)
	return s
}
