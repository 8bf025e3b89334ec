package api

import (
	"bytes"
	"context"
	"io"
	"sync"
	"time"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// stubCluster stands for Raft's membership and for what nodes tell each other, which is not what these tests are
// about.
type stubCluster struct {
	n       *node
	servers []Server
	handed  string
	handing int   // how often leadership was handed over
	lost    error // of a handing over
	removal RemoveOptions
	size    int64 // of a backup, as it was told

	mu     sync.Mutex
	fences []raised
	// onFence answers in the place of all nodes; nil: they all acknowledge.
	onFence func(ctx context.Context, n *node) (Fence, error)
	asked   []string // what was asked for besides, such as "drain n2"
}

// raised is a fence as it was asked for.
type raised struct {
	index   uint64
	entries []revocation.Entry
}

func (s *stubCluster) Servers() []Server                       { return s.servers }
func (s *stubCluster) JoinToken(secret string) (string, error) { return "dpj_" + secret, nil }
func (s *stubCluster) TransferLeadership(_ context.Context, to string) error {
	s.handed = to
	s.handing++
	return s.lost
}

func (s *stubCluster) RemoveMember(ctx context.Context, id, by string, o RemoveOptions) (*identity.Member, uint64, error) {
	s.removal = o
	return s.commitMember(ctx, by, fsm.RemoveMember{ID: id, Reason: o.Reason})
}

func (s *stubCluster) commitMember(ctx context.Context, by string, body fsm.Body) (*identity.Member, uint64, error) {
	result, err := s.n.Propose(ctx, fsm.Command{Time: s.n.api.now(), By: by, Body: body})
	if err != nil {
		return nil, 0, err
	}
	if result.Err != nil {
		return nil, 0, result.Err
	}
	return result.Value.(*identity.Member), result.Index, nil
}

func (s *stubCluster) DrainMember(ctx context.Context, id, by string, draining bool) (*identity.Member, uint64, error) {
	return s.commitMember(ctx, by, fsm.DrainMember{ID: id, Draining: draining})
}

func (s *stubCluster) RotateKey(_ context.Context, id, _ string) (uint64, error) {
	return s.note("rotate-key " + id)
}

func (s *stubCluster) RotateGossip(context.Context, string) (uint64, error) {
	return s.note("rotate-gossip")
}

func (s *stubCluster) OpenMinting(context.Context, string) (uint64, error) { return s.note("open") }

// Restore does in one piece of memory what a leader does from a file.
func (s *stubCluster) Restore(ctx context.Context, by string, backup io.Reader, size int64) (fsm.BackupInfo, error) {
	s.size = size
	all, err := io.ReadAll(backup)
	if err != nil {
		return fsm.BackupInfo{}, err
	}
	if _, err := fsm.InspectBackup(bytes.NewReader(all)); err != nil {
		return fsm.BackupInfo{}, identity.Errorf(identity.CodeInvalid, "this is no whole backup: %v", err)
	}
	return fsm.ReadBackup(bytes.NewReader(all), func(body fsm.Body) error {
		result, err := s.n.Propose(ctx, fsm.Command{Time: s.n.api.now(), By: by, Body: body})
		if err == nil && result.Err != nil {
			return result.Err
		}
		return err
	})
}

func (s *stubCluster) note(what string) (uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, what)
	return s.n.fsm.Applied(), nil
}

// Fence has every node acknowledge at once, unless the test says otherwise.
func (s *stubCluster) Fence(ctx context.Context, index uint64, entries []revocation.Entry) (Fence, error) {
	s.mu.Lock()
	s.fences = append(s.fences, raised{index, entries})
	answer := s.onFence
	s.mu.Unlock()
	if answer != nil {
		return answer(ctx, s.n)
	}
	if !s.n.IsLeader() {
		return Fence{}, errNoLeader()
	}
	f := Fence{Done: true, Took: 3 * time.Millisecond}
	for _, n := range s.n.group.nodes {
		f.Nodes = append(f.Nodes, FenceNode{ID: n.name(), State: "fenced", After: 2500 * time.Microsecond})
	}
	return f, nil
}

func (s *stubCluster) raised() []raised {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]raised(nil), s.fences...)
}

func (s *stubCluster) NodeStatus() NodeStatus {
	return NodeStatus{
		ID: s.n.name(), Fresh: !s.n.stale, Age: 40 * time.Millisecond, Remaining: 9 * time.Second, Applied: s.n.fsm.Applied(),
		Leader: s.n.IsLeader(), Pending: s.n.denials.Pending(), KeyID: "k1", DiskFree: 1 << 40,
	}
}

func (s *stubCluster) Status(context.Context) []NodeStatus {
	var all []NodeStatus
	for _, n := range s.n.group.nodes {
		all = append(all, n.cluster.NodeStatus())
	}
	return append(all, NodeStatus{ID: "n9", Error: "it did not answer"})
}

// stubDenials deny in the node's own set alone, and keep in memory.
type stubDenials struct {
	n    *node
	full error // that Keep answers

	mu       sync.Mutex
	denied   [][]identity.Handle
	released int
	kept     []fsm.Command
	keptFor  [][]identity.Handle
}

func (s *stubDenials) Deny(handles []identity.Handle) Denied {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.denied = append(s.denied, handles)
	expires := identity.InstantOf(s.n.group.time().Add(30 * time.Second))
	for _, h := range handles {
		s.n.revoked.Add(revocation.Entry{Handle: h, Expires: expires, Provisional: true})
	}
	return s
}

func (s *stubDenials) Wait(context.Context) (nodes, of int, after time.Duration) {
	return len(s.n.group.nodes), len(s.n.group.nodes), 1500 * time.Microsecond
}

func (s *stubDenials) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.released++
}

func (s *stubDenials) Keep(c fsm.Command, handles []identity.Handle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.full != nil {
		return s.full
	}
	s.kept, s.keptFor = append(s.kept, c), append(s.keptFor, handles)
	return nil
}

func (s *stubDenials) Pending() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.kept)
}

// seen is what was denied and how many of the denies were let go of again.
func (s *stubDenials) seen() (denied [][]identity.Handle, released int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([][]identity.Handle(nil), s.denied...), s.released
}
