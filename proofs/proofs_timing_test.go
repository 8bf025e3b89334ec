package proofs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/hostile"
	"github.com/deputy-id/deputy/proofs"
)

// The ceilings stand beside what they bound, so that one run of
//
//	go test -run '^$' -bench . -benchmem ./proofs
//
// shows both on the same machine. A ceiling is the bare check of the signature by the standard library.

// first returns the plain good token of each algorithm.
func first(list []hostile.Case) map[proofs.Algorithm][]byte {
	tokens := map[proofs.Algorithm][]byte{}
	for _, alg := range proofs.Algorithms() {
		for _, c := range list {
			if c.Name == string(alg) {
				tokens[alg] = []byte(c.Token)
			}
		}
	}
	return tokens
}

func BenchmarkCeilingSignature(b *testing.B) {
	for alg, token := range first(goodAssertion(b).Valid()) {
		b.Run(string(alg), func(b *testing.B) {
			signed, text, _ := cutLast(string(token))
			signature, err := base64.RawURLEncoding.DecodeString(text)
			require.NoError(b, err)
			digest := sha256.Sum256([]byte(signed))
			message := []byte(signed)
			b.ReportAllocs()
			switch alg {
			case proofs.EdDSA:
				public := pairs(b).EdDSA.Public.(ed25519.PublicKey)
				for b.Loop() {
					ed25519.Verify(public, message, signature)
				}
			case proofs.ES256:
				public := pairs(b).ES256.Public.(*ecdsa.PublicKey)
				der, err := ecdsaDER(signature)
				require.NoError(b, err)
				for b.Loop() {
					ecdsa.VerifyASN1(public, digest[:], der)
				}
			case proofs.RS256:
				public := pairs(b).RS256.Public.(*rsa.PublicKey)
				for b.Loop() {
					_ = rsa.VerifyPKCS1v15(public, crypto.SHA256, digest[:], signature)
				}
			}
		})
	}
}

func BenchmarkAssertion(b *testing.B) {
	keys, rules := publicKeys(b), assertionRules()
	for alg, token := range first(goodAssertion(b).Valid()) {
		b.Run(string(alg), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := rules.Verify(token, now, keys); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkAssertionClient(b *testing.B) {
	token := first(goodAssertion(b).Valid())[proofs.EdDSA]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proofs.AssertionClient(token); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkProof(b *testing.B) {
	good, rules := goodProof(b), proofRules()
	good.AccessToken, rules.AccessToken = someToken, []byte(someToken)
	for alg, token := range first(good.Valid()) {
		b.Run(string(alg), func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if _, err := rules.Verify(token, now); err != nil {
						b.Error(err)
					}
				}
			})
		})
	}
}

func BenchmarkIDToken(b *testing.B) {
	keys, rules := publicKeys(b), idTokenRules()
	token := first(goodIDToken(b).Valid())[proofs.RS256]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := rules.Verify(token, now, keys); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReplay(b *testing.B) {
	r := proofs.NewReplay(1 << 20)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		at := identity.Instant(now)
		var key [32]byte
		for n := uint64(0); pb.Next(); n++ {
			at++ // a thousand a second
			binary.BigEndian.PutUint64(key[:], n)
			if _, full := r.Seen(key, at+2*minute, at); full {
				b.Error("full")
			}
		}
	})
}

func BenchmarkNonce(b *testing.B) {
	nonces := proofs.NewNonces("n1", [32]byte{1})
	nonce := nonces.Current(now)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if !nonces.Valid(nonce, now) {
				b.Error("not valid")
			}
		}
	})
}

// What a check may allocate. The standard library allocates for the signatures of ES256 and RS256 itself.
func TestChecksAllocateLittle(t *testing.T) {
	keys := publicKeys(t)
	most := map[proofs.Algorithm]struct{ assertion, proof float64 }{
		proofs.EdDSA: {4, 7}, proofs.ES256: {20, 25}, proofs.RS256: {20, 25},
	}
	assertions := first(goodAssertion(t).Valid())
	good, proofRules := goodProof(t), proofRules()
	good.AccessToken, proofRules.AccessToken = someToken, []byte(someToken)
	proofTokens := first(good.Valid())
	rules := assertionRules()
	for alg, bound := range most {
		got := testing.AllocsPerRun(100, func() {
			_, err := rules.Verify(assertions[alg], now, keys)
			require.NoError(t, err)
		})
		t.Logf("assertion, %s: %v allocations", alg, got)
		require.LessOrEqual(t, got, bound.assertion, alg)
		got = testing.AllocsPerRun(100, func() {
			_, err := proofRules.Verify(proofTokens[alg], now)
			require.NoError(t, err)
		})
		t.Logf("proof, %s: %v allocations", alg, got)
		require.LessOrEqual(t, got, bound.proof, alg)
	}
	nonces := proofs.NewNonces("n1", [32]byte{1})
	nonce := nonces.Current(now)
	require.Zero(t, testing.AllocsPerRun(100, func() { nonces.Valid(nonce, now) }))
	memory := proofs.NewReplay(100)
	key := proofs.ReplayKey("proof", client, "j")
	memory.Seen(key, now+1, now)
	require.Zero(t, testing.AllocsPerRun(100, func() { memory.Seen(key, now+1, now) }))
	require.Zero(t, testing.AllocsPerRun(100, func() { proofs.ReplayKey("proof", client, "j") }))
}
