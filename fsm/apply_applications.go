package fsm

import "github.com/deputy-id/deputy/identity"

func (s *state) createApplication(b CreateApplication) (*identity.Application, *identity.Error) {
	a := b.Application
	if a.Name == "" {
		return nil, invalid("the application has no name")
	}
	if _, ok := find(s.applications.work, a.Name); ok {
		return nil, alreadyExists("application", a.Name)
	}
	if err := s.ownsAlone(&a); err != nil {
		return nil, err
	}
	var err *identity.Error
	if a.Credentials, err = s.fileCredentials(Owner{OwnerApplication, a.Name}, b.Application.Credentials); err != nil {
		return nil, err
	}
	a.Created = s.time
	return s.putApplication(nil, &a), nil
}

func (s *state) updateApplication(b UpdateApplication) (*identity.Application, *identity.Error) {
	old, ok := find(s.applications.work, b.Application.Name)
	if !ok {
		return nil, notFound("application", b.Application.Name)
	}
	if err := unchangedSince(b.IfRevision, old.Revision, "application", old.Name); err != nil {
		return nil, err
	}
	a := b.Application
	if err := s.ownsAlone(&a); err != nil {
		return nil, err
	}
	a.Credentials, a.Created = old.Credentials, old.Created
	return s.putApplication(old, &a), nil
}

func (s *state) deleteApplication(b DeleteApplication) (*identity.Application, *identity.Error) {
	a, ok := find(s.applications.work, b.Name)
	if !ok {
		return nil, notFound("application", b.Name)
	}
	s.unindexApplication(a)
	for _, c := range a.Credentials {
		// An application has no handle. Those of its credentials tell a replay that their secrets are dead.
		s.deny("application "+a.Name+" was deleted", identity.CredentialHandle(c.ID))
		s.owners.delete(named[Owner]{key: c.ID})
	}
	s.applications.delete(named[*identity.Application]{key: a.Name})
	return a, nil
}

// ownsAlone refuses an audience or a scope that belongs to another application: a token for the one would
// be good at the other.
func (s *state) ownsAlone(a *identity.Application) *identity.Error {
	if other, ok := find(s.audiences.work, a.Audience); ok && other.Name != a.Name {
		return identity.Errorf(identity.CodeAlreadyExists, "the audience %.300q belongs to application %s", a.Audience, other.Name)
	}
	for scope := range a.Scopes.All() {
		if other, ok := find(s.scopes.work, scope); ok && other.Name != a.Name {
			return identity.Errorf(identity.CodeAlreadyExists, "the scope %.200q belongs to application %s", scope, other.Name)
		}
	}
	return nil
}

// putApplication files a in the place of old, which is nil for a new one.
func (s *state) putApplication(old, a *identity.Application) *identity.Application {
	if old != nil {
		s.unindexApplication(old)
	}
	a.Updated, a.Revision = s.time, s.index
	s.indexApplication(a)
	return a
}

func (s *state) indexApplication(a *identity.Application) {
	s.applications.set(named[*identity.Application]{a.Name, a})
	if a.Audience != "" {
		s.audiences.set(named[*identity.Application]{a.Audience, a})
	}
	for scope := range a.Scopes.All() {
		s.scopes.set(named[*identity.Application]{scope, a})
	}
}

func (s *state) unindexApplication(a *identity.Application) {
	s.audiences.delete(named[*identity.Application]{key: a.Audience})
	for scope := range a.Scopes.All() {
		s.scopes.delete(named[*identity.Application]{key: scope})
	}
}
