package fsm

import (
	"bufio"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"io"
	"time"

	"github.com/hashicorp/go-memdb"
	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/raft"
	"github.com/tidwall/btree"

	"github.com/deputy-id/deputy/identity"
)

// A snapshot is
//
//	magic (8) | version (2, big endian) | frame … | end frame | SHA-256 of all before (32)
//
// and a frame is
//
//	section (1) | length (4, big endian) | msgpack values, one after the other
//
// Sections come in the order of their numbers, each in as many frames as it needs, and within each the
// records are in the order of their keys, so that equal states give equal bytes.
const (
	snapshotMagic   = "DEPUTYFS"
	snapshotVersion = 1

	frameTarget = 64 << 10 // a frame is sent on once it is this long
	maxFrame    = 8 << 20  // no frame is longer: one record over frameTarget at most
	frameHeader = 5
)

type section uint8

// The sections. As with commands, numbers are only ever added.
const (
	sectionEnd section = iota
	sectionMeta
	sectionAgents
	sectionPrincipals
	sectionApplications
	sectionDelegations
	sectionBars
	sectionRevocations
	sectionAPITokens
	sectionJoinTokens
	sectionMembers
	sectionSigningKeys
	sectionInternalReceipts
	sectionClientReceipts
	sectionTrustedIssuers
	sectionPolicies
	sectionApprovals
)

// wireMeta is all of the state that is not in a table.
type wireMeta struct {
	Index        uint64            `codec:"ix"`
	Time         identity.Instant  `codec:"t"`
	Generation   uint64            `codec:"g"`
	Horizon      horizon           `codec:"h"`
	KeysRevision uint64            `codec:"kr"`
	Settings     identity.Settings `codec:"s"`
	Gone         []gone            `codec:"go,omitempty"`
	NextInternal uint64            `codec:"ni"`
	NextClient   uint64            `codec:"nc"`

	Closed        string     `codec:"cl,omitempty"`
	Restoring     *restoring `codec:"rs,omitempty"`
	LongerLease   *longer    `codec:"ll,omitempty"`
	LongerOffline *longer    `codec:"lo,omitempty"`

	Forgotten identity.Instant `codec:"fo,omitempty"`
	Lineage   uint64           `codec:"li,omitempty"`

	PoliciesRevision  uint64 `codec:"pr,omitempty"`
	ApprovalsRevision uint64 `codec:"ar,omitempty"`
}

type wireAgent struct {
	Agent *identity.Agent `codec:"a"`
	Born  uint64          `codec:"b"`
}

type wirePrincipal struct {
	Principal *identity.Principal `codec:"p"`
	Born      uint64              `codec:"b"`
	Killed    uint64              `codec:"k,omitempty"`
	KilledAt  identity.Instant    `codec:"kt,omitempty"`
}

type wireRecord struct {
	ID        []byte           `codec:"i"`
	Agent     string           `codec:"a"`
	Principal string           `codec:"p"`
	Scopes    string           `codec:"s,omitempty"`
	Origin    string           `codec:"o,omitempty"`
	Reason    string           `codec:"re,omitempty"`
	Created   identity.Instant `codec:"ct"`
	Expires   identity.Instant `codec:"et"`
	Withdrawn identity.Instant `codec:"wt,omitempty"`
	Revision  uint64           `codec:"r"`
	Made      uint64           `codec:"m"`
	MaxHops   uint8            `codec:"mh"`
	Inactive  bool             `codec:"x,omitempty"`
}

type wireBar struct {
	Principal string `codec:"p"`
	Agent     string `codec:"a"`
	Made      uint64 `codec:"m"`
	Barred    bool   `codec:"b,omitempty"`
}

// snapshot is the state at one index: a View, and the receipts that no reader needs.
type snapshot struct {
	view              *View
	internal, clients *btree.BTreeG[*receipt]
	nextInternal      uint64
	nextClient        uint64
	observe           func(time.Duration)
}

// Snapshot implements raft.FSM. It takes a pointer and two copies in O(1); Persist streams from them while
// Apply goes on.
func (f *FSM) Snapshot() (raft.FSMSnapshot, error) {
	if f.isHalted() {
		return nil, f.haltErr
	}
	return &snapshot{
		view:     f.View(),
		internal: f.state.internal.queue.freeze(), nextInternal: f.state.internal.next,
		clients: f.state.clients.queue.freeze(), nextClient: f.state.clients.next,
		observe: func(d time.Duration) { f.metrics.snapshots.WithLabelValues("persist").Observe(d.Seconds()) },
	}, nil
}

// Release implements raft.FSMSnapshot.
func (s *snapshot) Release() {}

// Persist implements raft.FSMSnapshot. Its memory is a frame, whatever the size of the state.
func (s *snapshot) Persist(sink raft.SnapshotSink) error {
	start := time.Now()
	if err := s.write(sink); err != nil {
		return fmt.Errorf("writing the snapshot: %w", orCancel(sink, err))
	}
	if err := sink.Close(); err != nil {
		return fmt.Errorf("closing the snapshot: %w", err)
	}
	s.observe(time.Since(start))
	return nil
}

func orCancel(sink raft.SnapshotSink, err error) error {
	if cancelErr := sink.Cancel(); cancelErr != nil {
		return fmt.Errorf("%w (and cancelling it: %w)", err, cancelErr)
	}
	return err
}

func (s *snapshot) write(dst io.Writer) error {
	w := newFrameWriter(dst)
	w.raw(binary.BigEndian.AppendUint16([]byte(snapshotMagic), snapshotVersion))

	v := s.view
	w.section(sectionMeta)
	w.record(&wireMeta{
		Index: v.index, Time: v.time, Generation: v.generation, Horizon: v.horizon, KeysRevision: v.keysRevision,
		Settings: *v.settings, Gone: v.gone, NextInternal: s.nextInternal, NextClient: s.nextClient,
		Closed: v.closed, Restoring: v.restoring, LongerLease: v.longerLease.wire(), LongerOffline: v.longerOffline.wire(),
		Forgotten: v.forgotten, Lineage: v.lineage, PoliciesRevision: v.policiesRevision, ApprovalsRevision: v.approvalsRevision,
	})
	v.writeModel(w)
	writeTable[identity.APIToken](w, sectionAPITokens, v.small, tableAPITokens)
	writeTable[identity.JoinToken](w, sectionJoinTokens, v.small, tableJoinTokens)
	writeTable[identity.Member](w, sectionMembers, v.small, tableMembers)
	writeTable[identity.SigningKey](w, sectionSigningKeys, v.small, tableKeys)
	writeReceipts(w, sectionInternalReceipts, s.internal)
	writeReceipts(w, sectionClientReceipts, s.clients)
	writeTable[identity.TrustedIssuer](w, sectionTrustedIssuers, v.small, tableIssuers)
	v.writePolicies(w)
	writeTree(w, sectionApprovals, v.approvals, func(n named[*identity.Approval]) any { return n.value })
	return w.end()
}

// writeModel writes what people have made and what was stopped: the sections that a backup has, too.
func (v *View) writeModel(w *frameWriter) {
	writeTree(w, sectionAgents, v.agents, func(n named[*agentRow]) any {
		return &wireAgent{&n.value.Agent, n.value.born}
	})
	writeTree(w, sectionPrincipals, v.principals, func(n named[*principalRow]) any {
		return &wirePrincipal{&n.value.Principal, n.value.born, n.value.killed, n.value.killedAt}
	})
	writeTree(w, sectionApplications, v.applications, func(n named[*identity.Application]) any { return n.value })
	writeDelegations(w, v.delegations)
	writeTree(w, sectionBars, v.bars, func(b bar) any {
		return &wireBar{b.principal, b.agent, b.made, b.barred}
	})
	w.section(sectionRevocations)
	v.revocations.scan(func(r *identity.Revocation) bool {
		return w.written(appendRevocation(w.frame, r))
	})
}

func (v *View) writePolicies(w *frameWriter) {
	writeTree(w, sectionPolicies, v.policies, func(n named[*identity.Policy]) any { return n.value })
}

func writeDelegations(w *frameWriter, t *btree.BTreeG[*record]) {
	w.section(sectionDelegations)
	t.Scan(func(r *record) bool {
		wire := r.wire()
		return w.written(appendWireRecord(w.frame, &wire))
	})
}

func (r *record) wire() wireRecord {
	return wireRecord{
		ID: r.id[:], Agent: r.agent.Value(), Principal: r.principal, Scopes: r.scopes.Value(), Origin: r.origin.Value(),
		Reason: r.reason, Created: r.created, Expires: r.expires, Withdrawn: r.withdrawn, Revision: r.revision,
		Made: r.made, MaxHops: r.maxHops, Inactive: r.inactive,
	}
}

func writeTree[T any](w *frameWriter, number section, t *btree.BTreeG[T], wire func(T) any) {
	w.section(number)
	t.Scan(func(item T) bool {
		w.record(wire(item))
		return w.err == nil
	})
}

func writeTable[T any](w *frameWriter, number section, rows *memdb.Txn, table string) {
	w.section(number)
	for _, row := range list[T](rows, table, "", maxRows) {
		w.record(row)
	}
}

// frameWriter gathers records into frames and hashes what it writes. The first error sticks.
type frameWriter struct {
	dst     *bufio.Writer
	sum     hash.Hash
	current section
	frame   frameBuffer
	encoder *codec.Encoder
	err     error
}

// frameBuffer is the part of bytes.Buffer that the encoder needs.
type frameBuffer []byte

// Write implements io.Writer.
func (b *frameBuffer) Write(p []byte) (int, error) {
	*b = append(*b, p...)
	return len(p), nil
}

func newFrameWriter(dst io.Writer) *frameWriter {
	w := &frameWriter{dst: bufio.NewWriterSize(dst, 256<<10), sum: sha256.New()}
	w.encoder = codec.NewEncoder(&w.frame, handle)
	return w
}

func (w *frameWriter) raw(p []byte) {
	if w.err != nil {
		return
	}
	w.sum.Write(p)
	_, w.err = w.dst.Write(p)
}

func (w *frameWriter) section(number section) {
	w.flush()
	w.current = number
}

func (w *frameWriter) record(v any) {
	if w.err != nil {
		return
	}
	if w.err = w.encoder.Encode(v); w.err == nil {
		w.written(w.frame)
	}
}

// written takes the frame with one more record in it, and reports whether more may come.
func (w *frameWriter) written(frame []byte) (more bool) {
	if w.frame = frame; len(frame) >= frameTarget {
		w.flush()
	}
	return w.err == nil
}

func (w *frameWriter) flush() {
	if len(w.frame) > 0 {
		w.emit(w.current, w.frame)
		w.frame = w.frame[:0]
	}
}

func (w *frameWriter) emit(number section, payload []byte) {
	var head [frameHeader]byte
	head[0] = byte(number)
	binary.BigEndian.PutUint32(head[1:], uint32(len(payload)))
	w.raw(head[:])
	w.raw(payload)
}

func (w *frameWriter) end() error {
	w.flush()
	w.emit(sectionEnd, nil)
	if w.err != nil {
		return w.err
	}
	if _, err := w.dst.Write(w.sum.Sum(nil)); err != nil {
		return err
	}
	return w.dst.Flush()
}
