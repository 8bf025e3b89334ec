// Package policy decides whether an agent gets a session, and for what: a request goes in, a Grant or a
// refusal comes out.
//
// The rules here are the model's own, and they alone allow: an agent may act where its status, its
// assignments, its default scopes, a delegation and the parent session all say so. Policies, which people write in
// Cedar, come after these rules and see what they would grant; they can only forbid more, never allow what a rule
// refused. All of a decision comes from one state of the cluster, so the policies are a part of the request.
//
// The package is pure: no I/O, no clock, nothing that one request leaves for the next. A Grant has only unexported
// fields, so whoever holds a valid one knows that it went through every rule.
package policy

import (
	"net/netip"
	"sync"

	"github.com/deputy-id/deputy/identity"
)

// Applications is the part of the read model that the rules about audiences look things up in.
type Applications interface {
	// Application finds one by its name.
	Application(name string) (*identity.Application, bool)
	// ApplicationByAudience finds one by its audience URI.
	ApplicationByAudience(uri string) (*identity.Application, bool)
	// ApplicationOwning finds the one that a scope belongs to; a scope belongs to at most one.
	ApplicationOwning(scope string) (*identity.Application, bool)
}

// Request is everything that a decision rests on. All of it must come from one View, so that the decision
// holds for one state of the cluster. Decide reads it and keeps no pointer into it but for strings.
type Request struct {
	Now        identity.Instant
	SessionID  string              // ses_…, made by the caller
	Agent      *identity.Agent     // the agent that will act
	Credential string              // crd_… or tok_… that the caller proved itself with
	Principal  *identity.Principal // nil: an autonomous run
	Delegation *identity.Delegation

	// Parent is the session that a sub-agent's hop starts from, nil if this is no hop. The hop acts for the
	// parent's principal, under the parent's delegation.
	Parent        *identity.Session
	ParentHandles []identity.Handle // all that the parent token lists, and that of its signing key

	Requested     identity.Scopes // empty: the agent's defaults, as far as delegation and parent allow
	Audience      []string        // application names or audience URIs; empty: those that own a granted scope
	TriggerReason string
	Confirmation  string // thumbprint of the key that the token is bound to; empty: none
	MaxSeconds    int64  // the longest session that the caller wishes; 0: no wish

	Applications      Applications
	Issuer            string // the audience of a token whose scopes belong to no application
	OfflineTTLSeconds int64  // the longest token for an application that verifies offline; 0: the default
	SourceIP          netip.Addr

	Policies *Set               // nil: the model's own rules and no other
	Approval *identity.Approval // what a human said to this very request, nil: nothing
}

// Engine decides. It is safe for concurrent use.
type Engine struct {
	facts sync.Pool // of *facts, room for the next decision
}

// NewEngine returns an engine.
func NewEngine() *Engine { return &Engine{} }

// Decide makes g a valid Grant, or returns an *identity.Error with the code of the rule that refused and a hint
// what to do about it; g is then not valid, whatever it was before. Rules speak in the order below, the broadest
// first, so that a caller hears of the suspended agent before it hears of a missing scope. Policies speak last. Where
// a rule refuses, they are still asked as far as the request goes: the error then names one that agrees.
//
// The parent of the request must not be the session of g itself.
func (e *Engine) Decide(r *Request, g *Grant) error {
	if err := e.decide(r, g, nil); err != nil {
		return err
	}
	return nil
}

// Explain decides as Decide does, and tells how it came to that.
func (e *Engine) Explain(r *Request) *Explanation {
	g, x := new(Grant), new(Explanation)
	x.Refusal = e.decide(r, g, x)
	x.Allowed = x.Refusal == nil
	x.Session = g.Session()
	x.Diagnostics = *g.Diagnostics()
	x.finish(sessionRules.names(), r.Policies, g.judged)
	return x
}

// sessionRules are the model's own, in the order in which they speak.
var sessionRules = rules[*Request, *Grant]{
	{"request", func(r *Request, _ *Grant) *identity.Error { return checkRequest(r) }},
	{"status", func(r *Request, _ *Grant) *identity.Error { return checkStatus(r) }},
	{"chain", joinChain},
	{"delegation", checkDelegation},
	{"scopes", narrowScopes},
	{"audience", chooseAudience},
	{"lifetime", capLifetime},
	{"handles", listHandles},
}

// rules are checks in order, each of which fills in its part of what is decided.
type rules[R, D any] []struct {
	name  string
	check func(R, D) *identity.Error
}

// run asks the rules until one refuses.
func (list rules[R, D]) run(r R, d D, x *Explanation) *identity.Error {
	for i := range list {
		err := list[i].check(r, d)
		x.rule(list[i].name, err)
		if err != nil {
			return err
		}
	}
	return nil
}

func (list rules[R, D]) names() []string {
	out := make([]string, len(list))
	for i := range list {
		out[i] = list[i].name
	}
	return out
}

// decide is the one path of Decide and Explain. g is worth nothing until all rules and policies have agreed; what is
// left of it after a refusal are the diagnostics.
func (e *Engine) decide(r *Request, g *Grant, x *Explanation) *identity.Error {
	*g = Grant{}
	err := sessionRules.run(r, g, x)
	if err == nil || decided(err) {
		err = e.judgeSession(r, g, err, x)
	}
	if err != nil {
		*g = Grant{diagnostics: g.diagnostics, judged: g.judged, policySpace: g.policySpace}
		return err
	}
	g.applications = nil // Decide keeps nothing of the request but strings
	g.self = g
	return nil
}

// decided reports whether a refusal is about who asks for what, rather than about a request that makes no sense.
func decided(err *identity.Error) bool {
	return err.Code != identity.CodeInternal && err.Code != identity.CodeInvalid
}

// judgeSession asks the policies. A rule that refused keeps the last word, and the policies that do not depend on the
// application are asked whether they agree.
func (e *Engine) judgeSession(r *Request, g *Grant, refused *identity.Error, x *Explanation) *identity.Error {
	g.judged = true
	g.diagnostics.Delegation = g.session.Delegation
	if r.Policies.idle(actCreateSession, r.Agent.Type) {
		return refused
	}
	g.diagnostics.Forbidding, g.diagnostics.Monitored = g.policySpace[0:0:2], g.policySpace[2:2]
	f := e.room()
	defer e.done(f)
	r.facts(g, f)
	var about []*identity.Application
	if refused == nil {
		f.applications, about = g.applications, g.applications
		if len(g.applications) < len(g.session.Audience) {
			about = append(about, f.nowhere(g))
		}
	}
	v := r.Policies.judge(f, about, &g.diagnostics, x)
	switch {
	case v.policy == nil:
		return refused
	case refused != nil:
		return refused.WithPolicy(v.policy.ID)
	}
	return v.refusal(actCreateSession)
}

// facts are what policies may know of a session. Where a rule refused early, they tell what was asked for.
func (r *Request) facts(g *Grant, f *facts) {
	s := &g.session
	f.act, f.now, f.agent, f.user = actCreateSession, r.Now, r.Agent, r.Principal
	f.requested, f.defaults = r.Requested, r.Agent.DefaultScopes
	if s.Scopes != "" {
		f.requested = s.Scopes
	} else if f.requested == "" {
		f.requested = r.Agent.DefaultScopes
	}
	f.depth = 1
	if r.Parent != nil {
		f.depth += int64(len(r.Parent.Chain))
		f.parent = r.Parent.Actor().Agent
	}
	f.trigger, f.source, f.seconds = r.TriggerReason, r.SourceIP.Unmap(), r.Agent.MaxSessionSeconds
	if s.Expires > 0 {
		f.seconds = int64(s.Expires-s.Issued) / 1000
	} else if r.MaxSeconds > 0 {
		f.seconds = min(f.seconds, r.MaxSeconds)
	}
	f.application = &noApplication
	f.approval = r.Approval != nil && r.Approval.Covers(r.Agent.Name, SessionBinding(r), r.Now)
}

// noApplication is what a decision is about that is about none.
var noApplication identity.Application

// room and done lend a decision its facts.
func (e *Engine) room() *facts {
	if f, ok := e.facts.Get().(*facts); ok {
		return f
	}
	return new(facts)
}

func (e *Engine) done(f *facts) {
	*f = facts{}
	e.facts.Put(f)
}

// checkRequest holds the caller within Deputy to its part. A failure here is a bug of ours, never the fault
// of whoever asked for the session, and fails closed.
func checkRequest(r *Request) *identity.Error {
	var wrong string
	switch {
	case r.Agent == nil:
		wrong = "no agent"
	case r.Applications == nil:
		wrong = "no applications"
	case r.Now <= 0:
		wrong = "no time"
	case r.Principal == nil && r.Delegation != nil:
		wrong = "a delegation without its principal"
	case r.Parent != nil && len(r.Parent.Chain) == 0:
		wrong = "a parent session without an actor"
	case r.Parent != nil && r.Parent.ID == r.SessionID:
		wrong = "the id of its parent session"
	case r.Parent == nil && len(r.ParentHandles) > 0:
		wrong = "handles of a parent that is not there"
	default:
		if _, err := identity.ParseID(identity.PrefixSession, r.SessionID); err != nil {
			return identity.Errorf(identity.CodeInternal, "BUG: session request with a bad session id: %w", err)
		}
		return nil
	}
	return identity.Errorf(identity.CodeInternal, "BUG: session request with %s", wrong)
}
