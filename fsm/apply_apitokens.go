package fsm

import (
	"strings"

	"github.com/deputy-id/deputy/identity"
)

func (s *state) createAPIToken(b CreateAPIToken) (*identity.APIToken, *identity.Error) {
	t := b.APIToken
	if t.ID == "" || len(t.Hash) == 0 {
		return nil, invalid("the API token lacks its id or hash")
	}
	if _, ok := first[identity.APIToken](s.rows(), tableAPITokens, indexID, t.ID); ok {
		return nil, alreadyExists("API token", t.ID)
	}
	if s.isRevoked(identity.CredentialHandle(t.ID)) {
		return nil, identity.Errorf(identity.CodeRevoked, "API token %.64q was revoked", t.ID)
	}
	if other, ok := first[identity.APIToken](s.rows(), tableAPITokens, indexHash, string(t.Hash)); ok {
		return nil, identity.Errorf(identity.CodeAlreadyExists, "API token %.64q has the same secret", other.ID)
	}
	if s.apiTokens >= MaxAPITokens {
		return nil, limitReached("API tokens", MaxAPITokens)
	}
	t.Created = s.stamp(t.Created)
	s.put(tableAPITokens, &t)
	s.secrets.set(&t)
	s.apiTokens++
	if t.Has(identity.RoleAdmin) && t.ActiveAt(s.time) {
		s.dropRevokedAPITokens()
	}
	return &t, nil
}

func (s *state) deleteAPIToken(b DeleteAPIToken) (*identity.APIToken, *identity.Error) {
	t, ok := first[identity.APIToken](s.rows(), tableAPITokens, indexID, b.ID)
	if !ok {
		return nil, notFound("API token", b.ID)
	}
	if s.isLastAdmin(t) {
		return nil, identity.Errorf(identity.CodeConflict, "API token %.64q is the last one with role admin", t.ID).
			WithHint("create another one first: deputy api-token create --role admin")
	}
	s.deny("", identity.CredentialHandle(t.ID))
	s.dropAPIToken(t)
	return t, nil
}

// endAPIToken deletes a token whose handle was revoked. The last one with role admin stays, or nobody could
// ever make another: it goes when there is one. Until then its entry does not expire (see expiryOf).
func (s *state) endAPIToken(id string) (known bool) {
	t, ok := first[identity.APIToken](s.rows(), tableAPITokens, indexID, id)
	if ok && !s.isLastAdmin(t) {
		s.dropAPIToken(t)
	}
	return ok
}

// dropRevokedAPITokens deletes the token that endAPIToken had to leave, now that another admin is there.
func (s *state) dropRevokedAPITokens() {
	for _, t := range list[identity.APIToken](s.rows(), tableAPITokens, "", maxRows) {
		if s.isRevoked(identity.CredentialHandle(t.ID)) {
			s.dropAPIToken(t)
		}
	}
}

func (s *state) dropAPIToken(t *identity.APIToken) {
	s.remove(tableAPITokens, t)
	s.secrets.delete(t)
	s.apiTokens--
}

// isLastAdmin reports whether nobody would have role admin without this token.
func (s *state) isLastAdmin(t *identity.APIToken) bool {
	return t.Has(identity.RoleAdmin) && count(s.rows(), tableAPITokens, func(o *identity.APIToken) bool {
		return o.ID != t.ID && o.Has(identity.RoleAdmin) && o.ActiveAt(s.time)
	}) == 0
}

// isLastAdminHandle is isLastAdmin for what a handle names.
func (s *state) isLastAdminHandle(h identity.Handle) bool {
	if !strings.HasPrefix(string(h), identity.PrefixAPIToken) {
		return false
	}
	t, ok := first[identity.APIToken](s.rows(), tableAPITokens, indexID, string(h))
	return ok && s.isLastAdmin(t)
}
