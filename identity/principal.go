package identity

// Principal is a human who lends authority to agents.
type Principal struct {
	ID          string   `codec:"i"` // an email address or an issuer's subject
	DisplayName string   `codec:"d,omitempty"`
	Groups      []string `codec:"g,omitempty"` // sorted
	Status      Status   `codec:"st"`
	Generation  uint64   `codec:"gen"` // of the FSM-wide counter; a kill moves it on
	Created     Instant  `codec:"ct"`
	Updated     Instant  `codec:"ut"`
	Revision    uint64   `codec:"r"`
}

// Handle is the principal's handle at their current generation.
func (p *Principal) Handle() Handle { return PrincipalHandle(p.ID, p.Generation) }

// Validate holds every field that a caller may set to its bound.
func (p *Principal) Validate() error {
	var v violations
	v.principal("/id", p.ID)
	v.text("/display_name", p.DisplayName, MaxDescriptionLength)
	v.groups("/groups", p.Groups)
	return v.err("the principal is not valid")
}
