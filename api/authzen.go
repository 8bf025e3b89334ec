package api

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/valyala/fasthttp"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// The decision point speaks AuthZEN's Authorization API 1.0: enforcement points, which are applications or gateways in
// front of them, ask whether the agent that calls may do what it wants. A denial is an answer like any other; a status
// of 4xx or 5xx says that there is no decision.

const maxToolName = 256

// Words of the requests.
const (
	subjectSession      = "session"
	subjectToken        = "token"
	subjectAgent        = "agent"
	resourceTool        = "tool"
	resourceApplication = "application"
	actionSession       = "session"
)

// evaluation is one question as it was read.
type evaluation struct {
	subject       wire.AccessSubject
	action        string
	principal     string // of an agent
	application   string
	tool          string // "" where the question is about a session
	requiredScope string
	argumentsHash string
	source        netip.Addr
}

// evaluated is what came of it. The hits are counted once the answer goes out.
type evaluated struct {
	wire.AccessDecision
	hits []noted
}

type noted struct {
	diagnostics policy.Diagnostics
	hit         hit
}

// identifyDecider lets in who may ask for decisions: an application, by HTTP Basic, or an API token.
func (a *API) identifyDecider(c *call) error {
	if scheme, _ := authorization(c.ctx); equalFold(scheme, "basic") {
		return a.enter(c, (*call).identifyByHeader)
	}
	return a.authorize(c)
}

func (a *API) evaluateAccess(c *call) error {
	if err := a.identifyDecider(c); err != nil {
		return err
	}
	var request wire.AccessEvaluation
	if err := c.body(&request); err != nil {
		return err
	}
	one, err := a.evaluate(c, &request, "")
	if err != nil {
		return err
	}
	return a.answerAccess(c, []evaluated{one}, one.AccessDecision)
}

func (a *API) evaluateManyAccesses(c *call) error {
	if err := a.identifyDecider(c); err != nil {
		return err
	}
	var request wire.AccessEvaluations
	if err := c.body(&request); err != nil {
		return err
	}
	if len(request.Evaluations) > wire.MaxEvaluations {
		return invalidField("/evaluations", "has %d entries; at most %d are allowed", len(request.Evaluations), wire.MaxEvaluations)
	}
	semantic, err := readSemantic(request.Options)
	if err != nil {
		return err
	}
	if len(request.Evaluations) == 0 {
		whole, err := accessOr(&request.AccessEvaluationItem, &wire.AccessEvaluationItem{}, "")
		if err != nil {
			return err
		}
		one, err := a.evaluate(c, whole, "")
		if err != nil {
			return err
		}
		return a.answerAccess(c, []evaluated{one}, wire.AccessDecisions{Decision: &one.Decision, Context: one.Context})
	}
	all := make([]*wire.AccessEvaluation, len(request.Evaluations))
	for i := range all {
		if all[i], err = accessOr(&request.Evaluations[i], &request.AccessEvaluationItem, fmt.Sprintf("/evaluations/%d", i)); err != nil {
			return err
		}
	}
	var answer wire.AccessDecisions
	var done []evaluated
	for i, one := range all {
		e, err := a.evaluate(c, one, fmt.Sprintf("/evaluations/%d", i))
		if err != nil {
			if e, err = failedEvaluation(err); err != nil {
				return err
			}
		}
		done, answer.Evaluations = append(done, e), append(answer.Evaluations, e.AccessDecision)
		if semantic == wire.DenyOnFirstDeny && !e.Decision || semantic == wire.PermitOnFirstPermit && e.Decision {
			break
		}
	}
	return a.answerAccess(c, done, answer)
}

// answerAccess answers, if this node may speak, and only then counts what policies said.
func (a *API) answerAccess(c *call, done []evaluated, answer any) error {
	if err := a.fresh(c); err != nil {
		return err
	}
	for i := range done {
		for j := range done[i].hits {
			a.hits.note(&done[i].hits[j].diagnostics, done[i].hits[j].hit)
		}
	}
	return c.answer(fasthttp.StatusOK, answer)
}

func readSemantic(options json.RawMessage) (string, error) {
	var o struct {
		Semantic string `json:"evaluations_semantic"`
	}
	if err := readProperties(options, &o, "/options"); err != nil {
		return "", err
	}
	switch o.Semantic {
	case "":
		return wire.EvaluateAll, nil
	case wire.EvaluateAll, wire.DenyOnFirstDeny, wire.PermitOnFirstPermit:
		return o.Semantic, nil
	}
	return "", invalidField("/options/evaluations_semantic", "is %.40q; it must be %s, %s or %s", o.Semantic, wire.EvaluateAll, wire.DenyOnFirstDeny, wire.PermitOnFirstPermit)
}

// accessOr completes one of several evaluations from what the whole request says.
func accessOr(one, defaults *wire.AccessEvaluationItem, pointer string) (*wire.AccessEvaluation, error) {
	out := &wire.AccessEvaluation{Context: one.Context}
	if out.Context == nil {
		out.Context = defaults.Context
	}
	subject, action, resource := one.Subject, one.Action, one.Resource
	if subject == nil {
		subject = defaults.Subject
	}
	if action == nil {
		action = defaults.Action
	}
	if resource == nil {
		resource = defaults.Resource
	}
	switch {
	case subject == nil:
		return nil, invalidField(pointer+"/subject", "is missing, here and in the whole request")
	case action == nil:
		return nil, invalidField(pointer+"/action", "is missing, here and in the whole request")
	case resource == nil:
		return nil, invalidField(pointer+"/resource", "is missing, here and in the whole request")
	}
	out.Subject, out.Action, out.Resource = *subject, *action, *resource
	return out, nil
}

// failedEvaluation is an evaluation that makes no sense, among others that may. What is wrong with this node fails all.
func failedEvaluation(err error) (evaluated, error) {
	e := asError(err)
	status := verdicts[e.Code].status
	if status >= fasthttp.StatusInternalServerError {
		return evaluated{}, err
	}
	return evaluated{AccessDecision: wire.AccessDecision{Context: &wire.DecisionContext{
		Error: &wire.DecisionError{Status: int64(status), Message: e.Error()},
	}}}, nil
}

// readProperties takes what it knows of an object whose other members are the caller's own.
func readProperties(raw json.RawMessage, into any, pointer string) error {
	if len(raw) == 0 {
		return nil
	}
	if err := json.Unmarshal(raw, into); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return invalidField(pointer+"/"+wrong.Field, "is a %s; it must be a %s", wrong.Value, wrong.Type)
		}
		return invalidField(pointer, "can't be read")
	}
	return nil
}

// readEvaluation says what is asked in the domain's terms.
func (c *call) readEvaluation(r *wire.AccessEvaluation, pointer string) (*evaluation, error) {
	e := &evaluation{subject: r.Subject, action: r.Action.Name}
	var subject struct {
		Principal string `json:"principal"`
	}
	var resource struct {
		Application   string `json:"application"`
		RequiredScope string `json:"required_scope"`
		ArgumentsHash string `json:"arguments_hash"`
	}
	var context struct {
		SourceIP string `json:"source_ip"`
	}
	if err := errors.Join(
		readProperties(r.Subject.Properties, &subject, pointer+"/subject/properties"),
		readProperties(r.Resource.Properties, &resource, pointer+"/resource/properties"),
		readProperties(r.Context, &context, pointer+"/context"),
	); err != nil {
		return nil, err
	}
	e.principal, e.application = subject.Principal, resource.Application
	e.requiredScope, e.argumentsHash = resource.RequiredScope, resource.ArgumentsHash
	switch r.Subject.Type {
	case subjectSession, subjectToken, subjectAgent:
	default:
		return nil, invalidField(pointer+"/subject/type", "is %.40q; it must be %s, %s or %s", r.Subject.Type, subjectSession, subjectToken, subjectAgent)
	}
	session := e.action == actionSession || e.action == wire.ActionCreateSession
	switch {
	case e.subject.ID == "":
		return nil, invalidField(pointer+"/subject/id", "is empty")
	case e.action == "":
		return nil, invalidField(pointer+"/action/name", "is empty")
	case r.Resource.ID == "":
		return nil, invalidField(pointer+"/resource/id", "is empty")
	case e.principal != "" && r.Subject.Type != subjectAgent:
		return nil, invalidField(pointer+"/subject/properties/principal", "is for agents; a session has its own")
	case session && r.Subject.Type != subjectAgent:
		return nil, invalidField(pointer+"/subject/type", "is %s; an agent starts sessions", r.Subject.Type)
	}
	switch r.Resource.Type {
	case resourceTool:
		if e.action != wire.ActionCallTool {
			return nil, invalidField(pointer+"/action/name", "is %.40q; to a tool it must be %s", e.action, wire.ActionCallTool)
		}
		e.tool = r.Resource.ID
		if e.application == "" && c.caller.application != nil {
			e.application = c.caller.application.Name
		}
		if e.application == "" {
			return nil, invalidField(pointer+"/resource/properties/application", "is missing: whose tool is it?")
		}
	case resourceApplication:
		if e.application = r.Resource.ID; !session {
			e.tool = e.action
		}
	default:
		return nil, invalidField(pointer+"/resource/type", "is %.40q; it must be %s or %s", r.Resource.Type, resourceTool, resourceApplication)
	}
	if len(e.tool) > maxToolName {
		return nil, invalidField(pointer+"/resource/id", "names a tool with %d bytes; at most %d are allowed", len(e.tool), maxToolName)
	}
	if err := validToolCall(e.requiredScope, e.argumentsHash); err != nil {
		return nil, invalidField(pointer+"/resource/properties", "%v", err)
	}
	if context.SourceIP != "" {
		var err error
		if e.source, err = netip.ParseAddr(context.SourceIP); err != nil {
			return nil, invalidField(pointer+"/context/source_ip", "is %.64q; it must be an IP address", context.SourceIP)
		}
	}
	return e, nil
}

// validToolCall holds what an enforcement point says of a call to what it can be.
func validToolCall(requiredScope, argumentsHash string) error {
	if requiredScope != "" {
		if _, err := identity.NewScopes([]string{requiredScope}); err != nil {
			return fmt.Errorf("required_scope: %w", err)
		}
	}
	if argumentsHash == "" {
		return nil
	}
	if sum, err := hex.DecodeString(argumentsHash); err != nil || len(sum) != 32 {
		return errors.New("arguments_hash is no SHA-256 in hexadecimal")
	}
	return nil
}

// evaluate answers one question. An error says that there is no decision.
func (a *API) evaluate(c *call, r *wire.AccessEvaluation, pointer string) (evaluated, error) {
	e, err := c.readEvaluation(r, pointer)
	if err != nil {
		return evaluated{}, err
	}
	application, ok := c.view.Application(e.application)
	if !ok {
		application, ok = c.view.ApplicationByAudience(e.application)
	}
	switch {
	case c.caller.application != nil && (!ok || application.Name != c.caller.application.Name):
		return evaluated{}, identity.Errorf(identity.CodeForbidden, "application %q asks about itself only", c.caller.application.Name).
			WithHint("an API token with role runtime or auditor may ask about others")
	case !ok:
		return failedEvaluation(notFound("application", e.application))
	}
	var out evaluated
	refusal, err := a.decideAccess(c, e, application, &out)
	if err != nil {
		return evaluated{}, err
	}
	out.conclude(refusal)
	return out, nil
}

// conclude words a decision.
func (e *evaluated) conclude(refusal *identity.Error) {
	e.Decision = refusal == nil
	var why wire.DecisionContext
	for i := range e.hits {
		why.Monitored = append(why.Monitored, e.hits[i].diagnostics.Monitored...)
	}
	if refusal != nil {
		v := verdicts[refusal.Code]
		status := strconv.Itoa(v.status)
		why.Code, why.PolicyID = refusal.Code, refusal.Policy
		why.ReasonUser = map[string]string{status: v.title}
		why.ReasonAdmin = map[string]string{status: refusal.Error()}
		why.ApprovalRequired = refusal.Code == identity.CodeApprovalRequired
	}
	if refusal != nil || len(why.Monitored) > 0 {
		e.Context = &why
	}
}

// decideAccess finds out whose session it is about, and decides.
func (a *API) decideAccess(c *call, e *evaluation, application *identity.Application, out *evaluated) (*identity.Error, error) {
	if e.subject.Type != subjectAgent {
		claims, err := a.judged(c, []byte(e.subject.ID))
		if err != nil {
			return nil, err
		}
		if claims == nil {
			return unacceptable("session token", "it is no token of this server, has ended or was revoked"), nil
		}
		session := claims.Session()
		if err := c.mayAskFor(session.Actor().Agent); err != nil {
			return nil, err
		}
		return a.decideTool(c, e, application, session, out)
	}
	if err := c.mayAskFor(e.subject.ID); err != nil {
		return nil, err
	}
	agent, ok := c.view.Agent(e.subject.ID)
	if !ok {
		return notFound("agent", e.subject.ID), nil
	}
	grant := new(policy.Grant)
	refusal, err := a.decideAgent(c, e, agent, application, grant, out)
	if refusal != nil || err != nil || e.tool == "" {
		return refusal, err
	}
	return a.decideTool(c, e, application, grant.Session(), out)
}

// mayAskFor wants that a runtime asks about the agents that it runs.
func (c *call) mayAskFor(agent string) error {
	if c.caller.application != nil || c.caller.token.Has(identity.RoleAuditor) || c.caller.token.MayRun(agent) {
		return nil
	}
	return mayNotRun(c.caller.token, agent)
}

// decideAgent decides on the session that the agent would get now at the application.
func (a *API) decideAgent(c *call, e *evaluation, agent *identity.Agent, application *identity.Application, grant *policy.Grant, out *evaluated) (*identity.Error, error) {
	c.request = policy.Request{Agent: agent, Audience: []string{application.Name}}
	if e.requiredScope != "" {
		c.request.Requested = identity.Scopes(e.requiredScope)
	}
	if e.principal != "" {
		lent, refusal := c.view.ActiveDelegation(agent.Name, e.principal, c.request.Requested, c.now)
		if refusal != nil {
			return refusal, nil
		}
		c.lent = lent
		c.request.Principal, c.request.Delegation = c.lent.Principal, &c.lent.Delegation
	}
	if err := a.prepare(c); err != nil {
		return nil, err
	}
	c.request.SourceIP = e.source
	err := a.Policy.Decide(&c.request, grant)
	scopes := c.request.Requested
	if scopes == "" {
		scopes = agent.DefaultScopes
	}
	out.hits = append(out.hits, noted{*grant.Diagnostics(), hit{agent.Name, scopes, c.now}})
	return refusalOf(err)
}

// refusalOf tells a decision from what keeps there from being one.
func refusalOf(err error) (*identity.Error, error) {
	if err == nil {
		return nil, nil
	}
	e := asError(err)
	if e.Code == identity.CodeInternal || e.Code == identity.CodeInvalid {
		return nil, err
	}
	return e, nil
}

// decideTool decides on a call of a tool under a session.
func (a *API) decideTool(c *call, e *evaluation, application *identity.Application, session *identity.Session, out *evaluated) (*identity.Error, error) {
	r, refusal := a.toolRequest(c, session)
	if refusal != nil {
		return refusal, nil
	}
	r.Tool = policy.Tool{Name: e.tool, Application: application.Name, RequiredScope: e.requiredScope}
	r.ArgumentsHash, r.SourceIP = e.argumentsHash, e.source
	decision, err := a.Policy.DecideTool(r)
	out.hits = append(out.hits, noted{decision.Diagnostics, hit{r.Agent.Name, identity.Scopes(e.requiredScope), c.now}})
	return refusalOf(err)
}

// toolRequest is a tool call under a session that was found to be good, but for the tool.
func (a *API) toolRequest(c *call, session *identity.Session) (*policy.ToolRequest, *identity.Error) {
	name := session.Actor().Agent
	agent, ok := c.view.Agent(name)
	if !ok {
		return nil, notFound("agent", name)
	}
	r := &policy.ToolRequest{
		Now: c.now, Session: session, Agent: agent, Applications: viewApplications{c.view}, Policies: a.policiesOf(c),
	}
	if session.Principal != "" {
		if r.Principal, ok = c.view.Principal(session.Principal); !ok {
			return nil, notFound("principal", session.Principal)
		}
	}
	return r, nil
}

// decisionPoint is the metadata of the decision point.
func (a *API) decisionPoint(c *call) error {
	issuer := c.view.Settings().Issuer
	if issuer == "" {
		if err := a.fresh(c); err != nil {
			return err
		}
	}
	c.ctx.Response.SetStatusCode(fasthttp.StatusOK)
	c.ctx.Response.Header.SetContentType(contentTypeJSON)
	c.ctx.Response.Header.Set(fasthttp.HeaderCacheControl, "public, max-age=300")
	c.ctx.Response.SetBodyRaw(encodeJSON(wire.DecisionPoint{
		PolicyDecisionPoint:       issuer,
		AccessEvaluationEndpoint:  issuer + evaluationPath,
		AccessEvaluationsEndpoint: issuer + evaluationsPath,
	}))
	return nil
}
