package fsm

import "github.com/deputy-id/deputy/identity"

// principal returns a copy of the row, to change and put back.
func (s *state) principal(id string) (*principalRow, *identity.Error) {
	row, ok := s.principals.find(id)
	if !ok {
		return nil, notFound("principal", id)
	}
	changed := *row
	return &changed, nil
}

func (s *state) putPrincipal(row *principalRow) *identity.Principal {
	row.Updated, row.Revision = s.time, s.index
	s.principals.set(row)
	return &row.Principal
}

func (s *state) createPrincipal(b CreatePrincipal) (*identity.Principal, *identity.Error) {
	if b.Principal.ID == "" {
		return nil, invalid("the principal has no id")
	}
	if _, ok := s.principals.find(b.Principal.ID); ok {
		return nil, alreadyExists("principal", b.Principal.ID)
	}
	return s.addPrincipal(b.Principal), nil
}

func (s *state) addPrincipal(p identity.Principal) *identity.Principal {
	row := &principalRow{Principal: p}
	row.Generation = s.nextGeneration()
	row.born = row.Generation
	row.Status, row.Created = identity.StatusActive, s.time
	return s.putPrincipal(row)
}

func (s *state) updatePrincipal(b UpdatePrincipal) (*identity.Principal, *identity.Error) {
	row, err := s.principal(b.Principal.ID)
	if err != nil {
		return nil, err
	}
	if err := unchangedSince(b.IfRevision, row.Revision, "principal", row.ID); err != nil {
		return nil, err
	}
	row.DisplayName, row.Groups = b.Principal.DisplayName, b.Principal.Groups
	return s.putPrincipal(row), nil
}

func (s *state) setPrincipalStatus(b SetPrincipalStatus) (*PrincipalChange, *identity.Error) {
	if err := validStatus(b.Status); err != nil {
		return nil, err
	}
	row, err := s.principal(b.ID)
	if err != nil {
		return nil, err
	}
	if row.Status == identity.StatusActive && b.Status == identity.StatusActive {
		return &PrincipalChange{Principal: &row.Principal}, nil
	}
	row.Status = b.Status
	handles := s.endPrincipalGeneration(row, b.Reason)
	return &PrincipalChange{Principal: s.putPrincipal(row), Handles: handles}, nil
}

// killPrincipal withdraws all delegations by one number: every delegation that is older than the kill counts
// as withdrawn from here on. Where consent is kept, the sessions that rest on them end all the same, by the generation.
func (s *state) killPrincipal(b KillPrincipal) (*PrincipalChange, *identity.Error) {
	row, err := s.principal(b.ID)
	if err != nil {
		return nil, err
	}
	if row.Status == identity.StatusActive && !b.KeepActive {
		row.Status = identity.StatusSuspended
	}
	handles := s.endPrincipalGeneration(row, b.Reason)
	if !b.KeepConsent {
		row.killed, row.killedAt = row.Generation, s.time
	}
	return &PrincipalChange{Principal: s.putPrincipal(row), Handles: handles}, nil
}

func (s *state) deletePrincipal(b DeletePrincipal) (*PrincipalChange, *identity.Error) {
	row, err := s.principal(b.ID)
	if err != nil {
		return nil, err
	}
	handles := s.endPrincipalGeneration(row, b.Reason)
	s.principals.delete(row.ID)
	s.bury(gonePrincipal, row.ID)
	return &PrincipalChange{Principal: &row.Principal, Handles: handles}, nil
}

// endPrincipalGeneration is endGeneration for a principal.
func (s *state) endPrincipalGeneration(row *principalRow, reason string) []identity.Handle {
	h := row.Handle()
	s.deny(reason, h)
	row.Generation = s.nextGeneration()
	return []identity.Handle{h}
}
