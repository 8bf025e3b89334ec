package policy

import (
	"net/netip"

	"github.com/deputy-id/deputy/identity"
)

// Tool is one operation of an application, as the service or the proxy in front of it names it.
type Tool struct {
	Name          string
	Application   string // name or audience of the application
	RequiredScope string // "" where it needs none
}

// ToolRequest is everything that the decision about one tool call rests on: a session whose token was found to be good,
// and the rest from one View.
type ToolRequest struct {
	Now           identity.Instant
	Session       *identity.Session   // as the token has it
	Agent         *identity.Agent     // the actor of the session
	Principal     *identity.Principal // of the session; nil for an autonomous run
	Tool          Tool
	ArgumentsHash string // SHA-256 of the arguments in hexadecimal, "" where they are not known
	SourceIP      netip.Addr
	Applications  Applications

	Policies *Set
	Approval *identity.Approval
}

// Decision is what came of a request that ends in nothing but yes or no.
type Decision struct {
	Allowed bool
	Diagnostics

	application *identity.Application
	judged      bool
}

// DecideTool allows a tool call, or returns an *identity.Error as Decide does; the diagnostics are there in both cases.
func (e *Engine) DecideTool(r *ToolRequest) (Decision, error) {
	var d Decision
	if err := e.decideTool(r, &d, nil); err != nil {
		return d, err
	}
	return d, nil
}

// ExplainTool decides as DecideTool does, and tells how it came to that.
func (e *Engine) ExplainTool(r *ToolRequest) *Explanation {
	var d Decision
	x := new(Explanation)
	x.Refusal = e.decideTool(r, &d, x)
	x.Allowed, x.Diagnostics = d.Allowed, d.Diagnostics
	x.finish(toolRules.names(), r.Policies, d.judged)
	return x
}

// toolRules are the model's own for a tool call. Whether the token was revoked the verifier has looked at.
var toolRules = rules[*ToolRequest, *Decision]{
	{"request", checkToolRequest},
	{"status", checkToolStatus},
	{"application", checkToolApplication},
	{"scopes", checkToolScope},
}

func checkToolRequest(r *ToolRequest, _ *Decision) *identity.Error {
	var wrong string
	switch {
	case r.Session == nil || len(r.Session.Chain) == 0:
		wrong = "no session"
	case r.Agent == nil:
		wrong = "no agent"
	case r.Applications == nil:
		wrong = "no applications"
	case r.Now <= 0:
		wrong = "no time"
	case r.Session.Actor().Agent != r.Agent.Name:
		wrong = "another agent than the session's"
	case r.Principal == nil && r.Session.Principal != "", r.Principal != nil && r.Session.Principal != r.Principal.ID:
		wrong = "another principal than the session's"
	case r.Tool.Name == "":
		return identity.Errorf(identity.CodeInvalid, "the tool has no name").WithHint("name the operation that is called, such as tickets.assign")
	default:
		return nil
	}
	return identity.Errorf(identity.CodeInternal, "BUG: tool request with %s", wrong)
}

func checkToolStatus(r *ToolRequest, d *Decision) *identity.Error {
	if err := statusOf(r.Agent, r.Principal); err != nil {
		return err
	}
	if r.Session.Actor().Generation != r.Agent.Generation {
		return identity.Errorf(identity.CodeRevoked, "the session is of an earlier generation of agent %q", r.Agent.Name).
			WithHint("start a new session")
	}
	if r.Session.Expires <= r.Now {
		return identity.Errorf(identity.CodeDelegationExpired, "session %s ended at %s", r.Session.ID, r.Session.Expires).
			WithHint("start a new session")
	}
	d.Delegation = r.Session.Delegation
	return nil
}

func checkToolApplication(r *ToolRequest, d *Decision) *identity.Error {
	app, ok := r.Applications.Application(r.Tool.Application)
	if !ok {
		app, ok = r.Applications.ApplicationByAudience(r.Tool.Application)
	}
	if !ok {
		return identity.Errorf(identity.CodeUnknownAudience, "%.*q is neither the name nor the audience of an application", identity.MaxAudienceLength, r.Tool.Application).
			WithHint("list them with GET /api/v1/applications")
	}
	for _, uri := range r.Session.Audience {
		if uri == app.Audience {
			d.application = app
			break
		}
	}
	if d.application == nil {
		return identity.Errorf(identity.CodeApplicationNotAssigned, "the session is not meant for application %q", app.Name).
			WithHint("start a session with %q in its audience", app.Name)
	}
	if !r.Agent.AssignedTo(app.Name) {
		return identity.Errorf(identity.CodeApplicationNotAssigned, "agent %q is not assigned to application %q any more", r.Agent.Name, app.Name).
			WithHint("assign it with PATCH /api/v1/agents/%s (applications)", r.Agent.Name)
	}
	return nil
}

func checkToolScope(r *ToolRequest, _ *Decision) *identity.Error {
	if scope := r.Tool.RequiredScope; scope != "" && !r.Session.Scopes.Contains(scope) {
		return identity.Errorf(identity.CodeScopeNotAllowed, "tool %.128q needs scope %.128q, which the session does not have", r.Tool.Name, scope).
			WithHint("start a session with that scope")
	}
	return nil
}

func (e *Engine) decideTool(r *ToolRequest, d *Decision, x *Explanation) *identity.Error {
	err := toolRules.run(r, d, x)
	if err == nil || decided(err) {
		err = e.judgeTool(r, d, err, x)
	}
	d.application, d.Allowed = nil, err == nil
	return err
}

func (e *Engine) judgeTool(r *ToolRequest, d *Decision, refused *identity.Error, x *Explanation) *identity.Error {
	d.judged = true
	if r.Policies.idle(actCallTool, r.Agent.Type) {
		return refused
	}
	f := e.room()
	defer e.done(f)
	r.facts(d, f)
	v := r.Policies.judge(f, nil, &d.Diagnostics, x)
	switch {
	case v.policy == nil:
		return refused
	case refused != nil:
		return refused.WithPolicy(v.policy.ID)
	}
	return v.refusal(actCallTool)
}

func (r *ToolRequest) facts(d *Decision, f *facts) {
	s := r.Session
	f.act, f.now, f.agent, f.user, f.tool = actCallTool, r.Now, r.Agent, r.Principal, &r.Tool
	f.requested, f.defaults = s.Scopes, r.Agent.DefaultScopes
	f.depth = int64(len(s.Chain))
	if len(s.Chain) > 1 {
		f.parent = s.Chain[len(s.Chain)-2].Agent
	}
	f.trigger, f.source, f.arguments = s.TriggerReason, r.SourceIP.Unmap(), r.ArgumentsHash
	f.seconds = max(0, int64(s.Expires-r.Now)/1000)
	f.application = &noApplication
	if d.application != nil {
		f.application = d.application
		f.only[0] = d.application
		f.applications = f.only[:]
	}
	f.approval = r.Approval != nil && r.Approval.Covers(r.Agent.Name, ToolBinding(r), r.Now)
}
