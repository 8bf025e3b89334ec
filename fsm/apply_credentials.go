package fsm

import (
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// fileCredentials checks and indexes the credentials that a new owner brings along.
func (s *state) fileCredentials(owner Owner, credentials []identity.Credential) ([]identity.Credential, *identity.Error) {
	if err := roomFor(len(credentials), owner); err != nil {
		return nil, err
	}
	filed := slices.Clone(credentials)
	for i := range filed {
		c := &filed[i]
		same := func(other identity.Credential) bool { return other.ID == c.ID }
		if err := s.newCredential(c); err != nil {
			return nil, err
		}
		if slices.ContainsFunc(filed[:i], same) {
			return nil, alreadyExists("credential", c.ID)
		}
	}
	for i := range filed {
		s.owners.set(named[Owner]{filed[i].ID, owner})
	}
	return filed, nil
}

func (s *state) newCredential(c *identity.Credential) *identity.Error {
	if c.ID == "" {
		return invalid("the credential has no id")
	}
	if _, ok := find(s.owners.work, c.ID); ok {
		return alreadyExists("credential", c.ID)
	}
	if s.isRevoked(identity.CredentialHandle(c.ID)) {
		return identity.Errorf(identity.CodeRevoked, "credential %.300q was revoked", c.ID)
	}
	c.Created = s.stamp(c.Created)
	c.Kind = identity.CredentialKind(s.texts.intern(string(c.Kind)))
	return nil
}

func roomFor(n int, owner Owner) *identity.Error {
	if n <= identity.MaxCredentials {
		return nil
	}
	return identity.Errorf(identity.CodeLimitReached, "%s %s would have %d credentials; at most %d are allowed", owner.Kind, owner.Name, n, identity.MaxCredentials).
		WithHint("remove one that is no longer used")
}

// credentialsOf returns what is filed under an owner, and a way to file something else.
func (s *state) credentialsOf(owner Owner) (have []identity.Credential, put func([]identity.Credential), err *identity.Error) {
	switch owner.Kind {
	case OwnerAgent:
		row, err := s.agent(owner.Name)
		if err != nil {
			return nil, nil, err
		}
		return row.Credentials, func(c []identity.Credential) {
			row.Credentials = c
			s.putAgent(row)
		}, nil
	case OwnerApplication:
		old, ok := find(s.applications.work, owner.Name)
		if !ok {
			return nil, nil, notFound("application", owner.Name)
		}
		a := *old
		return a.Credentials, func(c []identity.Credential) {
			a.Credentials = c
			s.putApplication(old, &a)
		}, nil
	default:
		return nil, nil, invalid("a %.64q has no credentials", string(owner.Kind))
	}
}

func (s *state) addCredential(b AddCredential) (*identity.Credential, *identity.Error) {
	have, put, err := s.credentialsOf(b.Owner)
	if err != nil {
		return nil, err
	}
	c := b.Credential
	if err := s.newCredential(&c); err != nil {
		return nil, err
	}
	if err := roomFor(len(have)+1, b.Owner); err != nil {
		return nil, err
	}
	put(append(slices.Clip(have), c))
	s.owners.set(named[Owner]{c.ID, b.Owner})
	return &c, nil
}

func (s *state) removeCredential(b RemoveCredential) (*Revoked, *identity.Error) {
	if owner, ok := find(s.owners.work, b.ID); !ok || owner != b.Owner {
		return nil, notFound("credential", b.ID)
	}
	h := identity.CredentialHandle(b.ID)
	s.deny(b.Reason, h)
	s.dropCredential(b.ID)
	return &Revoked{Handles: []identity.Handle{h}, Known: true}, nil
}

// dropCredential takes a credential from whoever has it.
func (s *state) dropCredential(id string) (known bool) {
	owner, ok := find(s.owners.work, id)
	if !ok {
		return false
	}
	s.owners.delete(named[Owner]{key: id})
	have, put, err := s.credentialsOf(owner)
	if err != nil {
		return false
	}
	put(slices.DeleteFunc(slices.Clone(have), func(c identity.Credential) bool { return c.ID == id }))
	return true
}
