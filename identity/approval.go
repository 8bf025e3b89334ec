package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
)

// ApprovalStatus is what became of an approval. That it has expired is not a status: it is seen by comparing Expires
// with the time of asking.
type ApprovalStatus string

// An approval is pending until somebody has decided, and used up by the session or tool call that it was given for.
const (
	ApprovalPending  ApprovalStatus = "pending"
	ApprovalApproved ApprovalStatus = "approved"
	ApprovalDenied   ApprovalStatus = "denied"
	ApprovalConsumed ApprovalStatus = "consumed"
)

// ApprovalKind says what a human is asked about.
type ApprovalKind string

// Kinds of approvals.
const (
	ApprovalSession ApprovalKind = "session" // one session, to be minted once
	ApprovalTool    ApprovalKind = "tool"    // one call of a tool, with these very arguments
)

// Bounds of approvals.
const (
	MaxApprovals        = 10_000 // that the state keeps, whatever became of them
	MaxPendingApprovals = 100    // of one agent: who asks more asks nobody who could still read it
	MaxApprovalAskers   = 8      // callers that wait for the same one
	// MaxApprovalShare is how many of an agent's pending ones a caller other than the agent itself may have asked for, so
	// that none of them takes all the room that the agent and the others need.
	MaxApprovalShare = MaxPendingApprovals / 4

	MinApprovalSeconds     = 60
	DefaultApprovalSeconds = 3600
	MaxApprovalSeconds     = 24 * 3600
)

// Approval is a human's answer to one session or one tool call of an agent. All that tells what it is for is there for
// that human to read, and nothing of it is part of the answer but by way of Binding.
type Approval struct {
	ID      string         `codec:"i"` // apr_…
	Kind    ApprovalKind   `codec:"k"`
	Agent   string         `codec:"a"`
	Binding string         `codec:"b"` // what it is for, to the letter: see policy.SessionBinding and policy.ToolBinding
	Status  ApprovalStatus `codec:"st"`
	Expires Instant        `codec:"et"`

	Principal string `codec:"p,omitempty"` // on whose behalf the session is; "": an autonomous run

	// Of a session, as it was asked for.
	Parent   string   `codec:"pa,omitempty"`
	Scopes   Scopes   `codec:"s,omitempty"`
	Audience []string `codec:"au,omitempty"`
	Reason   string   `codec:"re,omitempty"` // what set the agent off
	Seconds  int64    `codec:"sc,omitempty"`

	// Of a tool call.
	Session       string `codec:"se,omitempty"`
	Application   string `codec:"ap,omitempty"`
	Tool          string `codec:"t,omitempty"`
	ArgumentsHash string `codec:"ah,omitempty"`

	Generation uint64 `codec:"g"` // of the agent: one that was killed since needs another yes

	Policy    string   `codec:"po,omitempty"` // that asks for it; "": nobody but the caller
	AskedBy   []string `codec:"ab"`           // ids of the callers, the first one first
	Created   Instant  `codec:"ct"`
	DecidedBy string   `codec:"db,omitempty"`
	Decided   Instant  `codec:"dt,omitempty"`
	Note      string   `codec:"n,omitempty"`  // of who decided
	UsedBy    string   `codec:"ub,omitempty"` // the caller that used it up
	UsedFor   string   `codec:"uf,omitempty"` // the session or request that it went to
	Used      Instant  `codec:"ud,omitempty"`
	Revision  uint64   `codec:"r"` // log index of the last change
}

// Covers reports whether the approval says yes to what the binding stands for, at now.
func (a *Approval) Covers(agent, binding string, now Instant) bool {
	return a.Status == ApprovalApproved && now < a.Expires && a.Agent == agent && a.Binding == binding
}

// Open reports whether something may still come of it at now: a decision, or a use.
func (a *Approval) Open(now Instant) bool {
	return now < a.Expires && (a.Status == ApprovalPending || a.Status == ApprovalApproved)
}

// WasAskedBy reports whether the caller is one of those that have asked for it.
func (a *Approval) WasAskedBy(caller string) bool { return slices.Contains(a.AskedBy, caller) }

// Validate holds what was asked for to its bounds.
func (a *Approval) Validate() error {
	var v violations
	v.name("/agent_id", a.Agent)
	if a.Principal != "" {
		v.principal("/principal_user_id", a.Principal)
	}
	switch a.Kind {
	case ApprovalSession:
		v.list("/audience", a.Audience, MaxApplications)
		if a.Parent != "" {
			v.id("/parent_session_id", PrefixSession, a.Parent)
		}
		if a.Seconds < 0 {
			v.add("/max_duration_seconds", "is %d; it must not be negative", a.Seconds)
		}
		if a.Tool != "" || a.Application != "" || a.ArgumentsHash != "" || a.Session != "" {
			v.add("/tool", "is of a tool call, and kind is %s", ApprovalSession)
		}
	case ApprovalTool:
		v.id("/session_id", PrefixSession, a.Session)
		v.required("/tool", a.Tool)
		v.text("/application", a.Application, MaxAudienceLength)
		if sum, err := hex.DecodeString(a.ArgumentsHash); err != nil || len(sum) != sha256.Size {
			v.add("/arguments_hash", "is %.80q; it must be the SHA-256 of the call's arguments in hexadecimal", a.ArgumentsHash)
		}
		if a.Parent != "" || a.Seconds != 0 || a.Scopes != "" || len(a.Audience) > 0 {
			v.add("/kind", "is %s, and there are fields of a session", ApprovalTool)
		}
		// Whoever decides would read it, and the call that the yes is for has none to hold it to.
		if a.Reason != "" {
			v.add("/trigger_reason", "is of a session, and kind is %s", ApprovalTool)
		}
	default:
		v.add("/kind", "is %.64q; it must be %s or %s", string(a.Kind), ApprovalSession, ApprovalTool)
	}
	// A mint takes a reason of as many bytes.
	if len(a.Reason) > MaxReasonLength {
		v.add("/trigger_reason", "has %d bytes; at most %d are allowed", len(a.Reason), MaxReasonLength)
	}
	if lasts := (a.Expires - a.Created) / 1000; lasts < MinApprovalSeconds || lasts > MaxApprovalSeconds {
		v.add("/expires_in_seconds", "is %d; it must be between %d and %d", lasts, MinApprovalSeconds, MaxApprovalSeconds)
	}
	return v.err("the request for an approval is not valid")
}

// ValidNote reports what is wrong with what somebody says to a decision, or nil.
func ValidNote(note string) error {
	var v violations
	v.text("/note", note, MaxReasonLength)
	return v.err("the decision is not valid")
}

func (v *violations) id(pointer, prefix, id string) {
	if _, err := ParseID(prefix, id); err != nil {
		v.add(pointer, "%v", err)
	}
}

// list holds texts that a later rule looks up to a number and a length.
func (v *violations) list(pointer string, list []string, most int) {
	if len(list) > most {
		v.add(pointer, "has %d entries; at most %d are allowed", len(list), most)
	}
	for _, text := range list {
		v.required(pointer, text)
	}
}

func (v *violations) required(pointer, text string) {
	if text == "" {
		v.add(pointer, "is missing")
	}
	v.text(pointer, text, MaxAudienceLength)
}
