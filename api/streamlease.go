package api

import (
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

// leaseRevocations answers how long a validator may trust itself that has all that the log had brought up to an index.
//
// The rule that makes it safe: the node's lease is noted before it is looked how far the journal has come, and what is
// left of that very lease is read last. When the lease was won, at some instant, everything committed by then had been
// applied here, and so was in the journal. The validator has that too once it is at index, and it counts from when it
// sent the question, which was before any of this. So its lease ends no later than the node's, that is less than Δ
// after the instant: it accepts nothing whose revocation was committed more than Δ before, just as the node itself.
// And a lease that was granted before the node acknowledged a fence ends within Δ of the acknowledgement, which is what
// validators_until allows for.
func (a *API) leaseRevocations(c *call) error {
	seen, _, err := c.index("seen", c.query("seen"))
	if err != nil {
		return err
	}
	at := a.Journal.Position()
	answer := wire.ValidatorLease{Index: at.Last, Reached: seen >= at.Last, Log: a.FSM.View().Log(), Time: a.now()}
	left := a.Freshness.Remaining(c.lease)
	if left <= 0 {
		if err := a.fresh(c); err != nil {
			return err
		}
		return identity.Errorf(identity.CodeNotFresh, "this node's lease has just ended").WithHint("ask again, or another node")
	}
	answer.ValidFor = wire.Milliseconds(left)
	return c.answer(fasthttp.StatusOK, answer)
}

// index reads a log index from a parameter; false where it is absent.
func (c *call) index(name, text string) (index uint64, given bool, err error) {
	if text == "" {
		return 0, false, nil
	}
	index, err = strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, false, invalidParameter(name, "is %.40q; it must be a log index", text)
	}
	return index, true, nil
}
