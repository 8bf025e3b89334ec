package sessions

import (
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// Query says which sessions are asked for. All its conditions have to hold.
type Query struct {
	Agent     string // anywhere in the chain; "": any
	Principal string // "": any, and none
	After     string // id of the session after which the page begins; "": the first
	Limit     int    // most sessions in the page, from 1 to MaxPage
	Now       identity.Instant
	// Dead, where set, leaves out the sessions for whose handles it says yes. It is asked under a lock, and must neither
	// keep what it is given nor come back to the index.
	Dead func(handles []identity.Handle) bool
}

// Page is one part of a list, in the order of the ids.
type Page struct {
	Sessions []Entry `json:"sessions"`
	// More says that there may be sessions beyond Through, after which the next page begins; there are none that are
	// not in the page up to there. A page can be short, or empty, and have more behind it.
	More    bool   `json:"more"`
	Through string `json:"through"`
}

// Bounds of reading.
const (
	MaxPage = 1000
	// shortList is how long the list of an agent or a principal may be to be walked and sorted, as a number and as a part
	// of the shard's sessions. Of a longer one there is a session among every so many, and to look at all in their order
	// finds them soon.
	shortList     = 512
	shortListPart = 256
	// scanSlice is how many sessions are looked at under one lock.
	scanSlice = 128
	// scanMost is how many of a shard are looked at for one page. What is beyond is for the next one.
	scanMost = 1 << 15
	// pageBytes bounds the texts in a page, one session more or less, as it may have to travel in one message.
	pageBytes = 2 << 20
)

// List returns one page of sessions that have not ended.
func (x *Index) List(q Query) Page {
	after, ok := q.after()
	if !ok {
		return Page{}
	}
	q.Limit = min(max(q.Limit, 1), MaxPage)
	var streams [shardCount]stream
	for i := range streams {
		streams[i] = stream{shard: &x.shards[i], at: after, budget: scanMost}
	}
	ids, through, more := gather(streams[:], &q)
	page := Page{More: more}
	bytes := 0
	for n, i := range ids {
		if bytes > pageBytes {
			through, page.More = ids[n-1], true
			break
		}
		// One that has ended meanwhile, or had to make room, is left out as if it had a moment before.
		if e, ok := x.shard(i).entry(i, q.Now); ok {
			page.Sessions = append(page.Sessions, e)
			bytes += e.bytes()
		}
	}
	if page.More {
		page.Through = through.text(identity.PrefixSession)
	}
	return page
}

func (q *Query) after() (id, bool) {
	if q.After == "" {
		return id{}, true
	}
	return parseID(identity.PrefixSession, q.After)
}

func (e *Entry) bytes() int {
	n := len(e.Principal) + len(e.Scopes) + len(e.TriggerReason)
	for _, uri := range e.Audience {
		n += len(uri)
	}
	for _, h := range e.Handles {
		n += len(h)
	}
	return n
}

// Count returns how many sessions a List from the start would have in all its pages; with more set it stopped at most.
func (x *Index) Count(q Query, most int) (n int, more bool) {
	for i := range x.shards {
		st := stream{shard: &x.shards[i]}
		for !st.done {
			st.budget = scanMost
			st.fetch(&q)
			if n += len(st.ids); n >= most {
				return most, true
			}
			st.ids = st.ids[:0]
		}
	}
	return n, false
}

// stream is one shard's part of a list.
type stream struct {
	shard   *shard
	ids     []id // that were found and not yet taken, in order
	at      id   // everything up to here has been looked at
	done    bool // and there is nothing beyond
	budget  int  // how many may still be looked at
	scratch []identity.Handle
}

// gather merges streams into one page of ids. Through is where the next page begins, if there may be more.
func gather(streams []stream, q *Query) (ids []id, through id, more bool) {
	for {
		var best *stream
		halt := false // somebody has not looked beyond through
		for i := range streams {
			st := &streams[i]
			for len(st.ids) == 0 && !st.done && st.budget > 0 {
				st.fetch(q)
			}
			switch {
			case len(st.ids) > 0:
				if best == nil || compareIDs(st.ids[0], best.ids[0]) < 0 {
					best = st
				}
			case !st.done:
				if !halt || compareIDs(st.at, through) < 0 {
					halt, through = true, st.at
				}
			}
		}
		switch {
		case best == nil || halt && compareIDs(best.ids[0], through) > 0:
			return ids, through, halt
		case len(ids) == q.Limit:
			return ids, ids[len(ids)-1], true
		}
		ids = append(ids, best.ids[0])
		best.ids = best.ids[1:]
	}
}

// fetch looks at some more sessions of the shard.
func (st *stream) fetch(q *Query) {
	s := st.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	agent, principal := s.names.find(kindAgent, q.Agent), s.names.find(kindPrincipal, q.Principal)
	if q.Agent != "" && agent == 0 || q.Principal != "" && principal == 0 {
		st.done = true
		return
	}
	matches := func(r *record) bool {
		if agent != 0 && !slices.Contains(s.shapes.at(r.shape).chain[:], agent) || principal != 0 && r.principal != principal || over(r.ends, q.Now) {
			return false
		}
		if q.Dead == nil {
			return true
		}
		st.scratch = s.handles(r, st.scratch[:0])
		return !q.Dead(st.scratch)
	}
	list := principal
	if list == 0 || agent != 0 && s.names.at(agent).n < s.names.at(list).n {
		list = agent
	}
	if list != 0 && int(s.names.at(list).n) <= max(shortList, s.n/shortListPart) {
		for at := s.names.at(list).head; at != 0; at = s.link(at).after {
			if r := s.records.at(at.slot()); compareIDs(r.id, st.at) > 0 && matches(r) {
				st.ids = append(st.ids, r.id)
			}
		}
		slices.SortFunc(st.ids, compareIDs)
		st.done = true
		return
	}
	left := scanSlice
	st.done = true
	s.order.after(st.at, func(k key) bool {
		if left == 0 {
			st.done = false
			return false
		}
		left--
		st.at = k.id
		if matches(s.records.at(k.slot)) {
			st.ids = append(st.ids, k.id)
		}
		return true
	})
	st.budget -= scanSlice
}
