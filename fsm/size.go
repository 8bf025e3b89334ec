package fsm

import "github.com/deputy-id/deputy/identity"

// The size of a receipt is reckoned and not measured: windows are bounded by it, so it must be the same on
// every replica, also on one that has read the receipt from a snapshot. It counts all text, and for what
// surrounds the texts what it takes in memory or in a snapshot, whichever is more; what the allocator rounds
// up, a quarter at most, is left out. To change what is counted is to change what Apply does.
const (
	receiptSize = 192 // the receipt, its place in the map and in the queue
	resultSize  = 64  // one result, be it alone or of a batch
	objectSize  = 320 // the fields of a value, without its texts
	partSize    = 96  // the fields of a credential, of which an agent has some
	entrySize   = 32  // a text in a list
)

func sizeOf(r Result) int {
	n := resultSize
	if e := r.Err; e != nil {
		n += objectSize + len(e.Code) + len(e.Message) + len(e.Hint)
		for _, f := range e.Fields {
			n += 2*entrySize + len(f.Pointer) + len(f.Detail)
		}
	}
	if results, ok := r.Value.([]Result); ok {
		for _, item := range results {
			n += sizeOf(item)
		}
		return n
	}
	return n + sizeOfValue(r.Value)
}

// sizeOfValue knows the types that kindOfValue knows. Their parts may be nil in a snapshot only.
func sizeOfValue(v any) int {
	switch v := v.(type) {
	case *identity.Agent:
		return sizeOfAgent(v)
	case *AgentChange:
		return sizeOfAgent(v.Agent) + sizeOfList(v.Handles)
	case *identity.Credential:
		return sizeOfCredential(v)
	case *Revoked:
		return objectSize + sizeOfList(v.Handles)
	case *identity.Principal:
		return sizeOfPrincipal(v)
	case *PrincipalChange:
		return sizeOfPrincipal(v.Principal) + sizeOfList(v.Handles)
	case *identity.Application:
		return objectSize + len(v.Name) + len(v.Description) + len(v.Audience) + len(v.Scopes) + len(v.Verification) +
			sizeOfList(v.Tags) + sizeOfCredentials(v.Credentials)
	case *record:
		return objectSize + len(v.agent.Value()) + len(v.scopes.Value()) + len(v.origin.Value()) + len(v.principal) + len(v.reason)
	case *DelegationChange:
		return sizeOfDelegation(v.Delegation) + sizeOfList(v.Handles)
	case *identity.APIToken:
		return objectSize + len(v.ID) + len(v.Name) + len(v.Hash) + sizeOfList(v.Roles) + sizeOfList(v.Agents)
	case *identity.JoinToken:
		return objectSize + len(v.ID) + len(v.Hash) + len(v.By) + len(v.UsedBy)
	case *identity.Member:
		return objectSize + len(v.ID) + len(v.Key) + len(v.ClusterAddr) + len(v.GossipAddr) + len(v.PublicURL) +
			len(v.JoinToken) + len(v.JoinedFrom) + len(v.RemovalReason)
	case *identity.SigningKey:
		return objectSize + len(v.KID) + len(v.Node) + len(v.Alg) + len(v.Public)
	case *identity.Settings:
		return objectSize + len(v.ClusterID) + len(v.Issuer) + sizeOfList(v.ExternalURLs) + sizeOfList(v.GossipKeys)
	case *identity.TrustedIssuer:
		return objectSize + len(v.ID) + len(v.Issuer) + len(v.Principal) + len(v.Keys) + len(v.KeysURI) + sizeOfList(v.Clients) + sizeOfList(v.Domains)
	case *identity.Policy:
		return objectSize + len(v.ID) + len(v.Description) + len(v.Text) + len(v.Mode) + len(v.By)
	case *identity.Approval:
		return objectSize + len(v.ID) + len(v.Agent) + len(v.Binding) + len(v.Principal) + len(v.Parent) + len(v.Scopes) + sizeOfList(v.Audience) +
			len(v.Reason) + len(v.Session) + len(v.Application) + len(v.Tool) + len(v.ArgumentsHash) + len(v.Policy) + sizeOfList(v.AskedBy) +
			len(v.DecidedBy) + len(v.Note) + len(v.UsedBy) + len(v.UsedFor)
	case *Purged, *Imported:
		return objectSize
	default:
		return 0
	}
}

func sizeOfAgent(a *identity.Agent) int {
	if a == nil {
		return 0
	}
	n := objectSize + len(a.Name) + len(a.Description) + len(a.OwnerGroup) + len(a.Type) + len(a.DefaultScopes) + len(a.Status) +
		sizeOfList(a.Applications) + sizeOfList(a.Groups) + sizeOfCredentials(a.Credentials)
	if len(a.Labels) > 0 {
		n += objectSize // of the map
	}
	for key, value := range a.Labels {
		n += 2*entrySize + len(key) + len(value)
	}
	return n
}

func sizeOfPrincipal(p *identity.Principal) int {
	if p == nil {
		return 0
	}
	return objectSize + len(p.ID) + len(p.DisplayName) + len(p.Status) + sizeOfList(p.Groups)
}

func sizeOfDelegation(d *identity.Delegation) int {
	if d == nil {
		return 0
	}
	return objectSize + len(d.ID) + len(d.Principal) + len(d.Agent) + len(d.Scopes) + len(d.Reason) + len(d.Origin) + len(d.Status)
}

func sizeOfCredential(c *identity.Credential) int {
	return partSize + len(c.ID) + len(c.Kind) + len(c.Hash) + len(c.Keys) + len(c.KeysURI)
}

func sizeOfCredentials(list []identity.Credential) int {
	n := 0
	for i := range list {
		n += sizeOfCredential(&list[i])
	}
	return n
}

func sizeOfList[T ~string | ~[]byte](list []T) int {
	n := len(list) * entrySize
	for _, text := range list {
		n += len(text)
	}
	return n
}
