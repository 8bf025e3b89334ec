package policytest

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// The actions of the schema.
const (
	actionCreateSession = "CreateSession"
	actionCallTool      = "CallTool"
	actionDelegate      = "Delegate"
)

// issuer is that of the cluster in a file: no case is about it.
const issuer = "urn:deputy:policytest"

// Result is what came of one case.
type Result struct {
	Name        string
	Line        int
	Passed      bool
	Want, Got   string              // in a few words, where it did not pass
	Explanation *policy.Explanation // of the decision
}

// Run decides each case with the policies and compares.
func (f *File) Run(set *policy.Set) []Result {
	m, err := f.model()
	if err != nil {
		// Parse has made it once.
		panic(fmt.Sprintf("BUG: %v", err))
	}
	engine := policy.NewEngine()
	results := make([]Result, len(f.Cases))
	for i := range f.Cases {
		c := &f.Cases[i]
		results[i] = c.compare(c.explain(engine, m, set))
	}
	return results
}

func (c *Case) explain(engine *policy.Engine, m *model, set *policy.Set) *policy.Explanation {
	switch c.Action {
	case actionCallTool:
		return engine.ExplainTool(c.toolRequest(m, set))
	case actionDelegate:
		return engine.ExplainDelegation(c.delegationRequest(m, set))
	}
	return engine.Explain(c.request(m, set))
}

func (c *Case) compare(x *policy.Explanation) Result {
	r := Result{Name: c.Name, Line: c.line, Explanation: x}
	var want, got []string
	expect := func(name, wanted, came string) {
		want, got = append(want, name+wanted), append(got, name+came)
	}
	came := "allow"
	if !x.Allowed {
		came = "deny"
	}
	expect("", c.Expect, came)
	if c.Code != "" {
		code := ""
		if x.Refusal != nil {
			code = string(x.Refusal.Code)
		}
		expect("code ", c.Code, code)
	}
	if c.Policy != "" {
		// Several may forbid, of which one speaks.
		refusing := c.Policy
		if !slices.Contains(x.Diagnostics.Forbidding, c.Policy) {
			refusing = "none"
			if x.Refusal != nil && x.Refusal.Policy != "" {
				refusing = x.Refusal.Policy
			}
		}
		expect("policy ", c.Policy, refusing)
	}
	if c.Monitored != nil {
		expect("monitored ", fmt.Sprint(sorted(*c.Monitored)), fmt.Sprint(sorted(x.Diagnostics.Monitored)))
	}
	if r.Passed = slices.Equal(want, got); r.Passed {
		return r
	}
	r.Want, r.Got = strings.Join(want, ", "), strings.Join(got, ", ")
	if x.Refusal != nil {
		r.Got += fmt.Sprintf(" (%s: %s)", x.Refusal.Code, x.Refusal.Message)
	}
	return r
}

func (c *Case) now() identity.Instant {
	at := time.Date(2026, 1, 5, 12, 0, 0, 0, time.UTC)
	if c.Time != "" {
		at, _ = time.Parse(time.RFC3339, c.Time) //nolint:errcheck // Parse has read it once
	}
	return identity.InstantOf(at)
}

func (c *Case) source() netip.Addr {
	address, _ := netip.ParseAddr(c.SourceIP) //nolint:errcheck // Parse has read it once, and none is no address
	return address
}

func (c *Case) scopes() identity.Scopes {
	scopes, _ := identity.NewScopes(c.Scopes) //nolint:errcheck // Parse has read them once
	return scopes
}

func id(prefix string, now identity.Instant) string { return identity.NewID(prefix, now, [10]byte{}) }

// request is a session, under a delegation of everything where it is for somebody.
func (c *Case) request(m *model, set *policy.Set) *policy.Request {
	now, agent := c.now(), m.agents[c.Agent]
	r := &policy.Request{
		Now: now, SessionID: id(identity.PrefixSession, now), Agent: agent, Principal: m.principals[c.Principal],
		Requested: c.scopes(), Audience: c.Audience, TriggerReason: c.Reason, MaxSeconds: c.Seconds,
		Applications: m, Issuer: issuer, SourceIP: c.source(), Policies: set,
	}
	first := agent
	if len(c.Chain) > 0 {
		first = m.agents[c.Chain[0]]
		r.Parent = c.parent(m)
		r.ParentHandles = []identity.Handle{identity.SessionHandle(r.Parent.ID)}
	}
	if r.Principal != nil {
		r.Delegation = &identity.Delegation{
			ID: id(identity.PrefixDelegation, now), Principal: c.Principal, Agent: first.Name, Scopes: m.everything(),
			Expires: now + identity.MaxSessionSeconds*1000, MaxHops: identity.MaxChain, Status: identity.DelegationActive,
		}
		if r.Parent != nil {
			r.Parent.Delegation = r.Delegation.ID
		}
	}
	if c.Approved {
		r.Approval = c.approval(policy.SessionBinding(r))
	}
	return r
}

// parent is the session of the agents before, with every scope there is.
func (c *Case) parent(m *model) *identity.Session {
	now := c.now()
	s := &identity.Session{
		ID: id(identity.PrefixSession, now-1), Principal: c.Principal, Scopes: m.everything(),
		Issued: now - 1000, Expires: now + identity.MaxSessionSeconds*1000,
	}
	for _, a := range m.applications {
		s.Audience = append(s.Audience, a.Audience)
	}
	if len(s.Audience) == 0 {
		s.Audience = []string{issuer}
	}
	for _, name := range c.Chain {
		s.Chain = append(s.Chain, identity.Actor{Agent: name, Generation: m.agents[name].Generation})
		s.AgentType = m.agents[name].Type
	}
	return s
}

// everything is every scope that an agent of the file may have.
func (m *model) everything() identity.Scopes {
	var names []string
	for _, a := range m.agents {
		names = append(names, a.DefaultScopes.List()...)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	scopes, _ := identity.NewScopes(names[:min(len(names), identity.MaxScopes)]) //nolint:errcheck // each was valid before
	return scopes
}

// toolRequest is a call under a session with the scopes of the case, or else all that the agent may have.
func (c *Case) toolRequest(m *model, set *policy.Set) *policy.ToolRequest {
	now, agent := c.now(), m.agents[c.Agent]
	s := c.parent(m)
	s.Chain = append(s.Chain, identity.Actor{Agent: agent.Name, Generation: agent.Generation})
	s.AgentType, s.Scopes, s.TriggerReason = agent.Type, agent.DefaultScopes, c.Reason
	if len(c.Scopes) > 0 {
		s.Scopes = c.scopes()
	}
	s.Audience = nil
	for _, a := range m.applications {
		if len(c.Audience) == 0 || slices.Contains(c.Audience, a.Name) || slices.Contains(c.Audience, a.Audience) {
			s.Audience = append(s.Audience, a.Audience)
		}
	}
	if s.Expires = now + identity.Instant(agent.MaxSessionSeconds)*1000; c.Seconds > 0 {
		s.Expires = now + identity.Instant(c.Seconds)*1000
	}
	r := &policy.ToolRequest{
		Now: now, Session: s, Agent: agent, Principal: m.principals[c.Principal], Applications: m, SourceIP: c.source(), Policies: set,
		Tool:          policy.Tool{Name: c.Tool.Name, Application: c.Tool.Application, RequiredScope: c.Tool.RequiredScope},
		ArgumentsHash: c.Tool.ArgumentsHash,
	}
	if c.Approved {
		r.Approval = c.approval(policy.ToolBinding(r))
	}
	return r
}

func (c *Case) delegationRequest(m *model, set *policy.Set) *policy.DelegationRequest {
	agent := m.agents[c.Agent]
	r := &policy.DelegationRequest{
		Now: c.now(), Principal: m.principals[c.Principal], Agent: agent, Scopes: c.scopes(), Seconds: c.Seconds, MaxHops: c.MaxHops,
		Reason: c.Reason, SourceIP: c.source(), Policies: set,
	}
	if len(c.Scopes) == 0 {
		r.Scopes = agent.DefaultScopes
	}
	if r.Seconds == 0 {
		r.Seconds = agent.MaxSessionSeconds
	}
	if r.MaxHops == 0 {
		r.MaxHops = identity.MaxChain
	}
	if c.Approved {
		r.Approval = c.approval(policy.DelegationBinding(r))
	}
	return r
}

func (c *Case) approval(binding string) *identity.Approval {
	return &identity.Approval{Agent: c.Agent, Binding: binding, Status: identity.ApprovalApproved, Expires: c.now() + 1}
}
