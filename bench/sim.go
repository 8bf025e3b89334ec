package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/deputy-id/deputy/cluster"
)

// SimOptions say which clusters to simulate. What is simulated takes virtual time: the same seed gives the same figures
// on any machine.
type SimOptions struct {
	Nodes       []int
	Duration    time.Duration // virtual, of each
	Latency     time.Duration // one way, on average
	Loss        float64       // share of datagrams that never arrive; TCP repeats
	Revocations float64       // a second, in the whole cluster
	Commit      time.Duration // of one log entry: a round trip and an fsync
	Seed        uint64
}

// Defaults and bounds of SimOptions.
const (
	DefaultSimDuration    = 60 * time.Second
	DefaultSimLatency     = 500 * time.Microsecond
	DefaultSimLoss        = 0.001
	DefaultSimRevocations = 1.0
	DefaultSimCommit      = 3 * time.Millisecond

	maxSimNodes    = 5000
	maxSimDuration = time.Hour
	maxSimEvents   = 2_000_000_000
)

// DefaultSimNodes are the sizes that are simulated.
func DefaultSimNodes() []int { return []int{10, 100, 1000} }

func (o *SimOptions) setDefaults() {
	if len(o.Nodes) == 0 {
		o.Nodes = DefaultSimNodes()
	}
	o.Duration = orDefault(o.Duration, DefaultSimDuration)
	o.Latency = orDefault(o.Latency, DefaultSimLatency)
	o.Commit = orDefault(o.Commit, DefaultSimCommit)
	o.Revocations = orDefault(o.Revocations, DefaultSimRevocations)
}

func (o *SimOptions) validate() error {
	var errs []error
	for _, n := range o.Nodes {
		if n < 2 || n > maxSimNodes {
			errs = append(errs, fmt.Errorf("a cluster of %d nodes; it must have between 2 and %d", n, maxSimNodes))
		}
	}
	if o.Duration < time.Second || o.Duration > maxSimDuration {
		errs = append(errs, fmt.Errorf("duration is %s; it must be between 1s and %s", o.Duration, maxSimDuration))
	}
	if o.Loss < 0 || o.Loss > 0.9 {
		errs = append(errs, fmt.Errorf("loss is %g; it must be between 0 and 0.9", o.Loss))
	}
	if o.Latency < time.Microsecond || o.Latency > time.Second {
		errs = append(errs, fmt.Errorf("latency is %s; it must be between 1µs and 1s", o.Latency))
	}
	if o.Commit < 0 || o.Commit > time.Second {
		errs = append(errs, fmt.Errorf("commit is %s; it must be between 0 and 1s", o.Commit))
	}
	if o.Revocations < 0 || o.Revocations > 1000 {
		errs = append(errs, fmt.Errorf("revocations a second is %g; it must be between 0 and 1000", o.Revocations))
	}
	for _, n := range o.Nodes {
		if work := float64(n) * o.Duration.Seconds() * (60 + 4*o.Revocations); work > maxSimEvents {
			errs = append(errs, fmt.Errorf("%d nodes for %s are too much to simulate; ask for less time", n, o.Duration))
		}
	}
	return errors.Join(errs...)
}

// SimReport is what clusters of several sizes cost.
type SimReport struct {
	Seconds     float64   `json:"seconds"`
	LatencyMS   float64   `json:"latency_ms"`
	Loss        float64   `json:"loss"`
	Revocations float64   `json:"revocations_per_second"`
	CommitMS    float64   `json:"commit_ms"`
	Clusters    []SimCost `json:"clusters"`
}

// SimCost is one cluster. Rates are a second; each has what the formula says beside it.
type SimCost struct {
	Nodes     int       `json:"nodes"`
	Questions Reckoned  `json:"lease_questions"` // at the leader
	Ticks     Reckoned  `json:"ticks"`           // entries of the log
	Answer    Quantiles `json:"lease_answer"`    // from a node's question until it has applied the tick
	Appends   Reckoned  `json:"appends"`         // raft's requests that the leader sends to all
	Gossip    Reckoned  `json:"gossip_per_node"` // datagrams that a node sends, on average
	// Liveness is modelled by memberlist's documented parameters, not simulated.
	Liveness float64   `json:"liveness_per_node"`
	Messages float64   `json:"messages_per_node"` // all that a node that does not lead sends and receives
	Bytes    float64   `json:"bytes_per_node"`    // the same
	Leader   float64   `json:"messages_leader"`
	LeaderB  float64   `json:"bytes_leader"`
	Reach    Quantiles `json:"reach"`     // of one revocation, until one node has it
	ReachAll Quantiles `json:"reach_all"` // until the last of those has it that it ever reaches by gossip
	Missed   float64   `json:"missed"`    // share of nodes that gossip did not reach: the log does
}

// Reckoned is a simulated figure and the one that a formula gives.
type Reckoned struct {
	Simulated float64 `json:"simulated"`
	Formula   float64 `json:"formula"`
}

// Quantiles are in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50_ms"`
	P99 float64 `json:"p99_ms"`
	Max float64 `json:"max_ms"`
}

// Bytes of messages on the wire, headers of IP and TCP or UDP and encryption included. They are rounded sums: of what TLS
// adds (22 + 40 of TCP/IP), of raft's and this project's framing, and of memberlist's encryption (35 + 28 of UDP/IP).
const (
	leaseQuestionBytes = 170
	leaseAnswerBytes   = 150
	appendBytes        = 260 // a request with no entry; its answer is as long as a lease's
	tickBytes          = 60  // of the entry
	datagramBytes      = 63
	denyPayloadBytes   = 60 // a handle and its expiry
	nodeIDBytes        = 12
	probeBytes         = datagramBytes + 60 // a ping, or its answer
	memberStateBytes   = 110                // of a member in memberlist's exchange of states
	pushPullInterval   = 30 * time.Second
	pushPullThreshold  = 32
)

// Simulate runs each cluster.
func Simulate(ctx context.Context, o SimOptions) (*SimReport, error) {
	o.setDefaults()
	if err := o.validate(); err != nil {
		return nil, err
	}
	report := &SimReport{
		Seconds: o.Duration.Seconds(), LatencyMS: milliseconds(o.Latency), Loss: o.Loss, Revocations: o.Revocations, CommitMS: milliseconds(o.Commit),
	}
	for _, n := range o.Nodes {
		cost, err := simulate(ctx, n, &o)
		if err != nil {
			return nil, fmt.Errorf("simulating %d nodes: %w", n, err)
		}
		report.Clusters = append(report.Clusters, cost)
	}
	return report, nil
}

func simulate(ctx context.Context, n int, o *SimOptions) (SimCost, error) {
	f := cluster.FiguresOf(n)
	leases := newLeaseSim(n, f, o)
	if err := leases.run(ctx); err != nil {
		return SimCost{}, err
	}
	gossip := newGossipSim(n, f, o)
	if err := gossip.run(ctx); err != nil {
		return SimCost{}, err
	}
	seconds, nodes := o.Duration.Seconds(), float64(n)
	c := SimCost{
		Nodes:     n,
		Questions: Reckoned{float64(leases.questions) / seconds, questionRate(n, f)},
		Ticks:     Reckoned{float64(leases.ticks) / seconds, tickRate(n, f, o.Commit)},
		Answer:    quantiles(leases.answers),
		Appends:   Reckoned{float64(leases.appends) / seconds, appendRate(n, f, o.Commit)},
		Gossip:    Reckoned{float64(gossip.sent) / seconds / nodes, gossipRate(n, f, o)},
		Liveness:  2 * float64(time.Second) / float64(f.GossipProbe) * 2, // it probes, and is probed as often: a ping and an answer each
		Reach:     quantiles(gossip.reached), ReachAll: quantiles(gossip.last),
	}
	if gossip.denied > 0 {
		c.Missed = 1 - float64(len(gossip.reached))/(float64(gossip.denied)*(nodes-1))
	}
	deny := float64(datagramBytes + f.DenyFixed + nodeIDBytes + denyPayloadBytes)
	appends := c.Appends.Simulated / (nodes - 1) // to each follower
	questions := c.Questions.Simulated / nodes
	states := 2 / pushPull(n).Seconds() // a node begins one exchange and is asked for another

	c.Messages = 2*questions + 2*appends + 2*c.Gossip.Simulated + c.Liveness + 2*states
	shared := 2*c.Gossip.Simulated*deny + c.Liveness*probeBytes + 2*states*nodes*memberStateBytes
	c.Bytes = questions*(leaseQuestionBytes+leaseAnswerBytes) + appends*(appendBytes+leaseAnswerBytes) + c.Ticks.Simulated*tickBytes + shared
	c.Leader = 2*c.Questions.Simulated + 2*c.Appends.Simulated + 2*c.Gossip.Simulated + c.Liveness + 2*states
	c.LeaderB = c.Questions.Simulated*(leaseQuestionBytes+leaseAnswerBytes) + c.Appends.Simulated*(appendBytes+leaseAnswerBytes) +
		c.Ticks.Simulated*(nodes-1)*tickBytes + shared
	return c, nil
}

// questionRate: each node asks once a renewal.
func questionRate(n int, f cluster.Figures) float64 { return float64(n) / f.LeaseRenewal.Seconds() }

// tickRate: a tick follows another after commit + gather, if anybody asked meanwhile. That is nobody with a probability of
// e^(-questions × that time), and then it comes a gather after the next question.
func tickRate(n int, f cluster.Figures, commit time.Duration) float64 {
	round, questions := (f.TickGather + commit).Seconds(), questionRate(n, f)
	idle := math.Exp(-questions * round)
	return 1 / (round + idle*(1/questions+f.TickGather.Seconds()))
}

// appendRate: the leader sends to each follower when a tick comes, and one to two commit timeouts after it last did; and
// a heartbeat every one to two heartbeat intervals, whatever else it sends.
func appendRate(n int, f cluster.Figures, commit time.Duration) float64 {
	between, ticks := 1.5*f.CommitTimeout.Seconds(), tickRate(n, f, commit)
	return float64(n-1) * (1/between + ticks/2 + 1/(1.5*f.Heartbeat.Seconds()))
}

// gossipRate: a revocation is sent to all others by its origin, and passed on by each to a few. Until it is final, which
// is before the first repetition, it is said once.
func gossipRate(n int, f cluster.Figures, o *SimOptions) float64 {
	others := float64(n - 1)
	heard := others * (1 - o.Loss*math.Pow(o.Loss, float64(f.DenyFanout)))
	return o.Revocations * (others + heard*math.Min(float64(f.DenyFanout), others-1)) / float64(n)
}

// pushPull is how often a node exchanges its whole state with another: memberlist's pushPullScale.
func pushPull(n int) time.Duration {
	if n <= pushPullThreshold {
		return pushPullInterval
	}
	return time.Duration(math.Ceil(math.Log2(float64(n))-math.Log2(pushPullThreshold))+1) * pushPullInterval
}

// WriteJSON writes the report as one JSON document.
func (r *SimReport) WriteJSON(w io.Writer) error { return writeJSON(w, r) }

// WriteTable writes the report for people.
func (r *SimReport) WriteTable(w io.Writer) error {
	p := &printer{w: w}
	p.line("%.0f virtual seconds each; one way takes %.2f ms on average, %.2g %% of datagrams are lost, a commit takes %.1f ms, %.3g revocations a second",
		r.Seconds, r.LatencyMS, 100*r.Loss, r.CommitMS, r.Revocations)
	p.line("simulated / by the formula of docs/performance.md; all rates are a second")
	p.line("")
	both := func(x Reckoned) string { return fmt.Sprintf("%s / %s", figure(x.Simulated), figure(x.Formula)) }
	p.table(func(row func(cells ...any)) {
		row("NODES", "LEASE QUESTIONS", "TICKS", "APPENDS OF THE LEADER", "DENIES A NODE SENDS", "MESSAGES A NODE", "KB A NODE", "MESSAGES OF THE LEADER", "KB OF THE LEADER")
		for _, c := range r.Clusters {
			row(strconv.Itoa(c.Nodes), both(c.Questions), both(c.Ticks), both(c.Appends), both(c.Gossip),
				figure(c.Messages), figure(c.Bytes/1e3), figure(c.Leader), figure(c.LeaderB/1e3))
		}
	})
	p.line("")
	p.table(func(row func(cells ...any)) {
		row("NODES", "LEASE ANSWERED P50", "P99", "MAX", "REVOCATION AT A NODE P50", "P99", "MAX", "AT ALL P50", "P99", "MAX", "MISSED BY GOSSIP")
		for _, c := range r.Clusters {
			row(strconv.Itoa(c.Nodes), inMS(c.Answer.P50), inMS(c.Answer.P99), inMS(c.Answer.Max), inMS(c.Reach.P50), inMS(c.Reach.P99), inMS(c.Reach.Max),
				inMS(c.ReachAll.P50), inMS(c.ReachAll.P99), inMS(c.ReachAll.Max), fmt.Sprintf("%.2g", c.Missed))
		}
	})
	p.line("messages and bytes are those that a node sends and receives; liveness is a model by memberlist's parameters, not simulated")
	return p.err
}

func figure(x float64) string {
	if x < 100 {
		return fmt.Sprintf("%.1f", x)
	}
	return whole(x)
}

func inMS(ms float64) string { return fmt.Sprintf("%.1f ms", ms) }
