package fsm

import (
	"github.com/deputy-id/deputy/identity"
)

// apply applies one command, once. It is a pure function of the state and the command. The result is to be shown.
func (s *state) apply(c Command) Result {
	s.time = max(s.time, min(c.Time, endOfTime))
	s.by = c.By
	s.internal.expire(s.time, expireAtOnce)
	s.clients.expire(s.time, expireAtOnce)

	w := s.windowOf(c)
	if w == nil {
		return s.do(c.Body)
	}
	if r, ok := w.find(c.ID); ok {
		if r.fingerprint != c.Fingerprint {
			return Result{Index: s.index, Err: identity.Errorf(identity.CodeIdempotencyMismatch, "the idempotency key was used before for another request").
				WithHint("use a new key for each request, and the same key only to repeat one unchanged")}
		}
		again := r.result
		again.Replayed = true
		return again
	}
	result := s.do(c.Body)
	// Recover and EndRestore begin the windows anew; they are remembered in the new one.
	s.windowOf(c).add(&receipt{id: c.ID, fingerprint: c.Fingerprint, time: s.time, result: result})
	return result
}

// windowOf returns where the command is remembered, or nil where it isn't. A command that takes authority
// away is never answered from a client's idempotency key: the key may be an old one, and what was started
// again since then would go on. Neither is one that says whether the cluster may mint at all.
func (s *state) windowOf(c Command) *window {
	switch {
	case c.ID == CommandID{}:
		return nil
	case !c.ClientKey:
		return s.internal
	case denies(c.Body):
		return nil
	default:
		return s.clients
	}
}

func denies(b Body) bool {
	switch b := b.(type) {
	case SetAgentStatus:
		return b.Status != identity.StatusActive
	case SetPrincipalStatus:
		return b.Status != identity.StatusActive
	case KillAgent, DeleteAgent, KillPrincipal, DeletePrincipal, RemoveCredential, WithdrawDelegation, Revoke, DeleteAPIToken, DistrustIssuer,
		BarMember, RemoveMember, RotateKey, RotateGossip, Recover, BeginRestore, Import, EndRestore, OpenMinting:
		return true
	case DrainMember:
		return b.Draining
	case PutPolicy:
		// To make a new one is told from a repetition, as with whatever else is made.
		return !b.IfAbsent && b.Policy.Mode != identity.PolicyMonitor && b.Policy.Mode != identity.PolicyOff
	case SetPolicyMode:
		return b.Mode == identity.PolicyEnforce
	case DecideApproval:
		return !b.Approve
	case ConsumeApproval:
		// It takes nothing away, but a second use under the key of the first would be one more than was approved.
		return true
	case Batch:
		for _, item := range b.Bodies {
			if denies(item) {
				return true
			}
		}
	}
	return false
}

// shown turns the compact values that are kept with receipts into those of the contract.
func shown(r Result) Result {
	switch v := r.Value.(type) {
	case *record:
		r.Value = v.delegation(&principalRow{})
	case []Result:
		results := make([]Result, len(v))
		for i := range v {
			results[i] = shown(v[i])
		}
		r.Value = results
	}
	return r
}

// do applies a body. The value is one of those that receipts can hold: see snapshot_receipts.go.
func (s *state) do(b Body) Result {
	r := Result{Index: s.index}
	batch, ok := b.(Batch)
	if !ok {
		r.Value, r.Err = s.dispatch(b)
		return r
	}
	results := make([]Result, len(batch.Bodies))
	for i, item := range batch.Bodies {
		results[i].Index = s.index
		results[i].Value, results[i].Err = s.dispatch(item)
	}
	r.Value = results
	return r
}

func (s *state) dispatch(b Body) (any, *identity.Error) {
	if s.restoring != nil && fills(b) {
		return nil, restoreUnderWay("only what stops something is accepted until then")
	}
	switch b := b.(type) {
	case Tick:
		return nil, nil
	case Purge:
		return s.purge(), nil
	case PutSettings:
		return value(s.putSettings(b))
	case CreateAgent:
		return value(s.createAgent(b))
	case UpdateAgent:
		return value(s.updateAgent(b))
	case SetAgentStatus:
		return value(s.setAgentStatus(b))
	case KillAgent:
		return value(s.killAgent(b))
	case DeleteAgent:
		return value(s.deleteAgent(b))
	case AddCredential:
		return value(s.addCredential(b))
	case RemoveCredential:
		return value(s.removeCredential(b))
	case CreatePrincipal:
		return value(s.createPrincipal(b))
	case UpdatePrincipal:
		return value(s.updatePrincipal(b))
	case SetPrincipalStatus:
		return value(s.setPrincipalStatus(b))
	case KillPrincipal:
		return value(s.killPrincipal(b))
	case DeletePrincipal:
		return value(s.deletePrincipal(b))
	case CreateApplication:
		return value(s.createApplication(b))
	case UpdateApplication:
		return value(s.updateApplication(b))
	case DeleteApplication:
		return value(s.deleteApplication(b))
	case CreateDelegation:
		return value(s.createDelegation(b))
	case WithdrawDelegation:
		return value(s.withdrawDelegation(b))
	case Revoke:
		return value(s.revoke(b))
	case CreateAPIToken:
		return value(s.createAPIToken(b))
	case DeleteAPIToken:
		return value(s.deleteAPIToken(b))
	case CreateJoinToken:
		return value(s.createJoinToken(b))
	case AdmitMember:
		return value(s.admitMember(b))
	case UpdateMember:
		return value(s.updateMember(b))
	case RemoveMember:
		return value(s.removeMember(b))
	case BarMember:
		return value(s.barMember(b))
	case DrainMember:
		return value(s.drainMember(b))
	case RotateKey:
		return value(s.rotateKey(b))
	case RotateGossip:
		return value(s.rotateGossip(b))
	case Recover:
		return value(s.recoverWith(b))
	case BeginRestore:
		return nil, s.beginRestore(b)
	case Import:
		return value(s.importRecords(b))
	case EndRestore:
		return value(s.endRestore(b))
	case OpenMinting:
		return nil, s.openMinting()
	case PublishKey:
		return value(s.publishKey(b))
	case RetireKey:
		return value(s.retireKey(b))
	case TrustIssuer:
		return value(s.trustIssuer(b))
	case DistrustIssuer:
		return value(s.distrustIssuer(b))
	case PutPolicy:
		return value(s.putPolicy(b))
	case SetPolicyMode:
		return value(s.setPolicyMode(b))
	case DeletePolicy:
		return value(s.deletePolicy(b))
	case RequestApproval:
		return value(s.requestApproval(b))
	case DecideApproval:
		return value(s.decideApproval(b))
	case ConsumeApproval:
		return value(s.consumeApproval(b))
	default:
		return nil, invalid("a %s may not stand here", b.Type())
	}
}

// value keeps a nil pointer from becoming an interface that is not nil.
func value[T any](v *T, err *identity.Error) (any, *identity.Error) {
	if err != nil {
		return nil, err
	}
	return v, nil
}

func invalid(format string, args ...any) *identity.Error {
	return identity.Errorf(identity.CodeInvalid, format, args...)
}

func notFound(kind, id string) *identity.Error {
	return identity.Errorf(identity.CodeNotFound, "there is no %s %.300q", kind, id)
}

func alreadyExists(kind, id string) *identity.Error {
	return identity.Errorf(identity.CodeAlreadyExists, "%s %.300q already exists", kind, id)
}

// unchangedSince refuses a change that was made to another revision than the current one.
func unchangedSince(ifRevision, revision uint64, kind, id string) *identity.Error {
	if ifRevision == 0 || ifRevision == revision {
		return nil
	}
	return identity.Errorf(identity.CodeConflict, "%s %.300q is at revision %d, not %d", kind, id, revision, ifRevision).
		WithHint("read it again and make the change to what it is now")
}

func validStatus(status identity.Status) *identity.Error {
	switch status {
	case identity.StatusActive, identity.StatusSuspended, identity.StatusDeactivated:
		return nil
	}
	return invalid("%.64q is no status; it must be %s, %s or %s", string(status), identity.StatusActive, identity.StatusSuspended, identity.StatusDeactivated)
}
