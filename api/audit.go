package api

import (
	"context"
	"strings"

	"github.com/deputy-id/deputy/audit"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/tokens"
)

// Auditor takes the record of a decision. It is an *audit.Log, whose Patience bounds how long a request waits for it.
type Auditor interface {
	Queue(ctx context.Context, r *audit.Record) (audit.Ticket, error)
	// Failing says why nothing can be recorded at present.
	Failing() error
}

// Introspections says which introspections are recorded.
type Introspections string

// Which introspections are recorded.
const (
	IntrospectionsAll   Introspections = "all"
	IntrospectionsTools Introspections = "tools" // those that name the tool for whose call they are asked
	IntrospectionsNone  Introspections = "none"
)

// account is what a request leaves to be recorded. Handlers only mark what the request itself does not say.
type account struct {
	kind   audit.Kind // "": that of the route
	agent  string     // asked for, where it is not the caller
	user   string     // asked for
	scope  identity.Scopes
	tool   string
	reason string // why a token is not good
	// approval that was asked for ahead
	approval string
	claims   *tokens.Claims // of the token that the request is about
	handles  []identity.Handle
	code     identity.Code // of the leader's refusal
	closed   bool          // it is recorded, by whoever served it

	statement string // the reason that the body gives, where the handler has read it
	stated    bool

	ticket audit.Ticket
	queued bool // the record of a grant is on its way

	record   audit.Record
	links    [identity.MaxChain + 1]audit.Link
	policies [8]string
	trail    [16]string // of handles
}

// state takes over the reason that a body gives for a change, which need not be looked for in it again.
func (to *account) state(reason string) { to.statement, to.stated = reason, true }

// mayChange refuses a change whose record could not be written. What stops something is made in any case.
func (a *API) mayChange(c *call) error {
	if c.route.stops != nil || c.origin != nil || a.UnrecordedAnswers {
		return nil
	}
	if err := a.Audit.Failing(); err != nil {
		return a.unrecorded(c, err)
	}
	return nil
}

// enroll sets the record of what was granted on its way, before the token is made: while this one is signed, others may write
// it with theirs.
func (a *API) enroll(c *call) error {
	r := a.draft(c)
	c.tellGrant(r)
	r.Decision = audit.Allowed
	var err error
	if c.account.ticket, err = a.Audit.Queue(context.Background(), r); err != nil {
		return a.unrecorded(c, err)
	}
	c.account.queued = true
	return nil
}

// recorded waits for the record of what was granted: without it there is no token.
func (a *API) recorded(c *call) error {
	if _, err := c.account.ticket.Wait(context.Background()); err != nil {
		return a.unrecorded(c, err)
	}
	c.account.closed = true
	return nil
}

// append records a decision that is complete, and waits.
func (a *API) append(c *call, r *audit.Record) (sequence uint64, err error) {
	ticket, err := a.Audit.Queue(context.Background(), r)
	if err == nil {
		sequence, err = ticket.Wait(context.Background())
	}
	if err != nil {
		return 0, a.unrecorded(c, err)
	}
	return sequence, nil
}

// unrecorded is what becomes of an answer whose record can't be written: by default there is none.
func (a *API) unrecorded(c *call, err error) error {
	a.metrics.unrecorded.Inc()
	a.logger.Error("a decision can't be recorded", "request", string(c.id), "route", c.route.pattern(), "error", err)
	if a.UnrecordedAnswers {
		return nil
	}
	return identity.Errorf(identity.CodeAuditUnavailable, "this node can't write its audit log, and answers nothing that it can't record").
		WithHint("ask another node; the log of this one says what is wrong").WithCause(err)
}

// account records what came of a request, if that was a decision, and returns what to answer.
func (a *API) account(c *call, refusal error) error {
	if c.origin != nil || c.route.Kind == KindPublic {
		return refusal // the node that was asked records it; nothing is decided of whoever reads what is public
	}
	code := c.account.code
	if refusal != nil {
		code = asError(refusal).Code
	}
	switch {
	case c.caller.id() == "":
		if code == identity.CodeUnauthenticated || code == identity.CodeProofInvalid {
			a.strangers.note(c, code)
		}
		return refusal
	case code == identity.CodeAuditUnavailable || code == identity.CodeRateLimited:
		return refusal
	case c.account.closed && refusal == nil:
		return nil
	}
	kind := c.kindOfRecord(code)
	if kind == "" {
		return refusal
	}
	r := a.draft(c)
	r.Kind = kind
	c.tell(r, code)
	if refusal != nil {
		c.tellRefusal(r, asError(refusal))
	}
	if _, err := a.append(c, r); err != nil {
		return c.withoutRecord(err, refusal)
	}
	return refusal
}

// withoutRecord answers a request that was served and could not be recorded. A stop holds all the same, and is not to be
// taken for one that failed. A change that was made is said to be so.
func (c *call) withoutRecord(err, refusal error) error {
	switch {
	case c.route.stops != nil || c.account.kind == audit.KindRevoke:
		return refusal
	case refusal == nil && c.route.Kind == KindWrite && c.ctx.Response.StatusCode() < 300:
		return identity.Errorf(identity.CodeAuditUnavailable, "the change was made, but this node could not record it in its audit log").
			WithHint("the index in this answer is that of the change; the log of the node says what is wrong").WithCause(err)
	}
	return err
}

// kindOfRecord says what kind of record a request leaves, or "" for none.
func (c *call) kindOfRecord(code identity.Code) audit.Kind {
	switch {
	case c.account.kind != "":
		return c.account.kind
	case c.route.Kind == KindRead && c.route.Produces != mediaBinary: // a backup is more than a read
		if code == identity.CodeForbidden {
			return audit.KindRefuse
		}
		return ""
	case code == identity.CodeForbidden:
		return audit.KindRefuse
	case c.route.Kind == KindOAuth || c.route.Kind == KindMint:
		return ""
	case len(c.account.handles) > 0 || c.route.Kept:
		return audit.KindRevoke
	}
	for _, of := range kindsOfPaths {
		if strings.HasPrefix(c.route.Path, of.path) {
			return of.kind
		}
	}
	return audit.KindAdmin
}

var kindsOfPaths = []struct {
	path string
	kind audit.Kind
}{
	{"/api/v1/cluster/", audit.KindCluster},
	{"/api/v1/policies", audit.KindPolicy},
	{"/api/v1/approvals", audit.KindApproval},
}
