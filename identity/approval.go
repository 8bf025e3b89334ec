package identity

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

// Approval is a human's answer to one session or one tool call of an agent.
type Approval struct {
	ID      string         `codec:"i"` // apr_…
	Agent   string         `codec:"a"`
	Binding string         `codec:"b"` // what it is for, to the letter: see policy.SessionBinding and policy.ToolBinding
	Status  ApprovalStatus `codec:"st"`
	Expires Instant        `codec:"et"`
}

// Covers reports whether the approval says yes to what the binding stands for, at now.
func (a *Approval) Covers(agent, binding string, now Instant) bool {
	return a.Status == ApprovalApproved && now < a.Expires && a.Agent == agent && a.Binding == binding
}
