package main

import (
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// Only Linux ends children with a parent that was killed.
func TestNodesEndWithADemoThatIsKilled(t *testing.T) {
	alone(t)
	p := startDemo(t, filepath.Join(t.TempDir(), "deputy"), freeBase(t))
	p.says(t, "nodes are up")
	require.NoError(t, p.Process.Kill())
	p.ends(t)
	p.requireNoNodes(t)
}
