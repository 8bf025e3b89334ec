package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/deputy-id/deputy/bench/load"
	"github.com/deputy-id/deputy/bench/result"
)

// timeline is what happens to nodes during a run.
type timeline struct {
	start time.Time
	tell  func(format string, args ...any) // for people who watch

	lock   sync.Mutex
	events []result.Fault
}

// now is the time since the measured time began.
func (t *timeline) now() float64 { return time.Since(t.start).Seconds() }

// add notes something that lasted until now, or that happened at once where it began just now.
func (t *timeline) add(what result.FaultKind, node, detail string, began float64) {
	event := result.Fault{T: began, Node: node, What: what, Detail: detail}
	if end := t.now(); end-began > 0.001 {
		event.End = &end
	}
	t.lock.Lock()
	t.events = append(t.events, event)
	t.lock.Unlock()
	if t.tell != nil {
		t.tell("%.1f s: %s %s %s", began, node, what, detail)
	}
}

// prepareMixed has all connections mint, introspect and write in turn.
func prepareMixed(ctx context.Context, d *drive) (*job, error) {
	pool, err := d.pool(ctx, DefaultWarmTokens)
	if err != nil {
		return nil, err
	}
	maker, err := d.delegations(ctx)
	if err != nil {
		return nil, err
	}
	j := &job{
		operations: []string{"mint", "introspect", "delegation"}, deal: func(n uint64) int { return int(n % 3) }, //nolint:gosec // below 3
		expected: []expectation{fixtureExpectation(), {}, {}}, evidence: newEvidence(), token: len(pool[0]),
	}
	request := d.fixture.mintRequest()
	j.work = func(connection, _ int) load.Work {
		next := connection
		return &byOperation{
			&minting{make: func(*load.Call) []byte { return request }, evidence: j.evidence},
			&asking{asker: newAsker(d.fixture), pick: func() string { next++; return pool[next%len(pool)] }, evidence: j.evidence},
			maker.newWork(connection),
		}
	}
	return j, nil
}

// byOperation is work that differs for each operation.
type byOperation []load.Work

func (b byOperation) Next(call *load.Call) { b[call.Operation].Next(call) }

func (b byOperation) Judge(call *load.Call, status int, body []byte) load.Failure {
	return b[call.Operation].Judge(call, status, body)
}

// faultParts is how many parts the measured time has: before the fault, with it, and after it.
const faultParts = 3

func prepareFailover(ctx context.Context, d *drive) (*job, error) {
	if d.OwnNodes < 3 {
		return nil, fmt.Errorf("a failover needs 3 nodes of the run's own at least, and there are %d", d.OwnNodes)
	}
	j, err := prepareMixed(ctx, d)
	if err != nil {
		return nil, err
	}
	j.faults = d.killLeader
	return j, nil
}

// killLeader kills the node that leads once a third of the time is over, and starts it again after half of another.
func (d *drive) killLeader(ctx context.Context, t *timeline) error {
	third := d.length() / faultParts
	after := d.FaultAfter
	if after == 0 {
		after = third
	}
	if err := pauseFor(ctx, after); err != nil {
		return nil // the load has ended before
	}
	own := d.ground.own
	leader, err := own.leader(ctx)
	if err != nil {
		return err
	}
	killed := t.now()
	leader.kill()
	t.add(result.FaultKilled, leader.spec.ID, "it led", killed)
	next, err := own.leader(ctx)
	if err != nil {
		return err
	}
	t.add(result.FaultLeaderChanged, next.spec.ID, fmt.Sprintf("%.2f s after the kill", t.now()-killed), t.now())
	if err := pauseFor(ctx, third/2); err != nil {
		return nil
	}
	began := t.now()
	if err := own.launch(context.WithoutCancel(ctx), leader); err != nil { // bounded by itself; the load may end before
		return err
	}
	t.add(result.FaultStarted, leader.spec.ID, "from its data", began)
	return nil
}

func prepareChurn(ctx context.Context, d *drive) (*job, error) {
	j, err := prepareMixed(ctx, d)
	if err != nil {
		return nil, err
	}
	j.faults = d.comeAndGo
	return j, nil
}

// comeAndGo has a node join, stay a while and be removed, over and over. The load goes to the nodes that stay.
func (d *drive) comeAndGo(ctx context.Context, t *timeline) error {
	const stays = time.Second
	for ctx.Err() == nil && d.ground.own.made < maxChurned {
		began := t.now()
		n, err := d.ground.own.join(ctx)
		if err != nil {
			return unlessOver(ctx, err)
		}
		t.add(result.FaultJoined, n.spec.ID, "", began)
		if err := pauseFor(ctx, stays); err != nil {
			return nil
		}
		began = t.now()
		api, err := d.ground.at(0)
		if err != nil {
			return err
		}
		if _, err := api.RemoveMember(ctx, n.spec.ID, "deputy bench"); err != nil {
			return unlessOver(ctx, fmt.Errorf("removing %s: %w", n.spec.ID, err))
		}
		t.add(result.FaultRemoved, n.spec.ID, "", began)
		n.end()
		if err := pauseFor(ctx, stays); err != nil {
			return nil
		}
	}
	return nil
}

// maxChurned bounds how many nodes a run ever makes: each leaves a data folder until it ends.
const maxChurned = 1000

// unlessOver drops an error that only says that the load has ended.
func unlessOver(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// stallOne stops one node's process for a while, in the middle of the measured time.
func (d *drive) stallOne(ctx context.Context, t *timeline) error {
	after := d.FaultAfter
	if after == 0 {
		after = d.length() / 2
	}
	if err := pauseFor(ctx, after); err != nil {
		return nil
	}
	n := d.stalled()
	began := t.now()
	if err := n.stall(ctx, d.Stall); err != nil {
		return unlessOver(ctx, err)
	}
	t.add(result.FaultStalled, n.spec.ID, "", began)
	return nil
}

// stalled is the node to stall: the last one, or the only one.
func (d *drive) stalled() *ownNode {
	if d.ground.own == nil {
		return &ownNode{process: d.ground.self, spec: nodeSpec{ID: "bench"}}
	}
	live := d.ground.own.live()
	return live[len(live)-1]
}
