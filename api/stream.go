package api

import (
	"fmt"
	"io"
	"iter"
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/revocation"
)

const (
	// streamPiece is about how much is made ready at a time, and all that a stream holds in memory.
	streamPiece = 32 << 10
	// streamChanges is how many changes are taken out of the journal at a time.
	streamChanges = 64
)

// streamRevocations has the client follow this node's revocation set.
func (a *API) streamRevocations(c *call) error {
	from, resumes, err := c.streamFrom()
	if err != nil {
		return err
	}
	// Who can't vouch for its own state has nobody follow it.
	if err := a.fresh(c); err != nil {
		return err
	}
	who := c.subscriber()
	if err := a.streams.enter(who.kind + " " + who.name); err != nil {
		return err
	}
	s := &eventStream{
		api: a, who: who, conn: c.ctx.Conn(), shutdown: c.ctx.Done(), looked: time.Now(), timer: time.NewTimer(a.streams.heartbeat),
	}
	s.begin(from, resumes)
	h := &c.ctx.Response.Header
	h.SetContentType(mediaEvents)
	h.Set(fasthttp.HeaderCacheControl, "no-store")
	h.Set("X-Accel-Buffering", "no") // a proxy must not save events up
	c.ctx.SetBodyStream(s, -1)
	return nil
}

// streamFrom is up to where the client has everything. One that was cut off and asks again by the same address says it
// in a header, which is newer.
func (c *call) streamFrom() (from uint64, given bool, err error) {
	from, given, err = c.index("from", c.query("from"))
	if err != nil {
		return 0, false, err
	}
	last, also, err := c.index(wire.HeaderLastEventID, string(c.ctx.Request.Header.Peek(wire.HeaderLastEventID)))
	if err != nil {
		return 0, false, err
	}
	return max(from, last), given && from > 0 || also && last > 0, nil
}

// eventStream is what one client is sent. fasthttp reads it on the connection's own goroutine and writes each piece to
// the client before it reads the next, so there is no queue but the journal: a client that takes in too little falls out
// of it, and is hung up on.
type eventStream struct {
	api      *API
	who      subscriber
	conn     net.Conn
	shutdown <-chan struct{} // closed when the server shuts down
	looked   time.Time       // when it was last looked whether the stream may go on
	timer    *time.Timer

	cursor uint64
	seen   uint64              // the latest index that the client was told
	queue  []revocation.Change // taken out of the journal and not sent yet

	// What is sent of the set itself: all of it, or after a resumption what is denied ahead of the log.
	walk     func() (revocation.Entry, bool)
	stopWalk func()
	walked   int64
	snapshot bool
	begun    revocation.Position // where the journal was when the walk began

	buffer []byte
	unsent []byte // of buffer
	ended  string // why; "" while it goes on
}

// begin finds out what the client is sent first.
func (s *eventStream) begin(from uint64, resumes bool) {
	j := s.api.Journal
	open := wire.RevocationEvent{Node: s.api.NodeID, Log: s.api.FSM.View().Log(), Heartbeat: s.api.streams.heartbeat.Milliseconds()}
	if resumes {
		if s.cursor, open.Resumed = j.Resume(from); open.Resumed {
			s.seen = from
			s.walk, s.stopWalk = iter.Pull(j.Set().Unconfirmed())
		}
	}
	if !open.Resumed {
		s.cursor, s.begun = j.Begin()
		s.snapshot = true
		s.walk, s.stopWalk = iter.Pull(j.Set().All())
	}
	s.event(wire.EventOpen, 0, &open)
	s.unsent = s.buffer
}

// Read gives the next events, once there are some.
func (s *eventStream) Read(p []byte) (int, error) {
	for len(s.unsent) == 0 {
		if s.ended != "" {
			return 0, io.EOF
		}
		if s.buffer = s.buffer[:0]; cap(s.buffer) > 2*streamPiece {
			s.buffer = nil // it was a large event's, and there are thousands of streams
		}
		s.fill()
		s.unsent = s.buffer
	}
	n := copy(p, s.unsent)
	s.unsent = s.unsent[n:]
	// Here and not before, as it may have been long that there was nothing to send.
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.api.streams.stall)) // where it fails, so does what is written next
	return n, nil
}

// Close is called however the answer ends.
func (s *eventStream) Close() error {
	s.timer.Stop()
	if s.stopWalk != nil {
		s.stopWalk()
	}
	reason := s.ended
	if reason == "" {
		reason = endedByClient
	}
	s.api.streams.leave(s.who.kind+" "+s.who.name, reason)
	return nil
}

// fill makes the next piece ready, or waits until there is something to send.
func (s *eventStream) fill() {
	if time.Since(s.looked) >= s.api.streams.heartbeat && !s.goesOn() {
		return
	}
	if s.walk != nil {
		s.fillFromSet()
		return
	}
	for len(s.buffer) < streamPiece {
		if len(s.queue) == 0 {
			if len(s.buffer) > 0 {
				return
			}
			r, ok := s.api.Journal.Read(s.cursor, streamChanges)
			if !ok {
				s.end(wire.EndBehind, "changes that were not sent yet are not kept any more; go on from the last index")
				return
			}
			if len(r.Changes) == 0 {
				s.wait(r.Wait)
				return
			}
			s.queue, s.cursor = r.Changes, r.Next
		}
		s.sendChange()
	}
}

// fillFromSet sends the next part of the set.
func (s *eventStream) fillFromSet() {
	name := wire.EventDeny
	if s.snapshot {
		name = wire.EventSnapshot
	}
	var part []revocation.Entry
	for len(part) < wire.MaxStreamEntries {
		e, more := s.walk()
		if !more {
			s.walk = nil
			break
		}
		part = append(part, e)
	}
	s.walked += int64(len(part))
	if len(part) > 0 {
		s.event(name, 0, &wire.RevocationEvent{Entries: showEntries(part)})
	}
	if s.walk == nil && s.snapshot {
		// Only now may the client say that it has everything up to there.
		s.seen = s.begun.Applied
		s.event(wire.EventSynced, s.seen, &wire.RevocationEvent{Index: s.seen, Count: s.walked, Before: s.begun.Purged})
	}
}

// sendChange sends the oldest change of the queue, or the first part of a large one.
func (s *eventStream) sendChange() {
	c := &s.queue[0]
	if len(c.Entries) > wire.MaxStreamEntries {
		// Ahead of its index, which says that all of it has been sent.
		s.event(wire.EventDeny, 0, &wire.RevocationEvent{Entries: showEntries(c.Entries[:wire.MaxStreamEntries])})
		c.Entries = c.Entries[wire.MaxStreamEntries:]
		return
	}
	switch c.Kind {
	case revocation.Denied:
		s.event(wire.EventDeny, 0, &wire.RevocationEvent{Entries: showEntries(c.Entries)})
	case revocation.Committed:
		s.text(wire.EventCommit, c.Index, s.api.streams.commit(c))
	case revocation.Purged:
		s.event(wire.EventPurge, c.Index, &wire.RevocationEvent{Index: c.Index, Before: c.Before})
	}
	if s.queue = s.queue[1:]; len(s.queue) == 0 {
		s.queue = nil
	}
}

// wait returns when there is something to send: a heartbeat, or what has come meanwhile is left to the next fill.
func (s *eventStream) wait(more <-chan struct{}) {
	s.timer.Reset(s.api.streams.heartbeat)
	select {
	case <-more:
	case <-s.shutdown:
		s.end(wire.EndShutdown, "this node shuts down; follow another")
	case <-s.timer.C:
		if s.goesOn() {
			s.beat()
		}
	}
}

// goesOn ends the stream where this node can't vouch for its state any more, or the caller has lost the right to hear
// of it. A validator would be told so by its next question for a lease as well.
func (s *eventStream) goesOn() bool {
	s.looked = time.Now()
	if err := s.api.Freshness.Fresh(s.api.Freshness.Lease()); err != nil {
		s.end(endedByNode, asError(err).Message)
		return false
	}
	if !s.api.stands(s.who) {
		s.end(endedByAccess, "what the "+s.who.kind+" proved itself with was revoked or has expired")
		return false
	}
	return true
}

// beat says that nothing has happened, and up to which index that is so.
func (s *eventStream) beat() {
	r, ok := s.api.Journal.Read(s.cursor, streamChanges)
	if ok && r.Caught && len(r.Changes) == 0 && r.At.Applied > s.seen {
		s.seen = r.At.Applied
		s.buffer = fmt.Appendf(s.buffer, ": heartbeat\nid: %d\n\n", s.seen)
		return
	}
	s.buffer = append(s.buffer, ": heartbeat\n\n"...)
}

func (s *eventStream) end(code, detail string) {
	s.ended = code
	s.event(wire.EventEnd, 0, &wire.RevocationEvent{Code: code, Detail: detail})
}

// event makes an event ready.
func (s *eventStream) event(name string, index uint64, data *wire.RevocationEvent) {
	s.text(name, index, encodeJSON(data))
}

// text is event for data in JSON. An index is the client's new one, unless it came with a larger one from another node.
func (s *eventStream) text(name string, index uint64, data []byte) {
	s.buffer = append(append(append(s.buffer, "event: "...), name...), '\n')
	if index > 0 && index >= s.seen {
		s.seen = index
		s.buffer = fmt.Appendf(s.buffer, "id: %d\n", index)
	}
	s.buffer = append(append(append(s.buffer, "data: "...), data...), "\n\n"...)
}

// lastInstant is the last that RFC 3339 can write.
const lastInstant = identity.Instant(253_402_300_799_999)

func showEntries(entries []revocation.Entry) []wire.RevokedHandle {
	shown := make([]wire.RevokedHandle, len(entries))
	for i, e := range entries {
		shown[i] = wire.RevokedHandle{Handle: e.Handle, ExpiresAt: min(e.Expires, lastInstant), Provisional: e.Provisional}
	}
	return shown
}
