package cluster_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/internal/racedetector"
	"github.com/deputy-id/deputy/internal/virtualtime"
)

// modelWorld is a cluster in which consensus is given, and everything about leases and fences is real: leaders come
// and go, requests and answers dawdle, members are cut off, apply late, and have clocks that drift; Δ is changed.
type modelWorld struct {
	t       *testing.T
	started time.Time
	random  *rand.Rand

	mu      sync.Mutex
	log     []modelEntry // all committed; index i+1
	leader  *modelNode
	term    uint64
	nodes   []*modelNode
	claimed []modelClaim
	done    int
	waited  int // of those, by the end of a lease
}

type modelEntry struct {
	lease time.Duration // the new Δ, or zero
	at    time.Duration
}

// modelClaim is a fence that was reported done.
type modelClaim struct {
	index uint64
	heard map[string]bool // members that the message has reached, answered or not
}

type modelNode struct {
	w       *modelWorld
	id      string
	rate    float64 // of its clock
	grants  *cluster.Grants
	lease   *cluster.Lease
	applied uint64
	cut     bool
	stalled bool // applies nothing
}

var errModelLost = errors.New("lost")

func (w *modelWorld) now() time.Duration { return time.Since(w.started) }

func (w *modelWorld) chance(percent int) bool { return w.between(0, 100) < time.Duration(percent) }

func (w *modelWorld) between(low, high time.Duration) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return low + time.Duration(w.random.Int64N(int64(high-low)))
}

// dawdle is what a network does to a message.
func (w *modelWorld) dawdle(ctx context.Context) error {
	d := w.between(time.Millisecond, 30*time.Millisecond)
	if w.chance(5) {
		d = w.between(time.Second, 6*time.Second)
	}
	return pause(ctx, d)
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// travel brings a message from one node to another, unless one of them is cut off.
func (w *modelWorld) travel(ctx context.Context, from, to *modelNode) error {
	if err := w.dawdle(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	lost := from != to && (from.cut || to.cut)
	w.mu.Unlock()
	if lost && w.chance(50) {
		return errModelLost
	}
	if lost {
		<-ctx.Done()
		return ctx.Err()
	}
	return nil
}

// commit appends an entry if n leads, in whatever term it does by now.
func (n *modelNode) commit(ctx context.Context, e modelEntry) (uint64, error) {
	if err := n.w.dawdle(ctx); err != nil {
		return 0, err
	}
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	if n.w.leader != n || n.cut {
		return 0, errModelLost
	}
	e.at = n.w.now()
	n.w.log = append(n.w.log, e)
	n.applied = uint64(len(n.w.log)) // a leader that has just committed has applied all before
	return n.applied, nil
}

func (n *modelNode) leads() (term uint64, ok bool) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	return n.w.term, n.w.leader == n
}

func (n *modelNode) clock() time.Duration { return time.Duration(float64(n.w.now()) * n.rate) }

// settings is Δ by what n has applied, and the longest that may still run.
func (n *modelNode) settings() (lease, bound time.Duration) {
	n.w.mu.Lock()
	defer n.w.mu.Unlock()
	lease, bound = 10*time.Second, 10*time.Second
	for _, e := range n.w.log[:n.applied] {
		if e.lease == 0 {
			continue
		}
		if n.w.now() >= e.at+bound+5*time.Second {
			bound = 0 // what was before is over
		}
		lease, bound = e.lease, max(bound, e.lease)
	}
	return lease, bound
}

// ask is a lease round's question, from the member's side to the leader's and back.
func (n *modelNode) ask(ctx context.Context) (uint64, error) {
	n.w.mu.Lock()
	leader := n.w.leader
	n.w.mu.Unlock()
	if err := n.w.travel(ctx, n, leader); err != nil {
		return 0, err
	}
	term, ok := leader.leads()
	if !ok {
		return 0, cluster.ErrNotLeader
	}
	if err := leader.grants.Asked(term, n.id); err != nil {
		return 0, err
	}
	index, err := leader.commit(ctx, modelEntry{})
	if err != nil {
		return 0, err
	}
	return index, n.w.travel(ctx, leader, n)
}

func (n *modelNode) waitApplied(ctx context.Context, index uint64) error {
	for {
		n.w.mu.Lock()
		applied := n.applied
		n.w.mu.Unlock()
		if applied >= index {
			return nil
		}
		if err := pause(ctx, 20*time.Millisecond); err != nil {
			return err
		}
	}
}

// follow applies what is committed, when it can.
func (n *modelNode) follow(ctx context.Context) {
	for pause(ctx, n.w.between(time.Millisecond, 100*time.Millisecond)) == nil {
		n.w.mu.Lock()
		if !n.cut && !n.stalled {
			n.applied = uint64(len(n.w.log))
		}
		n.w.mu.Unlock()
	}
}

func newModelWorld(t *testing.T, seed uint64, size int) *modelWorld {
	w := &modelWorld{t: t, started: time.Now(), random: rand.New(rand.NewPCG(seed, 1)), term: 1}
	for i := range size {
		n := &modelNode{w: w, id: fmt.Sprintf("n%d", i), rate: 1 + float64(i-size/2)*0.001}
		n.grants = cluster.NewGrants(n.clock)
		n.lease = cluster.NewLease(cluster.LeaseOptions{
			Ask: n.ask, WaitApplied: n.waitApplied, Member: func() bool { return true }, Now: n.clock,
			Duration: func() time.Duration { lease, _ := n.settings(); return lease },
		})
		w.nodes = append(w.nodes, n)
	}
	w.leader = w.nodes[0]
	w.leader.grants.Lead(1)
	return w
}

// trouble elects leaders, cuts members off and changes Δ.
func (w *modelWorld) trouble(ctx context.Context) {
	for pause(ctx, w.between(500*time.Millisecond, 4*time.Second)) == nil {
		n := w.nodes[w.between(0, time.Duration(len(w.nodes)))]
		switch kind := w.between(0, 10); {
		case kind < 3:
			w.mu.Lock()
			w.leader, w.term = n, w.term+1
			n.cut = false
			if w.random.IntN(2) == 0 { // the worst moment for another to be cut off
				other := w.nodes[w.random.IntN(len(w.nodes))]
				other.cut = other != n
			}
			n.applied = uint64(len(w.log)) // it has the log, and its first commit applies it
			term := w.term
			w.mu.Unlock()
			notes := w.between(time.Millisecond, time.Second)
			if w.chance(30) {
				notes *= 8 // the first commit takes its time
			}
			if pause(ctx, notes) == nil {
				n.grants.Lead(term)
			}
		case kind < 7:
			w.mu.Lock()
			n.cut = !n.cut && w.leader != n
			w.mu.Unlock()
		case kind < 9:
			w.mu.Lock()
			n.stalled = !n.stalled
			w.mu.Unlock()
		default:
			w.mu.Lock()
			leader := w.leader
			w.mu.Unlock()
			_, _ = leader.commit(ctx, modelEntry{lease: w.between(500*time.Millisecond, 20*time.Second)})
		}
	}
}

// revoke has the leader commit something and raise a fence for it, and notes what the fence claims.
func (w *modelWorld) revoke(ctx context.Context) {
	w.mu.Lock()
	leader := w.leader
	w.mu.Unlock()
	index, err := leader.commit(ctx, modelEntry{})
	if err != nil {
		return
	}
	heard := map[string]bool{leader.id: true}
	fences := cluster.NewFences(cluster.FenceOptions{
		Members: func() (ids []string) {
			for _, n := range w.nodes {
				ids = append(ids, n.id)
			}
			return ids
		},
		Self: leader.id,
		Send: func(ctx context.Context, member string, _ uint64, _ []byte) error {
			to := w.nodes[member[1]-'0']
			if err := w.travel(ctx, leader, to); err != nil {
				return err
			}
			w.mu.Lock()
			heard[member] = true
			w.mu.Unlock()
			return w.travel(ctx, to, leader)
		},
		Latest: func(member string) (time.Duration, bool) {
			term, ok := leader.leads()
			if !ok {
				return 0, false
			}
			return leader.grants.LatestIn(term, member)
		},
		Bound: func() time.Duration { _, bound := leader.settings(); return bound },
		Now:   leader.clock,
	})
	ctx, cancel := context.WithTimeout(ctx, 40*time.Second)
	defer cancel()
	report, err := fences.Raise(ctx, index, nil)
	if err != nil || !report.Done {
		return
	}
	w.mu.Lock()
	w.claimed = append(w.claimed, modelClaim{index, heard})
	w.done++
	for _, n := range report.Nodes {
		if n.State == cluster.FenceExpired {
			w.waited++
			break
		}
	}
	w.mu.Unlock()
	w.check()
}

// check holds every claim against every member that may speak at this moment.
func (w *modelWorld) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	everywhere := slices.MinFunc(w.nodes, func(a, b *modelNode) int { return cmp.Compare(a.applied, b.applied) }).applied
	w.claimed = slices.DeleteFunc(w.claimed, func(c modelClaim) bool { return c.index <= everywhere })
	for _, n := range w.nodes {
		if n.lease.Check() != nil {
			continue
		}
		for _, c := range w.claimed {
			if n.applied < c.index && !c.heard[n.id] {
				w.t.Errorf("at %s %s may speak without index %d, for which a fence was done", w.now(), n.id, c.index)
			}
		}
	}
}

// TestNobodySpeaksOfWhatWasBeforeAFence is the promise, played out for four minutes of virtual time from each seed.
func TestNobodySpeaksOfWhatWasBeforeAFence(t *testing.T) {
	seeds := uint64(4)
	if racedetector.Enabled { // which takes twenty times as long for it, and has one processor to look at
		seeds = 1
	}
	for seed := range seeds {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			virtualtime.Test(t, func(t *testing.T) {
				w := newModelWorld(t, seed, 5)
				ctx, cancel := context.WithCancel(t.Context())
				var all sync.WaitGroup
				for _, n := range w.nodes {
					all.Go(func() { n.follow(ctx) })
					all.Go(func() { _ = n.lease.Run(ctx) })
				}
				all.Go(func() { w.trouble(ctx) })
				fresh, looks := 0, 0
				for w.now() < 4*time.Minute && !t.Failed() {
					if w.chance(10) {
						all.Go(func() { w.revoke(ctx) })
					}
					time.Sleep(50 * time.Millisecond)
					w.check()
					for _, n := range w.nodes {
						looks++
						if n.lease.Check() == nil {
							fresh++
						}
					}
				}
				cancel()
				all.Wait()
				t.Logf("%d fences done, %d of them by the end of a lease; members fresh %d %% of the time",
					w.done, w.waited, 100*fresh/looks)
				require.Greater(t, w.done, 100)
				require.Greater(t, w.waited, 20)
				require.Greater(t, fresh, looks/4)
			})
		})
	}
}
