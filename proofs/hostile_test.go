package proofs_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/internal/hostile"
	"github.com/deputy-id/deputy/proofs"
)

// verifiers are the three uses, as one function each.
func verifyAssertion(t testing.TB) func(string) error {
	keys := publicKeys(t)
	return func(token string) error {
		_, err := assertionRules().Verify([]byte(token), now, keys)
		return err
	}
}

func verifyIDToken(t testing.TB) func(string) error {
	keys := publicKeys(t)
	return func(token string) error {
		_, err := idTokenRules().Verify([]byte(token), now, keys)
		return err
	}
}

func verifyProof(accessToken string) func(string) error {
	return func(token string) error {
		r := proofRules()
		r.AccessToken = []byte(accessToken)
		_, err := r.Verify([]byte(token), now)
		return err
	}
}

const someToken = "eyJ0eXAiOiJhdCtqd3QifQ.e30.c2ln"

func TestGoodOnesAreAccepted(t *testing.T) {
	bound := goodProof(t)
	bound.AccessToken = someToken
	for kind, tc := range map[string]struct {
		list   []hostile.Case
		verify func(string) error
	}{
		"assertion":                 {goodAssertion(t).Valid(), verifyAssertion(t)},
		"ID token":                  {goodIDToken(t).Valid(), verifyIDToken(t)},
		"ID token without an email": {goodIDToken(t).Unverified(), verifyIDToken(t)},
		"proof":                     {goodProof(t).Valid(), verifyProof("")},
		"proof for a token":         {bound.Valid(), verifyProof(someToken)},
	} {
		t.Run(kind, func(t *testing.T) {
			require.NotEmpty(t, tc.list)
			for _, c := range tc.list {
				require.NoError(t, tc.verify(c.Token), c.Name)
			}
		})
	}
}

func TestHostileOnesAreRefusedForTheRightReason(t *testing.T) {
	bound := goodProof(t)
	bound.AccessToken = someToken
	for kind, tc := range map[string]struct {
		list   []hostile.Case
		verify func(string) error
	}{
		"assertion":         {goodAssertion(t).Cases(), verifyAssertion(t)},
		"ID token":          {goodIDToken(t).Cases(), verifyIDToken(t)},
		"proof":             {goodProof(t).Cases(), verifyProof("")},
		"proof for a token": {bound.Cases(), verifyProof(someToken)},
		"keys": {hostile.KeySets(pairs(t)), func(text string) error {
			_, err := proofs.ParseKeys([]byte(text))
			return err
		}},
	} {
		t.Run(kind, func(t *testing.T) {
			require.Greater(t, len(tc.list), 150)
			seen := map[string]bool{}
			for _, c := range tc.list {
				require.False(t, seen[c.Name], "two cases are called %q", c.Name)
				seen[c.Name] = true
				t.Run(c.Name, func(t *testing.T) {
					err := tc.verify(c.Token)
					require.Error(t, err, "accepted: %s", c.Token)
					requireReason(t, proofs.Reason(c.Reason), err)
					require.Contains(t, proofs.Reasons(), proofs.Reason(c.Reason))
					requireNothingQuoted(t, err, c.Token)
				})
			}
			t.Logf("%d hostile cases", len(tc.list))
		})
	}
}

// requireNothingQuoted wants no piece of a token in the error that refuses it.
func requireNothingQuoted(t testing.TB, err error, token string) {
	t.Helper()
	for _, segment := range strings.Split(token, ".") {
		for piece := range slices.Chunk([]byte(segment), 12) {
			if len(piece) == 12 {
				require.NotContains(t, err.Error(), string(piece))
			}
		}
	}
}
