package server_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/policy"
	"github.com/deputy-id/deputy/server"
)

// A new cluster has the policies that come along. They are the operators' from then on: what they change or delete
// stays so.
func TestNewClusterBeginsWithPoliciesThatOperatorsOwn(t *testing.T) {
	config := testcluster.Config("n1", t.TempDir())
	config.Bootstrap = true
	start := func() *server.Server {
		s, err := server.New(server.Options{Config: config})
		require.NoError(t, err)
		require.NoError(t, s.Start(t.Context()))
		return s
	}
	s := start()
	modes := map[string]identity.PolicyMode{}
	for _, p := range s.View().AllPolicies() {
		modes[p.ID] = p.Mode
		require.EqualValues(t, 1, p.Version)
	}
	want := map[string]identity.PolicyMode{}
	for _, p := range policy.Shipped() {
		want[p.ID] = p.Mode
	}
	require.Equal(t, want, modes)
	require.NoError(t, s.Commit(t.Context(), fsm.DeletePolicy{ID: "max-two-hops"}))
	require.NoError(t, s.Commit(t.Context(), fsm.SetPolicyMode{ID: "scopes-within-defaults", Mode: identity.PolicyOff}))
	require.NoError(t, s.Stop(context.Background()))

	s = start()
	t.Cleanup(func() { require.NoError(t, s.Stop(context.Background())) })
	require.Len(t, s.View().AllPolicies(), len(want)-1)
	scopes, ok := s.View().Policy("scopes-within-defaults")
	require.True(t, ok)
	require.Equal(t, identity.PolicyOff, scopes.Mode)
}
