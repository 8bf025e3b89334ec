package identity_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/deputy-id/deputy/identity"
)

func TestIDsAreVersionSevenAndReadBackAsWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := identity.Instant(rapid.Int64Range(0, 1<<48-1).Draw(t, "now"))
		entropy := [10]byte(rapid.SliceOfN(rapid.Byte(), 10, 10).Draw(t, "entropy"))

		id := identity.NewID(identity.PrefixSession, now, entropy)
		uuid, err := identity.ParseID(identity.PrefixSession, id)
		require.NoError(t, err)
		require.Equal(t, id, identity.FormatID(identity.PrefixSession, uuid))
		require.Equal(t, byte(0x70), uuid[6]&0xf0, "version")
		require.Equal(t, byte(0x80), uuid[8]&0xc0, "variant")
		require.Equal(t, strings.ToLower(id), id)
	})
}

func TestIDsSortByTime(t *testing.T) {
	var ids []string
	for i := range 100 {
		ids = append(ids, identity.NewID("dlg_", identity.Instant(1_700_000_000_000+i*977), [10]byte{255 - byte(i)}))
	}
	require.True(t, slices.IsSorted(ids))
}

func TestIDHasOneSpelling(t *testing.T) {
	id := identity.NewID("ses_", 1_700_000_000_000, [10]byte{1, 2, 3})
	for _, forged := range []string{
		"", "ses_", strings.ToUpper(id), "dlg_" + id[4:], id + "0", id[:len(id)-1],
		"ses_8" + id[5:],           // 131 bits
		"ses_" + "o" + id[5:],      // Crockford reads o as 0; we don't
		"ses_" + id[4:29] + "\xff", // not ASCII
	} {
		_, err := identity.ParseID("ses_", forged)
		require.Error(t, err, forged)
	}
}

func TestHandlesReadBackAsWritten(t *testing.T) {
	session := identity.NewID(identity.PrefixSession, 1_700_000_000_000, [10]byte{7})
	for _, h := range []identity.Handle{
		identity.SessionHandle(session),
		identity.AgentHandle("support-triage-agent", 417),
		identity.PrincipalHandle("google-oauth2|12#34", 93),
		identity.KeyHandle("n2Zg"),
		identity.DelegationHandle(identity.NewID(identity.PrefixDelegation, 5, [10]byte{})),
		identity.CredentialHandle(identity.NewID(identity.PrefixCredential, 5, [10]byte{})),
		identity.CredentialHandle(identity.NewID(identity.PrefixAPIToken, 5, [10]byte{})),
	} {
		again, err := identity.ParseHandle(string(h))
		require.NoError(t, err)
		require.Equal(t, h, again)
	}
}

func TestForeignHandlesAreRefused(t *testing.T) {
	for _, text := range []string{
		"", "agt_", "agt_x", "agt_x#", "agt_x#01", "agt_x#-1", "agt_#1", "foo_x", "ses_short", "tok_short", "jtk_01mcc5rm00e009n9kd5hyxyx1z", "usr_a b#1",
		"usr_" + strings.Repeat("x", 300) + "#1", "key_",
	} {
		_, err := identity.ParseHandle(text)
		require.Error(t, err, text)
	}
}

func TestInstantIsRFC3339WithMilliseconds(t *testing.T) {
	i := identity.InstantOf(time.Date(2026, 4, 17, 8, 0, 0, 1_999_999, time.FixedZone("x", 3600)))
	require.Equal(t, "2026-04-17T07:00:00.001Z", i.String())

	var again identity.Instant
	require.NoError(t, again.UnmarshalText([]byte("2026-04-17T09:00:00.001+02:00")))
	require.Equal(t, i, again)
	require.NoError(t, again.UnmarshalText(nil))
	require.True(t, again.IsZero())
	require.Empty(t, again.String())
	require.ErrorContains(t, again.UnmarshalText([]byte("yesterday")), "RFC 3339")
	require.Equal(t, 1500*time.Millisecond, i.Add(1500*time.Millisecond).Sub(i))
}
