package fsm

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

// TestADeletedApplicationsSecretsStayDeadAfterAReplay: the backup has it, and an application has no handle itself.
func TestADeletedApplicationsSecretsStayDeadAfterAReplay(t *testing.T) {
	old := backedUp(t)
	var ids []string
	for n := range uint64(2) {
		id := testID(identity.PrefixCredential, 500+n)
		must1[*identity.Credential](old, AddCredential{Owner: Owner{OwnerApplication, "gmail"}, Credential: identity.Credential{
			ID: id, Kind: identity.CredentialSecret, Hash: secret(500 + int(n)),
		}})
		ids = append(ids, id)
	}
	file, _ := backupOf(t, old)
	before := old.fsm.View()
	must1[*identity.Application](old, DeleteApplication{Name: "gmail"})
	var later []identity.Handle
	for _, r := range old.fsm.View().Revocations("", 100) {
		if _, known := before.Revocation(r.Handle); !known {
			require.Equal(t, "application gmail was deleted", r.Reason)
			later = append(later, r.Handle)
		}
	}
	require.Len(t, later, 2)

	m := fresh(t)
	require.NoError(t, m.restore(file))
	_, owned := m.fsm.View().CredentialOwner(ids[0])
	require.True(t, owned, "the backup has it")
	must1[*Revoked](m, Revoke{Handles: later, Replay: true})
	for _, id := range ids {
		_, owned := m.fsm.View().CredentialOwner(id)
		require.False(t, owned)
	}
	gmail, ok := m.fsm.View().Application("gmail")
	require.True(t, ok)
	require.Empty(t, gmail.Credentials)
}
