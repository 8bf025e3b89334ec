package cluster

import (
	"errors"
	"fmt"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label "reason" of refused connections.
const (
	rejectedBusy      = "busy"
	rejectedHandshake = "handshake"
	rejectedStranger  = "stranger"
)

// Values of the label "outcome" of proposals.
const (
	proposalApplied = "applied"
	proposalRefused = "refused" // nothing happened
	proposalUnknown = "unknown"
)

// Values of the label "queue" of deny messages that were dropped. Values of "event" are in deny.go.
const (
	denyQueueIn    = "in"
	denyQueueOut   = "out"
	denyQueueRelay = "relay"
)

// metrics of one node. Every series is there from boot, so that an alert on a rate sees the first event.
type metrics struct {
	rejected  *prometheus.CounterVec
	proposals *prometheus.CounterVec
	entries   prometheus.Counter
	latency   prometheus.Histogram
	stalls    prometheus.Counter
	state     *stateCollector

	denies       *prometheus.CounterVec
	denyOverflow *prometheus.CounterVec

	registerer prometheus.Registerer // nil while not registered
}

func newMetrics(n *Node) *metrics {
	m := &metrics{
		rejected: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_cluster_rejected_connections_total",
			Help: "Connections to the cluster port that were refused, by reason.",
		}, []string{"reason"}),
		proposals: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_cluster_proposals_total",
			Help: "Commands proposed at this node, by outcome.",
		}, []string{"outcome"}),
		entries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "deputy_cluster_entries_total",
			Help: "Log entries that this node proposed; commands that wait at the same time share one.",
		}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name:    "deputy_cluster_propose_seconds",
			Help:    "Time from proposing a command to its having been applied at this node, the leader.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 15), // 0.5 ms to 8 s
		}),
		stalls: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "deputy_cluster_disk_stalls_total",
			Help: "Writes to the log that took too long.",
		}),
		state: newStateCollector(n),
		denies: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_cluster_deny_messages_total",
			Help: "Deny messages of gossip, by what became of them; sent, relayed and unsent count datagrams.",
		}, []string{"event"}),
		denyOverflow: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "deputy_cluster_deny_overflow_total",
			Help: "Deny messages that were dropped because a queue was full.",
		}, []string{"queue"}),
	}
	for _, reason := range []string{rejectedBusy, rejectedHandshake, rejectedStranger} {
		m.rejected.WithLabelValues(reason)
	}
	for _, outcome := range []string{proposalApplied, proposalRefused, proposalUnknown} {
		m.proposals.WithLabelValues(outcome)
	}
	for _, event := range []string{
		denySent, denyRelayed, denyUnsent, denyReceived, denyAccepted,
		denyDuplicate, denyMalformed, denyStale, denyStranger, denyForged,
	} {
		m.denies.WithLabelValues(event)
	}
	for _, queue := range []string{denyQueueIn, denyQueueOut, denyQueueRelay} {
		m.denyOverflow.WithLabelValues(queue)
	}
	return m
}

// register publishes the metrics. It comes last in New: a scrape reads all that the node is made of.
func (m *metrics) register(registerer prometheus.Registerer) error {
	if registerer == nil {
		return nil
	}
	for i, c := range m.collectors() {
		if err := registerer.Register(c); err != nil {
			for _, registered := range m.collectors()[:i] {
				registerer.Unregister(registered)
			}
			return fmt.Errorf("registering the cluster's metrics: %w", err)
		}
	}
	m.registerer = registerer
	return nil
}

func (m *metrics) collectors() []prometheus.Collector {
	return []prometheus.Collector{m.rejected, m.proposals, m.entries, m.latency, m.stalls, m.state, m.denies, m.denyOverflow}
}

// unregister lets another node of the same process take over the registry.
func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.collectors() {
		m.registerer.Unregister(c)
	}
}

func (m *metrics) proposed(err error, seconds float64) {
	switch {
	case err == nil:
		m.proposals.WithLabelValues(proposalApplied).Inc()
		m.latency.Observe(seconds)
	case errors.Is(err, ErrOutcomeUnknown):
		m.proposals.WithLabelValues(proposalUnknown).Inc()
	default:
		m.proposals.WithLabelValues(proposalRefused).Inc()
	}
}

// stateCollector reads what raft and gossip know when it is asked.
type stateCollector struct {
	node *Node

	term, lastIndex, commitIndex, applied *prometheus.Desc
	leader, hasLeader                     *prometheus.Desc
	servers, members, alive               *prometheus.Desc
	proposals, connections                *prometheus.Desc
}

func newStateCollector(n *Node) *stateCollector {
	gauge := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("deputy_cluster_"+name, help, labels, nil)
	}
	return &stateCollector{
		node:        n,
		term:        gauge("term", "Raft term."),
		lastIndex:   gauge("last_index", "Index of the last entry in this node's log."),
		commitIndex: gauge("commit_index", "Index up to which this node knows entries to be committed."),
		applied:     gauge("applied_index", "Index up to which this node's state machine has applied entries."),
		leader:      gauge("is_leader", "1 on the leader."),
		hasLeader:   gauge("has_leader", "1 where this node knows a leader."),
		servers:     gauge("servers", "Servers in the Raft configuration, by suffrage.", "suffrage"),
		members:     gauge("members", "Members in the replicated table."),
		alive:       gauge("members_alive", "Members that gossip holds for alive, this node included."),
		proposals:   gauge("proposals_in_flight", "Commands that wait to be applied."),
		connections: gauge("connections", "Open connections to and from other nodes."),
	}
}

func (c *stateCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.term, c.lastIndex, c.commitIndex, c.applied, c.leader, c.hasLeader,
		c.servers, c.members, c.alive, c.proposals, c.connections,
	} {
		ch <- d
	}
}

func (c *stateCollector) Collect(ch chan<- prometheus.Metric) {
	n := c.node
	send := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	var term, last, commit, leader, hasLeader float64
	suffrages := map[string]float64{SuffrageVoter: 0, SuffrageNonvoter: 0}
	if r := n.raft.Load(); r != nil {
		term, last, commit = float64(r.CurrentTerm()), float64(r.LastIndex()), float64(r.CommitIndex())
		if r.State() == raft.Leader {
			leader = 1
		}
		if _, id := r.LeaderWithID(); id != "" {
			hasLeader = 1
		}
		if f := r.GetConfiguration(); f.Error() == nil {
			for _, s := range f.Configuration().Servers {
				suffrages[suffrage(s.Suffrage)]++
			}
		}
	}
	send(c.term, term)
	send(c.lastIndex, last)
	send(c.commitIndex, commit)
	send(c.applied, float64(n.o.Applied.Applied()))
	send(c.leader, leader)
	send(c.hasLeader, hasLeader)
	for name, count := range suffrages {
		send(c.servers, count, name)
	}
	send(c.members, float64(len(n.roster.members())))
	send(c.alive, float64(len(n.gossip.alive())))
	send(c.proposals, float64(len(n.proposals)))
	send(c.connections, float64(n.port.conns.len()))
}
