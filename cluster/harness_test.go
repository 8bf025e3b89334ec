package cluster

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// These tests wait for elections most of the time, so more of them fit at once than there are cores. A flag
	// on the command line still wins.
	if err := flag.Set("test.parallel", "4"); err != nil {
		panic(err)
	}
	goleak.VerifyTestMain(m,
		// A probe of memberlist that is under way outlives it, until the probe's own deadline.
		goleak.IgnoreAnyFunction("github.com/hashicorp/memberlist.(*Memberlist).probeNode"),
		// Raft ends without an answer to what is in its queues.
		goleak.IgnoreAnyFunction("github.com/deputy-id/deputy/cluster.answered.func1"))
}

// table is a state machine that holds what the tests need: the members, and the commands in order.
type table struct {
	mu      sync.Mutex
	state   tableState
	applied uint64
	packs   int // entries of several commands that were applied
	changed chan struct{}
}

type tableState struct {
	Members  map[string]Member
	Commands []string
}

type tableCommand struct {
	Admit  *Member
	Remove string
	Note   string
}

func newTable() *table {
	return &table{state: tableState{Members: map[string]Member{}}, changed: make(chan struct{})}
}

var (
	_ raft.BatchingFSM = (*table)(nil)
	_ Directory        = (*table)(nil)
	_ Progress         = (*table)(nil)
)

func (f *table) Apply(l *raft.Log) any { return f.ApplyBatch([]*raft.Log{l})[0] }

func (f *table) ApplyBatch(logs []*raft.Log) []any {
	f.mu.Lock()
	defer f.mu.Unlock()
	answers := make([]any, len(logs))
	for i, l := range logs {
		if l.Type == raft.LogCommand {
			answers[i] = f.applyEntry(l.Data)
		}
		f.applied = l.Index
	}
	close(f.changed)
	f.changed = make(chan struct{})
	return answers
}

func (f *table) applyEntry(data []byte) any {
	var commands []json.RawMessage
	if json.Unmarshal(data, &commands) != nil {
		return f.apply(data)
	}
	f.packs++
	answers := make(tableAnswers, len(commands))
	for i, command := range commands {
		answers[i] = f.apply(command)
	}
	return answers
}

type tableAnswers []any

func (a tableAnswers) Len() int     { return len(a) }
func (a tableAnswers) At(i int) any { return a[i] }

// packing is that of a table: a JSON list of the commands.
func (f *table) packing() Packing {
	return Packing{
		Pack: func(commands [][]byte) ([]byte, error) {
			list := make([]json.RawMessage, len(commands))
			for i, command := range commands {
				list[i] = command
			}
			return json.Marshal(list)
		},
		Seen: func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.packs > 0
		},
	}
}

func (f *table) apply(data []byte) any {
	var c tableCommand
	if err := json.Unmarshal(data, &c); err != nil {
		panic(err)
	}
	if c.Admit != nil {
		f.state.Members[c.Admit.ID] = *c.Admit
	}
	delete(f.state.Members, c.Remove)
	if c.Note != "" && !slices.Contains(f.state.Commands, c.Note) { // a command is its own id
		f.state.Commands = append(f.state.Commands, c.Note)
	}
	return len(f.state.Commands)
}

func (f *table) Snapshot() (raft.FSMSnapshot, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	data, err := json.Marshal(f.state)
	return tableSnapshot(data), err
}

type tableSnapshot []byte

func (s tableSnapshot) Persist(sink raft.SnapshotSink) error {
	if _, err := sink.Write(s); err != nil {
		return errors.Join(err, sink.Cancel())
	}
	return sink.Close()
}

func (tableSnapshot) Release() {}

func (f *table) Restore(r io.ReadCloser) error {
	var state tableState
	if err := json.NewDecoder(r).Decode(&state); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state = state
	return nil
}

func (f *table) Member(id string) (Member, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	m, ok := f.state.Members[id]
	return m, ok
}

func (f *table) MemberByKey(key []byte) (Member, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, m := range f.state.Members {
		if bytes.Equal(m.Key, key) {
			return m, true
		}
	}
	return Member{}, false
}

func (f *table) Members() []Member {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Collect(maps.Values(f.state.Members))
}

func (f *table) Applied() uint64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.applied
}

func (f *table) WaitApplied(ctx context.Context, index uint64) error {
	for {
		f.mu.Lock()
		applied, changed := f.applied, f.changed
		f.mu.Unlock()
		if applied >= index {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (f *table) notes() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.state.Commands)
}

// testNode is a node with what it takes to start it again.
type testNode struct {
	*Node
	t     *testing.T
	table *table
	o     Options
	old   bool // a build that can't read entries of several commands
}

// testTuning is quick, and still slack enough for the race detector on a busy machine.
func testTuning() Tuning {
	return Tuning{
		HeartbeatTimeout: 600 * time.Millisecond, ElectionTimeout: 600 * time.Millisecond, LeaderLeaseTimeout: 500 * time.Millisecond,
		AutopilotUpdate: 100 * time.Millisecond, AutopilotReconcile: 100 * time.Millisecond, Stabilization: 200 * time.Millisecond,
		ReplaceDeadAfter: time.Hour, MemberPoll: 20 * time.Millisecond,
		GossipProbe: 100 * time.Millisecond, GossipRejoin: 200 * time.Millisecond,
	}
}

func newKey(t *testing.T) NodeKey {
	t.Helper()
	key, err := NewNodeKey()
	require.NoError(t, err)
	return key
}

func testLogger() *slog.Logger {
	if os.Getenv("CLUSTER_TEST_LOG") == "" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// newNode makes a node that stops with the test. Its data folder outlives Stop.
func newNode(t *testing.T, id string, change ...func(*Options)) *testNode {
	t.Helper()
	o := Options{
		NodeID: id, DataDir: t.TempDir(), ClusterBind: "127.0.0.1:0", GossipBind: "127.0.0.1:0",
		Key: newKey(t), Tuning: testTuning(), Logger: testLogger().With("node", id),
	}
	for _, f := range change {
		f(&o)
	}
	n := &testNode{t: t, o: o}
	n.open()
	t.Cleanup(n.stop)
	return n
}

// open makes the node from its data folder, with an empty state machine and the addresses it had.
func (n *testNode) open() {
	n.t.Helper()
	n.table = newTable()
	n.o.FSM, n.o.Directory, n.o.Applied = n.table, n.table, n.table
	n.o.Packing = Packing{}
	if !n.old {
		n.o.Packing = n.table.packing()
	}
	n.o.Registerer = prometheus.NewPedanticRegistry()
	var err error
	n.Node, err = New(n.o)
	require.NoError(n.t, err)
	n.o.ClusterBind, n.o.GossipBind = n.Node.ClusterAddr(), n.Node.GossipAddr()
	n.Handle("echo", func(_ context.Context, peer Member, body []byte) ([]byte, error) {
		return append([]byte(peer.ID+"→"+n.o.NodeID+": "), body...), nil
	})
	n.Handle("propose", func(ctx context.Context, _ Member, body []byte) ([]byte, error) {
		applied, err := n.Propose(ctx, body)
		return binary.BigEndian.AppendUint64(nil, applied.Index), err
	})
	n.Handle("admit", func(ctx context.Context, _ Member, body []byte) ([]byte, error) { return n.serveAdmit(ctx, body) })
	n.Handle("size", func(_ context.Context, _ Member, body []byte) ([]byte, error) {
		return binary.BigEndian.AppendUint64(nil, uint64(len(body))), nil
	})
	n.Handle("large", func(context.Context, Member, []byte) ([]byte, error) { return make([]byte, MaxBody+1), nil })
	n.Handle("hang", func(ctx context.Context, _ Member, _ []byte) ([]byte, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	})
	n.Handle("fail", func(context.Context, Member, []byte) ([]byte, error) { return nil, errors.New("no such luck") })
	n.HandleJoin(n.admit)
}

func (n *testNode) start() {
	n.t.Helper()
	require.NoError(n.t, n.Start(n.t.Context()))
}

func (n *testNode) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	require.NoError(n.t, n.Stop(ctx))
}

// restart is a stop and a start with nothing but the data folder in between.
func (n *testNode) restart() {
	n.t.Helper()
	n.stop()
	n.open()
	n.start()
}

func (n *testNode) member() Member {
	return Member{ID: n.o.NodeID, Key: n.o.Key.Public(), ClusterAddr: n.ClusterAddr(), GossipAddr: n.GossipAddr()}
}

func encodeCommand(c tableCommand) []byte {
	data, err := json.Marshal(c)
	if err != nil {
		panic(err)
	}
	return data
}

// commit has the leader, whoever it is now, commit a command, and returns its index. On a busy machine
// leadership may move at any time; doing a command twice does nothing.
func (n *testNode) commit(c tableCommand) (index uint64) {
	n.t.Helper()
	eventually(n.t, func() bool {
		answer, err := n.CallLeader(n.t.Context(), "propose", encodeCommand(c))
		if err == nil {
			index = binary.BigEndian.Uint64(answer)
		}
		return err == nil
	}, "commit")
	return index
}

// newCluster is one bootstrapped node that has admitted itself.
func newCluster(t *testing.T, change ...func(*Options)) *testNode {
	t.Helper()
	n := newNode(t, "n1", change...)
	n.start()
	require.NoError(t, n.Bootstrap(t.Context()))
	eventually(t, n.IsLeader)
	m := n.member()
	n.commit(tableCommand{Admit: &m})
	return n
}

type joinDocument struct {
	Secret string
	Member Member
}

// admit answers a joiner on any member, as the owner of a Node would write it.
func (n *testNode) admit(ctx context.Context, key ed25519.PublicKey, remote net.Addr, body []byte) ([]byte, error) {
	var d joinDocument
	if err := json.Unmarshal(body, &d); err != nil {
		return nil, err
	}
	if d.Secret != "sesame" {
		return nil, fmt.Errorf("the secret from %s is wrong", remote)
	}
	d.Member.Key = key
	body, err := json.Marshal(d.Member)
	if err != nil {
		return nil, err
	}
	return n.CallLeader(ctx, "admit", body)
}

// serveAdmit is the leader's side.
func (n *testNode) serveAdmit(ctx context.Context, body []byte) ([]byte, error) {
	var m Member
	if err := json.Unmarshal(body, &m); err != nil {
		return nil, err
	}
	applied, err := n.Propose(ctx, encodeCommand(tableCommand{Admit: &m}))
	if err != nil {
		return nil, err
	}
	if err := n.AddNonvoter(ctx, m.ID, m.ClusterAddr); err != nil {
		return nil, err
	}
	return encodePeers(Peers{Index: applied.Index, Members: n.table.Members(), GossipKeys: n.GossipKeys()})
}

// join lets a new node into the cluster of n.
func (n *testNode) join(id string, change ...func(*Options)) *testNode {
	n.t.Helper()
	joiner := newNode(n.t, id, change...)
	joiner.joinBy(n)
	return joiner
}

func (n *testNode) joinBy(member *testNode) {
	n.t.Helper()
	body, err := json.Marshal(joinDocument{Secret: "sesame", Member: n.member()})
	require.NoError(n.t, err)
	var answer []byte
	eventually(n.t, func() bool {
		answer, err = JoinCall(n.t.Context(), member.ClusterAddr(), member.o.Key.Public(), n.o.Key, body)
		return err == nil
	}, "join")
	peers, err := decodePeers(answer)
	require.NoError(n.t, err)
	require.NoError(n.t, n.Seed(peers))
	n.start()
	ctx, cancel := context.WithTimeout(n.t.Context(), patience)
	defer cancel()
	require.NoError(n.t, n.table.WaitApplied(ctx, peers.Index))
}

// patience is for a machine that is busy with other tests.
const patience = time.Minute

func eventually(t *testing.T, condition func() bool, what ...any) {
	t.Helper()
	require.Eventually(t, condition, patience, 10*time.Millisecond, what...)
}

func voters(n *testNode) []string {
	var ids []string
	for _, s := range n.Servers() {
		if s.Suffrage == SuffrageVoter {
			ids = append(ids, s.ID)
		}
	}
	return ids
}

// leaderOf waits until the nodes agree on a leader among them and returns it.
func leaderOf(t *testing.T, nodes ...*testNode) *testNode {
	t.Helper()
	var leader *testNode
	eventually(t, func() bool {
		leader = nil
		for _, n := range nodes {
			if n.IsLeader() {
				leader = n
			}
		}
		if leader == nil {
			return false
		}
		for _, n := range nodes {
			if id, ok := n.leaderID(); !ok || id != leader.o.NodeID {
				return false
			}
		}
		return true
	}, "no leader")
	return leader
}

// onLeader has the leader do something, whoever it is now.
func onLeader(t *testing.T, nodes []*testNode, do func(leader *testNode) error) {
	t.Helper()
	var err error
	eventually(t, func() bool {
		err = do(leaderOf(t, nodes...))
		return !errors.Is(err, ErrNotLeader) && !errors.Is(err, ErrOutcomeUnknown)
	})
	require.NoError(t, err)
}

func threeNodes(t *testing.T, change ...func(*Options)) []*testNode {
	t.Helper()
	n1 := newCluster(t, change...)
	nodes := []*testNode{n1, n1.join("n2", change...), n1.join("n3", change...)}
	// The leader's own view is not enough: until the others have it in their logs they refuse their votes to it.
	for _, n := range nodes {
		eventually(t, func() bool { return len(voters(n)) == 3 }, "three voters at %s", n.o.NodeID)
	}
	return nodes
}

func haveNotes(t *testing.T, want []string, nodes ...*testNode) {
	t.Helper()
	for _, n := range nodes {
		eventually(t, func() bool { return slices.Equal(n.table.notes(), want) }, "node %s", n.o.NodeID)
	}
}

func inMemory(o *Options) { o.InMemory, o.DataDir = true, "" }

// kill ends a node without farewell or handing over, as near to kill -9 as it gets inside a process.
func (n *testNode) kill() {
	n.t.Helper()
	n.stopOnce.Do(func() {
		n.stopping.Store(true)
		_ = n.port.listener.Close()
		n.port.conns.closeAll()
		n.endRaft(n.raft.Load())
		<-n.ended
		n.cancel()
		n.running.Wait()
		_ = n.gossip.list.Load().Shutdown()
		_ = n.transport.Close()
		n.transport.CloseStreams()
		n.serving.Wait()
		n.client.end()
		n.release()
	})
}

func contains(list []string, s string) bool { return slices.Contains(list, s) }

func connectedTo(n, other *testNode) bool {
	for _, c := range n.port.conns.list() {
		if c.checked && bytes.Equal(c.key, other.o.Key.Public()) {
			return true
		}
	}
	return false
}

// counted reads a counter without prometheus' testutil, which would bring modules of its own.
func counted(t *testing.T, c prometheus.Counter) float64 {
	t.Helper()
	var m dto.Metric
	require.NoError(t, c.Write(&m))
	return m.GetCounter().GetValue()
}
