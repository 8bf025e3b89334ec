package api

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/identity"
)

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
	approval      string          // id of the approval that the caller holds for this call
	unknown       *identity.Error // it is about nothing that Deputy knows, and why
	alone         bool            // no other question is in the request: it may cost a human's time, and their yes
}

// about is the action as policies name it.
func (e *evaluation) about() string {
	if e.tool != "" {
		return wire.ActionCallTool
	}
	return wire.ActionCreateSession
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
		SourceIP string                `json:"source_ip"`
		Approval wire.DecisionApproval `json:"approval"`
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
	e.approval = context.Approval.ID
	for _, member := range []struct{ name, value string }{
		{"/subject/type", r.Subject.Type},
		{"/subject/id", r.Subject.ID},
		{"/action/name", r.Action.Name},
		{"/resource/type", r.Resource.Type},
		{"/resource/id", r.Resource.ID},
	} {
		if member.value == "" {
			return nil, invalidField(pointer+member.name, "is empty")
		}
	}
	if e.unknown = unknownEntity(r, pointer); e.unknown != nil {
		return e, nil
	}
	session := e.action == actionSession || e.action == wire.ActionCreateSession
	switch {
	case e.principal != "" && r.Subject.Type != subjectAgent:
		return nil, invalidField(pointer+"/subject/properties/principal", "is for agents; a session has its own")
	case session && r.Subject.Type != subjectAgent:
		return nil, invalidField(pointer+"/subject/type", "is %s; an agent starts sessions", r.Subject.Type)
	}
	switch r.Resource.Type {
	case resourceTool:
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
	}
	switch {
	case e.approval != "" && e.tool == "":
		return nil, invalidField(pointer+"/context/approval", "is for calls of tools; a session is approved where it is asked for")
	case e.approval != "" && r.Subject.Type == subjectAgent:
		return nil, invalidField(pointer+"/context/approval", "is for calls under a session: send its token as the subject")
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

// unknownEntity tells what of a well-formed question is of a kind that nothing here can be decided about. Types and
// actions are any strings to the specification, so that one is not known is no fault of the request.
func unknownEntity(r *wire.AccessEvaluation, pointer string) *identity.Error {
	switch subject, resource := r.Subject.Type, r.Resource.Type; {
	case subject != subjectSession && subject != subjectToken && subject != subjectAgent:
		return identity.Errorf(identity.CodeInvalid, "%s/subject/type is %.40q; known are %s, %s and %s", pointer, subject, subjectSession, subjectToken, subjectAgent)
	case resource != resourceTool && resource != resourceApplication:
		return identity.Errorf(identity.CodeInvalid, "%s/resource/type is %.40q; known are %s and %s", pointer, resource, resourceTool, resourceApplication)
	case resource == resourceTool && r.Action.Name != wire.ActionCallTool:
		return identity.Errorf(identity.CodeInvalid, "%s/action/name is %.40q; to a tool it is %s", pointer, r.Action.Name, wire.ActionCallTool)
	}
	return nil
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
