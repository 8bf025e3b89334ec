package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
)

// roundResult is how a round that was begun at asked went.
type roundResult struct {
	asked time.Duration
	err   error
}

// Run renews the lease until ctx ends, then surrenders it. It returns nil.
func (l *Lease) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var rounds sync.WaitGroup
	defer rounds.Wait()
	defer cancel()
	defer l.Surrender()

	results := make(chan roundResult, maxLeaseRounds)
	underWay, newest := 0, time.Duration(0)
	next := time.NewTimer(0)
	defer next.Stop()
	watch := time.NewTicker(leaseWatch)
	defer watch.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-watch.C:
			l.Recheck()
		case <-next.C:
			interval, duration := l.interval()
			next.Reset(max(interval, duration/maxLeaseRounds))
			if underWay == maxLeaseRounds {
				continue
			}
			asked := l.o.Now()
			underWay, newest = underWay+1, asked
			rounds.Go(func() { results <- roundResult{asked, l.renew(ctx, asked)} })
		case r := <-results:
			underWay--
			if r.asked < newest {
				continue // a later round is under way, or has decided when the next begins
			}
			interval, _ := l.interval()
			if r.err != nil {
				next.Reset(interval / 4) // sooner, while the old lease still runs
			} else {
				next.Reset(max(0, interval-(l.o.Now()-r.asked)))
			}
		}
	}
}

// interval is the time between the starts of two rounds, and Δ.
func (l *Lease) interval() (interval, duration time.Duration) {
	duration = l.o.Duration()
	return max(minLeaseInterval, min(l.o.Renew, duration/leaseTries)), duration
}

// renew is one round.
func (l *Lease) renew(ctx context.Context, asked time.Duration) error {
	loss := l.round(ctx, asked)
	if loss == nil {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case loss.reason == LossRemoved, loss.reason == LossClock:
		l.end(loss) // the lease that runs is no good either
	case !l.surrendered.Load() && asked >= l.grant.Load().noted: // else a later round has succeeded
		l.loss.Store(loss)
	}
	return errors.New(loss.detail)
}

func (l *Lease) round(ctx context.Context, asked time.Duration) *leaseLoss {
	if !l.o.Member() {
		return &leaseLoss{reason: LossRemoved, detail: errNoMember.Error()}
	}
	duration := l.o.Duration()
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	index, err := l.o.Ask(ctx)
	if err != nil {
		return &leaseLoss{reason: unanswered(err), detail: fmt.Sprintf("no leader committed a tick: %v", err)}
	}
	if index == 0 { // every node has applied nothing, so this would prove nothing
		return &leaseLoss{reason: LossSilent, detail: "the leader answered without the index of a tick"}
	}
	l.catchingUp(index)
	if err := l.o.WaitApplied(ctx, index); err != nil {
		return &leaseLoss{reason: LossBehind, detail: fmt.Sprintf("this node is behind index %d: %v", index, err), index: index}
	}
	if l.o.CheckClock != nil {
		if err := l.o.CheckClock(l.o.Now() - asked); err != nil {
			return &leaseLoss{reason: LossClock, detail: err.Error()}
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	// What was just applied may have removed this node, or shortened Δ. Recheck ends a lease under the same lock,
	// so it sees the one that begins here, or this sees what Recheck saw.
	if !l.o.Member() {
		return &leaseLoss{reason: LossRemoved, detail: errNoMember.Error()}
	}
	if l.surrendered.Load() || asked < l.grant.Load().noted {
		return nil
	}
	l.grant.Store(&leaseGrant{proved: true, noted: asked, until: asked + min(duration, l.o.Duration())})
	l.loss.Store(&leaseLoss{reason: LossExpired, detail: "the lease ran out before it was renewed: this process or its machine stood still"})
	return nil
}

// catchingUp lets State say how far there is to go while a node that holds no lease waits for its log.
func (l *Lease) catchingUp(index uint64) {
	if l.o.Applied == nil || l.o.Applied() >= index {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.surrendered.Load() && l.Remaining() == 0 {
		l.loss.Store(&leaseLoss{reason: LossBehind, detail: fmt.Sprintf("this node is behind index %d", index), index: index})
	}
}

// unanswered says in a word why no tick was to be had.
func unanswered(err error) string {
	switch {
	case errors.Is(err, ErrNoLeader), errors.Is(err, ErrNotLeader):
		return LossNoLeader
	case errors.Is(err, ErrUnreachable):
		return LossUnreachable
	default:
		return LossSilent
	}
}
