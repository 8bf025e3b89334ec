package cluster

import "time"

// Figures are the times and numbers by which the protocols of this package cost what they do. They are here for whoever
// reckons that cost for clusters that nobody has, so that a figure is not kept in two places.
type Figures struct {
	LeaseRenewal  time.Duration // between the starts of two rounds of a node
	TickGather    time.Duration // that a tick waits for company
	CommitTimeout time.Duration // raft's; a follower that is sent nothing hears from the leader after one to two of them
	Heartbeat     time.Duration // raft's heartbeats are between one and two of these apart
	DenyFanout    int           // members that a deny is passed on to
	DenyAtOnce    int           // denies that may leave at once,
	DenyEvery     time.Duration // and the pace of those behind them
	DenyFixed     int           // bytes of a deny beside the origin's id and the payload
	DenyRepeated  time.Duration // how often the owner says again what is not final yet
	GossipProbe   time.Duration // between two probes of a node
}

// denyRepeated is what package server does; see MaxDenyPayload for whose bytes these are.
const denyRepeated = 10 * time.Second

// FiguresOf are those of a cluster of so many members.
func FiguresOf(members int) Figures {
	t := Tuning{}.withDefaults()
	return Figures{
		LeaseRenewal: DefaultLeaseRenewal, TickGather: tickGather, CommitTimeout: t.commitTimeout(members),
		Heartbeat: t.HeartbeatTimeout / 10, DenyFanout: denyFanout, DenyAtOnce: denyAtOnce, DenyEvery: denyEvery,
		DenyFixed: denyFixedSize, DenyRepeated: denyRepeated, GossipProbe: t.GossipProbe,
	}
}
