package wire

import (
	"encoding/json"

	"github.com/deputy-id/deputy/identity"
)

// MaxEvaluations bounds the evaluations of one POST /access/v1/evaluations.
const MaxEvaluations = 100

// The semantics of several evaluations (AuthZEN Authorization API 1.0, Access Evaluations API).
const (
	EvaluateAll         = "execute_all"
	DenyOnFirstDeny     = "deny_on_first_deny"
	PermitOnFirstPermit = "permit_on_first_permit"
)

// AccessSubject is who wants to do something.
type AccessSubject struct {
	Type       string          `json:"type" doc:"session or token: id is a session's token; agent: id is an agent, which stands for the session that it would get"`
	ID         string          `json:"id"`
	Properties json.RawMessage `json:"properties,omitempty" doc:"of an agent: principal, the user it acts for; absent: nobody"`
}

// AccessAction is what they want to do.
type AccessAction struct {
	Name       string          `json:"name" doc:"CallTool, or session to ask for a session at an application; at an application any other name is the tool that is called"`
	Properties json.RawMessage `json:"properties,omitempty" doc:"not looked at"`
}

// AccessResource is what they want to do it to.
type AccessResource struct {
	Type       string          `json:"type" doc:"tool: id is the tool's name; application: id is its id or audience URI"`
	ID         string          `json:"id"`
	Properties json.RawMessage `json:"properties,omitempty" doc:"application of a tool, where it is not the caller; required_scope; arguments_hash, SHA-256 in hexadecimal"`
}

// AccessEvaluation asks whether something may be done (AuthZEN Authorization API 1.0).
type AccessEvaluation struct {
	Subject  AccessSubject   `json:"subject"`
	Action   AccessAction    `json:"action"`
	Resource AccessResource  `json:"resource"`
	Context  json.RawMessage `json:"context,omitempty" doc:"source_ip: the agent's address, as the caller sees it; absent: none is known; approval: {id}, which is used up where it makes the difference; other members are not looked at"`
}

// AccessEvaluationItem is one of several evaluations; what it leaves out is taken from the whole request.
type AccessEvaluationItem struct {
	Subject  *AccessSubject  `json:"subject,omitempty"`
	Action   *AccessAction   `json:"action,omitempty"`
	Resource *AccessResource `json:"resource,omitempty"`
	Context  json.RawMessage `json:"context,omitempty"`
}

// AccessEvaluations asks several things at once, or one where it has no evaluations.
type AccessEvaluations struct {
	AccessEvaluationItem
	Evaluations []AccessEvaluationItem `json:"evaluations,omitempty" doc:"at most 100"`
	Options     json.RawMessage        `json:"options,omitempty" doc:"evaluations_semantic: execute_all, the default, deny_on_first_deny or permit_on_first_permit"`
}

// AccessDecision is the answer to one evaluation.
type AccessDecision struct {
	Decision bool             `json:"decision"`
	Context  *DecisionContext `json:"context,omitempty"`
}

// AccessDecisions is the answer to several evaluations, in their order, or to one.
type AccessDecisions struct {
	Decision    *bool            `json:"decision,omitempty" doc:"where the request had no evaluations"`
	Context     *DecisionContext `json:"context,omitempty"`
	Evaluations []AccessDecision `json:"evaluations,omitempty" doc:"may be fewer than asked for, where the semantic says so"`
}

// DecisionContext says why.
type DecisionContext struct {
	EvaluationID     string            `json:"evaluation_id,omitempty" doc:"beside access_request: names this evaluation; the request id"`
	Code             identity.Code     `json:"code,omitempty" doc:"the rule that refuses"`
	PolicyID         string            `json:"policy_id,omitempty" doc:"the policy that refuses, or agrees with the refusal"`
	ReasonUser       map[string]string `json:"reason_user,omitempty" doc:"by status of HTTP"`
	ReasonAdmin      map[string]string `json:"reason_admin,omitempty" doc:"by status of HTTP"`
	ApprovalRequired bool              `json:"approval_required,omitempty" doc:"a human's approval would lift the refusal"`
	AccessRequest    *AccessRequest    `json:"access_request,omitempty" doc:"what a human is asked about this very call; still it is denied"`
	Approval         *DecisionApproval `json:"approval,omitempty" doc:"the approval that was used up for this call"`
	Monitored        []string          `json:"monitored,omitempty" doc:"policies that would have denied it, were they enforced"`
	Error            *DecisionError    `json:"error,omitempty" doc:"why this evaluation could not be made"`
}

// AccessRequest is an approval of a tool call that was asked for, by the names of AuthZEN's Access Request and Approval
// profile. Nothing has to be submitted any more.
type AccessRequest struct {
	Reason    string           `json:"reason" doc:"approval-required"`
	Template  string           `json:"template,omitempty" doc:"the policy that wants an approval"`
	ExpiresAt identity.Instant `json:"expires_at"`
	Task      AccessTask       `json:"task"`
}

// AccessTask is where the answer is to be had.
type AccessTask struct {
	ID             string                  `json:"id" doc:"of the approval; send it as context.approval.id once it is approved"`
	Status         identity.ApprovalStatus `json:"status" doc:"pending, or approved where the approval is there and was not named"`
	StatusEndpoint string                  `json:"status_endpoint" doc:"answers the approval; ?wait_seconds= waits for the decision"`
	ExpiresAt      identity.Instant        `json:"expires_at"`
}

// DecisionApproval names an approval of the very call that is asked about.
type DecisionApproval struct {
	ID string `json:"id"`
}

// DecisionError is an evaluation that makes no sense.
type DecisionError struct {
	Status  int64  `json:"status"`
	Message string `json:"message"`
}

// DecisionPoint is the metadata of the policy decision point (AuthZEN Authorization API 1.0).
type DecisionPoint struct {
	PolicyDecisionPoint       string `json:"policy_decision_point"`
	AccessEvaluationEndpoint  string `json:"access_evaluation_endpoint"`
	AccessEvaluationsEndpoint string `json:"access_evaluations_endpoint"`
}
