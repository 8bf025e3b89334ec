package sim

import (
	"io"
	"sync"

	"github.com/hashicorp/raft"

	"github.com/deputy-id/deputy/fsm"
)

// serialFSM is the state machine as raft has it. Raft calls it from one goroutine, and the comparison of replicas takes
// a snapshot from another.
type serialFSM struct {
	*fsm.FSM
	mu *sync.Mutex
}

// Apply implements raft.FSM.
func (m *serialFSM) Apply(entry *raft.Log) any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.FSM.Apply(entry)
}

// ApplyBatch implements raft.BatchingFSM.
func (m *serialFSM) ApplyBatch(entries []*raft.Log) []any {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.FSM.ApplyBatch(entries)
}

// Snapshot implements raft.FSM.
func (m *serialFSM) Snapshot() (raft.FSMSnapshot, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.FSM.Snapshot()
}

// Restore implements raft.FSM.
func (m *serialFSM) Restore(source io.ReadCloser) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.FSM.Restore(source)
}
