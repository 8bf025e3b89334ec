package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// Stop hands leadership on, says farewell, and closes everything in the reverse order of Start. It may be
// called more than once and without Start. Where ctx ends first it stops being graceful.
func (n *Node) Stop(ctx context.Context) error {
	n.stopOnce.Do(func() {
		n.stopping.Store(true)
		n.stopErr = n.stop(ctx)
	})
	return n.stopErr
}

func (n *Node) stop(ctx context.Context) error {
	var errs []error
	r := n.raft.Load()
	n.urgent.close()
	n.ordinary.close()
	if r != nil {
		n.seeOff(ctx)
		n.handOver(ctx, r)
		n.endRaft(r) // begins; whoever waits for raft meanwhile is told
	}
	if n.cancel != nil {
		n.cancel()
	}
	errs = append(errs, await(ctx, "background work", n.running.Wait))
	if err := n.gossip.stop(ctx); err != nil {
		errs = append(errs, fmt.Errorf("stopping gossip: %w", err))
	}
	if n.transport != nil {
		errs = append(errs, n.transport.Close())
		n.transport.CloseStreams()
	}
	if err := n.port.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		errs = append(errs, fmt.Errorf("closing the cluster port: %w", err))
	}
	n.port.conns.closeAll()
	errs = append(errs, await(ctx, "requests", n.serving.Wait), await(ctx, "calls", n.client.end))
	n.metrics.unregister()
	if r != nil {
		if err := await(ctx, "raft", func() { <-n.ended }); err != nil {
			// A stalled disk, most likely. Closing the log under raft would wait for the same disk; the folder's
			// lock goes with the process.
			return errors.Join(append(errs, fmt.Errorf("stopping: %w", err))...)
		}
	}
	if err := n.stores.close(); err != nil {
		errs = append(errs, fmt.Errorf("closing the log: %w", err))
	}
	if n.dir != nil {
		errs = append(errs, n.dir.close())
	}
	return errors.Join(errs...)
}

// endRaft has raft end. It closes the transport, too.
func (n *Node) endRaft(r *raft.Raft) {
	shutdown := r.Shutdown()
	go func() {
		defer close(n.ended)
		_ = shutdown.Error() // there is none: it waits
	}()
}

// farewell is how long a node that stops waits for the commands that are on their way: a stalled disk or a lost quorum
// should not hold it up.
const farewell = time.Second

// seeOff waits for the commands that are on their way, so that those who proposed them learn what became of them.
func (n *Node) seeOff(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, farewell)
	defer cancel()
	if err := await(ctx, "commands", n.committing.Wait); err != nil {
		n.logger.Warn("stopping with commands on their way; who proposed them can't know what becomes of them", "error", err)
	}
}

// await waits for something that takes no context, for as long as ctx allows.
func await(ctx context.Context, what string, wait func()) error {
	done := make(chan struct{})
	go func() { defer close(done); wait() }()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("waiting for %s to end: %w", what, ctx.Err())
	}
}

// handOver gives leadership to another voter, so that writes resume at once and not after an election timeout.
func (n *Node) handOver(ctx context.Context, r *raft.Raft) {
	if r.State() != raft.Leader || n.otherLiveVoters(r) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	if err := wait(ctx, r.LeadershipTransfer()); err != nil {
		n.logger.Warn("handing over leadership; the others will elect", "error", err)
	}
}
