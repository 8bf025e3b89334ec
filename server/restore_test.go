package server_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/client"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/testcluster"
	"github.com/deputy-id/deputy/server"
)

func save(t *testing.T, c *testcluster.Cluster) []byte {
	t.Helper()
	var file bytes.Buffer
	_, err := c.Client().SaveSnapshot(t.Context(), &file)
	require.NoError(t, err)
	return file.Bytes()
}

func restore(t *testing.T, c *testcluster.Cluster, backup []byte) (*wire.Restored, error) {
	t.Helper()
	return c.Client().RestoreSnapshot(t.Context(), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(backup)), nil
	}, int64(len(backup)))
}

// requireNoSpool asserts that no node has kept an upload, which holds hashes of secrets.
func requireNoSpool(t *testing.T, c *testcluster.Cluster, nodes int) {
	t.Helper()
	for node := range nodes {
		left, err := filepath.Glob(filepath.Join(c.Node(node).Config().DataDir, "restore-*"))
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

func TestBackupIsRestoredIntoAFreshClusterAndNothingThatWasStoppedComesBack(t *testing.T) {
	t.Parallel()
	old := testcluster.New(t, 1)
	f := seed(t, old)
	before := mint(t, old, 0, f)
	backup := save(t, old)
	_, err := old.Client().KillAgent(t.Context(), f.agent.ID, wire.KillRequest{Reason: "INC-42, after the backup"}, false)
	require.NoError(t, err)
	var later []identity.Handle
	for record, err := range old.Client().ExportRevocations(t.Context()) {
		require.NoError(t, err)
		later = append(later, record.Handle)
	}
	require.NotEmpty(t, later)
	old.StopAll()

	c := testcluster.New(t, 3)
	c.AwaitVoters(3)
	restored, err := restore(t, c, backup)
	require.NoError(t, err)
	require.EqualValues(t, 1, restored.Agents)
	require.NotEmpty(t, restored.MintingClosed)
	requireNoSpool(t, c, 3)

	for node := range 3 {
		cl := c.Hasty(node)
		cl.Observe(c.Index())
		eventually(t, "the node has the backup", func() bool { _, err := cl.Agent(t.Context(), f.agent.ID); return err == nil })
		// On a busy machine it may be without a lease for a while, which it says first.
		var refused error
		eventually(t, "the node mints, or has a lease and says why it doesn't", func() bool {
			_, refused = cl.MintToken(t.Context(), f.agent, client.TokenOptions{})
			return refused == nil || !strings.Contains(refused.Error(), "no valid lease")
		})
		require.True(t, isStatus(refused, 503), "%v", refused)
		require.ErrorContains(t, refused, "no tokens are minted")
		require.False(t, active(t, c, node, 0, f, before), "signed by a key that is gone")
	}

	// What was stopped after the backup is replayed, then minting is opened.
	_, err = c.Client().Revoke(t.Context(), wire.RevocationRequest{Handles: later, Replay: true, Reason: "replayed"})
	require.NoError(t, err)
	_, err = c.Client().OpenMinting(t.Context())
	require.NoError(t, err)
	_, err = c.Client().MintToken(t.Context(), f.agent, client.TokenOptions{})
	require.Error(t, err, "the agent was stopped after the backup")
	_, err = c.Client().AgentLifecycle(t.Context(), f.agent.ID, client.Activate, "checked")
	require.NoError(t, err)
	for node := range 3 {
		require.True(t, active(t, c, (node+1)%3, c.Index(), f, mint(t, c, node, f)), "old credentials are good, with new tokens")
	}

	// All of it outlives the nodes.
	c.StopAll()
	c.RestartAll()
	mint(t, c, 2, f)

	_, err = restore(t, c, backup)
	require.Equal(t, identity.CodeConflict, codeOf(err), "%v", err)
	require.ErrorContains(t, err, "already holds agents")
	requireNoSpool(t, c, 3)
}

func TestBackupThatIsNotWholeChangesNothing(t *testing.T) {
	t.Parallel()
	old := testcluster.New(t, 1)
	seed(t, old)
	backup := save(t, old)
	c := testcluster.New(t, 1)
	flipped := bytes.Clone(backup)
	flipped[len(flipped)/2] ^= 1
	for name, bad := range map[string][]byte{
		"cut off":      backup[:len(backup)-1],
		"changed":      flipped,
		"foreign":      []byte("PK\x03\x04 this is another kind of file, and long enough to be looked at"),
		"followed by":  append(bytes.Clone(backup), 0),
		"nothing more": backup[:10],
	} {
		_, err := restore(t, c, bad)
		require.Equal(t, identity.CodeInvalid, codeOf(err), "%s: %v", name, err)
		require.ErrorContains(t, err, "nothing of it was")
		require.Empty(t, c.Node(0).View().Closed(), name)
		requireNoSpool(t, c, 1)
	}
	restored, err := restore(t, c, backup)
	require.NoError(t, err, "and the good one can be restored after that")
	require.EqualValues(t, 1, restored.Agents)
}

// A restore of which the leader was lost half-way is run again, and starts over.
func TestRestoreThatWasBrokenOffStartsOver(t *testing.T) {
	t.Parallel()
	old := testcluster.New(t, 1)
	f := seed(t, old)
	backup := save(t, old)
	c := testcluster.New(t, 1)
	node := c.Node(0)
	enough := errors.New("the leader is lost")
	parts := 0
	_, err := fsm.ReadBackup(bytes.NewReader(backup), func(body fsm.Body) error {
		if parts++; parts > 2 {
			return enough
		}
		return node.Commit(t.Context(), body)
	})
	require.ErrorIs(t, err, enough)
	_, err = c.Client().OpenMinting(t.Context())
	require.Equal(t, identity.CodeConflict, codeOf(err), "half a restore can't be opened: %v", err)

	left := filepath.Join(node.Config().DataDir, "restore-1.spool")
	require.NoError(t, os.WriteFile(left, backup, 0o600))
	c.Stop(0)
	c.Restart(0)
	require.NoFileExists(t, left)

	_, err = restore(t, c, backup)
	require.NoError(t, err)
	_, err = c.Client().OpenMinting(t.Context())
	require.NoError(t, err)
	mint(t, c, 0, f)
}

func TestBackupThatTheDiskHasNoRoomForIsRefused(t *testing.T) {
	t.Parallel()
	old := testcluster.New(t, 1)
	seed(t, old)
	backup := save(t, old)
	const reserve = 256 << 20
	c := testcluster.NewWith(t, 1, func(o *server.Options) {
		o.FreeBytes = func(string) (uint64, error) { return reserve + 3*uint64(len(backup)) - 1, nil }
	})
	_, err := restore(t, c, backup)
	require.Equal(t, identity.CodeDiskFull, codeOf(err), "%v", err)
	_, err = c.Client().RestoreSnapshot(t.Context(), func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(backup)), nil
	}, -1)
	require.Equal(t, identity.CodeDiskFull, codeOf(err), "nor where its size is not told: %v", err)
	require.Empty(t, c.Node(0).View().Closed())
	requireNoSpool(t, c, 1)
}
