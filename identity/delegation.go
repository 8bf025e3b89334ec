package identity

// DelegationStatus is what became of a delegation. Expiry is not a status: it is seen by comparing Expires
// with the time of asking.
type DelegationStatus string

// A delegation is active until it is withdrawn.
const (
	DelegationActive    DelegationStatus = "active"
	DelegationWithdrawn DelegationStatus = "withdrawn"
)

// Delegation is a slice of a principal's authority, lent to an agent: limited in scope and in time, always.
type Delegation struct {
	ID        string           `codec:"i"` // dlg_…
	Principal string           `codec:"p"`
	Agent     string           `codec:"a"`
	Scopes    Scopes           `codec:"s"`
	Expires   Instant          `codec:"et"`
	Reason    string           `codec:"re,omitempty"`
	Origin    string           `codec:"o,omitempty"` // who or what caused it, such as the API token's id
	MaxHops   uint8            `codec:"mh"`          // agents in a chain that may rest on it, 1 to MaxChain
	Status    DelegationStatus `codec:"st"`
	Created   Instant          `codec:"ct"`
	Withdrawn Instant          `codec:"wt,omitempty"`
	Revision  uint64           `codec:"r"`
}

// ActiveAt reports whether the delegation may be used at now.
func (d *Delegation) ActiveAt(now Instant) bool {
	return d.Status == DelegationActive && now < d.Expires
}

// Validate holds every field that a caller may set to its bound; the lifetime is counted from Created.
func (d *Delegation) Validate() error {
	var v violations
	v.principal("/principal_id", d.Principal)
	v.name("/agent_id", d.Agent)
	v.scopes("/scopes", d.Scopes)
	if d.Scopes == "" {
		v.add("/scopes", "is empty; a delegation lends at least one scope")
	}
	v.between("/duration_seconds", int64(d.Expires-d.Created)/1000, MinDelegationSeconds, MaxDelegationSeconds)
	v.text("/reason", d.Reason, MaxReasonLength)
	v.text("/origin", d.Origin, MaxReasonLength)
	v.between("/max_hops", int64(d.MaxHops), 1, MaxChain)
	return v.err("the delegation is not valid")
}
