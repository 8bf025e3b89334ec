package tokens

import (
	"bytes"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

// Whatever the parser accepts has one spelling, and others read it as we do; all else is a *VerifyError.
func FuzzParse(f *testing.F) {
	w := newWorld(f)
	first, err := w.verifier.Verify(w.mint(f, delegated(f)))
	require.NoError(f, err)
	f.Add(w.mint(f, delegated(f)))
	f.Add(w.mint(f, autonomous(f)))
	f.Add(w.mint(f, hop(f, first)))
	for _, token := range hostile(f, w) {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token []byte) {
		before := bytes.Clone(token)
		p, err := parse(token)
		require.Equal(t, before, token)
		if err != nil {
			var refused *VerifyError
			require.True(t, errors.As(err, &refused))
			return
		}
		cut := bytes.IndexByte(token, '.')
		header, err := segment.DecodeString(string(token[:cut]))
		require.NoError(t, err)
		payload, err := segment.DecodeString(string(p.signed[cut+1:]))
		require.NoError(t, err)
		respelled := encode(string(header)) + "." + encode(string(payload)) + "." + encode(string(p.signature[:]))
		require.Equal(t, respelled, string(token), "a second spelling of the same token")
		requireAgreement(t, w, p.claims, string(payload))
	})
}

// The payload alone lets the fuzzer get at the claims without finding its way through base64.
func FuzzParseClaims(f *testing.F) {
	w := newWorld(f)
	first, err := w.verifier.Verify(w.mint(f, delegated(f)))
	require.NoError(f, err)
	f.Add(payloadOf(f, w.mint(f, delegated(f))))
	f.Add(payloadOf(f, w.mint(f, autonomous(f))))
	f.Add(payloadOf(f, w.mint(f, hop(f, first))))
	for _, token := range hostile(f, w) {
		if parts := bytes.Split(token, []byte{'.'}); len(parts) == 3 {
			if payload, err := segment.DecodeString(string(parts[1])); err == nil {
				f.Add(string(payload))
			}
		}
	}
	f.Fuzz(func(t *testing.T, payload string) {
		claims, err := parseClaims(payload, w.signer.kid)
		if err == nil {
			requireAgreement(t, w, claims, payload)
		}
	})
}

// The header decides about the key, so what is accepted must be ours to the last byte but for the order.
func FuzzParseHeader(f *testing.F) {
	w := newWorld(f)
	f.Add(w.header())
	for _, token := range hostile(f, w) {
		if cut := bytes.IndexByte(token, '.'); cut > 0 {
			if header, err := segment.DecodeString(string(token[:cut])); err == nil {
				f.Add(string(header))
			}
		}
	}
	f.Fuzz(func(t *testing.T, header string) {
		kid, err := parseHeader(header)
		if err != nil {
			return
		}
		require.Len(t, header, len(w.header()))
		require.JSONEq(t, `{"alg":"EdDSA","kid":"`+kid+`","typ":"at+jwt"}`, header)
		require.True(t, validKID(kid))
	})
}
