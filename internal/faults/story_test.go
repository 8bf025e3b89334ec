package faults

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
)

// cast is who the tests need beside the load: an agent that may call an application, each with a secret.
type cast struct {
	agent       client.Credentials
	application client.Credentials
	index       uint64 // at which both are there
}

// audience is the application's; the agent's scope belongs to it.
const (
	audience = "https://ledger.example.com"
	scope    = identity.Scopes("ledger.read")
)

func (f *fleet) cast(t *testing.T) cast {
	t.Helper()
	c, ctx := f.client(t), within(t, requestWait)
	application, err := c.CreateApplication(ctx, &wire.ApplicationRequest{Name: "ledger", Audience: audience, Scopes: scope}, true)
	require.NoError(t, err)
	agent, err := c.CreateAgent(ctx, &wire.AgentRequest{
		Profile:       wire.Profile{Name: "teller", AgentType: identity.AgentAutonomous},
		DefaultScopes: scope, Applications: []string{"ledger"},
	}, true)
	require.NoError(t, err)
	return cast{
		agent:       client.Credentials{ID: agent.Credential.ClientID, Secret: agent.Credential.Secret},
		application: client.Credentials{ID: application.Credential.ClientID, Secret: application.Credential.Secret},
		index:       c.Index(),
	}
}

// requireMint gets a token from the node, which must have caught up with index.
func (f *fleet) requireMint(t *testing.T, n *node, who cast, index uint64) *wire.Token {
	t.Helper()
	c := n.client(t, "")
	c.Observe(index)
	token, err := c.MintToken(within(t, requestWait), who.agent, client.TokenOptions{})
	require.NoError(t, err, "minting at %s", n.id)
	return token
}

// requireActive asks the node about the token.
func (f *fleet) requireActive(t *testing.T, n *node, who cast, token string, active bool, index uint64) {
	t.Helper()
	c := n.client(t, "")
	c.Observe(index)
	answer, err := c.Introspect(within(t, requestWait), who.application, token)
	require.NoError(t, err, "introspecting at %s", n.id)
	require.Equal(t, active, answer.Active, "at %s", n.id)
}

// requireVouched mints at one node and lets every other one confirm the token.
func (f *fleet) requireVouched(t *testing.T, minter *node, who cast, index uint64) {
	t.Helper()
	token := f.requireMint(t, minter, who, index)
	for _, n := range f.running() {
		f.requireActive(t, n, who, token.AccessToken, true, index)
	}
}

func agentBody(name string) *wire.AgentRequest {
	return &wire.AgentRequest{
		Profile:       wire.Profile{Name: name, AgentType: identity.AgentUserDelegated, Description: "made under load"},
		DefaultScopes: scope,
	}
}

func delegationBody(agent string, i int) *wire.DelegationRequest {
	return &wire.DelegationRequest{
		PrincipalID: fmt.Sprintf("user-%d@example.com", i%50), AgentID: agent, Scopes: scope, Duration: 4 * 3600,
		Reason: "made under load",
	}
}
