package identity

// Actor is one agent of a chain, at the generation that it acts in.
type Actor struct {
	Agent      string
	Generation uint64
}

// Session is one run of an agent. It is not replicated: it lives in its token and in the audit trail.
type Session struct {
	ID            string    // ses_…
	Principal     string    // empty for an autonomous run
	Chain         []Actor   // oldest first; the last one is the current actor
	AgentType     AgentType // of the current actor
	Scopes        Scopes
	Audience      []string // URIs of applications
	Delegation    string   // dlg_…; empty for an autonomous run
	Credential    string   // crd_… or tok_… that the caller proved itself with
	Confirmation  string   // RFC 7638 thumbprint of the key that the holder of the token must prove to have; empty: any bearer
	TriggerReason string
	Issued        Instant
	Expires       Instant
}

// Actor is the agent that acts now.
func (s *Session) Actor() Actor { return s.Chain[len(s.Chain)-1] }
