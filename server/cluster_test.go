package server_test

import (
	"context"
	"errors"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/server"
)

// fixture is the article's agent with the application that it calls, and a credential of each.
type fixture struct {
	agent, application client.Credentials
}

func seed(t *testing.T, c *testcluster.Cluster) fixture {
	t.Helper()
	admin := c.Client()
	application, err := admin.CreateApplication(t.Context(), wire.ApplicationRequest{
		Name: "zendesk", Audience: "https://zendesk.example.com", Scopes: "zendesk.tickets.assign zendesk.tickets.read",
	}, true)
	require.NoError(t, err)
	agent, err := admin.CreateAgent(t.Context(), wire.AgentRequest{
		Profile:       wire.Profile{Name: "support-triage-agent", AgentType: identity.AgentAutonomous},
		DefaultScopes: "zendesk.tickets.assign zendesk.tickets.read", MaxSessionDuration: 3600,
		Applications: []string{"zendesk"},
	}, true)
	require.NoError(t, err)
	return fixture{
		agent:       client.Credentials{ID: "support-triage-agent", Secret: agent.Credential.Secret},
		application: client.Credentials{ID: "zendesk", Secret: application.Credential.Secret},
	}
}

func isStatus(err error, status int) bool {
	var e *client.Error
	return errors.As(err, &e) && e.Status == status
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	require.Eventually(t, holds, time.Minute, 10*time.Millisecond, what)
}

// active asks one node what it makes of a token, at the state that the last write left.
func active(t *testing.T, c *testcluster.Cluster, node int, index uint64, f fixture, token string) bool {
	t.Helper()
	cl := c.Client(node)
	cl.Observe(index)
	answer, err := cl.Introspect(t.Context(), f.application, token)
	require.NoError(t, err)
	return answer.Active
}

func TestAnyNodeMintsAndAnyOtherChecks(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	f := seed(t, c)
	for minter := range 3 {
		cl := c.Client(minter)
		cl.Observe(c.Index())
		var token *wire.Token
		eventually(t, "the node has heard of the agent", func() (ok bool) {
			var err error
			token, err = cl.MintToken(t.Context(), f.agent, client.TokenOptions{})
			return err == nil
		})
		require.Equal(t, "Bearer", token.TokenType)
		require.Equal(t, "zendesk.tickets.assign zendesk.tickets.read", token.Scope)
		for checker := range 3 {
			require.True(t, active(t, c, checker, c.Index(), f, token.AccessToken), "minted at %d, checked at %d", minter, checker)
		}

		revoker := c.Client((minter + 1) % 3)
		_, err := revoker.Revoke(t.Context(), wire.RevocationRequest{SessionID: token.SessionID, Reason: "test"})
		require.NoError(t, err)
		for checker := range 3 {
			require.False(t, active(t, c, checker, revoker.Index(), f, token.AccessToken), "revoked, checked at %d", checker)
		}
	}
}

func TestNodesRestartFromTheirDataFolders(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	f := seed(t, c)
	token, err := c.Client().MintToken(t.Context(), f.agent, client.TokenOptions{})
	require.NoError(t, err)

	c.AwaitVoters(3)

	// One at a time: writes go on without it.
	c.Stop(1)
	_, err = c.Client(0, 2).CreatePrincipal(t.Context(), wire.PrincipalRequest{ID: "user@company.com"})
	require.NoError(t, err)
	c.Restart(1)
	_, err = c.Client(1).Principal(t.Context(), "user@company.com")
	require.NoError(t, err)

	// All at once: they find each other without anybody's help.
	c.StopAll()
	c.RestartAll()
	for node := range 3 {
		_, err = c.Client(node).Principal(t.Context(), "user@company.com")
		require.NoError(t, err)
		require.True(t, active(t, c, node, 0, f, token.AccessToken), "a token from before the restart")
	}
	again, err := c.Client(2).MintToken(t.Context(), f.agent, client.TokenOptions{})
	require.NoError(t, err)
	require.True(t, active(t, c, 0, 0, f, again.AccessToken))
}

func TestNodeThatLostItsQuorumFallsSilentInsteadOfGuessing(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	f := seed(t, c)
	token, err := c.Client(0).MintToken(t.Context(), f.agent, client.TokenOptions{})
	require.NoError(t, err)
	c.Stop(1)
	c.Stop(2)

	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cl := c.Hasty(0)
	eventually(t, "no introspection without a lease", func() bool {
		answer, err := cl.Introspect(ctx, f.application, token.AccessToken)
		if err == nil {
			require.True(t, answer.Active, "unknown was reported as false")
		}
		return isStatus(err, 503)
	})
	_, err = cl.MintToken(ctx, f.agent, client.TokenOptions{})
	require.True(t, isStatus(err, 503), "%v", err)
}

func TestJoinTokenIsGoodForOneNodeAndOneWhile(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 1)
	token, err := c.Client().CreateJoinToken(t.Context(), wire.JoinTokenRequest{})
	require.NoError(t, err)
	require.NoError(t, c.TryJoin("n2", token.Token))

	err = c.TryJoin("n3", token.Token)
	require.Equal(t, identity.CodeJoinTokenUsed, identity.CodeOf(err), "%v", err)

	members, err := c.Client().Members(t.Context())
	require.NoError(t, err)
	require.Len(t, members.Items, 2)
	require.Equal(t, token.ID, members.Items[1].JoinTokenID)
}

func TestGuessedJoinSecretLetsNobodyIn(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 1)
	real, err := c.Client().CreateJoinToken(t.Context(), wire.JoinTokenRequest{})
	require.NoError(t, err)
	forged, err := server.ParseJoinToken(real.Token)
	require.NoError(t, err)
	forged.Secret = "guessed"

	err = c.TryJoin("n2", forged.String())
	require.Equal(t, identity.CodeJoinTokenInvalid, identity.CodeOf(err), "%v", err)
	members, err := c.Client().Members(t.Context())
	require.NoError(t, err)
	require.Len(t, members.Items, 1)
	require.NoError(t, c.TryJoin("n2", real.Token), "the real one is still unused")
}

func TestRemovedNodeEndsAndSaysWhy(t *testing.T) {
	t.Parallel()
	c := testcluster.New(t, 2)
	_, err := c.Client(0).RemoveMember(t.Context(), "n2", "retired")
	require.NoError(t, err)

	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	err = c.Node(1).Wait(ctx)
	require.Equal(t, identity.CodeMemberRemoved, identity.CodeOf(err), "%v", err)

	c.Stop(1)
	err = c.TryRestart(1)
	require.Equal(t, identity.CodeMemberRemoved, identity.CodeOf(err), "%v", err)
	_, err = c.Client(0).RemoveMember(t.Context(), "n2", "asked again")
	require.NoError(t, err)
}

func TestNodeWithoutDataOrTokenSaysWhatItNeeds(t *testing.T) {
	s, err := server.New(server.Options{Config: testcluster.Config("n1", t.TempDir())})
	require.NoError(t, err)
	require.ErrorContains(t, s.Start(t.Context()), "neither bootstrap nor join_token is set")
}

func TestRootTokenFileIsForItsOwnerAlone(t *testing.T) {
	t.Parallel()
	config := testcluster.Config("n1", t.TempDir())
	config.Bootstrap, config.RootTokenFile = true, t.TempDir()+"/root.token"
	s, err := server.New(server.Options{Config: config})
	require.NoError(t, err)
	require.NoError(t, s.Start(t.Context()))
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })

	info, err := os.Stat(config.RootTokenFile)
	require.NoError(t, err)
	require.EqualValues(t, 0o600, info.Mode().Perm())
	text, err := os.ReadFile(config.RootTokenFile)
	require.NoError(t, err)
	require.Equal(t, s.RootToken()+"\n", string(text))
}
