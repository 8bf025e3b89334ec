package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// Bounds of one call of Query.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
	// scanBytes is how much one call reads at most, of segments and of indexes, beyond the index of the segment that is
	// being written. It takes some ten milliseconds.
	scanBytes = 32 << 20
)

// Query asks for records. All that is set must hold; what is empty doesn't matter.
type Query struct {
	Kinds       []Kind // any of them; empty: all but segment and checkpoint
	Agent       string // who acts, or any agent of the chain
	Principal   string // "autonomous" for those of nobody
	Session     string
	Tool        string
	Decision    Decision
	Outcome     Outcome
	Policy      string // that decided, or would have
	Delegation  string // on which the decision rests, in the chain or by itself
	Approval    string
	Credential  string
	Application string
	Target      string
	SourceIP    string
	RequestID   string
	TraceID     string
	From        identity.Instant // inclusive
	To          identity.Instant // exclusive

	OldestFirst bool
	After       uint64 // go on after the record with this number; 0: from the newest, or the oldest
	Limit       int    // 100; at most MaxLimit
}

// Page is a part of the answer.
type Page struct {
	Entries []Entry
	// Next is After of the next call. It may be set on a page without entries, as one call reads only so much. Zero:
	// there are no more; of a log that goes on, there may be some later.
	Next uint64
}

// Query reads records. It holds up nobody who appends.
func (l *Log) Query(ctx context.Context, q Query) (Page, error) {
	if q.Limit == 0 {
		q.Limit = DefaultLimit
	}
	if q.Limit < 0 || q.Limit > MaxLimit {
		return Page{}, fmt.Errorf("the limit is %d; it must be between 1 and %d", q.Limit, MaxLimit)
	}
	s := scan{log: l, query: &q, terms: q.terms(), budget: scanBytes}
	segments := l.catalog.all()
	if !q.OldestFirst {
		slices.Reverse(segments)
	}
	for _, segment := range segments {
		if s.outside(segment.first, segment.last) {
			continue
		}
		done, err := s.segment(ctx, segment)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed after its time, just now
		}
		if err != nil {
			return Page{}, fmt.Errorf("reading the audit log: %w", err)
		}
		if done {
			break
		}
	}
	return s.page, nil
}

// scan is one call of Query at work.
type scan struct {
	log    *Log
	query  *Query
	terms  []term
	budget int64
	page   Page
}

// term is a text that a line must hold, as one of its values if it is indexed.
type term struct {
	keys []key // one of them; none: not indexed
	text []byte
}

func (q *Query) terms() (terms []term) {
	add := func(value string, members ...string) {
		if value == "" {
			return
		}
		quoted := appendQuoted(nil, value)
		t := term{text: quoted}
		for _, member := range members {
			t.keys = append(t.keys, keyOf(member, quoted[1:len(quoted)-1]))
		}
		terms = append(terms, t)
	}
	add(q.Agent, "agent")
	add(q.Principal, "principal")
	add(q.Session, "session")
	add(q.Tool, "tool")
	add(string(q.Decision))
	add(string(q.Outcome))
	add(q.Policy, "policies", "monitored")
	add(q.Delegation, "delegation")
	add(q.Approval, "approval")
	add(q.Credential, "credential")
	add(q.Application, "application")
	add(q.Target, "target")
	add(q.SourceIP, "source_ip")
	add(q.RequestID, "request_id")
	add(q.TraceID, "trace_id")
	if len(q.Kinds) > 0 && !slices.ContainsFunc(q.Kinds, Kind.own) {
		var t term
		for _, k := range q.Kinds {
			t.keys = append(t.keys, keyOf("kind", string(k)))
		}
		terms = append(terms, t)
	}
	return terms
}

// outside reports whether records first to last lie wholly on the near side of the cursor.
func (s *scan) outside(first, last uint64) bool {
	if s.query.After == 0 {
		return false
	}
	if s.query.OldestFirst {
		return last <= s.query.After
	}
	return first >= s.query.After
}

// skips reports whether no record of a block can match.
func (s *scan) skips(b *block) bool {
	q := s.query
	if s.outside(b.first, b.last) || (q.From != 0 && b.to < q.From) || (q.To != 0 && b.from >= q.To) {
		return true
	}
	for i := range s.terms {
		keys := s.terms[i].keys
		if len(keys) > 0 && !slices.ContainsFunc(keys, b.values.mayHold) {
			return true
		}
	}
	return false
}

// segment reads what may match. It returns true once the page is full or enough has been read.
func (s *scan) segment(ctx context.Context, of segment) (done bool, err error) {
	blocks, read, err := s.log.indexes.get(of)
	if err != nil {
		return false, err
	}
	if of.closed {
		s.budget -= read
	}
	var f *os.File
	defer func() {
		if f != nil {
			_ = f.Close() // read only
		}
	}()
	for i := range blocks {
		b := &blocks[i]
		if !s.query.OldestFirst {
			b = &blocks[len(blocks)-1-i]
		}
		if s.skips(b) {
			continue
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		if s.budget <= 0 {
			s.page.Next = s.before(b)
			return true, nil
		}
		if f == nil {
			if f, err = os.Open(s.log.catalog.path(of.first)); err != nil {
				return false, err
			}
		}
		lines := make([]byte, b.size)
		if _, err := f.ReadAt(lines, b.offset); err != nil {
			return false, fmt.Errorf("reading %s: %w", segmentName(of.first), err)
		}
		s.budget -= b.size
		if done, err := s.block(lines); done || err != nil {
			return done, err
		}
	}
	return false, nil
}

// before is the cursor from which a block is read next.
func (s *scan) before(b *block) uint64 {
	if s.query.OldestFirst {
		return max(b.first-1, s.query.After)
	}
	if s.query.After != 0 {
		return min(b.last+1, s.query.After)
	}
	return b.last + 1
}

func (s *scan) block(lines []byte) (done bool, err error) {
	var order [][]byte
	for len(lines) > 0 {
		end := bytes.IndexByte(lines, '\n')
		order = append(order, lines[:end])
		lines = lines[end+1:]
	}
	if !s.query.OldestFirst {
		slices.Reverse(order)
	}
	for _, line := range order {
		if !s.mayMatch(line) {
			continue
		}
		entry, err := decodeEntry(line)
		if err != nil {
			return false, fmt.Errorf("%w: %w", ErrCorrupt, err)
		}
		if s.outside(entry.Sequence, entry.Sequence) || !s.query.matches(&entry) {
			continue
		}
		if len(s.page.Entries) == s.query.Limit {
			s.page.Next = s.page.Entries[len(s.page.Entries)-1].Sequence
			return true, nil
		}
		entry.Line = bytes.Clone(line) // or one record would keep its whole block
		s.page.Entries = append(s.page.Entries, entry)
	}
	return false, nil
}

// mayMatch looks for the texts before a line is decoded, which takes a hundred times longer.
func (s *scan) mayMatch(line []byte) bool {
	for i := range s.terms {
		if !bytes.Contains(line, s.terms[i].text) {
			return false
		}
	}
	return true
}

func (q *Query) matches(e *Entry) bool {
	is := func(want, have string) bool { return want == "" || want == have }
	switch {
	case len(q.Kinds) > 0 && !slices.Contains(q.Kinds, e.Kind),
		len(q.Kinds) == 0 && (e.Kind == KindSegment || e.Kind == KindCheckpoint),
		q.From != 0 && e.Time < q.From, q.To != 0 && e.Time >= q.To,
		!is(string(q.Decision), string(e.Decision)), !is(string(q.Outcome), string(e.Outcome)),
		!is(q.Principal, e.Principal), !is(q.Session, e.Session), !is(q.Tool, e.Tool), !is(q.Approval, e.Approval),
		!is(q.Credential, e.Credential), !is(q.Application, e.Application), !is(q.Target, e.Target),
		!is(q.RequestID, e.RequestID), !is(q.TraceID, e.TraceID),
		q.SourceIP != "" && (!e.SourceIP.IsValid() || e.SourceIP.String() != q.SourceIP),
		q.Policy != "" && !slices.Contains(e.Policies, q.Policy) && !slices.Contains(e.Monitored, q.Policy):
		return false
	}
	in := func(want, have string, of func(Link) string) bool {
		return is(want, have) || slices.ContainsFunc(e.Chain, func(link Link) bool { return of(link) == want })
	}
	return in(q.Agent, e.Agent, func(l Link) string { return l.Agent }) &&
		in(q.Delegation, e.Delegation, func(l Link) string { return l.Delegation })
}
