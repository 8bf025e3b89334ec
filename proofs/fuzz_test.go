package proofs_test

import (
	"bytes"
	"crypto"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/hostile"
	"github.com/deputy-id/deputy/proofs"
)

// The fuzzers get header and payload as text, which is signed here, so that they reach past the signature; and a bit
// of the finished token to flip, so that they reach the spelling and the signature too. Whatever is accepted then must
// be accepted by the others with the same claims, and whatever is refused must be refused by an *Error.

// seed adds a corpus: tokens whose segments decode as text to sign, all others as they are.
func seed(f *testing.F, lists ...[]hostile.Case) {
	f.Helper()
	for _, list := range lists {
		for _, c := range list {
			header, payload, ok := texts(c.Token)
			switch {
			case len(c.Token) > 4<<10: // so that the fuzzer does not spend its time on mutations of the same letter
			case !ok:
				f.Add(c.Token, "", byte(0), uint16(0))
			default:
				signer := byte(0)
				for i, s := range pairs(f).All() {
					if strings.Contains(header, `"alg":"`+s.Alg+`"`) {
						signer = byte(i)
					}
				}
				f.Add(header, payload, signer, uint16(0))
			}
		}
	}
}

func texts(token string) (header, payload string, ok bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "", "", false
	}
	h, errHeader := base64.RawURLEncoding.DecodeString(parts[0])
	p, errPayload := base64.RawURLEncoding.DecodeString(parts[1])
	return string(h), string(p), errHeader == nil && errPayload == nil && len(p) > 0
}

// compose makes a token of what the fuzzer gives. A payload that is empty leaves the header as the token.
func compose(t *testing.T, header, payload string, signer byte, flip uint16) string {
	token := header
	if payload != "" {
		token = pairs(t).All()[signer%3].Token(header, payload)
	}
	if bit := int(flip); bit > 0 && bit/8 < len(token) {
		b := []byte(token)
		b[bit/8] ^= 1 << (bit % 8)
		token = string(b)
	}
	return token
}

func requireTyped(t *testing.T, err error) {
	var refused *proofs.Error
	require.True(t, errors.As(err, &refused), "%T", err)
	require.Contains(t, proofs.Reasons(), refused.Reason)
}

func FuzzAssertion(f *testing.F) {
	good := goodAssertion(f)
	seed(f, good.Valid(), good.Cases())
	keys := publicKeys(f)
	f.Fuzz(func(t *testing.T, header, payload string, signer byte, flip uint16) {
		token := compose(t, header, payload, signer, flip)
		before := []byte(token)
		a, err := assertionRules().Verify(before, now, keys)
		require.Equal(t, token, string(before), "the caller's bytes were changed")
		peeked, peekErr := proofs.AssertionClient([]byte(token))
		if err != nil {
			requireTyped(t, err)
			return
		}
		require.NoError(t, peekErr)
		require.Equal(t, peeked, a.ClientID)
		requireSameAssertion(t, token, a)
	})
}

func FuzzIDToken(f *testing.F) {
	good := goodIDToken(f)
	seed(f, good.Valid(), good.Unverified(), good.Cases())
	keys := publicKeys(f)
	f.Fuzz(func(t *testing.T, header, payload string, signer byte, flip uint16) {
		token := compose(t, header, payload, signer, flip)
		got, err := idTokenRules().Verify([]byte(token), now, keys)
		peeked, peekErr := proofs.IDTokenIssuer([]byte(token))
		if err != nil {
			requireTyped(t, err)
			return
		}
		require.NoError(t, peekErr)
		require.Equal(t, peeked, got.Issuer)
		requireSameIDToken(t, token, got)
	})
}

func FuzzProof(f *testing.F) {
	good := goodProof(f)
	seed(f, good.Valid(), good.Cases())
	f.Fuzz(func(t *testing.T, header, payload string, signer byte, flip uint16) {
		token := compose(t, header, payload, signer, flip)
		p, err := proofRules().Verify([]byte(token), now)
		if err != nil {
			requireTyped(t, err)
			return
		}
		if namesCertificates(token) {
			return
		}
		requireSameProof(t, token, p)
	})
}

// namesCertificates tells where jwx reads members that are passed over here: it wants the certificates to be some.
func namesCertificates(token string) bool {
	header, _, _ := texts(token)
	var h struct {
		JWK map[string]any `json:"jwk"`
	}
	return json.Unmarshal([]byte(header), &h) == nil && certificates(h.JWK)
}

func certificates(key map[string]any) bool {
	for _, name := range []string{"x5c", "x5t", "x5t#S256", "x5u"} {
		if _, there := key[name]; there {
			return true
		}
	}
	return false
}

func FuzzKeys(f *testing.F) {
	f.Add(pairs(f).JWKS())
	for _, key := range []string{rfc7638RSA, rfc8037Ed, rfc9449EC} {
		f.Add([]byte(key))
		f.Add([]byte(`{"keys":[` + key + `,{"kty":"EC","crv":"P-384"}]}`))
	}
	for _, c := range hostile.KeySets(pairs(f)) {
		f.Add([]byte(c.Token))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		if keys, err := proofs.ParseKeys(text); err != nil {
			requireTyped(t, err)
		} else {
			requireSameKeys(t, keys)
			requireReadable(t, text, keys.Len())
			require.Empty(t, keys.Skipped())
		}
		if keys, err := proofs.ParsePublishedKeys(text); err != nil {
			requireTyped(t, err)
		} else {
			requireSameKeys(t, keys)
		}
		require.Equal(t, before, text)
	})
}

// requireSameKeys wants the canonical form to mean the same to jwx, and to be its own.
func requireSameKeys(t *testing.T, keys *proofs.Keys) {
	t.Helper()
	canonical := keys.Canonical()
	again, err := proofs.ParseKeys(canonical)
	require.NoError(t, err)
	require.Equal(t, string(canonical), string(again.Canonical()))
	judge, err := jwk.Parse(canonical)
	require.NoError(t, err)
	require.Equal(t, keys.Len(), judge.Len())
	for k := range keys.All() {
		theirs, ok := judge.LookupKeyID(k.ID())
		require.True(t, ok)
		require.NoError(t, theirs.Validate())
		private, err := jwk.IsPrivateKey(theirs)
		require.NoError(t, err)
		require.False(t, private)
		digest, err := theirs.Thumbprint(crypto.SHA256)
		require.NoError(t, err)
		require.Equal(t, base64.RawURLEncoding.EncodeToString(digest), k.Thumbprint())
		var raw any
		require.NoError(t, theirs.Raw(&raw))
		require.Equal(t, k.Algorithm(), proofs.Algorithm(theirs.Algorithm().String()))
	}
}

// requireReadable wants jwx to take what was taken here as it was written.
func requireReadable(t *testing.T, text []byte, n int) {
	t.Helper()
	var o map[string]any
	require.NoError(t, json.Unmarshal(text, &o))
	list, isSet := o["keys"].([]any)
	if !isSet {
		list = []any{o}
	}
	require.Len(t, list, n)
	for _, key := range list {
		if certificates(key.(map[string]any)) {
			return
		}
	}
	judge, err := jwk.Parse(text)
	require.NoError(t, err)
	require.Equal(t, n, judge.Len())
}
