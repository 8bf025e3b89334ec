package sim

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

// tuning is what a schedule draws once for all nodes.
type tuning struct {
	nodes, nonvoters int
	duration         time.Duration // of the part with faults
	election, commit time.Duration
	snapshotEvery    uint64 // log entries
	snapshotLook     time.Duration
	trailing         uint64        // entries kept behind a snapshot: more than a leader that is cut off can append, see hashicorp/raft#697
	stalls           float64       // how often a leader is scheduled away between a commit and its being noticed
	slowDisk         float64       // how often a write takes long
	pace             time.Duration // the longest time from one fault to the next
	lease            int64         // milliseconds
	patient          bool          // the schedule ends with minutes in which entries expire and are purged
}

func draw(random *source) tuning {
	return tuning{
		nodes: pick(random, []int{3, 3, 3, 4, 5}), nonvoters: pick(random, []int{0, 0, 1}),
		duration: random.between(6*time.Second, 16*time.Second),
		election: random.between(250*time.Millisecond, 500*time.Millisecond),
		commit:   random.between(20*time.Millisecond, 60*time.Millisecond),

		snapshotEvery: uint64(pick(random, []int{12, 40, 1000})), snapshotLook: random.between(500*time.Millisecond, 2*time.Second),
		trailing: uint64(pick(random, []int{16, 32})),
		stalls:   pick(random, []float64{0, 0.05, 0.3}), slowDisk: pick(random, []float64{0, 0.01, 0.05}),
		pace:  pick(random, []time.Duration{800 * time.Millisecond, 2 * time.Second, 4 * time.Second}),
		lease: 1000, patient: random.chance(0.03),
	}
}

// lab is one cluster and all that is done to it.
type lab struct {
	seed    uint64
	random  *source
	tuning  tuning
	history *history
	ledger  *ledger
	net     *network
	pool    *pool

	over   context.Context // the end of the faults and of the load
	finish context.CancelFunc
	load   sync.WaitGroup // clients and faults

	misclocking atomic.Bool // some wall clock is wrong

	mu         sync.Mutex
	all        []*machine      // ever
	gone       map[string]bool // being removed, or removed
	slow       map[string]bool // disks that stall
	posted     map[uint64]fenceRequest
	posts      uint64
	longest    time.Duration // the longest lease that was ever asked for
	membership int           // changes of the configuration under way
}

func newLab(seed uint64) *lab {
	random := newSource(seed, 1)
	l := &lab{
		seed: seed, random: random, tuning: draw(random), history: newHistory(), pool: new(pool),
		gone: make(map[string]bool), slow: make(map[string]bool), posted: make(map[uint64]fenceRequest),
	}
	l.longest = time.Duration(l.tuning.lease) * time.Millisecond
	l.net, l.ledger = newNetwork(newSource(seed, 2)), newLedger(l.history)
	l.over, l.finish = context.WithCancel(context.Background())
	return l
}

// sleep waits, and reports false once the load is over.
func (l *lab) sleep(d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return l.over.Err() == nil
	case <-l.over.Done():
		return false
	}
}

func (l *lab) entropy() (b [10]byte) {
	l.random.bytes(b[:])
	return b
}

func (l *lab) commandID() (id fsm.CommandID) {
	l.random.bytes(id[:])
	return id
}

// post and payload stand for the encoding of a fence.
func (l *lab) post(f fenceRequest) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.posts++
	l.posted[l.posts] = f
	return binary.BigEndian.AppendUint64(nil, l.posts)
}

func (l *lab) payload(text []byte) (fenceRequest, error) {
	if len(text) != 8 {
		return fenceRequest{}, errors.New("not the payload of a fence")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f, ok := l.posted[binary.BigEndian.Uint64(text)]
	if !ok {
		return fenceRequest{}, errors.New("not the payload of a fence")
	}
	return f, nil
}

func (l *lab) machines() []*machine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// members are the machines that are not on their way out.
func (l *lab) members() []*machine {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(l.all), func(m *machine) bool { return l.gone[m.id] })
}

func (l *lab) newMachine(id string) (*machine, error) {
	signer, err := tokens.GenerateSigner()
	if err != nil {
		return nil, err
	}
	m := &machine{id: id, clock: newClock(l.random), signer: signer}
	m.disk = newDisk(l.random, func() time.Duration {
		l.mu.Lock()
		slow := l.slow[id]
		l.mu.Unlock()
		switch {
		case slow:
			return l.random.between(100*time.Millisecond, 900*time.Millisecond)
		case l.over.Err() == nil && l.random.chance(l.tuning.slowDisk):
			return l.random.between(10*time.Millisecond, 120*time.Millisecond)
		default:
			return l.random.between(0, time.Millisecond)
		}
	})
	return m, nil
}

func (l *lab) add(m *machine) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, m)
}

// The cast of every schedule.
var (
	agentNames     = []string{"mailer", "sorter", "planner", "scribe"}
	principalNames = []string{"ada@example.com", "grace@example.com"}
)

const (
	sessionSeconds = identity.MinSessionSeconds
	scopes         = identity.Scopes("mail.read")
	issuer         = "https://deputy.example.com"
	setupWait      = 20 * time.Second
)

// setUp starts the nodes with one configuration, and has the cast in the state and every node able to mint.
func (l *lab) setUp() error {
	var configuration raft.Configuration
	for i := range l.tuning.nodes + l.tuning.nonvoters {
		m, err := l.newMachine(fmt.Sprintf("n%d", i+1))
		if err != nil {
			return err
		}
		l.add(m)
		suffrage := raft.Voter
		if i >= l.tuning.nodes {
			suffrage = raft.Nonvoter
		}
		configuration.Servers = append(configuration.Servers, raft.Server{
			Suffrage: suffrage, ID: raft.ServerID(m.id), Address: raft.ServerAddress(m.id),
		})
	}
	for _, m := range l.machines() {
		if err := raft.BootstrapCluster(l.raftConfig(m.id), m.disk, m.disk, m.disk, &transport{}, configuration); err != nil {
			return fmt.Errorf("bootstrapping %s: %w", m.id, err)
		}
		if _, err := l.start(m); err != nil {
			return err
		}
	}
	l.history.add("seed %d: %d voters, %d non-voters, %+v", l.seed, l.tuning.nodes, l.tuning.nonvoters, l.tuning)
	ctx, cancel := context.WithTimeout(l.over, setupWait)
	defer cancel()
	if err := l.furnish(ctx); err != nil {
		return fmt.Errorf("setting up: %w", err)
	}
	for _, m := range l.machines() {
		for !l.ready(m) {
			if ctx.Err() != nil || !l.sleep(20*time.Millisecond) {
				return fmt.Errorf("setting up: %s is not ready: %v", m.id, m.running().lease.Check())
			}
		}
	}
	return nil
}

// furnish commits the settings and the cast. While settings are new, leases count as long as they were before,
// which is ten seconds; so they are committed as of the past, while nobody is a member yet who might hold any.
func (l *lab) furnish(ctx context.Context) error {
	settings := fsm.Command{
		ID: l.commandID(), By: "client", Body: fsm.PutSettings{Settings: l.settings(l.tuning.lease)},
		Time: identity.InstantOf(time.Now().Add(-time.Minute)),
	}
	if _, err := l.insist(ctx, writeRequest{command: settings}); err != nil {
		return err
	}
	_, err := l.write(ctx, fsm.Batch{Bodies: l.cast()}, false)
	return err
}

func (l *lab) ready(m *machine) bool {
	n := m.running()
	return n != nil && n.lease.Check() == nil && n.keys.of(n.fsm.View()).Has(m.signer.KID())
}

// cast is who is there from the beginning.
func (l *lab) cast() (bodies []fsm.Body) {
	for i, m := range l.machines() {
		bodies = append(bodies, l.admission(m.id, i == 0)...)
	}
	now := identity.InstantOf(time.Now())
	for _, name := range agentNames {
		bodies = append(bodies, fsm.CreateAgent{Agent: identity.Agent{
			Name: name, Type: identity.AgentAutonomous, DefaultScopes: scopes, MaxSessionSeconds: sessionSeconds,
			Credentials: []identity.Credential{l.credential(now)},
		}})
	}
	for _, principal := range principalNames {
		for _, agent := range agentNames {
			bodies = append(bodies, l.delegation(agent, principal))
		}
	}
	return bodies
}

func (l *lab) settings(lease int64) identity.Settings {
	return identity.Settings{ClusterID: "sim", Issuer: issuer, OfflineTTLSeconds: identity.DefaultOfflineTTLSeconds, LeaseMillis: lease}
}

// admission is what lets a node in.
func (l *lab) admission(id string, first bool) []fsm.Body {
	key := sha256.Sum256([]byte("key of " + id))
	secret := sha256.Sum256([]byte("secret of " + id))
	admit := fsm.AdmitMember{Member: identity.Member{ID: id, Key: key[:], ClusterAddr: id, GossipAddr: id}}
	if first {
		return []fsm.Body{admit}
	}
	admit.JoinTokenHash = secret[:]
	now := identity.InstantOf(time.Now())
	return []fsm.Body{
		fsm.CreateJoinToken{JoinToken: identity.JoinToken{
			ID: identity.NewID(identity.PrefixJoinToken, now, l.entropy()), Hash: secret[:], Expires: now.Add(24 * time.Hour),
		}},
		admit,
	}
}

func (l *lab) credential(now identity.Instant) identity.Credential {
	secret := l.entropy()
	hash := sha256.Sum256(secret[:])
	return identity.Credential{
		ID: identity.NewID(identity.PrefixCredential, now, l.entropy()), Kind: identity.CredentialSecret, Hash: hash[:],
	}
}

func (l *lab) delegation(agent, principal string) fsm.CreateDelegation {
	now := identity.InstantOf(time.Now())
	return fsm.CreateDelegation{EnsurePrincipal: true, Regrant: true, Delegation: identity.Delegation{
		ID: identity.NewID(identity.PrefixDelegation, now, l.entropy()), Principal: principal, Agent: agent, Scopes: scopes,
		Expires: now.Add(24 * time.Hour), MaxHops: identity.MaxChain, Status: identity.DelegationActive,
	}}
}

// leader is the node that leads and has applied all that came before, or nil.
func (l *lab) leader() *node {
	for _, m := range l.machines() {
		if n := m.running(); n != nil && n.alive() && n.leads() {
			return n
		}
	}
	return nil
}

// write is a client with a request for the leader, through one node or another, under one id until the outcome is
// known or ctx ends.
func (l *lab) write(ctx context.Context, body fsm.Body, fence bool) (writeAnswer, error) {
	return l.insist(ctx, writeRequest{command: fsm.Command{ID: l.commandID(), By: "client", Body: body}, fence: fence})
}

func (l *lab) insist(ctx context.Context, request writeRequest) (writeAnswer, error) {
	var err error
	for ctx.Err() == nil {
		var value any
		if n := pick(l.random, l.machines()).running(); n == nil {
			err = errRefused
		} else {
			try, cancel := context.WithTimeout(ctx, fenceWait+time.Second)
			value, err = n.callLeader(try, request)
			cancel()
		}
		if err == nil {
			answer := value.(writeAnswer)
			if answer.result.Err != nil {
				return answer, answer.result.Err
			}
			return answer, nil
		}
		pause := time.NewTimer(l.random.between(50*time.Millisecond, 400*time.Millisecond))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
		}
	}
	return writeAnswer{}, fmt.Errorf("no answer: %w", err)
}
