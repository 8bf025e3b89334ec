package api

import (
	"strconv"
	"time"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// How long a write with wait=fenced is waited for, in seconds. A node that can't be reached is waited for as long
// as it may hold a lease, which is ten seconds by default; who replicates a longer lease asks for more.
const (
	minTimeout     = 1
	defaultTimeout = 15
	maxTimeout     = 60
)

// maxPatience is what a leader may take for a fence: a call between nodes takes at most a minute.
const maxPatience = 58 * time.Second

// wish is how far a write is to have come when it is answered.
type wish struct {
	fenced bool
	until  time.Time // fenced or not, the answer is given by then
}

// readWish reads ?wait= and ?timeout_seconds=. At the leader, a forwarded request goes by what the node that was
// asked has left of its time: the client's wait began there.
func (c *call) readWish() error {
	w := &c.command.wish
	fenced, err := wantsFence(c.query("wait"))
	if err != nil {
		return invalidParameter("wait", "%v", err)
	}
	seconds := defaultTimeout
	if text := c.query("timeout_seconds"); text != "" {
		if seconds, err = strconv.Atoi(text); err != nil || seconds < minTimeout || seconds > maxTimeout {
			return invalidParameter("timeout_seconds", "is %.40q; it must be a number between %d and %d", text, minTimeout, maxTimeout)
		}
	}
	w.fenced, w.until = w.fenced || fenced, time.Now().Add(time.Duration(seconds)*time.Second)
	if c.origin != nil {
		w.fenced, w.until = c.origin.patience > 0, time.Now().Add(c.origin.patience)
	}
	if w.fenced && c.route.Once {
		return invalidParameter("wait", "is fenced, but this changes no state that a node could be behind with")
	}
	return nil
}

// wishes adds what a body says of waiting, which the query may say as well.
func (c *call) wishes(wait string) error {
	fenced, err := wantsFence(wait)
	if err != nil {
		return invalidField("/wait", "%v", err)
	}
	if fenced && c.origin == nil {
		c.command.wish.fenced = true
	}
	return nil
}

func wantsFence(wait string) (bool, error) {
	switch wait {
	case "", wire.WaitCommitted:
		return false, nil
	case wire.WaitFenced:
		return true, nil
	}
	return false, identity.Errorf(identity.CodeInvalid, "is %.40q; it must be %s or %s", wait, wire.WaitCommitted, wire.WaitFenced)
}

// patience is how long the leader may take for the fence.
func (w *wish) patience() time.Duration {
	if !w.fenced {
		return 0
	}
	left := time.Until(w.until).Truncate(time.Millisecond) // as it is sent
	return min(max(left, time.Millisecond), maxPatience)
}
