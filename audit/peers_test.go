package audit

import (
	"bytes"
	"crypto/ed25519"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// madeBy is a checkpoint as a node signs it.
func madeBy(node, log string, through uint64, head byte, at int64) Checkpoint {
	c := Checkpoint{Node: node, Log: log, First: through, Through: through, Head: Hash{head}, Time: identity.Instant(1_800_000_000_000 + at)}
	c.Signature = keyOfNode(node).Sign(c.message())
	return c
}

func logID(n byte) string { return identity.NewID(logPrefix, 1_800_000_000_000, [10]byte{9: n}) }

func keepingPeers(dir string) Options {
	o := testOptions(dir)
	keys := keysOf("n1", "n2", "n3")
	o.PeerKey = func(node string) (ed25519.PublicKey, bool) { key, ok := keys[node]; return key, ok }
	return o
}

func TestCheckpointsOfPeersAreKeptAcrossRestarts(t *testing.T) {
	o := keepingPeers(t.TempDir())
	l := openLog(t, o)
	a, b := madeBy("n2", logID(1), 10, 1, 10), madeBy("n3", logID(2), 7, 2, 7)
	require.NoError(t, l.KeepPeer(a))
	require.NoError(t, l.KeepPeer(a), "again is fine")
	require.NoError(t, l.KeepPeer(b))
	require.NoError(t, l.KeepPeer(madeBy("n2", logID(1), 8, 3, 8)), "late is fine")
	closeLog(t, l)
	path := filepath.Join(o.Dir, peersFile)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(text, `{"node":"n2","lo`...), 0o600)) // as a crash leaves it
	l = openLog(t, o)
	require.Len(t, l.PeerCheckpoints(""), 3)
	require.Equal(t, []Checkpoint{b}, l.PeerCheckpoints("n3"))
	all, bad, err := ReadCheckpoints(path)
	require.NoError(t, err)
	require.Zero(t, bad)
	require.Equal(t, l.PeerCheckpoints(""), all)
}

func TestOnlyKnownNodesBearWitness(t *testing.T) {
	l := openLog(t, keepingPeers(t.TempDir()))
	require.ErrorIs(t, l.KeepPeer(madeBy("n9", logID(1), 1, 1, 1)), ErrUnknownNode)
	require.ErrorContains(t, l.KeepPeer(madeBy("n1", logID(1), 1, 1, 1)), "own")
	forged := madeBy("n2", logID(1), 1, 1, 1)
	forged.Through++
	require.ErrorIs(t, l.KeepPeer(forged), ErrSignature)
	forged = madeBy("n2", "log_1\"", 1, 1, 1)
	require.ErrorIs(t, l.KeepPeer(forged), ErrSignature)
	require.Empty(t, l.PeerCheckpoints(""))

	none := openLog(t, testOptions(t.TempDir()))
	require.ErrorIs(t, none.KeepPeer(madeBy("n2", logID(1), 1, 1, 1)), ErrUnknownNode)
}

func TestLogThatContradictsItselfIsNoticed(t *testing.T) {
	l := openLog(t, keepingPeers(t.TempDir()))
	log := logID(1)
	require.NoError(t, l.KeepPeer(madeBy("n2", log, 100, 1, 100)))
	require.ErrorIs(t, l.KeepPeer(madeBy("n2", log, 100, 2, 101)), ErrForked, "another record of the same number")
	require.ErrorIs(t, l.KeepPeer(madeBy("n2", log, 90, 3, 101)), ErrForked, "cut off, and gone on")
	require.Len(t, l.PeerCheckpoints("n2"), 1, "the evidence stays")
}

func TestWitnessesGrowThinnerWithAgeAndFewerThanABound(t *testing.T) {
	o := keepingPeers(t.TempDir())
	l := openLog(t, o)
	const last = 1200
	for i := 1; i <= last; i++ {
		require.NoError(t, l.KeepPeer(madeBy("n2", logID(1), uint64(i), byte(i), int64(i))))
	}
	kept := l.PeerCheckpoints("n2")
	require.Len(t, kept, maxPerLog)
	require.EqualValues(t, 1, kept[0].Through)
	require.EqualValues(t, last, kept[maxPerLog-1].Through)
	require.Less(t, last-kept[maxPerLog-5].Through, uint64(50), "many of late")
	require.Greater(t, kept[2].Through-kept[1].Through, uint64(100), "few of old")
	info, err := os.Stat(filepath.Join(o.Dir, peersFile))
	require.NoError(t, err)
	require.Less(t, info.Size(), int64(2*maxPerLog+idleLines+1)*600)

	for i := byte(2); i <= maxLogsPerNode; i++ {
		require.NoError(t, l.KeepPeer(madeBy("n2", logID(i), 1, 1, 1)))
	}
	err = l.KeepPeer(madeBy("n2", logID(200), 1, 1, 1))
	require.ErrorIs(t, err, ErrTooMany)
	require.ErrorContains(t, err, peersFile)
	require.NoError(t, l.KeepPeer(madeBy("n3", logID(1), 1, 1, 1)), "others have room")
}

// Three nodes exchange checkpoints. Whoever has root on one of them can't shorten its log unseen.
func TestTruncatedTailShowsAtThePeers(t *testing.T) {
	dir := t.TempDir()
	nodes := map[string]*Log{}
	for _, name := range []string{"n1", "n2", "n3"} {
		o := keepingPeers(filepath.Join(dir, name))
		o.Node, o.Signer = name, keyOfNode(name)
		o.CheckpointEvery = 10 * time.Millisecond
		nodes[name] = openLog(t, o)
	}
	appendAll(t, nodes["n1"], 0, 30)
	eventually(t, "all is sealed", func() bool {
		last, _ := nodes["n1"].Last()
		return nodes["n1"].sealer.through() == last
	})
	earlier := copyFolder(t, filepath.Join(dir, "n1"))
	appendAll(t, nodes["n1"], 30, 50)
	var newest Checkpoint
	eventually(t, "a checkpoint of everything", func() bool {
		c, _ := nodes["n1"].Checkpoint()
		newest = c
		return c.Through >= 51
	})
	require.NoError(t, nodes["n2"].KeepPeer(newest))
	closeLog(t, nodes["n1"])
	held := nodes["n2"].PeerCheckpoints("n1")
	r := requireWhole(t, filepath.Join(dir, "n1"), held...)
	require.Equal(t, 1, r.Witnessed)

	path := filepath.Join(dir, "n1", segmentName(1))
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	at := bytes.Index(text, []byte(numbered(40).RequestID))
	require.NoError(t, os.WriteFile(path, text[:bytes.LastIndexByte(text[:at], '\n')+1], 0o600))
	verify := func(witnesses []Checkpoint) []Problem {
		r, err := Verify(t.Context(), filepath.Join(dir, "n1"), VerifyOptions{Keys: keysOf("n1"), Checkpoints: witnesses})
		require.NoError(t, err)
		return r.Problems
	}
	problems := verify(held)
	require.Len(t, problems, 2, "its own head and its peer both say so")
	require.Equal(t, FlawTruncated, problems[0].Flaw)
	require.Contains(t, problems[0].String(), fmt.Sprintf("reaches to %d", newest.Through))

	// With the head that was sealed when the log was as short, the node goes on and overtakes what it has lost. Its peers
	// still know better.
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "n1")))
	require.NoError(t, os.Rename(earlier, filepath.Join(dir, "n1")))
	o := keepingPeers(filepath.Join(dir, "n1"))
	l := openLog(t, o)
	appendAll(t, l, 100, 150)
	closeLog(t, l)
	require.Empty(t, verify(nil), "by itself it looks whole")
	problems = verify(held)
	require.Len(t, problems, 1)
	require.Equal(t, FlawRewritten, problems[0].Flaw)

	// And with all of it gone.
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "n1")))
	l = openLog(t, keepingPeers(filepath.Join(dir, "n1")))
	appendAll(t, l, 0, 100)
	closeLog(t, l)
	problems = verify(held)
	require.Len(t, problems, 1)
	require.Contains(t, problems[0].String(), "of which nothing is left here")
}

func TestCheckpointsNeverGoBackInTime(t *testing.T) {
	o := testOptions(t.TempDir())
	o.CheckpointRecords, o.CheckpointEvery = 1, time.Hour
	now := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	o.Now = func() time.Time { return now }
	l := openLog(t, o)
	appendAll(t, l, 0, 1)
	before, ok := l.Checkpoint()
	require.True(t, ok)
	closeLog(t, l)
	now = now.Add(-time.Hour)
	l = openLog(t, o)
	appendAll(t, l, 0, 1)
	after, _ := l.Checkpoint()
	require.Greater(t, after.Through, before.Through)
	require.Equal(t, before.Time, after.Time)
}
