package tokens

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
)

func someSigners(t *testing.T, n int) (signers []*Signer) {
	t.Helper()
	for range n {
		s, err := GenerateSigner()
		require.NoError(t, err)
		signers = append(signers, s)
	}
	return signers
}

func TestJWKSIsReadByOthers(t *testing.T) {
	signers := someSigners(t, 3)
	set, err := jwk.Parse(keyring(t, signers...).JWKS())
	require.NoError(t, err)
	require.Equal(t, 3, set.Len())
	for _, signer := range signers {
		key, ok := set.LookupKeyID(signer.KID())
		require.True(t, ok)
		require.Equal(t, "EdDSA", key.Algorithm().String())
		require.Equal(t, "sig", key.KeyUsage())
		var public ed25519.PublicKey
		require.NoError(t, key.Raw(&public))
		require.Equal(t, signer.Public(), public)
		digest, err := key.Thumbprint(crypto.SHA256)
		require.NoError(t, err)
		require.Equal(t, signer.KID(), base64.RawURLEncoding.EncodeToString(digest))
	}
}

func TestJWKSIsTheSameAtEveryNode(t *testing.T) {
	s := someSigners(t, 3)
	a, b, c := keyring(t, s[0], s[1]), keyring(t, s[1], s[0], s[0]), keyring(t, s...)
	require.Equal(t, a.JWKS(), b.JWKS())
	require.Equal(t, a.ETag(), b.ETag())
	require.NotEqual(t, a.ETag(), c.ETag())
	require.Regexp(t, `^"[\w-]{22}"$`, a.ETag())
}

func TestKeyringLeavesOutWhatItCannotUse(t *testing.T) {
	s := someSigners(t, 2)
	good, other := s[0].SigningKey("n1", noon), s[1].SigningKey("n2", noon)
	spoil := func(change func(*identity.SigningKey)) identity.SigningKey {
		k := good
		change(&k)
		return k
	}
	ring, err := NewKeyring([]identity.SigningKey{
		spoil(func(k *identity.SigningKey) { k.Node, k.Alg = "a", "HS256" }),
		spoil(func(k *identity.SigningKey) { k.Node, k.Public = "b", k.Public[:31] }),
		spoil(func(k *identity.SigningKey) { k.Node, k.KID = "c", other.KID }),
		good,
	})
	require.ErrorContains(t, err, `of node "a": its algorithm is "HS256"`)
	require.ErrorContains(t, err, `of node "b": it has 31 bytes`)
	require.ErrorContains(t, err, `of node "c": its thumbprint is`)
	require.True(t, ring.Has(good.KID))
	require.False(t, ring.Has(other.KID))
}

func TestKeyringKeepsItsOwnBytes(t *testing.T) {
	s := someSigners(t, 1)[0]
	key := s.SigningKey("n1", noon)
	ring, err := NewKeyring([]identity.SigningKey{key})
	require.NoError(t, err)
	clear(key.Public)
	require.NotEqual(t, make(ed25519.PublicKey, ed25519.PublicKeySize), ring.key(s.KID()))
}

func TestEmptyKeyringIsADocumentToo(t *testing.T) {
	made, err := NewKeyring(nil)
	require.NoError(t, err)
	for _, k := range []*Keyring{nil, {}, made} {
		require.Equal(t, `{"keys":[]}`, string(k.JWKS()))
		require.NotEmpty(t, k.ETag())
		require.False(t, k.Has(""))
	}
}
