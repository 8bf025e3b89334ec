package fsm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func TestAnAPITokenIsFoundByItsSecretForAsLongAsItIsThere(t *testing.T) {
	m := newMachine(t)
	const many = 3 * indexList
	for i := range many {
		must1[*identity.APIToken](m, apiToken(i, identity.RoleAuditor))
	}
	before := m.fsm.View()
	for i := 0; i < many; i += 2 {
		id := must1[*identity.APIToken](m, DeleteAPIToken{ID: apiToken(i).APIToken.ID}).ID
		require.Equal(t, apiToken(i, identity.RoleAuditor).APIToken.ID, id)
	}
	for _, m := range []*machine{m, m.restored()} {
		after := m.fsm.View()
		for i := range many {
			hash := [32]byte(secret(i))
			_, ok := before.APITokenByHash(hash)
			require.True(t, ok, "an older View stays as it was")
			token, ok := after.APITokenByHash(hash)
			require.Equal(t, i%2 == 1, ok)
			if ok {
				require.Equal(t, apiToken(i, identity.RoleAuditor).APIToken.ID, token.ID)
			}
		}
	}
}
