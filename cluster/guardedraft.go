package cluster

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// guardedRaft makes autopilot's changes conditional on the configuration that it decided by, and slow enough.
//
// Autopilot passes no index, so that promoting a server which was removed a moment ago would add it again. And it
// plans by what it gathered some time ago: by a state with two voters of three, of which one did not answer just
// then, it would take one of three away. So a plan ends where the voters are not those that it goes by.
//
// And raft refuses its vote to a candidate that has none in the voter's own configuration. If two servers were
// promoted in a row while a third lagged behind both changes, and the leader died then, the one that has the
// whole log could not be elected. So the next change waits until the last one is in everybody's log.
type guardedRaft struct {
	*raft.Raft
	pilot *pilot
}

func (g guardedRaft) AddVoter(id raft.ServerID, addr raft.ServerAddress, _ uint64, timeout time.Duration) raft.IndexFuture {
	return g.guard(id, raft.Voter, func(index uint64) raft.IndexFuture { return g.Raft.AddVoter(id, addr, index, timeout) })
}

func (g guardedRaft) DemoteVoter(id raft.ServerID, _ uint64, timeout time.Duration) raft.IndexFuture {
	return g.guard(id, raft.Nonvoter, func(index uint64) raft.IndexFuture { return g.Raft.DemoteVoter(id, index, timeout) })
}

func (g guardedRaft) guard(id raft.ServerID, becomes raft.ServerSuffrage, change func(index uint64) raft.IndexFuture) raft.IndexFuture {
	config, index, err := configuration(g.Raft)
	if err != nil {
		return failedFuture{err}
	}
	if s, ok := find(config, string(id)); !ok || s.Suffrage == becomes {
		return failedFuture{fmt.Errorf("server %s can't become a %s: it is one already, or no member any more", id, suffrage(becomes))}
	}
	if !g.pilot.carriesOut(config, id, becomes) {
		return failedFuture{fmt.Errorf("server %s is left as it is: the plan is of before the last change of voters", id)}
	}
	return spreadFuture{change(index), g.pilot}
}

// planFor begins a plan that goes by these servers' standing, and returns for how long the number of voters has been even.
func (p *pilot) planFor(servers []standing, now time.Time) (even time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.planned = make(map[raft.ServerID]bool, len(servers))
	for _, s := range servers {
		if s.voter {
			p.planned[s.id] = true
		}
	}
	switch {
	case len(p.planned)%2 != 0:
		p.even = time.Time{}
		return 0
	case p.even.IsZero():
		p.even = now
	}
	return now.Sub(p.even)
}

// carriesOut reports whether the configuration's voters are those of the plan in hand, and if so notes the change
// that is made next. A change that fails leaves the rest of its plan undone, which autopilot drops anyway.
func (p *pilot) carriesOut(config raft.Configuration, id raft.ServerID, becomes raft.ServerSuffrage) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	count := 0
	for _, s := range config.Servers {
		if s.Suffrage != raft.Voter {
			continue
		}
		if !p.planned[s.ID] {
			return false
		}
		count++
	}
	if count != len(p.planned) {
		return false
	}
	if becomes == raft.Voter {
		p.planned[id] = true
	} else {
		delete(p.planned, id)
	}
	return true
}

// spreadFuture is a change that is over when it is in the log of every server that answers.
type spreadFuture struct {
	raft.IndexFuture
	pilot *pilot
}

func (f spreadFuture) Error() error {
	if err := f.IndexFuture.Error(); err != nil {
		return err
	}
	f.pilot.awaitSpread(f.Index())
	return nil
}

const (
	spreadPatience = 2 * time.Second // for one that lags or died just now; the change itself is committed
	spreadPause    = 10 * time.Millisecond
)

// awaitSpread waits until index is in the log of every server that answered of late, or patience ends.
func (p *pilot) awaitSpread(index uint64) {
	config, _, err := configuration(p.raft)
	if err != nil {
		return
	}
	ctx, cancel := context.WithTimeout(p.ctx, spreadPatience)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range config.Servers {
		if id := string(s.ID); id != p.node.o.NodeID && p.answers(id) {
			wg.Go(func() { p.awaitLog(ctx, id, index) })
		}
	}
	wg.Wait()
}

func (p *pilot) awaitLog(ctx context.Context, id string, index uint64) {
	for {
		if stats, err := p.fetch(ctx, id); err == nil && stats.lastIndex >= index {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(spreadPause):
		}
	}
}

type failedFuture struct{ err error }

func (f failedFuture) Error() error  { return f.err }
func (f failedFuture) Index() uint64 { return 0 }
