package proofs_test

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"math/big"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/hostile"
	"github.com/deputy-id/deputy/proofs"
)

// The world of the tests: one client, one issuer, one server.
const (
	client   = "inbox-assistant"
	server   = "https://deputy.example"
	tokenURL = "https://deputy.example/oauth2/token"
	issuer   = "https://login.company.example"
	loginID  = "deputy-console"
	user     = "ada@company.example"
	started  = now - 90_000
)

// keyPairs are the same in each process, so that a header with a key in it, which one process of the fuzzer found, can be
// signed by another.
var keyPairs = sync.OnceValues(func() (*hostile.Keys, error) {
	ec, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), fixed("ec", 32))
	if err != nil {
		return nil, err
	}
	p, q := prime("p"), prime("q")
	one, e := big.NewInt(1), big.NewInt(65537)
	order := new(big.Int).Mul(new(big.Int).Sub(p, one), new(big.Int).Sub(q, one))
	rs := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: new(big.Int).Mul(p, q), E: 65537}, D: new(big.Int).ModInverse(e, order), Primes: []*big.Int{p, q},
	}
	rs.Precompute()
	return hostile.KeysOf(ed25519.NewKeyFromSeed(fixed("ed", 32)), ec, rs)
})

// fixed is the beginning of a stream of bytes.
func fixed(label string, n int) []byte {
	var b []byte
	for i := byte(0); len(b) < n; i++ {
		digest := sha256.Sum256(append([]byte(label), i))
		b = append(b, digest[:]...)
	}
	return b[:n]
}

// prime is one of 1024 bits, whose product with another has 2048.
func prime(label string) *big.Int {
	b := fixed(label, 128)
	b[0] |= 0xc0
	p := new(big.Int).SetBytes(b)
	for p.SetBit(p, 0, 1); !p.ProbablyPrime(10); p.Add(p, big.NewInt(2)) {
	}
	return p
}

func pairs(t testing.TB) *hostile.Keys {
	t.Helper()
	k, err := keyPairs()
	require.NoError(t, err)
	return k
}

func publicKeys(t testing.TB) *proofs.Keys {
	t.Helper()
	k, err := proofs.ParseKeys(pairs(t).JWKS())
	require.NoError(t, err)
	return k
}

func goodAssertion(t testing.TB) hostile.Assertion {
	return hostile.Assertion{ClientID: client, Audience: server, Now: now, Started: started, Keys: pairs(t)}
}

func goodIDToken(t testing.TB) hostile.IDToken {
	return hostile.IDToken{Issuer: issuer, Audience: loginID, Subject: "248289761001", Email: user, Now: now, Keys: pairs(t)}
}

func goodProof(t testing.TB) hostile.Proof {
	return hostile.Proof{Method: "POST", URL: tokenURL, Now: now, Keys: pairs(t)}
}

func assertionRules() *proofs.AssertionRules {
	return &proofs.AssertionRules{ClientID: client, Audiences: []string{server, tokenURL}, NotBefore: started}
}

func idTokenRules() *proofs.IDTokenRules {
	return &proofs.IDTokenRules{Issuer: issuer, Audiences: []string{loginID}}
}

func proofRules() *proofs.ProofRules {
	return &proofs.ProofRules{Method: "POST", URLs: []string{"https://other.example/oauth2/token", tokenURL}}
}

// requireReason wants an *Error with the reason.
func requireReason(t testing.TB, want proofs.Reason, err error) {
	t.Helper()
	var refused *proofs.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, want, refused.Reason, refused.Detail)
	require.NotEmpty(t, refused.Detail)
}
