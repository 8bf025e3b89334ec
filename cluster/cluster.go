// Package cluster keeps the nodes together: one replicated log, one authenticated port, one list of who is alive.
//
// It carries bytes and indexes and knows nothing of what they mean. Commands go through hashicorp/raft over
// boltdb; requests between nodes go through a small framed protocol; liveness comes from memberlist. A node is
// its key: both ends of every connection prove an Ed25519 key (mutual TLS 1.3, self-signed certificates, no CA)
// and look it up in the replicated table of members, which the owner hands in as a Directory.
//
// One TCP port serves three protocols, told apart by ALPN: deputy-raft (log replication, votes), deputy-rpc
// (requests between members) and deputy-join (the one thing that a key outside the table may ask).
//
// Life of a Node: New binds, Start runs, Stop ends. DESIGN.md says what was weighed and turned down.
package cluster

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// Bounds of the cluster port. Members are trusted not to be malicious, but not to be free of bugs.
const (
	MaxBody          = 8 << 20  // of one request or answer between members
	MaxJoinBody      = 64 << 10 // of one request to join, sent by a key that nobody knows yet
	MaxMethodLength  = 64       // of an RPC method's name
	MaxProposals     = 4096     // commands between admission and apply, on the leader
	MaxCallsPerPeer  = 1024     // requests in flight to one member
	MaxConnsPerPeer  = 64       // inbound connections of one member
	MaxHandshakes    = 128      // inbound connections that have not proved their key yet
	MaxHandshakesIP  = 32       // of those, from one address
	MaxJoinConns     = 64       // connections of keys outside the table
	MaxJoins         = 8        // of those, requests that have arrived in full and are being served
	MaxRPCTime       = time.Minute
	MaxNodeIDLength  = 64
	handshakeTimeout = 5 * time.Second
	dialTimeout      = 5 * time.Second
	rpcIdleClient    = 2 * time.Minute // idle connections are closed by the caller first,
	rpcIdleServer    = 5 * time.Minute // so that the other end never closes one that is about to be used
)

// Member is a node as the others know it.
type Member struct {
	ID          string
	Key         ed25519.PublicKey
	ClusterAddr string // host:port of the cluster port, as others dial it
	GossipAddr  string // ip:port of memberlist, TCP and UDP
	PublicURL   string // where clients reach the node; not used here
}

// Directory is the replicated table of members, as this node has applied it. Removed members are not in it.
// The methods are called for every connection and request, so they must not block.
type Directory interface {
	Member(id string) (Member, bool)
	MemberByKey(key []byte) (Member, bool)
	Members() []Member
}

// Progress is how far this node's own state machine has come. Raft's AppliedIndex can't serve: it means
// "queued to the state machine".
type Progress interface {
	// Applied returns the index of the last entry whose effects are visible, or 0.
	Applied() uint64
	// WaitApplied returns nil once Applied() >= index, or the context's error.
	WaitApplied(ctx context.Context, index uint64) error
}

// Options of New.
type Options struct {
	NodeID    string // unique for ever, also after removal
	ClusterID string // if set, a data folder of another cluster is refused; may be empty
	DataDir   string // log, snapshots, peers.json, node.json; unused with InMemory

	ClusterListener  net.Listener // optional: bound by the caller; Stop closes it
	ClusterBind      string       // used without ClusterListener, such as 127.0.0.1:0
	ClusterAdvertise string       // host:port that others dial; default: the bound address
	GossipBind       string       // ip:port, TCP and UDP, such as 127.0.0.1:0
	GossipAdvertise  string       // host:port that others send to; default: the bound address

	Key       NodeKey
	FSM       raft.FSM
	Directory Directory
	Applied   Progress
	Packing   Packing // zero: every command has an entry of its own

	InMemory   bool     // log and snapshots live in memory and die with the process
	GossipKeys [][]byte // AES-256, the first one encrypts; empty: those last known, from peers.json

	// OnDeny is called with what another member has handed to Deny, once for each message and by one goroutine at
	// a time. The origin's signature has been checked. It may keep payload and must not modify it; while it runs,
	// messages queue up, and beyond a bound are dropped. nil: they are only passed on.
	OnDeny func(origin string, payload []byte)

	// OnDiskStall is called, at most once, when one write to the log has taken longer than Tuning.DiskStall.
	// A leader with a stalled disk keeps leading and hangs every write, so the owner should end the process.
	OnDiskStall func(elapsed time.Duration)

	Tuning     Tuning
	Logger     *slog.Logger          // nil: discards
	Registerer prometheus.Registerer // nil: metrics are kept but not published
	Clock      func() time.Time      // nil: time.Now
}

// Tuning holds what tests shorten and operators hardly ever touch. A zero field takes its default.
type Tuning struct {
	HeartbeatTimeout   time.Duration // follower without a leader for this long, or up to thrice: election. 700 ms
	ElectionTimeout    time.Duration // 700 ms
	LeaderLeaseTimeout time.Duration // leader without a quorum for this long steps down. 500 ms
	CommitTimeout      time.Duration // followers hear of a commit after this at the latest. 5 ms, 25 ms beyond nine members

	SnapshotThreshold uint64        // log entries since the last snapshot. 32,768
	SnapshotInterval  time.Duration // how often the threshold is looked at. 2 min
	SnapshotBytes     int64         // of the log since the last snapshot, or an eighth of its own. 64 MiB, 280,000 delegations
	SnapshotApply     time.Duration // of applying since the last snapshot, which the next start repeats; or half of what that one took. 20 s
	TrailingLogs      uint64        // entries kept behind a snapshot for followers that lag. 32,768

	AutopilotUpdate    time.Duration // how often the leader asks every member how it is. 500 ms
	AutopilotReconcile time.Duration // how often it acts on that. 1 s
	Stabilization      time.Duration // healthy and caught up for this long before promotion. 2 s
	ReplaceDeadAfter   time.Duration // a voter dead for this long gives its vote to a healthy non-voter. 1 min

	MemberPoll     time.Duration // how often connections and peers.json are held against the table. 250 ms
	GossipProbe    time.Duration // liveness probe interval. 1 s
	GossipRejoin   time.Duration // how often members missing from gossip are contacted. 15 s
	DiskStall      time.Duration // 3 s
	ProposeTimeout time.Duration // for proposals whose context has no deadline. 10 s
}

func (t Tuning) withDefaults() Tuning {
	d := func(field *time.Duration, value time.Duration) {
		if *field == 0 {
			*field = value
		}
	}
	// Raft draws a follower's patience between one and two of these and begins anew when it runs out just after a
	// heartbeat, and a candidate needs a majority that has lost patience, too: three of them until writes are back.
	d(&t.HeartbeatTimeout, 700*time.Millisecond)
	d(&t.ElectionTimeout, 700*time.Millisecond)
	d(&t.LeaderLeaseTimeout, 500*time.Millisecond)
	d(&t.SnapshotInterval, 2*time.Minute)
	d(&t.SnapshotApply, 20*time.Second)
	d(&t.AutopilotUpdate, 500*time.Millisecond)
	d(&t.AutopilotReconcile, time.Second)
	d(&t.Stabilization, 2*time.Second)
	d(&t.ReplaceDeadAfter, time.Minute)
	d(&t.MemberPoll, 250*time.Millisecond)
	d(&t.GossipProbe, time.Second)
	d(&t.GossipRejoin, 15*time.Second)
	d(&t.DiskStall, 3*time.Second)
	d(&t.ProposeTimeout, 10*time.Second)
	if t.SnapshotThreshold == 0 {
		t.SnapshotThreshold = 32_768
	}
	if t.SnapshotBytes == 0 {
		t.SnapshotBytes = 64 << 20
	}
	if t.TrailingLogs == 0 {
		t.TrailingLogs = 32_768
	}
	return t
}

// commitTimeout spares large clusters: the leader wakes once per member and interval.
func (t Tuning) commitTimeout(members int) time.Duration {
	switch {
	case t.CommitTimeout != 0:
		return t.CommitTimeout
	case members <= 9:
		return 5 * time.Millisecond
	default:
		return 25 * time.Millisecond
	}
}

func (o *Options) validate() error {
	var errs []error
	miss := func(missing bool, name, hint string) {
		if missing {
			errs = append(errs, fmt.Errorf("%s is missing: %s", name, hint))
		}
	}
	miss(o.NodeID == "", "NodeID", "every node needs a name of its own")
	if len(o.NodeID) > MaxNodeIDLength {
		errs = append(errs, fmt.Errorf("NodeID has %d characters; at most %d are allowed", len(o.NodeID), MaxNodeIDLength))
	}
	miss(!o.InMemory && o.DataDir == "", "DataDir", "only an in-memory node goes without a data folder")
	miss(o.ClusterListener == nil && o.ClusterBind == "", "ClusterBind", "such as 127.0.0.1:8411")
	miss(o.GossipBind == "", "GossipBind", "such as 127.0.0.1:8431")
	miss(o.Key.private == nil, "Key", "see LoadOrCreateNodeKey")
	miss(o.FSM == nil, "FSM", "committed entries must go somewhere")
	miss(o.Directory == nil, "Directory", "nobody could be let in without it")
	miss(o.Applied == nil, "Applied", "see Progress")
	miss((o.Packing.Pack == nil) != (o.Packing.Seen == nil), "Packing", "it takes both of its functions, or neither")
	for i, key := range o.GossipKeys {
		if len(key) != gossipKeySize {
			errs = append(errs, fmt.Errorf("gossip key %d has %d bytes; it must have %d", i, len(key), gossipKeySize))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("cluster options: %w", err)
	}
	return nil
}
