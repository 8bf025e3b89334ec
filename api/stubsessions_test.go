package api

import (
	"context"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/sessions"
)

// stubSessions are those of a group of nodes, each with a real index, that ask each other by a function call.
type stubSessions struct {
	n     *node
	index *sessions.Index
	since identity.Instant
	// silent says that the node does not answer others, and why.
	silent string
	onAsk  func() // runs while a question is under way
}

func newStubSessions(n *node) *stubSessions {
	return &stubSessions{n: n, index: sessions.NewIndex(sessions.MinBytes), since: identity.InstantOf(n.group.time())}
}

func (s *stubSessions) now() identity.Instant { return identity.InstantOf(s.n.group.time()) }

func (s *stubSessions) Started(session *identity.Session, handles []identity.Handle, key identity.Handle) {
	s.index.Add(session, handles, key)
}

// each asks every node that answers.
func (s *stubSessions) each(ask func(*stubSessions)) (asked []SessionNode) {
	if s.onAsk != nil {
		defer s.onAsk()
	}
	for _, n := range s.n.group.nodes {
		of := n.sessions
		if of.silent != "" {
			asked = append(asked, SessionNode{ID: n.name(), Error: of.silent})
			continue
		}
		ask(of)
		stats := of.index.Stats(s.now())
		asked = append(asked, SessionNode{
			ID: n.name(), Since: of.since, Complete: stats.Dropped == 0, Dropped: stats.Dropped, DroppedUntil: stats.DroppedUntil,
		})
	}
	return asked
}

func (s *stubSessions) query(q SessionQuery) sessions.Query {
	query := sessions.Query{Agent: q.Agent, Principal: q.Principal, After: q.After, Limit: q.Limit, Now: s.now()}
	if q.Active {
		query.Dead = func(handles []identity.Handle) bool { return s.n.revoked.Revoked(handles...) }
	}
	return query
}

func (s *stubSessions) List(_ context.Context, q SessionQuery) (sessions.Page, []SessionNode) {
	var pages []sessions.Page
	asked := s.each(func(of *stubSessions) {
		page := of.index.List(of.query(q))
		for i := range page.Sessions {
			page.Sessions[i].Node = of.n.name()
		}
		pages = append(pages, page)
	})
	return sessions.Merge(pages, q.Limit), asked
}

func (s *stubSessions) Find(_ context.Context, id string) (found sessions.Entry, ok bool, asked []SessionNode) {
	asked = s.each(func(of *stubSessions) {
		if e, known := of.index.Get(id, s.now()); known {
			e.Node = of.n.name()
			found, ok = e, true
		}
	})
	return found, ok, asked
}

func (s *stubSessions) Count(_ context.Context, q SessionQuery) (n int, more bool, asked []SessionNode) {
	asked = s.each(func(of *stubSessions) {
		count, reached := of.index.Count(of.query(q), 1000)
		n, more = n+count, more || reached
	})
	return n, more, asked
}
