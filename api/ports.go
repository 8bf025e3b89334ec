package api

import (
	"context"
	"io"
	"time"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// Proposer takes commands to the log.
type Proposer interface {
	// Propose commits a command through this node, which must be the leader. The outcome of Apply, including
	// its refusal, is in the Result; the error says that the command may not have got there.
	Propose(ctx context.Context, c fsm.Command) (fsm.Result, error)
	IsLeader() bool
	// Forward has the leader's ServeForwarded answer the request.
	Forward(ctx context.Context, request []byte) (response []byte, err error)
}

// Freshness says whether this node may speak. A request notes the lease before it reads any state, and holds
// its answer to that very lease as the last thing: one that was renewed in between proves nothing of what was
// read before.
type Freshness interface {
	// Lease is the boot time at which the lease ends as it stands now, zero where there is none.
	Lease() time.Duration
	// Fresh returns nil while the lease that was noted has not ended, else an identity.Error with CodeNotFresh.
	Fresh(lease time.Duration) error
	// Remaining is how long the lease that was noted still lasts, zero where it has ended. It reads the clock, so it
	// is asked as the last thing, too.
	Remaining(lease time.Duration) time.Duration
}

// Cluster is what the surface needs of the cluster. By says who asked, for the log. What is said to run at the
// leader answers identity.CodeNoLeader elsewhere.
type Cluster interface {
	// Servers are the members of the Raft configuration as this node sees them.
	Servers() []Server
	// JoinToken spells the text that a new node joins with, around a secret of ours.
	JoinToken(secret string) (string, error)
	// RemoveMember takes a node out for good; it runs at the leader.
	RemoveMember(ctx context.Context, id, by string, o RemoveOptions) (member *identity.Member, index uint64, err error)
	// DrainMember has a node mint nothing and lead no more, or ends that; it runs at the leader.
	DrainMember(ctx context.Context, id, by string, draining bool) (member *identity.Member, index uint64, err error)
	// RotateKey has a node, or every node where id is empty, make a new token key; it runs at the leader.
	RotateKey(ctx context.Context, id, by string) (index uint64, err error)
	// RotateGossip begins to replace the key that gossip is encrypted with; it runs at the leader.
	RotateGossip(ctx context.Context, by string) (index uint64, err error)
	// TransferLeadership hands over to a voter, or to the one furthest along where to is empty; it runs at
	// the leader.
	TransferLeadership(ctx context.Context, to string) error
	// Fence returns once no node may act any more on what was before index, or, with Done false, when ctx
	// ends. It runs at the leader, after the commit. The entries are those that the change has revoked: a node
	// that is slow to apply has them at once, and acknowledges when it has applied index.
	Fence(ctx context.Context, index uint64, entries []revocation.Entry) (Fence, error)
	// NodeStatus is this node's own account of itself.
	NodeStatus() NodeStatus
	// Status asks every member how it is. Who does not answer has Error set.
	Status(ctx context.Context) []NodeStatus
	// Restore reads a backup, of size bytes or, below zero, nobody knows how many, and restores it into a
	// cluster that holds nothing yet. It runs at the leader, and leaves minting closed. What is no whole backup
	// is identity.CodeInvalid.
	Restore(ctx context.Context, by string, backup io.Reader, size int64) (fsm.BackupInfo, error)
	// OpenMinting lets tokens be minted again after a restore or a recovery; it runs at the leader.
	OpenMinting(ctx context.Context, by string) (index uint64, err error)
}

// RemoveOptions say how a node is removed.
type RemoveOptions struct {
	Reason      string
	Force       bool // also where the cluster would be left without a quorum
	Compromised bool // revoke whatever it signed
}

// Fence says how far a fence has come.
type Fence struct {
	Done  bool
	Nodes []FenceNode // by id
	Took  time.Duration
}

// FenceNode is one member's part in a fence.
type FenceNode struct {
	ID    string
	State string // fenced, lease-expired or waiting
	After time.Duration
}

// NodeStatus is a node's own account of itself.
type NodeStatus struct {
	ID          string
	Fresh       bool          // holds a lease
	Reason      string        // a few words on why not
	Detail      string        // the same at length
	Age         time.Duration // of the state that the lease proves
	Remaining   time.Duration // of the lease
	Applied     uint64
	Leader      bool
	Draining    bool
	Pending     int    // revocations that it keeps until there is a majority
	Behind      uint64 // committed entries that it has not applied
	ClockOffset time.Duration
	DiskFree    uint64 // bytes
	KeyID       string // of the key that it signs with
	Error       string // why it could not be asked; then nothing else is set but ID
}

// Denials stop something before it is committed, and where it can't be.
type Denials interface {
	// Deny puts handles into this node's set at once, provisionally, and tells every member. It waits for
	// nobody.
	Deny(handles []identity.Handle) Denied
	// Keep takes a revocation that no majority could be had for: on disk when it returns, denied meanwhile,
	// and proposed under its own id until it is committed. A full queue is identity.CodeOverloaded.
	Keep(c fsm.Command, handles []identity.Handle) error
	// Pending is how many are kept.
	Pending() int
}

// Denied is a deny under way.
type Denied interface {
	// Wait returns how many of how many members have the handles in their sets, and after what time, once all
	// have answered or ctx ends.
	Wait(ctx context.Context) (nodes, of int, after time.Duration)
	// Release says that what becomes of the revocation is known: from then on nobody repeats the deny.
	Release()
}

// Server is one member of the Raft configuration.
type Server struct {
	ID       string
	Suffrage string // voter or nonvoter
	Leader   bool
	Alive    bool
	Applied  uint64 // last log index that it is known to have applied; 0 where nobody knows
}
