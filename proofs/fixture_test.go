package proofs_test

import (
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

// keyPairs are made once, as RSA takes its time.
var keyPairs = sync.OnceValues(hostile.NewKeys)

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
