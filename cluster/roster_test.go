package cluster

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func peersOf(t *testing.T, index uint64, ids ...string) Peers {
	t.Helper()
	key, err := newGossipKey()
	require.NoError(t, err)
	p := Peers{ClusterID: "cls_1", Index: index, GossipKeys: [][]byte{key}}
	for _, id := range ids {
		p.Members = append(p.Members, Member{ID: id, Key: newKey(t).Public(), ClusterAddr: "127.0.0.1:1", GossipAddr: "127.0.0.1:2"})
	}
	return p
}

func newTestRoster(t *testing.T) (*roster, *table) {
	t.Helper()
	f := newTable()
	r, err := newRoster(&Options{Directory: f, Applied: f}, nil)
	require.NoError(t, err)
	return r, f
}

func rosterIDs(r *roster) []string {
	var list []string
	for _, m := range r.members() {
		list = append(list, m.ID)
	}
	return list
}

// While the log is replayed the table is that of a past in which today's leader may be missing.
func TestTheFileSpeaksUntilTheLogHasCaughtUp(t *testing.T) {
	t.Parallel()
	r, f := newTestRoster(t)
	p := peersOf(t, 50, "n1", "n2", "n3")
	changed, err := r.adopt(p)
	require.NoError(t, err)
	require.True(t, changed)

	f.state.Members["n1"], f.applied = p.Members[0], 49
	require.Equal(t, []string{"n1", "n2", "n3"}, rosterIDs(r))
	_, ok := r.memberByKey(p.Members[2].Key)
	require.True(t, ok)
	changed, err = r.refresh()
	require.NoError(t, err)
	require.False(t, changed, "the past is not stored over the present")

	f.state.Members["n2"], f.applied = p.Members[1], 50
	require.ElementsMatch(t, []string{"n1", "n2"}, rosterIDs(r), "at its index, the table itself speaks")
	_, ok = r.member("n3")
	require.False(t, ok)
	changed, err = r.refresh()
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, p.GossipKeys, r.peers().GossipKeys)
}

// The table is looked at many times a second, and is the same while nothing has been applied.
func TestATableIsReadOnceForEachIndex(t *testing.T) {
	t.Parallel()
	r, f := newTestRoster(t)
	p := peersOf(t, 50, "n1", "n2")
	reads := &countedReads{Directory: f}
	r.directory = reads
	f.state.Members["n1"], f.applied = p.Members[0], 7
	for range 3 {
		_, err := r.refresh()
		require.NoError(t, err)
	}
	require.Equal(t, 2, reads.count, "once to find that it has changed, and once to find that it hasn't since")

	// What is published before its index is seen with the index at the latest.
	f.state.Members["n2"] = p.Members[1]
	changed, err := r.refresh()
	require.NoError(t, err)
	require.False(t, changed)
	f.applied = 8
	changed, err = r.refresh()
	require.NoError(t, err)
	require.True(t, changed)
	require.Equal(t, 3, reads.count)
}

type countedReads struct {
	Directory
	count int
}

func (c *countedReads) Members() []Member {
	c.count++
	return c.Directory.Members()
}

func TestOnlyANewerTableIsAdopted(t *testing.T) {
	t.Parallel()
	r, f := newTestRoster(t)
	f.applied = 10
	for _, index := range []uint64{9, 10, 11, 11} {
		want := index > max(f.applied, r.seed.Load().Index)
		changed, err := r.adopt(peersOf(t, index, "n1"))
		require.NoError(t, err)
		require.Equal(t, want, changed, "index %d", index)
	}
	require.EqualValues(t, 11, r.seed.Load().Index)
	other := peersOf(t, 99, "n1")
	other.ClusterID = "cls_2"
	_, err := r.adopt(other)
	require.ErrorIs(t, err, ErrForeignFolder)
}

func TestPeersSurviveTheDisk(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), peersFile)
	p := peersOf(t, 7, "n1", "n2")
	require.NoError(t, savePeers(path, p))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm(), "it holds the gossip keys")
	loaded, err := loadPeers(path)
	require.NoError(t, err)
	require.Equal(t, p, loaded)

	for name, content := range map[string]string{
		"no JSON":         `{`,
		"another version": `{"version":2,"index":1,"members":[]}`,
		"nobody":          `{"version":1,"index":1,"members":[]}`,
		"half a key":      `{"version":1,"index":1,"members":[{"id":"n1","key":"AAAA","cluster_addr":"127.0.0.1:1"}]}`,
		"no address":      `{"version":1,"index":1,"members":[{"id":"n1","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="}]}`,
	} {
		require.NoError(t, os.WriteFile(path, []byte(content), 0o600))
		_, err := loadPeers(path)
		require.ErrorContains(t, err, "is damaged", name)
	}
}

func FuzzPeers(f *testing.F) {
	f.Add([]byte(`{"version":1,"index":1,"members":[{"id":"n1","key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","cluster_addr":"h:1"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decodePeers(data)
		if err != nil {
			return
		}
		encoded, err := encodePeers(p)
		require.NoError(t, err)
		again, err := decodePeers(encoded)
		require.NoError(t, err)
		require.Equal(t, p.Index, again.Index)
		require.True(t, sameMembers(p.Members, again.Members))
	})
}

func TestTheFolderBelongsToOneNodeAndProcess(t *testing.T) {
	t.Parallel()
	n := newNode(t, "n1", func(o *Options) { o.ClusterID = "cls_1" })
	o := n.o
	o.Registerer = nil
	o.ClusterBind, o.GossipBind = "127.0.0.1:0", "127.0.0.1:0"

	_, err := New(o)
	require.ErrorIs(t, err, ErrDataDirInUse)
	require.ErrorContains(t, err, o.DataDir)

	require.NoError(t, n.Seed(peersOf(t, 5, "n1", "n2")))
	require.True(t, n.HasState(), "a node that was let in needs no second join")
	n.stop()

	for name, change := range map[string]func(*Options){
		"another name":    func(o *Options) { o.NodeID = "n2" },
		"another key":     func(o *Options) { o.Key = newKey(t) },
		"another cluster": func(o *Options) { o.ClusterID = "cls_2" },
	} {
		wrong := o
		change(&wrong)
		_, err := New(wrong)
		require.ErrorIs(t, err, ErrForeignFolder, name)
	}

	again, err := New(o)
	require.NoError(t, err, "refusals leave nothing locked")
	require.True(t, again.HasState())
	require.NoError(t, again.Stop(t.Context()))
}

func TestOptionsSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	_, err := New(Options{GossipKeys: [][]byte{{1}}})
	for _, name := range []string{"NodeID", "DataDir", "ClusterBind", "GossipBind", "Key", "FSM", "Directory", "Applied", "gossip key 0"} {
		require.ErrorContains(t, err, name)
	}
}

func TestNewLeavesNothingBehindOnError(t *testing.T) {
	t.Parallel()
	taken := newNode(t, "n1", inMemory)
	o := newNode(t, "n2").o
	o.DataDir, o.Registerer = t.TempDir(), nil
	o.GossipBind, o.ClusterBind = "127.0.0.1:0", taken.ClusterAddr()
	_, err := New(o)
	require.ErrorContains(t, err, taken.ClusterAddr())
	o.ClusterBind = "127.0.0.1:0"
	n, err := New(o)
	require.NoError(t, err)
	require.NoError(t, n.Stop(t.Context()), "stopping what never started is fine")
	require.NoError(t, n.Stop(t.Context()), "twice as well")
	require.Error(t, n.Start(t.Context()))
}

func TestNodeKeys(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "node.key")
	key, err := LoadOrCreateNodeKey(path)
	require.NoError(t, err)
	again, err := LoadOrCreateNodeKey(path)
	require.NoError(t, err)
	require.True(t, key.Public().Equal(again.Public()))

	require.NoError(t, os.Chmod(path, 0o640))
	_, err = LoadOrCreateNodeKey(path)
	require.ErrorContains(t, err, "chmod 600")

	require.NoError(t, os.Chmod(path, 0o600))
	require.NoError(t, os.WriteFile(path, []byte("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"), 0o600))
	_, err = LoadOrCreateNodeKey(path)
	require.ErrorContains(t, err, "damaged")
	require.Nil(t, NodeKey{}.Public())
}

func TestADiskThatStallsIsReportedOnce(t *testing.T) {
	t.Parallel()
	reports := make(chan time.Duration, 8)
	w := &stallWatch{limit: 10 * time.Millisecond, hook: func(d time.Duration) { reports <- d }}
	for range 10 {
		w.begin()()
	}
	ends := []func(){w.begin(), w.begin()}
	require.Equal(t, w.limit, <-reports)
	for _, end := range ends {
		end()
	}
	require.Empty(t, reports)
}
