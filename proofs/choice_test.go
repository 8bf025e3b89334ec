package proofs_test

import (
	"crypto/ed25519"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/hostile"
	"github.com/deputy-id/deputy/proofs"
)

// signers makes Ed25519 keys and the set of them.
func signers(t *testing.T, prefix string, n int) ([]*hostile.Signer, *proofs.Keys) {
	t.Helper()
	var list []*hostile.Signer
	var jwks []string
	for i := range n {
		_, private, err := ed25519.GenerateKey(nil)
		require.NoError(t, err)
		s, err := hostile.NewSigner(private, fmt.Sprint(prefix, i))
		require.NoError(t, err)
		list = append(list, s)
		jwks = append(jwks, `{"kid":"`+s.KID+`",`+s.JWK[1:])
	}
	keys, err := proofs.ParseKeys([]byte(`{"keys":[` + strings.Join(jwks, ",") + `]}`))
	require.NoError(t, err)
	return list, keys
}

func assertionBy(s *hostile.Signer, kid string) []byte {
	header := `{"alg":"` + s.Alg + `"`
	if kid != "" {
		header += `,"kid":"` + kid + `"`
	}
	return []byte(s.Token(header+"}", `{"iss":"`+client+`","sub":"`+client+`","aud":"`+server+`","iat":1790000000,"exp":1790000060,"jti":"j"}`))
}

func TestKidChoosesTheKeyAndNothingElse(t *testing.T) {
	list, keys := signers(t, "k", 8)
	a, err := assertionRules().Verify(assertionBy(list[6], "k6"), now, keys)
	require.NoError(t, err)
	require.Equal(t, "k6", a.Key.ID())

	_, err = assertionRules().Verify(assertionBy(list[6], "k5"), now, keys)
	requireReason(t, proofs.ReasonSignature, err)
	_, err = assertionRules().Verify(assertionBy(list[6], "k66"), now, keys)
	requireReason(t, proofs.ReasonUnknownKey, err)
}

func TestWithoutKidAFewKeysAreTried(t *testing.T) {
	list, keys := signers(t, "k", 4)
	for i, s := range list {
		a, err := assertionRules().Verify(assertionBy(s, ""), now, keys)
		require.NoError(t, err)
		require.Equal(t, fmt.Sprint("k", i), a.Key.ID())
	}
	list, keys = signers(t, "k", 5)
	_, err := assertionRules().Verify(assertionBy(list[4], ""), now, keys)
	requireReason(t, proofs.ReasonUnknownKey, err)
	require.Contains(t, err.Error(), "kid")
}

// A client has a set for each of its credentials, and the token that is minted must name the one that was used.
func TestAnswerNamesTheSetThatHoldsTheKey(t *testing.T) {
	first, keysOfFirst := signers(t, "k", 2)
	second, keysOfSecond := signers(t, "k", 2) // with the same kids
	for _, kid := range []string{"", "k1"} {
		a, err := assertionRules().Verify(assertionBy(first[1], kid), now, keysOfFirst, nil, keysOfSecond)
		require.NoError(t, err)
		require.Equal(t, 0, a.Set)
		a, err = assertionRules().Verify(assertionBy(second[1], kid), now, keysOfFirst, nil, keysOfSecond)
		require.NoError(t, err)
		require.Equal(t, 2, a.Set)
		require.Equal(t, "k1", a.Key.ID())
	}
}

func TestAnswerSaysWhatTheAssertionSays(t *testing.T) {
	list, keys := signers(t, "k", 1)
	token := assertionBy(list[0], "k0")
	got, err := proofs.AssertionClient(token)
	require.NoError(t, err)
	require.Equal(t, client, got)
	a, err := assertionRules().Verify(token, now, keys)
	require.NoError(t, err)
	require.Equal(t, client, a.ClientID)
	require.Equal(t, "j", a.JTI)
	require.EqualValues(t, now, a.IssuedAt)
	require.EqualValues(t, now+60_000, a.Expires)
	require.Equal(t, proofs.EdDSA, a.Key.Algorithm())
}
