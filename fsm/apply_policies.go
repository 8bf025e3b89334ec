package fsm

import (
	"github.com/deputy-id/deputy/identity"
)

// Whether a text is a policy is looked at before it is proposed, and by every node that compiles it, and not here:
// Apply is cheap, and what one version can read another may not, so that replicas would come apart by it.

func (s *state) putPolicy(b PutPolicy) (*identity.Policy, *identity.Error) {
	p := b.Policy
	if p.ID == "" || p.Text == "" {
		return nil, invalid("the policy lacks its id or text")
	}
	if len(p.Text) > identity.MaxPolicyLength {
		return nil, identity.Errorf(identity.CodeTooLarge, "policy %.64q has %d bytes; at most %d are allowed", p.ID, len(p.Text), identity.MaxPolicyLength)
	}
	old, exists := find(s.policies.work, p.ID)
	switch {
	case exists && b.IfAbsent:
		return nil, alreadyExists("policy", p.ID)
	case !exists && b.IfRevision != 0:
		return nil, notFound("policy", p.ID)
	case !exists && s.policies.len() >= identity.MaxPolicies:
		return nil, limitReached("policies", identity.MaxPolicies)
	case !exists:
		if p.Mode == "" {
			p.Mode = identity.PolicyEnforce
		}
		p.Version, p.Created = 1, s.time
		return s.filePolicy(p), nil
	}
	if err := unchangedSince(b.IfRevision, old.Revision, "policy", p.ID); err != nil {
		return nil, err
	}
	if p.Mode == "" {
		p.Mode = old.Mode
	}
	if p.Text == old.Text && p.Description == old.Description && p.Mode == old.Mode {
		return old, nil
	}
	p.Version, p.Created = old.Version+1, old.Created
	return s.filePolicy(p), nil
}

func (s *state) setPolicyMode(b SetPolicyMode) (*identity.Policy, *identity.Error) {
	old, ok := find(s.policies.work, b.ID)
	switch {
	case !ok:
		return nil, notFound("policy", b.ID)
	case b.Mode == "":
		return nil, invalid("the policy is to have no mode")
	}
	if err := unchangedSince(b.IfRevision, old.Revision, "policy", b.ID); err != nil {
		return nil, err
	}
	if b.Mode == old.Mode {
		return old, nil
	}
	p := *old
	p.Mode, p.Version = b.Mode, old.Version+1
	return s.filePolicy(p), nil
}

func (s *state) deletePolicy(b DeletePolicy) (*identity.Policy, *identity.Error) {
	old, ok := find(s.policies.work, b.ID)
	if !ok {
		return nil, notFound("policy", b.ID)
	}
	if err := unchangedSince(b.IfRevision, old.Revision, "policy", b.ID); err != nil {
		return nil, err
	}
	s.policies.delete(named[*identity.Policy]{key: b.ID})
	s.policiesRevision = s.index
	return old, nil
}

func (s *state) filePolicy(p identity.Policy) *identity.Policy {
	p.By, p.Updated, p.Revision = s.texts.intern(s.by), s.time, s.index
	s.policies.set(named[*identity.Policy]{p.ID, &p})
	s.policiesRevision = s.index
	return &p
}

// forgetPolicies makes room for those of a backup, where the cluster that it was taken from had policies: what was
// changed or deleted there must not be back. A cluster from before policies says nothing about them, and this one's
// stay.
func (s *state) forgetPolicies(backup BackupHeader) {
	imported := s.restoring != nil && s.restoring.Backup.PoliciesRevision > 0
	if backup.PoliciesRevision > 0 || imported {
		s.policies = newNamed[*identity.Policy]()
		s.policiesRevision = s.index
	}
}
