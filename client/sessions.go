package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/deputy-id/deputy/api/wire"
)

const sessionsPath = "/api/v1/sessions"

// Session tells what is known of a session, and whether it was revoked.
func (c *Client) Session(ctx context.Context, id string) (*wire.SessionState, error) {
	return get[wire.SessionState](ctx, c, at(sessionsPath, id))
}

// SessionFilter narrows a list of sessions; empty fields match all.
type SessionFilter struct {
	Agent     string // anywhere in the chain
	Principal string
	Active    bool // only those that are not revoked
}

func (f SessionFilter) add(query url.Values) url.Values {
	if f.Agent != "" {
		query.Set("agent", f.Agent)
	}
	if f.Principal != "" {
		query.Set("principal", f.Principal)
	}
	if f.Active {
		query.Set("active", "true")
	}
	return query
}

// SessionPage is one part of the list of sessions. It can be shorter than asked for, or empty, and not be the last one.
type SessionPage struct {
	Page[wire.SessionInfo]
	Complete bool               // no node lacks a session that could still run
	Nodes    []wire.SessionNode // who was asked for this part
}

// Sessions lists the sessions that have not ended, by id, as the nodes remember them that started them.
func (c *Client) Sessions(ctx context.Context, f SessionFilter, l List) (*SessionPage, error) {
	var list wire.SessionList
	answer, err := c.Do(ctx, &Request{Method: http.MethodGet, Path: sessionsPath, Query: f.add(l.query())}, &list)
	if err != nil {
		return nil, err
	}
	return &SessionPage{Page[wire.SessionInfo]{Items: list.Sessions, Next: answer.Next}, list.Complete, list.Nodes}, nil
}

// EndSession revokes a session: its token is dead at every node.
func (c *Client) EndSession(ctx context.Context, id, reason string, options ...Option) (*wire.Revocation, error) {
	return end[wire.Revocation](ctx, c, at(sessionsPath, id), reasonQuery(reason), options)
}

// EndSessionsOf ends all sessions of an agent or of a principal, of whom the filter names one, and nothing else: new ones
// may start at once.
func (c *Client) EndSessionsOf(ctx context.Context, f SessionFilter, reason string, options ...Option) (*wire.SessionsEnded, error) {
	query := f.add(url.Values{})
	if reason != "" {
		query.Set("reason", reason)
	}
	return end[wire.SessionsEnded](ctx, c, sessionsPath, query, options)
}

// CountSessionsOf tells how many sessions EndSessionsOf would end, and changes nothing.
func (c *Client) CountSessionsOf(ctx context.Context, f SessionFilter) (*wire.SessionsEnded, error) {
	query := f.add(url.Values{"dry_run": {"true"}})
	return end[wire.SessionsEnded](ctx, c, sessionsPath, query, nil)
}

// end sends a DELETE that does no harm twice and takes no idempotency key.
func end[T any](ctx context.Context, c *Client, path string, query url.Values, options []Option) (*T, error) {
	out := new(T)
	r := &Request{Method: http.MethodDelete, Path: path, Query: query}
	_, err := c.Do(ctx, r.with(options), out)
	return orNil(out, err)
}
