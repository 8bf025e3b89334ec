package audit

import (
	"context"
	"sync"
)

// publisher hands the newest checkpoint on. Those that come while a call is under way are skipped but for the last:
// it vouches for all before it.
type publisher struct {
	call func(Checkpoint)
	kick chan struct{}

	mu     sync.Mutex
	newest Checkpoint
}

func newPublisher(call func(Checkpoint)) *publisher {
	return &publisher{call: call, kick: make(chan struct{}, 1)}
}

func (p *publisher) publish(c Checkpoint) {
	p.mu.Lock()
	p.newest = c
	p.mu.Unlock()
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

func (p *publisher) latest() (Checkpoint, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest, p.newest.Through > 0
}

func (p *publisher) run(ctx context.Context) {
	for {
		select {
		case <-p.kick:
			if c, ok := p.latest(); ok && p.call != nil {
				p.call(c)
			}
		case <-ctx.Done():
			return
		}
	}
}
