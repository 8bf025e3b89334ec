package api

import (
	"context"
	"crypto/ed25519"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/audit"
)

// nodeKey is what a node of the tests signs its checkpoints with.
type nodeKey struct{ ed25519.PrivateKey }

func (k nodeKey) Sign(message []byte) []byte { return ed25519.Sign(k.PrivateKey, message) }
func (k nodeKey) Public() ed25519.PublicKey  { return k.PrivateKey.Public().(ed25519.PublicKey) }

// openLog opens the real audit log of a node, in a folder that goes with the test.
func openLog(t testing.TB, n *node) *audit.Log {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	n.key = nodeKey{private}
	log, err := audit.Open(audit.Options{
		Dir: t.TempDir(), Node: n.name(), Signer: n.key, Now: n.group.time, Logger: slog.New(slog.DiscardHandler),
		CheckpointEvery: 50 * time.Millisecond, Patience: 2 * time.Second,
		PeerKey: func(node string) (ed25519.PublicKey, bool) {
			for _, peer := range n.group.nodes {
				if peer.name() == node {
					return peer.key.Public(), true
				}
			}
			return nil, false
		},
	})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, log.Close(context.Background())) })
	return log
}

// stubTrail is the trail of a group of nodes, each with a real log, that ask each other by a function call.
type stubTrail struct{ n *node }

func (s stubTrail) Query(ctx context.Context, q audit.Query, from map[string]TrailPosition) (pages []TrailPage) {
	for _, n := range s.n.group.nodes {
		page := TrailPage{Node: n.name()}
		at := from[n.name()]
		switch {
		case n.silent:
			page.Error = "it did not answer"
		case !at.Done:
			q.After = at.After
			answered, err := n.log.Query(ctx, q)
			if err != nil {
				page.Error = err.Error()
			}
			page.Page = answered
		}
		pages = append(pages, page)
	}
	return pages
}

func (s stubTrail) Checkpoints(context.Context) (all []TrailCheckpoints) {
	for _, n := range s.n.group.nodes {
		held := TrailCheckpoints{Node: n.name(), Kept: n.log.PeerCheckpoints("")}
		if own, ok := n.log.Checkpoint(); ok {
			held.Own = &own
		}
		all = append(all, held)
	}
	return all
}

func (s stubTrail) Prove(_ context.Context, node string, sequence uint64) (*audit.Proof, error) {
	for _, n := range s.n.group.nodes {
		if n.name() == node {
			return n.log.Prove(sequence)
		}
	}
	return nil, audit.ErrUnknownNode
}

func (s stubTrail) Sinks(context.Context) (all []TrailSinks) {
	for _, n := range s.n.group.nodes {
		all = append(all, TrailSinks{Node: n.name(), Sinks: n.log.Sinks()})
	}
	return all
}

// records are what the node's log holds that fits, oldest first.
func (n *node) records(q audit.Query) []audit.Entry {
	n.t.Helper()
	q.OldestFirst = true
	page, err := n.log.Query(context.Background(), q)
	require.NoError(n.t, err)
	return page.Entries
}

// record is the one record that fits.
func (n *node) record(q audit.Query) audit.Entry {
	n.t.Helper()
	found := n.records(q)
	require.Len(n.t, found, 1)
	return found[0]
}
