// Package fsm is the replicated state machine: typed commands, a strict codec, a pure Apply, a read model of
// which one atomic load gives one consistent picture, and streaming snapshots.
//
// A replayed log must have no side effect, and every replica must come to the same state from it, byte for
// byte. So Apply reads no clock and draws no random number: what is not a function of the state was stamped
// into the command before it was proposed. It also checks only what depends on the state. That a name has
// the right characters was checked before; a rule of that kind changes between versions, and replicas of
// two versions would come apart by it.
//
// The order in Apply is: revocation set, its journal, View (which carries the applied index), then those who wait for
// the index. Nobody can see an index whose revocations the set does not hold. See DESIGN.md.
package fsm

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/raft"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// ErrHalted is wrapped by what a halted FSM answers: it met a log entry that it must not skip and can't
// apply, and has stopped rather than drift from the other replicas.
var ErrHalted = errors.New("the state machine has halted")

// Options configure an FSM.
type Options struct {
	// Revocations is the set that Apply and Restore add to. Required.
	Revocations *revocation.Set
	// Journal of that set, for those who follow it; nil: nobody does.
	Journal *revocation.Journal
	// Halt is called once, with an error that wraps ErrHalted, when a log entry can't be applied. It should
	// end the process, after which the node needs a newer build. Nil panics.
	Halt       func(error)
	LocalNode  string                // for logs; may be empty
	Logger     *slog.Logger          // nil: the default logger
	Registerer prometheus.Registerer // nil: no metrics
}

// FSM implements raft.FSM and raft.BatchingFSM. Raft calls Apply, ApplyBatch, Snapshot and Restore from one
// goroutine; everything else may be called from anywhere.
type FSM struct {
	set     *revocation.Set
	journal *revocation.Journal
	halt    func(error)
	log     *slog.Logger
	metrics *metrics

	state *state // of the goroutine that applies
	view  atomic.Pointer[View]

	unpublished int    // commands since the last View; of the goroutine that applies
	texts       shared // of commands, of the goroutine that applies
	packed      atomic.Bool

	haltOnce sync.Once
	haltErr  error
	halted   chan struct{}
}

var _ raft.BatchingFSM = (*FSM)(nil)

// New returns an FSM with an empty state.
func New(o Options) *FSM {
	f := &FSM{set: o.Revocations, journal: o.Journal, halt: o.Halt, log: o.Logger, halted: make(chan struct{})}
	if f.halt == nil {
		f.halt = func(err error) { panic(err.Error()) }
	}
	if f.log == nil {
		f.log = slog.Default()
	}
	if o.LocalNode != "" {
		f.log = f.log.With("node", o.LocalNode)
	}
	f.state = newState(o.Revocations)
	f.view.Store(f.state.view())
	f.metrics = newMetrics(o.Registerer, f.View)
	return f
}

// View returns the latest View, never nil. A request takes one and reads everything from it.
func (f *FSM) View() *View { return f.view.Load() }

// Applied returns the index of the last log entry whose effects are in the revocation set and in the View.
// Unlike raft's AppliedIndex it does not count what is merely queued.
func (f *FSM) Applied() uint64 { return f.View().index }

// Changed returns a channel that is closed when the next View is published.
func (f *FSM) Changed() <-chan struct{} { return f.View().superseded }

// WaitApplied returns once Applied is at least index. Otherwise the error is the context's or wraps
// ErrHalted.
func (f *FSM) WaitApplied(ctx context.Context, index uint64) error {
	for {
		v := f.View()
		if v.index >= index {
			return nil
		}
		select {
		case <-v.superseded:
		case <-f.halted:
			return f.haltErr
		case <-ctx.Done():
			return fmt.Errorf("waiting for index %d, at %d: %w", index, v.index, ctx.Err())
		}
	}
}

// Apply implements raft.FSM.
func (f *FSM) Apply(entry *raft.Log) any { return f.ApplyBatch([]*raft.Log{entry})[0] }

// publishAfter is how many commands are applied without showing it, where raft hands in many: a node that catches up
// answers from a View that is some tens of milliseconds old at most.
const publishAfter = 2048

// ApplyBatch implements raft.BatchingFSM: it applies the entries in order and publishes a View of all of them, and of
// parts where they are many. Each response is a Result; that of a pack has the Result of each of its commands.
func (f *FSM) ApplyBatch(entries []*raft.Log) []any {
	responses := make([]any, len(entries))
	for i, entry := range entries {
		if f.isHalted() {
			responses[i] = Result{Index: entry.Index, Err: identity.Errorf(identity.CodeInternal, "%w", ErrHalted)}
			continue
		}
		if f.unpublished >= publishAfter {
			f.show()
		}
		responses[i] = f.applyEntry(entry)
	}
	f.show()
	return responses
}

// show publishes a View of all that was applied.
func (f *FSM) show() {
	f.journal.Reach(f.state.index)
	f.publish(f.state)
	f.unpublished = 0
}

func (f *FSM) applyEntry(entry *raft.Log) any {
	if entry.Type != raft.LogCommand {
		f.state.index = entry.Index
		return Result{Index: entry.Index}
	}
	if isPack(entry.Data) {
		return f.applyPack(entry)
	}
	c, err := readCommand(entry.Data, &f.texts)
	if err != nil {
		return f.stop(entry.Index, err)
	}
	f.state.index = entry.Index
	result := f.applyCommand(&c)
	f.note(f.state)
	f.unpublished++
	return shown(result)
}

// note writes down what the entry has changed in the revocation set, before any View shows the entry: who has read the
// journal after seeing an index has read all that the log had brought up to there.
func (f *FSM) note(s *state) {
	if len(s.denied) > 0 {
		f.journal.Commit(s.index, s.denied)
		s.denied = nil // it is the journal's now
	}
	if s.purged {
		f.journal.Purge(s.index, s.time)
		s.purged = false
	}
}

// stop keeps the state at the entry before the one that can't be applied.
func (f *FSM) stop(index uint64, cause error) Result {
	f.haltOnce.Do(func() {
		f.haltErr = fmt.Errorf("%w at log entry %d, which this build of deputy can't apply; run the build that the rest of the cluster runs: %w", ErrHalted, index, cause)
		f.log.Error("halting rather than drift from the other replicas", "index", index, "error", cause)
		close(f.halted)
		f.halt(f.haltErr)
	})
	return Result{Index: index, Err: identity.Errorf(identity.CodeInternal, "%w", ErrHalted)}
}

func (f *FSM) isHalted() bool {
	select {
	case <-f.halted:
		return true
	default:
		return false
	}
}

// publish shows a state to readers, then wakes those who wait for a newer View.
func (f *FSM) publish(s *state) {
	f.state = s
	old := f.view.Swap(s.view())
	close(old.superseded)
}
