package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/deputy-id/deputy/api"
	"github.com/deputy-id/deputy/cluster"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/sessions"
)

const (
	// sessionsWait bounds the question to one member, as statusWait does.
	sessionsWait = 2 * time.Second
	// sessionsWaitDead is for one that gossip holds for dead: it may be wrong, but nobody should wait for long.
	sessionsWaitDead = 250 * time.Millisecond
	// sessionsCounted is how far a node counts: some hundred milliseconds of one core.
	sessionsCounted = 100_000
	// sessionsPurge is how often a node that mints nothing forgets what has ended.
	sessionsPurge = time.Minute
)

// startedSessions are the sessions of the cluster, of which this node remembers its own.
type startedSessions struct {
	s     *Server
	index *sessions.Index
	since identity.Instant
	// first says that this process began with an empty data folder: there is nothing that it could have forgotten.
	first atomic.Bool
}

func (s *Server) newSessions() *startedSessions {
	t := &startedSessions{
		s: s, index: sessions.NewIndex(s.config.Sessions.IndexMiB * mebibyte), since: identity.InstantOf(s.clock()),
	}
	factory := promauto.With(s.registry)
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_sessions_remembered", Help: "Sessions that this node has started and that have not ended, as far as it remembers them.",
	}, func() float64 { return float64(t.stats().Sessions) })
	factory.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "deputy_sessions_bytes", Help: "Memory that those take, at most.",
	}, func() float64 { return float64(t.stats().Bytes) })
	factory.NewCounterFunc(prometheus.CounterOpts{
		Name: "deputy_sessions_dropped_total", Help: "Sessions that were left out of the listing before they had ended, for want of memory.",
	}, func() float64 { return float64(t.stats().DroppedEver) })
	return t
}

func (t *startedSessions) now() identity.Instant { return identity.InstantOf(t.s.clock()) }

func (t *startedSessions) stats() sessions.Stats { return t.index.Stats(t.now()) }

// run forgets what has ended.
func (t *startedSessions) run(ctx context.Context) error {
	ticker := time.NewTicker(sessionsPurge)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		t.index.Purge(t.now())
	}
}

// Started has this node remember a session.
func (t *startedSessions) Started(s *identity.Session, handles []identity.Handle, key identity.Handle) {
	t.index.Add(s, handles, key)
}

// sessionsQuestion is what one node asks another. Exactly one of List, Count and ID is set.
type sessionsQuestion struct {
	List  bool             `json:"list,omitempty"`
	Count bool             `json:"count,omitempty"`
	ID    string           `json:"id,omitempty"`
	Query api.SessionQuery `json:"query,omitzero"`
}

// sessionsAnswer is what that node says.
type sessionsAnswer struct {
	Page  sessions.Page   `json:"page,omitzero"`
	Found *sessions.Entry `json:"found,omitempty"`
	Count int             `json:"count,omitempty"`
	More  bool            `json:"more,omitempty"` // than Count

	Since        identity.Instant `json:"since"`
	Complete     bool             `json:"complete"`
	Dropped      int              `json:"dropped"`
	DroppedUntil identity.Instant `json:"dropped_until,omitzero"`
}

// answer is this node's own.
func (t *startedSessions) answer(q *sessionsQuestion) *sessionsAnswer {
	now := t.now()
	stats := t.index.Stats(now)
	a := &sessionsAnswer{
		Since: t.since, Dropped: stats.Dropped, DroppedUntil: stats.DroppedUntil,
		Complete: stats.Dropped == 0 && (t.first.Load() || now >= t.since+identity.MaxSessionSeconds*1000),
	}
	query := sessions.Query{Agent: q.Query.Agent, Principal: q.Query.Principal, After: q.Query.After, Limit: q.Query.Limit, Now: now}
	if q.Query.Active {
		query.Dead = func(handles []identity.Handle) bool { return t.s.revoked.Revoked(handles...) }
	}
	switch {
	case q.List:
		a.Page = t.index.List(query)
	case q.Count:
		a.Count, a.More = t.index.Count(query, sessionsCounted)
	default:
		if found, ok := t.index.Get(q.ID, now); ok {
			a.Found = &found
		}
	}
	return a
}

// serveSessions answers another node.
func (s *Server) serveSessions(_ context.Context, _ cluster.Member, body []byte) ([]byte, error) {
	var q sessionsQuestion
	if err := json.Unmarshal(body, &q); err != nil {
		return nil, fmt.Errorf("reading a question about sessions: %w", err)
	}
	return json.Marshal(s.sessions.answer(&q))
}

// ask puts a question to every member at the same time, and has take see each answer, one after the other. Who does not
// answer is listed with the reason, as is who was removed and has left tokens behind that are still good.
func (t *startedSessions) ask(ctx context.Context, q *sessionsQuestion, take func(member string, a *sessionsAnswer)) (asked []api.SessionNode) {
	dead := map[string]bool{}
	for _, server := range t.s.node.Servers() {
		dead[server.ID] = !server.Alive
	}
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, m := range t.s.node.Members() {
		wg.Go(func() {
			a, err := t.askOne(ctx, m.ID, dead[m.ID], q)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				t.s.logger.Debug("asking a member for its sessions", "member", m.ID, "error", err)
				asked = append(asked, api.SessionNode{ID: m.ID, Error: "it did not answer"})
				return
			}
			asked = append(asked, api.SessionNode{
				ID: m.ID, Since: a.Since, Complete: a.Complete, Dropped: a.Dropped, DroppedUntil: a.DroppedUntil,
			})
			take(m.ID, a)
		})
	}
	wg.Wait()
	asked = append(asked, t.leftBehind()...)
	slices.SortFunc(asked, func(x, y api.SessionNode) int { return strings.Compare(x.ID, y.ID) })
	return asked
}

func (t *startedSessions) askOne(ctx context.Context, member string, dead bool, q *sessionsQuestion) (*sessionsAnswer, error) {
	if member == t.s.config.NodeID {
		return t.answer(q), nil
	}
	wait := sessionsWait
	if dead {
		wait = sessionsWaitDead
	}
	ctx, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	body, err := json.Marshal(q)
	if err != nil {
		return nil, fmt.Errorf("encoding a question about sessions: %w", err)
	}
	text, err := t.s.node.Call(ctx, member, methodSessions, body)
	if err != nil {
		return nil, err
	}
	a := new(sessionsAnswer)
	if err := json.Unmarshal(text, a); err != nil {
		return nil, fmt.Errorf("reading what member %s says of its sessions: %w", member, err)
	}
	return a, nil
}

// leftBehind are the removed members whose tokens may still be good: a key is listed until its last token has ended, or
// until it is revoked.
func (t *startedSessions) leftBehind() (nodes []api.SessionNode) {
	view := t.s.fsm.View()
	keys := map[string]bool{}
	for _, k := range view.SigningKeys() {
		keys[k.Node] = true
	}
	for _, m := range view.AllMembers() {
		if !m.Removed.IsZero() && keys[m.ID] {
			nodes = append(nodes, api.SessionNode{ID: m.ID, Error: "it was removed from the cluster, and tokens of its may still be good"})
		}
	}
	return nodes
}

// List asks every node, and makes one page of what they answer.
func (t *startedSessions) List(ctx context.Context, q api.SessionQuery) (sessions.Page, []api.SessionNode) {
	var pages []sessions.Page
	asked := t.ask(ctx, &sessionsQuestion{List: true, Query: q}, func(member string, a *sessionsAnswer) {
		for i := range a.Page.Sessions {
			a.Page.Sessions[i].Node = member
		}
		pages = append(pages, a.Page)
	})
	return sessions.Merge(pages, q.Limit), asked
}

// Find asks this node, and then all others where it does not know the session.
func (t *startedSessions) Find(ctx context.Context, id string) (session sessions.Entry, found bool, asked []api.SessionNode) {
	if session, found = t.index.Get(id, t.now()); found {
		session.Node = t.s.config.NodeID
		return session, true, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	asked = t.ask(ctx, &sessionsQuestion{ID: id}, func(member string, a *sessionsAnswer) {
		if a.Found != nil {
			session, found = *a.Found, true
			session.Node = member
			cancel() // nobody else has it
		}
	})
	return session, found, asked
}

// Count asks every node how many there are.
func (t *startedSessions) Count(ctx context.Context, q api.SessionQuery) (n int, more bool, asked []api.SessionNode) {
	asked = t.ask(ctx, &sessionsQuestion{Count: true, Query: q}, func(_ string, a *sessionsAnswer) {
		n, more = n+a.Count, more || a.More
	})
	return n, more, asked
}
