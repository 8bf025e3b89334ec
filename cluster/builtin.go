package cluster

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// Methods that every node serves.
const (
	builtinPrefix = "cluster."
	methodStats   = builtinPrefix + "stats"   // → progress of the node's log and state machine
	methodApplied = builtinPrefix + "applied" // index → nothing, once the node's state machine has applied it
	methodLeader  = builtinPrefix + "leader"  // → id of the leader that the node follows, or nothing
	methodPeers   = builtinPrefix + "peers"   // → the table of members
)

func (n *Node) builtins() {
	n.handle(methodStats, func(context.Context, Member, []byte) ([]byte, error) {
		stats, err := n.stats()
		if err != nil {
			return nil, err
		}
		return stats.encode(), nil
	})
	n.handle(methodApplied, func(ctx context.Context, _ Member, body []byte) ([]byte, error) {
		if len(body) != 8 {
			return nil, fmt.Errorf("%w: an index of %d bytes", errMalformed, len(body))
		}
		return nil, n.o.Applied.WaitApplied(ctx, binary.BigEndian.Uint64(body))
	})
	n.handle(methodLeader, func(context.Context, Member, []byte) ([]byte, error) {
		leader, ok := n.leaderID()
		if !ok {
			return nil, ErrNoLeader
		}
		return []byte(leader), nil
	})
	n.handle(methodPeers, func(context.Context, Member, []byte) ([]byte, error) {
		return encodePeers(n.roster.peers())
	})
}

// memberStats is what a node says of itself.
type memberStats struct {
	applied     uint64 // by the state machine
	lastIndex   uint64 // in the log
	lastTerm    uint64 // of that entry
	lastContact time.Duration
	entries     uint64 // what entries of the log it reads; 0 of builds that don't say
}

const (
	statsSize = 4 * 8 // of those that every build has said

	entriesShared = 1 // those of several commands
)

func (s memberStats) encode() []byte {
	b := make([]byte, 0, statsSize)
	b = binary.BigEndian.AppendUint64(b, s.applied)
	b = binary.BigEndian.AppendUint64(b, s.lastIndex)
	b = binary.BigEndian.AppendUint64(b, s.lastTerm)
	b = binary.BigEndian.AppendUint64(b, uint64(s.lastContact))
	return binary.BigEndian.AppendUint64(b, s.entries)
}

func decodeStats(b []byte) (memberStats, error) {
	if len(b) < statsSize { // later versions may say more
		return memberStats{}, fmt.Errorf("%w: stats of %d bytes", errMalformed, len(b))
	}
	s := memberStats{
		applied:     binary.BigEndian.Uint64(b),
		lastIndex:   binary.BigEndian.Uint64(b[8:]),
		lastTerm:    binary.BigEndian.Uint64(b[16:]),
		lastContact: time.Duration(binary.BigEndian.Uint64(b[24:])),
	}
	if len(b) >= statsSize+8 {
		s.entries = binary.BigEndian.Uint64(b[statsSize:])
	}
	return s, nil
}

// never stands for a leader that was not heard of since the start.
const never = 24 * time.Hour

func (n *Node) stats() (memberStats, error) {
	r, err := n.active()
	if err != nil {
		return memberStats{}, err
	}
	term, err := strconv.ParseUint(r.Stats()["last_log_term"], 10, 64)
	if err != nil {
		return memberStats{}, fmt.Errorf("reading the log's last term: %w", err)
	}
	s := memberStats{applied: n.o.Applied.Applied(), lastIndex: r.LastIndex(), lastTerm: term}
	if n.o.Packing.Pack != nil {
		s.entries = entriesShared
	}
	switch heard := r.LastContact(); {
	case r.State() == raft.Leader:
	case heard.IsZero():
		s.lastContact = never
	default:
		s.lastContact = time.Since(heard)
	}
	return s, nil
}

// WaitMembersApplied returns once the state machine of every live member has applied index, this node's
// included, or when ctx ends; missing are the members that are alive, or not yet known to be dead, and have
// not confirmed. A member that gossip holds for dead and that can't be reached is left out: it replays the
// log, and with it index, before it serves anybody.
func (n *Node) WaitMembersApplied(ctx context.Context, index uint64) (missing []string) {
	var (
		mu sync.Mutex
		wg sync.WaitGroup
	)
	miss := func(id string) {
		mu.Lock()
		defer mu.Unlock()
		missing = append(missing, id)
	}
	body := binary.BigEndian.AppendUint64(nil, index)
	wg.Go(func() {
		if n.o.Applied.WaitApplied(ctx, index) != nil {
			miss(n.o.NodeID)
		}
	})
	for _, m := range n.roster.members() {
		if m.ID != n.o.NodeID {
			wg.Go(func() {
				if !n.memberApplied(ctx, m.ID, body) {
					miss(m.ID)
				}
			})
		}
	}
	wg.Wait()
	slices.Sort(missing)
	return missing
}

// memberApplied asks until the member has confirmed, is dead or removed, or ctx ends.
func (n *Node) memberApplied(ctx context.Context, id string, body []byte) bool {
	const pause = 100 * time.Millisecond
	for {
		_, err := n.client.call(ctx, id, methodApplied, body)
		if err == nil || errors.Is(err, ErrUnknownMember) {
			return true
		}
		if errors.Is(err, ErrUnreachable) && !n.gossip.alive()[id] {
			return true
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(pause):
		}
	}
}
