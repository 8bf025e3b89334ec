package fsm

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"time"
	"unique"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

// What may be wrong with a snapshot; Restore's errors wrap one of these, or what the reader answered.
var (
	ErrSnapshotForeign = errors.New("not a snapshot of deputy")
	ErrSnapshotVersion = errors.New("the snapshot was made by another version of deputy")
	ErrSnapshotCorrupt = errors.New("the snapshot is damaged")
	ErrSnapshotStale   = errors.New("the snapshot is older than the state")
)

// Restore implements raft.FSM. It builds a whole new state and swaps it in when the checksum has been found
// to be right; on any error nothing has changed. The revocation set is never replaced: the snapshot's entries
// join it, as a handle that this node knows to be dead stays dead.
func (f *FSM) Restore(source io.ReadCloser) error {
	start := time.Now()
	l, err := readState(source, f.set)
	if err = errors.Join(err, source.Close()); err != nil {
		return fmt.Errorf("restoring: %w", err)
	}
	// Raft installs whatever a leader of this term sent, also when it comes late or twice: a leader that has given up
	// on a transfer may have its bytes arrive after all. The state never goes back.
	if at := f.Applied(); l.meta.Index < at {
		return fmt.Errorf("%w: it is of index %d, this node is at %d", ErrSnapshotStale, l.meta.Index, at)
	}
	s := l.finish()
	f.journal.Reset(s.index)
	f.publish(s)
	f.metrics.snapshots.WithLabelValues("restore").Observe(time.Since(start).Seconds())
	f.log.Info("restored a snapshot", "index", s.index, "agents", s.agents.len(), "delegations", s.delegations.byID.len(),
		"revocations", s.revocations.len(), "took", time.Since(start))
	return nil
}

// readState reads a snapshot to its end and checks it. The set is not touched before the loader finishes.
func readState(source io.Reader, set *revocation.Set) (*loader, error) {
	r := newFrameReader(source)
	var head [len(snapshotMagic) + 2]byte
	if err := r.raw(head[:]); err != nil {
		return nil, err
	}
	if string(head[:len(snapshotMagic)]) != snapshotMagic {
		return nil, ErrSnapshotForeign
	}
	if version := binary.BigEndian.Uint16(head[len(snapshotMagic):]); version != snapshotVersion {
		return nil, fmt.Errorf("%w: it has format %d, this build reads %d", ErrSnapshotVersion, version, snapshotVersion)
	}
	l := &loader{state: newState(set), filed: make(chan *frame, framesAhead)}
	var loading *sectionLoad
	defer func() { _ = loading.end() }() // of what was broken off
	for {
		number, err := r.next()
		if err != nil {
			return nil, err
		}
		if loading != nil && number != loading.number {
			err := loading.end()
			if loading = nil; err != nil {
				return nil, err
			}
		}
		if number == sectionEnd {
			break
		}
		if large(number) {
			if loading == nil {
				loading = l.begin(number)
			}
			loading.add(r)
			continue
		}
		for r.more() {
			if err := l.record(r, number); err != nil {
				return nil, err
			}
		}
	}
	if err := r.finish(); err != nil {
		return nil, err
	}
	if l.meta == nil {
		return nil, corrupt("its settings are missing")
	}
	return l, nil
}

// loader fills a new state.
type loader struct {
	state   *state
	records loadedRecords
	agents  *nameTable // nil before the first delegation
	// principals likewise
	principals *nameTable
	owners     []named[Owner]
	same       []*record   // of fillPairs
	filed      chan *frame // whose memory may be used again
	meta       *wireMeta
}

func (l *loader) record(r *frameReader, number section) error {
	s := l.state
	switch number {
	case sectionMeta:
		return each(r, func(m *wireMeta) error {
			if l.meta != nil {
				return corrupt("its settings are there twice")
			}
			l.meta = m
			return nil
		})
	case sectionApplications:
		return each(r, func(a *identity.Application) error {
			s.indexApplication(a)
			for _, c := range a.Credentials {
				l.owners = append(l.owners, named[Owner]{c.ID, Owner{OwnerApplication, a.Name}})
			}
			return nil
		})
	case sectionBars:
		return each(r, func(w *wireBar) error {
			s.bars.load(bar{w.Principal, w.Agent, w.Made, w.Barred})
			return nil
		})
	case sectionAPITokens:
		return each(r, func(t *identity.APIToken) error {
			s.apiTokens++
			s.secrets.set(t)
			return l.row(tableAPITokens, t, t.ID, t.Hash)
		})
	case sectionJoinTokens:
		return each(r, func(t *identity.JoinToken) error {
			return l.row(tableJoinTokens, t, t.ID, t.Hash)
		})
	case sectionMembers:
		return each(r, func(m *identity.Member) error {
			s.members++
			if m.Removed.IsZero() {
				s.present++
			}
			return l.row(tableMembers, m, m.ID, m.Key)
		})
	case sectionSigningKeys:
		return each(r, func(k *identity.SigningKey) error {
			s.keys++
			return l.row(tableKeys, k, k.KID, k.Public)
		})
	case sectionTrustedIssuers:
		return each(r, func(t *identity.TrustedIssuer) error {
			return l.row(tableIssuers, t, t.ID, []byte(t.Issuer))
		})
	case sectionPolicies:
		return each(r, func(p *identity.Policy) error {
			if p.ID == "" {
				return corrupt("a policy lacks its id")
			}
			s.policies.load(named[*identity.Policy]{p.ID, p})
			return nil
		})
	case sectionApprovals:
		return each(r, func(a *identity.Approval) error {
			if a.ID == "" {
				return corrupt("an approval lacks its id")
			}
			s.approvals.load(named[*identity.Approval]{a.ID, a})
			s.approvalsByBinding.set(named[*identity.Approval]{bindingKey(a.Agent, a.Binding, a.ID), a})
			return nil
		})
	case sectionInternalReceipts:
		return readReceipt(r, s.internal)
	case sectionClientReceipts:
		return readReceipt(r, s.clients)
	default:
		return fmt.Errorf("%w: it has a section %d, which this build does not know", ErrSnapshotVersion, number)
	}
}

// row files a row of a small table, whose keys must not be empty.
func (l *loader) row(table string, row any, id string, key []byte) error {
	if id == "" || len(key) == 0 {
		return corrupt("a row of %s lacks its key", table)
	}
	l.state.put(table, row)
	return nil
}

// finish sets what is in no table, and fills what was left until all was there: the revocation set among it.
func (l *loader) finish() *state {
	s, m := l.state, l.meta
	s.index, s.time, s.generation = m.Index, m.Time, m.Generation
	s.horizon, s.keysRevision, s.gone = m.Horizon, m.KeysRevision, m.Gone
	s.settings, s.closed, s.restoring = &m.Settings, m.Closed, m.Restoring
	s.longerLease, s.longerOffline = m.LongerLease.read(), m.LongerOffline.read()
	s.forgotten, s.lineage = m.Forgotten, m.Lineage
	s.policiesRevision, s.approvalsRevision = m.PoliciesRevision, m.ApprovalsRevision
	s.internal.next, s.clients.next = m.NextInternal, m.NextClient
	l.fill()
	return s
}

func (w *wireRecord) record() (*record, error) {
	r := &record{
		agent: unique.Make(w.Agent), scopes: unique.Make(w.Scopes), origin: unique.Make(w.Origin),
		principal: w.Principal, reason: w.Reason, created: w.Created, expires: w.Expires, withdrawn: w.Withdrawn,
		revision: w.Revision, made: w.Made, maxHops: w.MaxHops, inactive: w.Inactive,
	}
	if len(w.ID) != len(r.id) {
		return nil, corrupt("a delegation's id has %d bytes", len(w.ID))
	}
	copy(r.id[:], w.ID)
	return r, nil
}

// frameReader reads frames and hashes what it reads.
type frameReader struct {
	src     *bufio.Reader
	sum     hash.Hash
	last    section
	payload []byte
	decoder *codec.Decoder
}

func newFrameReader(src io.Reader) *frameReader {
	return &frameReader{src: bufio.NewReaderSize(src, 256<<10), sum: sha256.New(), decoder: codec.NewDecoderBytes(nil, handle)}
}

func corrupt(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrSnapshotCorrupt, fmt.Sprintf(format, args...))
}

func (r *frameReader) raw(p []byte) error {
	if err := r.fill(p); err != nil {
		return err
	}
	r.sum.Write(p)
	return nil
}

func (r *frameReader) fill(p []byte) error {
	_, err := io.ReadFull(r.src, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return corrupt("it ends too early")
	}
	return err
}

// next reads the next frame and returns its section; its records are then read while more.
func (r *frameReader) next() (section, error) {
	var head [frameHeader]byte
	if err := r.raw(head[:]); err != nil {
		return 0, err
	}
	number, length := section(head[0]), binary.BigEndian.Uint32(head[1:])
	if length > maxFrame {
		return 0, corrupt("a frame of %d bytes", length)
	}
	if number != sectionEnd && number < r.last {
		return 0, corrupt("section %d comes after section %d", number, r.last)
	}
	r.last = number
	r.payload = slices.Grow(r.payload[:0], int(length))[:length]
	if err := r.raw(r.payload); err != nil {
		return 0, err
	}
	r.decoder.ResetBytes(r.payload)
	return number, nil
}

func (r *frameReader) more() bool { return r.decoder.NumBytesRead() < len(r.payload) }

// finish checks the trailer.
func (r *frameReader) finish() error {
	want := r.sum.Sum(nil)
	var have [sha256.Size]byte
	if err := r.fill(have[:]); err != nil {
		return err
	}
	if !bytes.Equal(have[:], want) {
		return corrupt("its checksum is wrong")
	}
	if _, err := r.src.ReadByte(); err != io.EOF {
		return corrupt("bytes follow its end")
	}
	return nil
}

// read reads one record. A receipt's records may be spread over frames.
func read[T any](r *frameReader) (*T, error) {
	for !r.more() {
		before := r.last
		number, err := r.next()
		if err != nil {
			return nil, err
		}
		if number != before {
			return nil, corrupt("section %d ends within a record", before)
		}
	}
	v := new(T)
	if err := r.decoder.Decode(v); err != nil {
		return nil, corrupt("section %d holds what is no record of it", r.last)
	}
	return v, nil
}

func each[T any](r *frameReader, do func(*T) error) error {
	v, err := read[T](r)
	if err != nil {
		return err
	}
	return do(v)
}
