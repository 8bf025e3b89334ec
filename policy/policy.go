// Package policy decides whether an agent gets a session, and for what: a request goes in, a Grant or a
// refusal comes out.
//
// The rules here are the model's own, and they alone allow: an agent may act where its status, its
// assignments, its default scopes, a delegation and the parent session all say so. Cedar policies will come
// in Engine.Decide after these rules and see what they would grant; they can only forbid more, never allow
// what a rule refused. That is why Decide is a method and a Request carries more than the rules read, such
// as the source address: it is the context that policies will be evaluated in.
//
// The package is pure: no I/O, no clock, no state between requests. A Grant has only unexported fields, so
// whoever holds a valid one knows that it went through every rule.
package policy

import (
	"net/netip"

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
}

// Engine decides. It is safe for concurrent use.
type Engine struct{}

// NewEngine returns an engine with the model's own rules.
func NewEngine() *Engine { return &Engine{} }

// Decide makes g a valid Grant, or returns an *identity.Error with the code of the rule that refused and a hint
// what to do about it; g is then not valid, whatever it was before. Rules speak in the order below, the broadest
// first, so that a caller hears of the suspended agent before it hears of a missing scope.
//
// The parent of the request must not be the session of g itself.
func (e *Engine) Decide(r *Request, g *Grant) error {
	*g = Grant{}
	if err := decide(r, g); err != nil {
		*g = Grant{}
		return err
	}
	g.self = g
	return nil
}

// decide fills g rule by rule; g is worth nothing until all of them have agreed.
func decide(r *Request, g *Grant) *identity.Error {
	if err := checkRequest(r); err != nil {
		return err
	}
	if err := checkStatus(r); err != nil {
		return err
	}
	if err := joinChain(r, g); err != nil {
		return err
	}
	if err := checkDelegation(r, g); err != nil {
		return err
	}
	if err := narrowScopes(r, g); err != nil {
		return err
	}
	if err := chooseAudience(r, g); err != nil {
		return err
	}
	if err := capLifetime(r, g); err != nil {
		return err
	}
	return listHandles(r, g)
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
