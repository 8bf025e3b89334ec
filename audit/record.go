package audit

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// Kind says what a record is about.
type Kind string

// What the rooms of a node record.
const (
	KindMint       Kind = "mint"       // a session was asked for, and granted or not
	KindRefuse     Kind = "refuse"     // turned away before it was clear what for: a wrong credential, a missing role
	KindIntrospect Kind = "introspect" // somebody asked whether a token is good
	KindExchange   Kind = "exchange"   // a token for a token: one more hop of a chain, or a user's own token
	KindRevoke     Kind = "revoke"     // something was stopped; Handles names it
	KindAdmin      Kind = "admin"      // a change of agents, applications, delegations, credentials, settings
	KindApproval   Kind = "approval"   // asked for, given, denied, expired or used
	KindPolicy     Kind = "policy"     // a policy or its mode was changed
	KindEvaluate   Kind = "evaluate"   // a decision point was asked
	KindTool       Kind = "tool"       // an enforcement point reported a tool call and its outcome
	KindProxy      Kind = "proxy"      // the proxy let a call pass or not
	KindCluster    Kind = "cluster"    // a node joined, was drained or removed, or a cluster was restored
	KindAlert      Kind = "alert"      // a rule over the records matched
)

// What the log records about itself. These can't be appended from outside.
const (
	KindSegment    Kind = "segment"    // the first record of each file: which log, and where in it
	KindCheckpoint Kind = "checkpoint" // a signature over everything so far
	KindDropped    Kind = "dropped"    // so many records were dropped because the queue was full
	KindResumed    Kind = "resumed"    // writing works again; so many records were refused meanwhile
	KindRecovered  Kind = "recovered"  // the last line had been cut off by a crash and was removed, or the log goes on without its head
	KindRetention  Kind = "retention"  // old segments are removed, and what sinks lost by it
)

// Kinds lists the kinds that can be appended, for a message or a manual.
func Kinds() []Kind {
	return []Kind{
		KindMint, KindRefuse, KindIntrospect, KindExchange, KindRevoke, KindAdmin, KindApproval,
		KindPolicy, KindEvaluate, KindTool, KindProxy, KindCluster, KindAlert,
	}
}

// index is the kind's place in Kinds, or -1.
func (k Kind) index() int {
	switch k {
	case KindMint:
		return 0
	case KindRefuse:
		return 1
	case KindIntrospect:
		return 2
	case KindExchange:
		return 3
	case KindRevoke:
		return 4
	case KindAdmin:
		return 5
	case KindApproval:
		return 6
	case KindPolicy:
		return 7
	case KindEvaluate:
		return 8
	case KindTool:
		return 9
	case KindProxy:
		return 10
	case KindCluster:
		return 11
	case KindAlert:
		return 12
	}
	return -1
}

// own reports whether the log itself writes such records.
func (k Kind) own() bool {
	switch k {
	case KindSegment, KindCheckpoint, KindDropped, KindResumed, KindRecovered, KindRetention:
		return true
	}
	return false
}

// ParseKind holds text from outside to the known kinds, those of the log itself among them.
func ParseKind(text string) (Kind, error) {
	if k := Kind(text); k.index() >= 0 || k.own() {
		return k, nil
	}
	return "", fmt.Errorf("%.40q is no kind of audit record; known are %s, and of the log itself segment, checkpoint, dropped, resumed, recovered and retention",
		text, strings.Trim(fmt.Sprint(Kinds()), "[]"))
}

// Decision is what was decided.
type Decision string

// The two decisions.
const (
	Allowed Decision = "allowed"
	Denied  Decision = "denied"
)

// Outcome is what came of it.
type Outcome string

// The two outcomes. What was denied has failed; what was allowed may have failed all the same.
const (
	Success Outcome = "success"
	Failure Outcome = "failure"
)

// Autonomous stands in a record for the principal of an agent that acts for nobody.
const Autonomous = "autonomous"

// Link is one end of a hop: the person who lends authority, or an agent and the delegation by which it came there.
type Link struct {
	User       string `json:"user,omitempty"`
	Agent      string `json:"agent,omitempty"`
	Delegation string `json:"delegation,omitempty"`
}

// Record is one decision. Nothing in it may be a token or a secret; what looks like one is taken out. Texts and lists
// that exceed their bound are cut, and the record then says so.
type Record struct {
	Time      identity.Instant `json:"time"` // of the decision; zero: the time of being queued
	Kind      Kind             `json:"kind"`
	Agent     string           `json:"agent"`     // who acts now
	Principal string           `json:"principal"` // the person; empty is written as "autonomous" where there is an agent
	Session   string           `json:"session"`
	Chain     []Link           `json:"chain"` // user → agent → sub-agent
	Tool      string           `json:"tool"`
	Scope     string           `json:"scope"` // presented or asked for, separated by spaces
	Decision  Decision         `json:"decision"`
	Outcome   Outcome          `json:"outcome"` // empty: success where allowed, failure where denied

	Reason      string             `json:"reason,omitempty"`    // the error's code
	Policies    []string           `json:"policies,omitempty"`  // that decided
	Monitored   []string           `json:"monitored,omitempty"` // that would have denied, were they enforced
	Delegation  string             `json:"delegation,omitempty"`
	Approval    string             `json:"approval,omitempty"`
	Action      string             `json:"action,omitempty"` // CreateSession, CallTool, or the route of a change
	AgentType   identity.AgentType `json:"agent_type,omitempty"`
	Credential  string             `json:"credential,omitempty"` // what the caller proved itself with
	Application string             `json:"application,omitempty"`
	Audience    []string           `json:"audience,omitempty"`
	Target      string             `json:"target,omitempty"` // what was acted on

	RequiredScope string `json:"required_scope,omitempty"` // of a tool call: what the tool needs
	ArgumentsHash string `json:"arguments_hash,omitempty"` // of a tool call: SHA-256 of its arguments in hexadecimal

	SourceIP  netip.Addr       `json:"source_ip,omitzero"`
	RequestID string           `json:"request_id,omitempty"`
	TraceID   string           `json:"trace_id,omitempty"` // W3C Trace Context
	SpanID    string           `json:"span_id,omitempty"`  // the caller's span
	Expires   identity.Instant `json:"expires,omitempty"`  // of the session, delegation or approval
	Index     uint64           `json:"index,omitempty"`    // of the replicated log, for a change
	Handles   []string         `json:"handles,omitempty"`  // that were denied
	Detail    string           `json:"detail,omitempty"`   // free text, such as the trigger of a session
	Cut       bool             `json:"cut,omitempty"`      // something was too long, or looked like a secret; set by the log
}

// Bounds of a record. Where the domain has a bound it is that one.
const (
	maxText    = 320  // ids, names, codes, URIs; the longest of the domain is identity.MaxHandleLength
	maxScope   = 4096 // a token has at most 4 KiB
	maxDetail  = 1024
	maxLinks   = 8 // one person and identity.MaxChain agents today
	maxEntries = 16
)

// MaxLine bounds a line of a log, its newline included. A record whose every field is as long as can be, and each of
// its characters escaped, stays below.
const MaxLine = 256 << 10

func (r *Record) validate() error {
	if r.Kind.index() < 0 {
		if r.Kind.own() {
			return fmt.Errorf("%w: records of kind %s are the log's own", ErrInvalid, r.Kind)
		}
		return fmt.Errorf("%w: unknown kind %.40q", ErrInvalid, string(r.Kind))
	}
	if r.Decision != Allowed && r.Decision != Denied {
		return fmt.Errorf("%w: its decision is %.40q; it must be %s or %s", ErrInvalid, string(r.Decision), Allowed, Denied)
	}
	if r.Outcome != "" && r.Outcome != Success && r.Outcome != Failure {
		return fmt.Errorf("%w: its outcome is %.40q; it must be %s or %s", ErrInvalid, string(r.Outcome), Success, Failure)
	}
	return nil
}
