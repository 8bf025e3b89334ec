package sessions

import (
	"sync"

	"github.com/deputy-id/deputy/identity"
)

// shard is a part of the sessions with a lock of its own.
type shard struct {
	mu      sync.Mutex
	limit   int // bytes
	bytes   int
	n       int
	records slab[record]
	order   order
	ends    ends
	names   symbols
	shapes  shapes

	dropped      int
	droppedUntil identity.Instant
	droppedEver  uint64
}

// recordCost is what a session takes in the shard's tables at most, be their blocks a little less than full: its record,
// its key, its end, and the slots that may wait for another.
const recordCost = 176

const (
	purgeAtAdd = 4   // ended sessions that leave with each that comes: they never pile up, and no mint pays for many
	purgeSlice = 256 // that leave under one lock otherwise
)

func (s *shard) init(limit int) {
	s.limit = limit
	s.clear()
}

// clear makes the empty shard: memory that a busy hour took goes back once all its sessions have ended.
func (s *shard) clear() {
	s.bytes = 0
	s.records, s.order, s.ends = slab[record]{}, order{}, nil
	s.names, s.shapes = symbols{numbers: map[symbolKey]uint32{}}, shapes{numbers: map[string]uint32{}}
}

func (s *shard) add(d *draft) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := d.session.Issued
	s.expire(now, purgeAtAdd)
	if _, known := s.order.find(d.id); known || over(d.ends, now) {
		return
	}
	slot := s.records.take()
	r := s.records.at(slot)
	r.id, r.delegation, r.parent, r.generation, r.ends = d.id, d.delegation, d.parent, d.generation, d.ends
	cost := recordCost
	add := func(number uint32, more int) uint32 {
		cost += more
		return number
	}
	r.shape = add(s.shapes.take(d, &s.names))
	r.principal = add(s.names.take(kindPrincipal, d.session.Principal))
	r.reason = add(s.shapes.at(r.shape).takeReason(d.session.TriggerReason, &s.names))
	for lane, agent := range s.shapes.at(r.shape).chain {
		s.enlist(agent, slot, lane)
	}
	s.enlist(r.principal, slot, lanePrincipal)
	s.order.insert(key{d.id, slot})
	s.ends.push(endOf(d.ends, slot))
	s.bytes += cost
	s.n++
	for s.bytes > s.limit {
		s.drop(now)
	}
}

// over reports whether a session that ends at a second has ended at now.
func over(second uint32, now identity.Instant) bool { return identity.Instant(second)*1000 <= now }

// enlist puts a record at the head of the list of an agent or a principal.
func (s *shard) enlist(number, slot uint32, lane int) {
	if number == 0 {
		return
	}
	of := s.names.at(number)
	s.records.at(slot).links[lane] = link{after: of.head}
	if of.head != 0 {
		s.link(of.head).before = refOf(slot, lane)
	}
	of.head = refOf(slot, lane)
	of.n++
}

func (s *shard) delist(number, slot uint32, lane int) {
	if number == 0 {
		return
	}
	of, l := s.names.at(number), s.records.at(slot).links[lane]
	if l.after != 0 {
		s.link(l.after).before = l.before
	}
	if l.before != 0 {
		s.link(l.before).after = l.after
	} else {
		of.head = l.after
	}
	of.n--
}

func (s *shard) link(r ref) *link { return &s.records.at(r.slot()).links[r.lane()] }

// forget takes out the session that ends soonest.
func (s *shard) forget(slot uint32) {
	s.ends.pop()
	r := s.records.at(slot)
	s.order.remove(r.id)
	for lane, agent := range s.shapes.at(r.shape).chain {
		s.delist(agent, slot, lane)
	}
	s.delist(r.principal, slot, lanePrincipal)
	s.bytes -= recordCost + s.names.give(r.reason) + s.shapes.give(r.shape, &s.names) + s.names.give(r.principal)
	s.records.give(slot)
	if s.n--; s.n == 0 {
		s.clear()
	}
}

// expire forgets up to most sessions that have ended, and reports whether there may be more.
func (s *shard) expire(now identity.Instant, most int) (more bool) {
	for range most {
		second, slot, ok := s.ends.next()
		if !ok || !over(second, now) {
			return false
		}
		s.forget(slot)
	}
	return true
}

// drop makes room.
func (s *shard) drop(now identity.Instant) {
	second, slot, ok := s.ends.next()
	if !ok {
		return
	}
	s.forget(slot)
	if over(second, now) {
		return
	}
	if s.droppedUntil <= now { // those of before have ended
		s.dropped = 0
	}
	s.dropped++
	s.droppedEver++
	s.droppedUntil = max(s.droppedUntil, identity.Instant(second)*1000)
}

func (s *shard) purge(now identity.Instant) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.expire(now, purgeSlice)
}

func (s *shard) stats(now identity.Instant) Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	stats := Stats{Sessions: s.n, Bytes: s.bytes, DroppedEver: s.droppedEver}
	if now < s.droppedUntil {
		stats.Dropped, stats.DroppedUntil = s.dropped, s.droppedUntil
	}
	return stats
}

// entry returns a session by its id.
func (s *shard) entry(i id, now identity.Instant) (Entry, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	slot, ok := s.order.find(i)
	if !ok || over(s.records.at(slot).ends, now) {
		return Entry{}, false
	}
	return s.show(s.records.at(slot)), true
}

func (s *shard) show(r *record) Entry {
	e := Entry{
		ID: r.id.text(identity.PrefixSession), Principal: s.names.at(r.principal).key.text, TriggerReason: s.names.at(r.reason).key.text,
		Started: r.id.made(), Expires: identity.Instant(r.ends) * 1000, Handles: s.handles(r, nil),
	}
	tell(s.shapes.at(r.shape).text, &e)
	if !r.delegation.none() {
		e.Delegation = r.delegation.text(identity.PrefixDelegation)
	}
	if !r.parent.none() {
		e.Parent = r.parent.text(identity.PrefixSession)
	}
	return e
}

// handles appends all that a session rests on, its own first.
func (s *shard) handles(r *record, dst []identity.Handle) []identity.Handle {
	dst = append(dst, identity.Handle(r.id.text(identity.PrefixSession)))
	if !r.delegation.none() {
		dst = append(dst, identity.Handle(r.delegation.text(identity.PrefixDelegation)))
	}
	if !r.parent.none() {
		dst = append(dst, identity.Handle(r.parent.text(identity.PrefixSession)))
	}
	if r.generation != 0 {
		dst = append(dst, identity.PrincipalHandle(s.names.at(r.principal).key.text, r.generation))
	}
	return shared(s.shapes.at(r.shape).text, dst)
}
