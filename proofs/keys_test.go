package proofs_test

import (
	"crypto"
	"crypto/ed25519"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/hostile"
	"github.com/deputy-id/deputy/proofs"
)

// The keys and thumbprints that the RFCs print.
const (
	rfc7638RSA = `{"kty":"RSA","n":"0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw","e":"AQAB","alg":"RS256","kid":"2011-04-29"}`
	rfc8037Ed  = `{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`
	rfc9449EC  = `{"kty":"EC","x":"l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs","y":"9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA","crv":"P-256"}`
)

func TestThumbprintsAreThoseOfTheRFCs(t *testing.T) {
	for key, want := range map[string]string{
		rfc7638RSA: "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
		rfc8037Ed:  "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
		rfc9449EC:  "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
	} {
		keys, err := proofs.ParseKeys([]byte(key))
		require.NoError(t, err)
		for k := range keys.All() {
			require.Equal(t, want, k.Thumbprint())
		}
		judge, err := jwk.ParseKey([]byte(key))
		require.NoError(t, err)
		digest, err := judge.Thumbprint(crypto.SHA256)
		require.NoError(t, err)
		require.Equal(t, base64.RawURLEncoding.EncodeToString(digest), want)
	}
}

func TestKeyWithoutKidIsNamedByItsThumbprint(t *testing.T) {
	keys, err := proofs.ParseKeys([]byte(`{"keys":[` + rfc7638RSA + `,` + rfc8037Ed + `]}`))
	require.NoError(t, err)
	var names []string
	for k := range keys.All() {
		names = append(names, k.ID())
	}
	require.Equal(t, []string{"2011-04-29", "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"}, names)
	require.Equal(t, []proofs.Algorithm{proofs.EdDSA, proofs.RS256}, keys.Algorithms())
}

func TestCanonicalFormIsReadBackAsItself(t *testing.T) {
	spaced := ` { "keys" : [ ` + rfc8037Ed + `, {"e":"AQAB","use":"sig",` + rfc7638RSA[1:len(rfc7638RSA)-1] + `,"key_ops":["verify"],"x5c":["MIIB"],"nbf":1}, ` + rfc9449EC + `] } `
	spaced = strings.Replace(spaced, `,"e":"AQAB","alg"`, `,"alg"`, 1)
	keys, err := proofs.ParseKeys([]byte(spaced))
	require.NoError(t, err)
	canonical := keys.Canonical()
	again, err := proofs.ParseKeys(canonical)
	require.NoError(t, err)
	require.Equal(t, string(canonical), string(again.Canonical()))
	require.NotContains(t, string(canonical), "x5c")
	require.NotContains(t, string(canonical), " ")

	judge, err := jwk.Parse(canonical)
	require.NoError(t, err)
	require.Equal(t, keys.Len(), judge.Len())
	for k := range keys.All() {
		other, ok := judge.LookupKeyID(k.ID())
		require.True(t, ok)
		require.Equal(t, string(k.Algorithm()), other.Algorithm().String())
	}
}

func TestPublishedSetMayHoldKeysThatAreOfNoUse(t *testing.T) {
	const (
		encryption = `{"kty":"RSA","use":"enc","kid":"2011-04-29","n":"AQAB","e":"AQAB"}`
		pss        = `{"alg":"PS256",` + `"kty":"RSA","kid":"2011-04-29","n":"AQAB","e":"AQAB"}`
		p384       = `{"kty":"EC","crv":"P-384","x":"AA","y":"AA"}`
		later      = `{"kty":"AKP","alg":"ML-DSA-44","pub":"AA"}`
	)
	published := `{"keys":[` + strings.Join([]string{encryption, pss, p384, later, rfc7638RSA}, ",") + `],"issued":1}`
	keys, err := proofs.ParsePublishedKeys([]byte(published))
	require.NoError(t, err)
	require.Equal(t, 1, keys.Len())
	require.Len(t, keys.Skipped(), 4)
	_, err = proofs.ParseKeys([]byte(published))
	requireReason(t, proofs.ReasonKey, err)

	for name, tc := range map[string]struct {
		set    string
		reason proofs.Reason
	}{
		"none of use":        {`{"keys":[` + p384 + `,` + later + `]}`, proofs.ReasonKey},
		"a private key":      {`{"keys":[` + rfc7638RSA + `,{"d":"AA",` + encryption[1:] + `]}`, proofs.ReasonPrivateKey},
		"a shared key":       {`{"keys":[` + rfc7638RSA + `,{"kty":"oct","k":"AA"}]}`, proofs.ReasonPrivateKey},
		"one kid for two":    {`{"keys":[` + rfc7638RSA + `,{"kid":"2011-04-29",` + rfc8037Ed[1:] + `]}`, proofs.ReasonKey},
		"a name twice":       {`{"keys":[` + rfc7638RSA + `,{"kty":"OKP","kty":"RSA"}]}`, proofs.ReasonMalformed},
		"no set but one key": {rfc7638RSA, proofs.ReasonMalformed},
		"too long":           {`{"keys":[` + rfc7638RSA + `],"x":"` + strings.Repeat("x", proofs.MaxPublishedBytes) + `"}`, proofs.ReasonTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := proofs.ParsePublishedKeys([]byte(tc.set))
			requireReason(t, tc.reason, err)
		})
	}
	chain := `{"keys":[{"x5c":["` + strings.Repeat("MIIB", 8000) + `"],` + rfc7638RSA[1:] + `]}`
	_, err = proofs.ParsePublishedKeys([]byte(chain))
	require.NoError(t, err, "certificate chains make sets long")
}

// Canonical adds names, so a set that just fits would not fit any more when it is read back from where it was stored.
func TestSetThatCouldNotBeReadBackIsRefused(t *testing.T) {
	key := func(i int) string {
		modulus := append([]byte{0x80, byte(i)}, fixed("n", 510)...)
		modulus[511] |= 1
		return `,{"kty":"RSA","n":"` + base64.RawURLEncoding.EncodeToString(modulus) + `","e":"AQAB"}`
	}
	set, stored := "", 0
	for i := range proofs.MaxKeys {
		set += key(i)
		text := []byte(`{"keys":[` + set[1:] + `]}`)
		require.LessOrEqual(t, len(text), proofs.MaxKeysBytes)
		for _, parse := range []func([]byte) (*proofs.Keys, error){proofs.ParseKeys, proofs.ParsePublishedKeys} {
			keys, err := parse(text)
			if err != nil {
				requireReason(t, proofs.ReasonTooLong, err)
				require.Greater(t, i, 15)
				stored++
				continue
			}
			_, err = proofs.ParseKeys(keys.Canonical())
			require.NoError(t, err)
		}
		if stored > 0 {
			require.Equal(t, 2, stored)
			return
		}
	}
	require.Fail(t, "no set was too long")
}

func TestPrivateKeyIsCalledLeaked(t *testing.T) {
	_, err := proofs.ParseKeys([]byte(`{"d":"c2VjcmV0LXNlY3JldC1zZWNyZXQ",` + rfc8037Ed[1:]))
	requireReason(t, proofs.ReasonPrivateKey, err)
	require.Contains(t, err.Error(), "leaked")
	require.NotContains(t, err.Error(), "c2Vj")
}

func TestNoKeysAreNoKeys(t *testing.T) {
	var none *proofs.Keys
	require.Zero(t, none.Len())
	require.Empty(t, none.Algorithms())
	require.Empty(t, none.Skipped())
	require.JSONEq(t, `{"keys":[]}`, string(none.Canonical()))
	token := []byte(goodAssertion(t).Valid()[0].Token)
	_, err := assertionRules().Verify(token, now)
	requireReason(t, proofs.ReasonUnknownKey, err)
	_, err = assertionRules().Verify(token, now, nil, none)
	requireReason(t, proofs.ReasonUnknownKey, err)
}

// The refusal of weak keys is not for show: the standard library takes what anybody can make for a signature by them.
func TestAnybodyCanSignUnderAKeyOfLowOrder(t *testing.T) {
	neutral := append([]byte{1}, make([]byte, 31)...)
	var forged []hostile.Case
	for _, c := range goodProof(t).Cases() {
		if strings.Contains(c.Name, "anybody can sign") && strings.Contains(c.Name, "Ed25519") {
			forged = append(forged, c)
		}
	}
	require.Len(t, forged, 1)
	signed, signature, ok := cutLast(forged[0].Token)
	require.True(t, ok)
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	require.NoError(t, err)
	require.True(t, ed25519.Verify(neutral, []byte(signed), raw))
	require.True(t, ed25519.Verify(neutral, []byte("any other message"), raw))
}

func cutLast(token string) (signed, signature string, ok bool) {
	i := strings.LastIndexByte(token, '.')
	if i < 0 {
		return token, "", false
	}
	return token[:i], token[i+1:], true
}

// For points of order eight the forged signature holds for one message in eight.
func TestEveryPointOfLowOrderIsRefused(t *testing.T) {
	forged := goodProof(t).Cases()
	i := 0
	for ; !strings.Contains(forged[i].Name, "neutral point, under"); i++ {
	}
	_, signature, _ := cutLast(forged[i].Token)
	raw, err := base64.RawURLEncoding.DecodeString(signature)
	require.NoError(t, err)
	refused := 0
	for _, text := range []string{
		"0000000000000000000000000000000000000000000000000000000000000000",
		"0100000000000000000000000000000000000000000000000000000000000000",
		"ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
	} {
		for _, sign := range []byte{0, 0x80} {
			var key []byte
			_, err := fmt.Sscanf(text, "%x", &key)
			require.NoError(t, err)
			key[31] |= sign
			held := 0
			for n := range 200 {
				if ed25519.Verify(key, fmt.Appendf(nil, "message %d", n), raw) {
					held++
				}
			}
			require.Greater(t, held, 5, "%x is no point of low order", key)
			_, err = proofs.ParseKeys([]byte(`{"kty":"OKP","crv":"Ed25519","x":"` + base64.RawURLEncoding.EncodeToString(key) + `"}`))
			requireReason(t, proofs.ReasonKey, err)
			refused++
		}
	}
	require.Equal(t, 10, refused)
}
