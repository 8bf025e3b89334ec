package client

import (
	"net/url"
	"strconv"
	"time"

	"github.com/deputy-id/deputy/api/wire"
)

// Option changes one request.
type Option func(*Request)

// fenceGrace is what an answer may take on its way once a node has given up waiting for a fence.
const fenceGrace = 5 * time.Second

// Fenced has a write answer only when no node acts any more on what was before it. At most timeout is waited, in
// whole seconds from 1 to 60; 0 is the node's default of 15. What the answer says of the fence, and with it the
// header X-Deputy-Fenced, tells whether it came to that.
func Fenced(timeout time.Duration) Option {
	return func(r *Request) {
		r.set("wait", wire.WaitFenced)
		if timeout <= 0 {
			timeout = defaultFence
		} else {
			r.set("timeout_seconds", strconv.FormatInt(int64((timeout+time.Second-1)/time.Second), 10))
		}
		r.Patience = max(r.Patience, timeout+fenceGrace)
	}
}

// defaultFence is how long a node waits for a fence by itself.
const defaultFence = 15 * time.Second

// Force has a node be removed also where too few live voters would remain: writes may stop until one comes back.
func Force() Option { return func(r *Request) { r.set("force", "true") } }

// Compromised says of a removed node that its keys may be in wrong hands: whatever it signed is revoked.
func Compromised() Option { return func(r *Request) { r.set("compromised", "true") } }

// set adds a query parameter without touching a map that the caller may use again.
func (r *Request) set(name, value string) {
	query := url.Values{}
	for key, values := range r.Query {
		query[key] = values
	}
	query.Set(name, value)
	r.Query = query
}

func (r *Request) with(options []Option) *Request {
	for _, change := range options {
		change(r)
	}
	return r
}
