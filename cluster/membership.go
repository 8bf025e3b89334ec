package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hashicorp/raft"
)

// Suffrage of a server.
const (
	SuffrageVoter    = "voter"
	SuffrageNonvoter = "nonvoter"
)

func suffrage(s raft.ServerSuffrage) string {
	if s == raft.Voter {
		return SuffrageVoter
	}
	return SuffrageNonvoter
}

// Server is a place in the Raft configuration.
type Server struct {
	ID       string
	Addr     string // of the cluster port, as the table of members has it
	Suffrage string
	Leader   bool
	Alive    bool // as gossip has it

	// What the leader knows; zero elsewhere, with LastContact negative for unknown.
	Healthy     bool
	LastContact time.Duration // since the server heard of its leader, at the last poll
	LastIndex   uint64        // in its log, at the last poll
	Applied     uint64        // by its state machine, at the last poll
}

// Servers returns the Raft configuration as this node has it, sorted by id.
func (n *Node) Servers() []Server {
	r := n.raft.Load()
	if r == nil {
		return nil
	}
	config, _, err := configuration(r)
	if err != nil {
		return nil
	}
	leader, _ := n.leaderID()
	alive := n.gossip.alive()
	servers := make([]Server, 0, len(config.Servers))
	for _, s := range config.Servers {
		id := string(s.ID)
		server := Server{
			ID: id, Addr: n.addrOf(id), Suffrage: suffrage(s.Suffrage),
			Leader: id == leader, Alive: alive[id], LastContact: -1,
		}
		if n.IsLeader() {
			n.pilot.describe(&server)
		}
		servers = append(servers, server)
	}
	slices.SortFunc(servers, func(a, b Server) int {
		switch {
		case a.ID < b.ID:
			return -1
		case a.ID > b.ID:
			return 1
		}
		return 0
	})
	return servers
}

func (n *Node) addrOf(id string) string {
	if m, ok := n.roster.member(id); ok {
		return m.ClusterAddr
	}
	if id == n.o.NodeID {
		return n.ClusterAddr()
	}
	return ""
}

func configuration(r *raft.Raft) (raft.Configuration, uint64, error) {
	future := r.GetConfiguration()
	if err := future.Error(); err != nil {
		return raft.Configuration{}, 0, fmt.Errorf("reading the raft configuration: %w", err)
	}
	return future.Configuration(), future.Index(), nil
}

// errNothingToDo is what check returns where the configuration is as it should be.
var errNothingToDo = errors.New("nothing to do")

// changeUnless makes one change to the configuration that check has looked at, or none: raft refuses it if the
// configuration has changed since.
func (n *Node) changeUnless(ctx context.Context, check func(raft.Configuration) error,
	apply func(r *raft.Raft, prevIndex uint64, timeout time.Duration) raft.IndexFuture,
) error {
	r, err := n.active()
	if err != nil {
		return err
	}
	if r.State() != raft.Leader {
		return ErrNotLeader
	}
	ctx, cancel := withDefaultTimeout(ctx, n.tuning.ProposeTimeout)
	defer cancel()
	const tries = 3
	for try := 1; ; try++ {
		config, index, err := configuration(r)
		if err != nil {
			return err
		}
		if err := check(config); errors.Is(err, errNothingToDo) {
			return nil
		} else if err != nil {
			return err
		}
		deadline, _ := ctx.Deadline()
		err = wait(ctx, apply(r, index, max(time.Until(deadline), time.Nanosecond)))
		switch {
		case err == nil:
			n.Refresh()
			return nil
		case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress):
			return fmt.Errorf("%w: %w", ErrNotLeader, err)
		case errors.Is(err, raft.ErrEnqueueTimeout):
			return fmt.Errorf("%w: %w", ErrTimeout, err)
		case ctx.Err() != nil, errors.Is(err, raft.ErrLeadershipLost), errors.Is(err, raft.ErrRaftShutdown):
			return fmt.Errorf("%w: changing the raft configuration: %w", ErrOutcomeUnknown, err)
		}
		// Somebody else's change came between, which raft reports without a type of its own.
		if _, now, configErr := configuration(r); try == tries || configErr != nil || now == index {
			return fmt.Errorf("changing the raft configuration: %w", err)
		}
	}
}

func find(config raft.Configuration, id string) (raft.Server, bool) {
	i := slices.IndexFunc(config.Servers, func(s raft.Server) bool { return string(s.ID) == id })
	if i < 0 {
		return raft.Server{}, false
	}
	return config.Servers[i], true
}

// AddNonvoter adds a server that receives the log and has no vote; autopilot gives it one where that helps.
// Doing it again is fine. The member must be in the table, at that address: until then its connections are
// refused, and nobody knows where to find it. Leader only.
func (n *Node) AddNonvoter(ctx context.Context, id, addr string) error {
	if err := n.listedAt(id, addr); err != nil {
		return err
	}
	return n.changeUnless(ctx,
		func(config raft.Configuration) error {
			if _, ok := find(config, id); ok {
				return errNothingToDo
			}
			return nil
		},
		func(r *raft.Raft, prevIndex uint64, timeout time.Duration) raft.IndexFuture {
			return r.AddNonvoter(raft.ServerID(id), raftAddress(id), prevIndex, timeout)
		})
}

// ReplaceAddress drops what is open to the address at which a member was before the table said addr, now rather
// than at the next poll, so that the log reaches it without waiting for a timeout.
func (n *Node) ReplaceAddress(_ context.Context, id, addr string) error {
	if err := n.listedAt(id, addr); err != nil {
		return err
	}
	n.port.conns.sweep()
	n.Refresh()
	return nil
}

func (n *Node) listedAt(id, addr string) error {
	m, ok := n.roster.member(id)
	if !ok {
		return fmt.Errorf("%w: %s", ErrUnknownMember, id)
	}
	if m.ClusterAddr != addr {
		return fmt.Errorf("the table has member %s at %s, not at %s", id, m.ClusterAddr, addr)
	}
	return nil
}

// raftAddress is what raft's configuration holds for a member's address: its id, for ever. Where the member is
// now, the table knows. An address in the log could only be out of date, and changing it races inside raft
// 1.8.0 (startStopReplication against updateLastAppended).
func raftAddress(id string) raft.ServerAddress { return raft.ServerAddress(id) }

// RemoveServer takes a server out of the configuration; an id that isn't in it is no error. It is refused
// with ErrIsLeader for the leader itself, which transfers leadership first, and with ErrWouldLoseQuorum where
// the voters that remain could not commit anything. Remove the server here first and the member from the
// table after: the other way round, a crash between the two leaves a voter that nobody talks to. Leader only.
//
// force skips the look at who is alive, which goes by gossip and by the servers' answers and may be wrong. It
// doesn't skip raft: the change itself must be committed by a majority of the voters that remain. Where that many
// aren't alive after all, it stays in the log undecided (ErrOutcomeUnknown), leadership ends, and nothing can be
// written until enough of them are back, or for good: then only RecoverQuorum helps, which loses what the others
// had committed and the recovered node had not received.
func (n *Node) RemoveServer(ctx context.Context, id string, force bool) error {
	if id == n.o.NodeID {
		return ErrIsLeader
	}
	return n.changeUnless(ctx,
		func(config raft.Configuration) error {
			server, ok := find(config, id)
			if !ok {
				return errNothingToDo
			}
			if server.Suffrage != raft.Voter || force {
				return nil
			}
			return n.survives(config, id)
		},
		func(r *raft.Raft, prevIndex uint64, timeout time.Duration) raft.IndexFuture {
			return r.RemoveServer(raft.ServerID(id), prevIndex, timeout)
		})
}

// CheckRemoval says whether RemoveServer would refuse as things stand, so that a removal is not begun that can't be
// ended. Leader only.
func (n *Node) CheckRemoval(id string, force bool) error {
	if id == n.o.NodeID {
		return ErrIsLeader
	}
	r, err := n.active()
	if err != nil {
		return err
	}
	config, _, err := configuration(r)
	if err != nil {
		return err
	}
	if server, ok := find(config, id); !ok || server.Suffrage != raft.Voter || force {
		return nil
	}
	return n.survives(config, id)
}

// survives returns nil if a majority of the voters but id is alive.
func (n *Node) survives(config raft.Configuration, id string) error {
	voters, alive := 0, 0
	for _, s := range config.Servers {
		if s.Suffrage == raft.Voter && string(s.ID) != id {
			voters++
			if n.probablyAlive(string(s.ID)) {
				alive++
			}
		}
	}
	if alive < voters/2+1 {
		return fmt.Errorf("%w: without %s, %d of %d voters are alive", ErrWouldLoseQuorum, id, alive, voters)
	}
	return nil
}

// probablyAlive believes gossip, and where UDP is blocked the answers to the leader's own questions.
func (n *Node) probablyAlive(id string) bool {
	return id == n.o.NodeID || n.gossip.alive()[id] || n.pilot.answers(id)
}

// otherLiveVoters counts the voters that leadership could go to.
func (n *Node) otherLiveVoters(r *raft.Raft) int {
	config, _, err := configuration(r)
	if err != nil {
		return 0
	}
	others := 0
	for _, s := range config.Servers {
		if s.Suffrage == raft.Voter && string(s.ID) != n.o.NodeID && n.probablyAlive(string(s.ID)) {
			others++
		}
	}
	return others
}

// TransferLeadership hands leadership to a voter, or with an empty id to the one that is furthest. It returns
// once the other has been told to stand for election and this node leads no more; who wins is seen at Leader. Leader
// only. Besides the usual errors of a leader: ErrUnknownMember, ErrNoVote, ErrNotHandedOver.
func (n *Node) TransferLeadership(ctx context.Context, to string) error {
	r, err := n.active()
	if err != nil {
		return err
	}
	if r.State() != raft.Leader {
		return ErrNotLeader
	}
	if to == n.o.NodeID {
		return nil
	}
	if to == "" {
		return transferError(wait(ctx, r.LeadershipTransfer()))
	}
	config, _, err := configuration(r)
	if err != nil {
		return err
	}
	server, ok := find(config, to)
	if !ok {
		return fmt.Errorf("%w: %s", ErrUnknownMember, to)
	}
	if server.Suffrage != raft.Voter {
		return fmt.Errorf("%w: %s", ErrNoVote, to)
	}
	return transferError(wait(ctx, r.LeadershipTransferToServer(server.ID, server.Address)))
}

// transferError names what raft has no name for: it gives up after an election timeout.
func transferError(err error) error {
	if err = leaderError(err); err == nil || statusOf(err) != statusError {
		return err
	}
	return fmt.Errorf("%w: %w", ErrNotHandedOver, err)
}

// Snapshot has this node write a snapshot of its state machine now. Having nothing new to write is no error.
func (n *Node) Snapshot(ctx context.Context) error {
	r, err := n.active()
	if err != nil {
		return err
	}
	if err := wait(ctx, r.Snapshot()); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return fmt.Errorf("taking a snapshot: %w", err)
	}
	return nil
}

// Stats is a node's view of the log.
type Stats struct {
	State       string // leader, follower, candidate
	Leader      string // id, empty where unknown
	Term        uint64
	LastIndex   uint64
	CommitIndex uint64
	Applied     uint64 // by the state machine
	Voters      int
	Nonvoters   int
	Alive       int // members, as gossip has it, this node included
}

// Stats returns where this node is. Before Start it is zero.
func (n *Node) Stats() Stats {
	r := n.raft.Load()
	if r == nil {
		return Stats{}
	}
	s := Stats{
		State: stateName(r.State()), Term: r.CurrentTerm(), LastIndex: r.LastIndex(),
		CommitIndex: r.CommitIndex(), Applied: n.o.Applied.Applied(), Alive: len(n.gossip.alive()),
	}
	s.Leader, _ = n.leaderID()
	if config, _, err := configuration(r); err == nil {
		for _, server := range config.Servers {
			if server.Suffrage == raft.Voter {
				s.Voters++
			} else {
				s.Nonvoters++
			}
		}
	}
	return s
}

func stateName(s raft.RaftState) string {
	switch s {
	case raft.Leader:
		return "leader"
	case raft.Candidate:
		return "candidate"
	case raft.Shutdown:
		return "stopped"
	default:
		return "follower"
	}
}
