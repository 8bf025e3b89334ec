package api

import (
	"context"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/sessions"
)

// Sessions are those that the nodes of the cluster have started and remember.
type Sessions interface {
	// Started has this node remember a session. It is called at every mint, waits for nobody and keeps nothing of what
	// it is given.
	Started(s *identity.Session, handles []identity.Handle, key identity.Handle)
	// List asks every node, and makes one page of what they answer.
	List(ctx context.Context, q SessionQuery) (sessions.Page, []SessionNode)
	// Find asks this node, and then all others where it does not know the session.
	Find(ctx context.Context, id string) (session sessions.Entry, found bool, asked []SessionNode)
	// Count asks every node how many a List from the start would have. Each counts to a bound of its own: more says that
	// one of them has reached it.
	Count(ctx context.Context, q SessionQuery) (n int, more bool, asked []SessionNode)
}

// SessionQuery says which sessions are wanted. All its conditions have to hold.
type SessionQuery struct {
	Agent     string // anywhere in the chain
	Principal string
	Active    bool // only those that are not revoked, as far as each node knows
	After     string
	Limit     int
}

// SessionNode is how much a node knows of the sessions that it has started.
type SessionNode struct {
	ID           string
	Error        string           // why it has not answered; then nothing else is set but ID
	Since        identity.Instant // when it began to remember
	Complete     bool             // it lacks none that could still run
	Dropped      int
	DroppedUntil identity.Instant
}

// maxAsking bounds the questions about sessions that wait for other nodes, so that a crowd of them never takes the
// places of what nodes have to tell each other.
const maxAsking = 32

func sessionFilters() []Param {
	return append([]Param{
		{"agent", "only those with this agent in their chain", "string"},
		{"principal", "only those on behalf of this principal", "string"},
		{"active", "true: only those that are not revoked", "boolean"},
	}, paging...)
}

// mint appends the token that the call's grant is for. Where a human had to approve it, that is used up first: of two
// mints that rest on the same yes, the log lets one go on.
func (a *API) mint(c *call, b []byte) (_ []byte, err error) {
	if c.granted != nil {
		if err := a.consume(c, c.grant.Session().ID); err != nil {
			return b, err
		}
	}
	if err := a.enroll(c); err != nil {
		return nil, c.spent(err)
	}
	b, c.signedBy, err = a.Minter.MintSigned(b, &c.grant)
	return b, c.spent(err)
}

func (a *API) listSessions(c *call) error {
	q := SessionQuery{Agent: c.query("agent"), Principal: c.query("principal"), After: c.query("after")}
	var err error
	if q.Limit, err = c.limit(); err != nil {
		return err
	}
	if q.Active, err = c.flag("active"); err != nil {
		return err
	}
	if q.After != "" {
		if _, err := identity.ParseID(identity.PrefixSession, q.After); err != nil {
			return invalidParameter("after", "is %.64q; it must be the cursor of the page before", q.After)
		}
	}
	if err := c.maySeeSessions(q.Agent); err != nil {
		return err
	}
	var page sessions.Page
	var nodes []SessionNode
	if err := a.ask(func() { page, nodes = a.Sessions.List(context.Background(), q) }); err != nil {
		return err
	}
	if err := a.lookAgain(c); err != nil {
		return err
	}
	if err := c.maySeeSessions(q.Agent); err != nil {
		return err
	}
	list := wire.SessionList{Sessions: []wire.SessionInfo{}}
	for i := range page.Sessions {
		e := &page.Sessions[i]
		by := a.revokedBy(e)
		if e.Expires > c.now && !(q.Active && by != "") {
			list.Sessions = append(list.Sessions, showSessionInfo(e, by))
		}
	}
	list.Nodes, list.Complete = showSessionNodes(nodes)
	if page.More {
		c.linkNext(page.Through, q.Limit)
	}
	if err := a.fresh(c); err != nil {
		return err
	}
	return c.answer(fasthttp.StatusOK, &list)
}

// ask puts a question to other nodes, if there is a place for it.
func (a *API) ask(question func()) error {
	if !a.asking.enter(maxAsking) {
		return identity.Errorf(identity.CodeOverloaded, "too many questions about sessions are under way").
			WithHint("try again in a second, or ask another node")
	}
	defer a.asking.leave()
	question()
	return nil
}

// lookAgain has a request that has waited for other nodes go on as if it had come only now: what it says of revocations
// must be of now, on a lease of now, to a caller who still may know.
func (a *API) lookAgain(c *call) error {
	a.look(c)
	if err := c.identifyAgain(); err != nil {
		return err
	}
	return requireRole(c.caller.token, c.route.Roles)
}

// maySeeSessions wants that the caller may know of the agent's sessions; of all, where none is named.
func (c *call) maySeeSessions(agent string) error {
	if c.seesAllSessions() || c.caller.token.MayRun(agent) {
		return nil
	}
	return identity.Errorf(identity.CodeForbidden, "API token %s may know of the sessions of the agents that it runs, and of no others", c.caller.token.ID).
		WithHint("name one of its agents: ?agent=NAME")
}

// seesAllSessions reports whether the caller may know of the sessions of any agent. A runtime knows of those of the
// agents that its token lists.
func (c *call) seesAllSessions() bool {
	for _, role := range readers {
		if c.caller.token.Has(role) {
			return true
		}
	}
	return c.caller.token.MayRun(identity.AnyAgent)
}

// revokedBy returns the first of the session's handles that is revoked, or "".
func (a *API) revokedBy(e *sessions.Entry) identity.Handle {
	if !a.Revocations.Revoked(e.Handles...) {
		return ""
	}
	for i, h := range e.Handles {
		if a.Revocations.Revoked(e.Handles[i : i+1]...) {
			return h
		}
	}
	return "" // it was purged in between, as the session ended
}

func showSessionInfo(e *sessions.Entry, by identity.Handle) wire.SessionInfo {
	info := wire.SessionInfo{
		SessionID: e.ID, AgentID: e.Agent(), Chain: e.Chain, Scopes: e.Scopes, Audience: entries(e.Audience), DelegationID: e.Delegation,
		ParentSessionID: e.Parent, TriggerReason: e.TriggerReason, StartedAt: e.Started, ExpiresAt: e.Expires, Node: e.Node,
		Revoked: by != "", RevokedBy: by,
	}
	if e.Principal != "" {
		info.PrincipalUserID = &e.Principal
	}
	return info
}

func showSessionNodes(nodes []SessionNode) (shown []wire.SessionNode, complete bool) {
	shown, complete = []wire.SessionNode{}, true
	for _, n := range nodes {
		shown = append(shown, wire.SessionNode{
			ID: n.ID, Replied: n.Error == "", Error: n.Error, Since: n.Since, Complete: n.Complete,
			Dropped: int64(n.Dropped), DroppedUntil: n.DroppedUntil,
		})
		complete = complete && n.Error == "" && n.Complete
	}
	return shown, complete
}

func (a *API) getSession(c *call) error {
	id, err := c.param("id")
	if err != nil {
		return err
	}
	started, err := sessionStart(id)
	if err != nil {
		return notFound("session", id)
	}
	var session sessions.Entry
	var found bool
	var nodes []SessionNode
	if err := a.ask(func() { session, found, nodes = a.Sessions.Find(context.Background(), id) }); err != nil {
		return err
	}
	if err := a.lookAgain(c); err != nil {
		return err
	}
	state := wire.SessionState{SessionID: id, StartedAt: started, EndsBy: started + identity.MaxSessionSeconds*1000}
	if own := identity.SessionHandle(id); a.Revocations.Revoked(own) {
		state.RevokedBy = own
	}
	if found && c.seesSession(&session) {
		tellSession(&state, &session)
		state.RevokedBy = a.revokedBy(&session)
	} else if !found {
		state.Nodes, _ = showSessionNodes(nodes)
	}
	if state.RevokedBy != "" {
		state.Revoked, state.Revocation = true, c.revocation(state.RevokedBy)
	}
	// A node that can't vouch for its state must not say that a session is still good.
	if err := a.fresh(c); err != nil && !state.Revoked {
		return err
	}
	return c.answer(fasthttp.StatusOK, &state)
}

func (c *call) seesSession(e *sessions.Entry) bool {
	if c.seesAllSessions() {
		return true
	}
	for _, agent := range e.Chain {
		if c.caller.token.MayRun(agent) {
			return true
		}
	}
	return false
}

func tellSession(to *wire.SessionState, e *sessions.Entry) {
	to.Known, to.AgentID, to.PrincipalUserID, to.Chain, to.Scopes = true, e.Agent(), e.Principal, e.Chain, e.Scopes.List()
	to.Audience, to.DelegationID, to.ParentSessionID = e.Audience, e.Delegation, e.Parent
	to.TriggerReason, to.ExpiresAt, to.Node = e.TriggerReason, e.Expires, e.Node
}
