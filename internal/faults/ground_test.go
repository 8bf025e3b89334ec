package faults

import (
	"testing"

	"github.com/deputy-id/deputy/internal/testcluster"
)

// ground is where the processes of a fleet stand.
type ground interface {
	// place gives a new node its addresses, and what has to be in front of its command line.
	place(t *testing.T, n *node)
}

// loopback is the ground that needs no rights.
type loopback struct{}

func (loopback) place(t *testing.T, n *node) {
	t.Helper()
	a := testcluster.Addresses(t, 4)
	n.public, n.cluster, n.gossip, n.ops = a[0], a[1], a[2], a[3]
}
