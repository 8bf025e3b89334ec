package fsm

import (
	"runtime"
	"sync"
	"unique"

	"github.com/hashicorp/go-msgpack/v2/codec"

	"github.com/deputy-id/deputy/identity"
)

// What comes by the million is decoded frame by frame on all processors, and filed by one goroutine in the order of the
// frames, while the next are read and hashed.
const (
	framesAhead = 16 // that wait for a decoder or to be filed: 1 MiB as a rule
	maxDecoders = 8
)

// large reports whether a section is one of those.
func large(number section) bool {
	switch number {
	case sectionAgents, sectionPrincipals, sectionDelegations, sectionRevocations:
		return true
	}
	return false
}

// sectionLoad is one section that is being loaded.
type sectionLoad struct {
	loader  *loader
	number  section
	decode  chan *frame
	ordered chan *frame
	decoded sync.WaitGroup
	filed   chan struct{}
	err     error // of the first frame that was no good; read after filed
}

type frame struct {
	payload []byte
	done    chan struct{}
	err     error

	agents      []*agentRow
	principals  []*principalRow
	delegations []loadedRecord
	revocations []identity.Revocation
}

// loadedRecord is a delegation beside the numbers of its agent and principal.
type loadedRecord struct {
	*record
	agent, principal uint32
}

// loadedRecords are in pieces, since nothing says beforehand how many there are: a slice that grows to ten million leaves
// several times its size behind.
type loadedRecords struct{ pieces [][]loadedRecord }

const (
	pieceBits = 15
	pieceSize = 1 << pieceBits
)

func (l *loadedRecords) add(r *loadedRecord) {
	last := len(l.pieces) - 1
	if last < 0 || len(l.pieces[last]) == pieceSize {
		l.pieces = append(l.pieces, make([]loadedRecord, 0, pieceSize))
		last++
	}
	l.pieces[last] = append(l.pieces[last], *r)
}

func (l *loadedRecords) len() int {
	if len(l.pieces) == 0 {
		return 0
	}
	last := len(l.pieces) - 1
	return last*pieceSize + len(l.pieces[last])
}

func (l *loadedRecords) at(i int) *loadedRecord { return &l.pieces[i>>pieceBits][i&(pieceSize-1)] }

func (l *loader) begin(number section) *sectionLoad {
	f := &sectionLoad{
		loader: l, number: number, decode: make(chan *frame, framesAhead), ordered: make(chan *frame, framesAhead),
		filed: make(chan struct{}),
	}
	if number == sectionDelegations {
		l.agents, l.principals = namesOf(l.state.agents.work.Len()), namesOf(l.state.principals.len())
		l.state.agents.work.Scan(func(n named[*agentRow]) bool {
			l.agents.add(n.value.Name, n.value.text)
			return true
		})
		l.state.principals.work.Scan(func(n named[*principalRow]) bool {
			l.principals.add(n.value.ID, noText)
			return true
		})
	}
	for range min(maxDecoders, runtime.GOMAXPROCS(0)) {
		f.decoded.Go(func() {
			d := &decoder{loader: l, codec: codec.NewDecoderBytes(nil, handle)}
			for next := range f.decode {
				next.err = contained(func() error { return d.frame(number, next) })
				close(next.done)
			}
		})
	}
	go func() {
		defer close(f.filed)
		for next := range f.ordered {
			<-next.done
			if f.err == nil {
				f.err = next.err
			}
			if f.err == nil {
				f.err = contained(func() error { return l.file(next) })
			}
			l.giveBack(next)
		}
	}()
	return f
}

// contained turns a panic over bytes that nobody foresaw into an error, as restoring goes on in goroutines that nobody else
// could stop it in.
func contained(read func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = corrupt("it can't be read (%v)", p)
		}
	}()
	return read()
}

// add hands over a frame that was read, and leaves the reader another's memory for the next.
func (f *sectionLoad) add(r *frameReader) {
	next := f.loader.spare()
	r.payload, next.payload = next.payload[:0], r.payload
	f.decode <- next
	f.ordered <- next
}

// spare is a frame that has been filed, or a new one: half of what restoring would otherwise allocate is what frames are
// decoded into.
func (l *loader) spare() *frame {
	select {
	case f := <-l.filed:
		f.done, f.err = make(chan struct{}), nil
		f.agents, f.principals, f.delegations, f.revocations = f.agents[:0], f.principals[:0], f.delegations[:0], f.revocations[:0]
		return f
	default:
		return &frame{done: make(chan struct{})}
	}
}

func (l *loader) giveBack(f *frame) {
	select {
	case l.filed <- f:
	default:
	}
}

// end waits until all frames are filed.
func (f *sectionLoad) end() error {
	if f == nil {
		return nil
	}
	close(f.decode)
	close(f.ordered)
	f.decoded.Wait()
	<-f.filed
	return f.err
}

// decoder reads frames on one of the processors.
type decoder struct {
	loader *loader
	codec  *codec.Decoder
	texts  texts
	shared shared
}

func (d *decoder) frame(number section, f *frame) error {
	rest := f.payload
	for len(rest) > 0 {
		var err error
		switch number {
		case sectionAgents:
			rest, err = d.agent(rest, f)
		case sectionPrincipals:
			rest, err = d.principal(rest, f)
		case sectionDelegations:
			rest, err = d.delegation(rest, f)
		case sectionRevocations:
			rest, err = d.revocation(rest, f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// slowly reads a record with the codec.
func slowly[T any](d *decoder, number section, from []byte) (*T, []byte, error) {
	v := new(T)
	d.codec.ResetBytes(from)
	if err := d.codec.Decode(v); err != nil {
		return nil, nil, corrupt("section %d holds what is no record of it", number)
	}
	return v, from[d.codec.NumBytesRead():], nil
}

func (d *decoder) agent(from []byte, f *frame) ([]byte, error) {
	w, rest, err := slowly[wireAgent](d, sectionAgents, from)
	if err != nil {
		return nil, err
	}
	if w.Agent == nil {
		return nil, corrupt("an agent is missing")
	}
	row := newAgentRow(*w.Agent, &d.texts)
	row.born = w.Born
	for i := range row.Credentials {
		c := &row.Credentials[i]
		c.Kind = identity.CredentialKind(d.texts.intern(string(c.Kind)))
	}
	f.agents = append(f.agents, row)
	return rest, nil
}

func (d *decoder) principal(from []byte, f *frame) ([]byte, error) {
	w, rest, err := slowly[wirePrincipal](d, sectionPrincipals, from)
	if err != nil {
		return nil, err
	}
	if w.Principal == nil {
		return nil, corrupt("a principal is missing")
	}
	row := &principalRow{Principal: *w.Principal, born: w.Born, killed: w.Killed, killedAt: w.KilledAt}
	row.Status = identity.Status(d.texts.intern(string(row.Status)))
	f.principals = append(f.principals, row)
	return rest, nil
}

func (d *decoder) delegation(from []byte, f *frame) ([]byte, error) {
	r, rec := wireReader{b: from}, new(record)
	agent, principal, ok := d.shared.delegation(&r, rec)
	rest := r.b
	if !ok {
		w, after, err := slowly[wireRecord](d, sectionDelegations, from)
		if err != nil {
			return nil, err
		}
		if rec, err = w.record(); err != nil {
			return nil, err
		}
		agent, principal, rest = []byte(w.Agent), []byte(w.Principal), after
	}
	item := loadedRecord{record: rec, agent: unknownName, principal: unknownName}
	if known, name, ok := d.loader.agents.known(agent); ok {
		item.agent, rec.agent = known, name.handle
	} else {
		rec.agent = unique.Make(string(agent))
	}
	if known, name, ok := d.loader.principals.known(principal); ok {
		item.principal, rec.principal = known, name.text
	} else {
		rec.principal = string(principal)
	}
	f.delegations = append(f.delegations, item)
	return rest, nil
}

func (d *decoder) revocation(from []byte, f *frame) ([]byte, error) {
	var rev identity.Revocation
	r := wireReader{b: from}
	var rest []byte
	if d.shared.revocation(&r, &rev) {
		rest = r.b
	} else {
		slow, after, err := slowly[identity.Revocation](d, sectionRevocations, from)
		if err != nil {
			return nil, err
		}
		rev, rest = *slow, after
	}
	// Nothing that is applied is outside of these bounds, on which the blocks rely.
	if rev.Handle == "" || len(rev.Handle) > identity.MaxHandleLength {
		return nil, corrupt("it has a revocation whose handle has %d bytes", len(rev.Handle))
	}
	f.revocations = append(f.revocations, rev)
	return rest, nil
}

// file puts what a frame held into the state.
func (l *loader) file(f *frame) error {
	s := l.state
	for _, row := range f.agents {
		s.agents.tree.load(named[*agentRow]{row.Name, row})
		for _, c := range row.Credentials {
			l.owners = append(l.owners, named[Owner]{c.ID, Owner{OwnerAgent, row.Name}})
		}
	}
	for _, row := range f.principals {
		s.principals.tree.load(named[*principalRow]{row.ID, row})
	}
	for i := range f.delegations {
		item := &f.delegations[i]
		if item.agent == unknownName {
			item.agent, _ = l.agents.number(item.record.agent.Value(), item.record.agent)
		}
		if item.principal == unknownName {
			item.principal, item.record.principal = l.principals.number(item.record.principal, noText)
		}
		if n := l.records.len(); n > 0 && byIDOrder(l.records.at(n-1).record, item.record) >= 0 {
			return corrupt("its delegations are not in the order of their ids")
		}
		l.records.add(item)
	}
	for i := range f.revocations {
		s.revocations.load(&f.revocations[i])
	}
	return nil
}
