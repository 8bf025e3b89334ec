package sim

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// transport lets raft speak over a port. It pipelines nothing, as the real one is set up not to.
type transport struct {
	port     *port
	incoming chan raft.RPC

	mu        sync.Mutex
	heartbeat func(raft.RPC)
}

// raftCall is one of raft's requests on the network. Its command is a copy: raft uses its own for the next one,
// while this one may still be under way.
type raftCall struct {
	command any
	data    []byte // of a snapshot
}

const (
	// Raft waits for an answer no longer than this; TCP would notice a break about as fast.
	leastRaftWait = 300 * time.Millisecond
	mostRaftWait  = 1200 * time.Millisecond
)

var (
	_ raft.Transport   = (*transport)(nil)
	_ raft.WithPreVote = (*transport)(nil)
)

func newTransport() *transport { return &transport{incoming: make(chan raft.RPC)} }

func (t *transport) Consumer() <-chan raft.RPC { return t.incoming }

func (t *transport) LocalAddr() raft.ServerAddress { return raft.ServerAddress(t.port.id) }

func (t *transport) EncodePeer(_ raft.ServerID, address raft.ServerAddress) []byte {
	return []byte(address)
}

func (t *transport) DecodePeer(address []byte) raft.ServerAddress { return raft.ServerAddress(address) }

func (t *transport) SetHeartbeatHandler(handle func(raft.RPC)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.heartbeat = handle
}

func (t *transport) AppendEntriesPipeline(raft.ServerID, raft.ServerAddress) (raft.AppendPipeline, error) {
	return nil, raft.ErrPipelineReplicationNotSupported
}

func (t *transport) AppendEntries(_ raft.ServerID, to raft.ServerAddress, request *raft.AppendEntriesRequest, response *raft.AppendEntriesResponse) error {
	copied := *request
	return ask(t, to, raftCall{command: &copied}, response)
}

func (t *transport) RequestVote(_ raft.ServerID, to raft.ServerAddress, request *raft.RequestVoteRequest, response *raft.RequestVoteResponse) error {
	copied := *request
	return ask(t, to, raftCall{command: &copied}, response)
}

func (t *transport) RequestPreVote(_ raft.ServerID, to raft.ServerAddress, request *raft.RequestPreVoteRequest, response *raft.RequestPreVoteResponse) error {
	copied := *request
	return ask(t, to, raftCall{command: &copied}, response)
}

func (t *transport) TimeoutNow(_ raft.ServerID, to raft.ServerAddress, request *raft.TimeoutNowRequest, response *raft.TimeoutNowResponse) error {
	copied := *request
	return ask(t, to, raftCall{command: &copied}, response)
}

func (t *transport) InstallSnapshot(_ raft.ServerID, to raft.ServerAddress, request *raft.InstallSnapshotRequest, response *raft.InstallSnapshotResponse, data io.Reader) error {
	content, err := io.ReadAll(data)
	if err != nil {
		return fmt.Errorf("reading the snapshot to send: %w", err)
	}
	copied := *request
	return ask(t, to, raftCall{command: &copied, data: content}, response)
}

func ask[T any](t *transport, to raft.ServerAddress, call raftCall, response *T) error {
	ctx, cancel := context.WithTimeout(t.port.ctx, t.port.net.random.between(leastRaftWait, mostRaftWait))
	defer cancel()
	answer, err := t.port.call(ctx, string(to), call)
	if err != nil {
		return err
	}
	given, ok := answer.(*T)
	if !ok {
		return fmt.Errorf("BUG: raft answered %T", answer)
	}
	*response = *given
	return nil
}

// serve hands a request to this node's raft.
func (t *transport) serve(call raftCall) (any, error) {
	answer := make(chan raft.RPCResponse, 1)
	rpc := raft.RPC{Command: call.command, RespChan: answer}
	if call.data != nil {
		rpc.Reader = bytes.NewReader(call.data)
	}
	if handle := t.fastPath(call.command); handle != nil {
		handle(rpc)
	} else {
		select {
		case t.incoming <- rpc:
		case <-t.port.ctx.Done():
			return nil, errClosed
		}
	}
	select {
	case r := <-answer:
		return r.Response, r.Error
	case <-t.port.ctx.Done():
		return nil, errClosed
	}
}

// fastPath is how raft wants mere heartbeats: beside the queue, so that a slow disk does not lose a leader. The
// test is that of raft's own transport.
func (t *transport) fastPath(command any) func(raft.RPC) {
	request, ok := command.(*raft.AppendEntriesRequest)
	if !ok || request.Term == 0 || request.PrevLogEntry != 0 || request.PrevLogTerm != 0 ||
		len(request.Entries) != 0 || request.LeaderCommitIndex != 0 {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.heartbeat
}
