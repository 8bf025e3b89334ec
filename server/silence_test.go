package server_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/internal/testcluster"
)

// The node that goes hears nothing of its removal: no "no more leases", no fence. All that ends its right to speak
// is time, and the removal must not be done before.
func TestRemovalWaitsForTheLeaseOfASilentNode(t *testing.T) {
	t.Parallel()
	c := testcluster.NewBehindLinks(t, 4)
	f := seed(t, c)
	mint(t, c, 3, f)
	alone := c.Hasty(3)
	c.Node(3).Link.Cut()
	_, err := c.Client(0, 1, 2).RemoveMember(t.Context(), "n4", "it hears nothing")
	require.NoError(t, err)
	_, err = alone.MintToken(t.Context(), f.agent, client.TokenOptions{})
	require.Error(t, err, "the node's lease was still running when it was said to be removed")
}
