package cluster

import (
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// timedFSM adds up how long it takes to apply entries.
type timedFSM struct {
	raft.FSM
	spent *atomic.Int64
}

// timeApply has raft apply to a state machine and the log's volume know how long that takes.
func timeApply(fsm raft.FSM, v *logVolume) raft.FSM {
	timed := timedFSM{fsm, &v.applied}
	if batches, ok := fsm.(raft.BatchingFSM); ok {
		return timedBatches{timed, batches}
	}
	return timed
}

// Apply implements raft.FSM.
func (f timedFSM) Apply(entry *raft.Log) any {
	defer f.add(time.Now())
	return f.FSM.Apply(entry)
}

func (f timedFSM) add(began time.Time) { f.spent.Add(int64(time.Since(began))) }

// timedBatches is timedFSM for one that takes entries together, which raft finds out by the method.
type timedBatches struct {
	timedFSM
	batches raft.BatchingFSM
}

// ApplyBatch implements raft.BatchingFSM.
func (f timedBatches) ApplyBatch(entries []*raft.Log) []any {
	defer f.add(time.Now())
	return f.batches.ApplyBatch(entries)
}
