package proofs_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/proofs"
)

// Each bound holds to the second, on both of its sides. Times are seconds from now.
func TestTimesOfAssertionsHoldToTheSecond(t *testing.T) {
	list, keys := signers(t, "k", 1)
	for name, tc := range map[string]struct {
		times  string // of the payload; %d are filled with now plus the numbers
		plus   []any
		reason proofs.Reason
	}{
		"one minute":                  {`"iat":%d,"exp":%d`, []any{0, 60}, ""},
		"five minutes":                {`"iat":%d,"exp":%d`, []any{0, 300}, ""},
		"a second more":               {`"iat":%d,"exp":%d`, []any{0, 301}, proofs.ReasonLifetime},
		"by a clock 30 s ahead":       {`"iat":%d,"exp":%d`, []any{30, 330}, ""},
		"by a clock 31 s ahead":       {`"iat":%d,"exp":%d`, []any{31, 90}, proofs.ReasonNotYet},
		"ended 29 s ago":              {`"iat":%d,"exp":%d`, []any{-60, -29}, ""},
		"ended 30 s ago":              {`"iat":%d,"exp":%d`, []any{-60, -30}, proofs.ReasonExpired},
		"ended half a second earlier": {`"iat":%d,"exp":%d.9`, []any{-60, -30}, proofs.ReasonExpired},
		"begins in 30 s":              {`"iat":%d,"nbf":%d,"exp":%d`, []any{0, 30, 60}, ""},
		"begins in 31 s":              {`"iat":%d,"nbf":%d,"exp":%d`, []any{0, 31, 60}, proofs.ReasonNotYet},
		"issued at the start":         {`"iat":%d,"exp":%d`, []any{-90, 60}, ""},
		"issued before the start":     {`"iat":%d,"exp":%d`, []any{-91, 60}, proofs.ReasonBeforeStart},
		"issued nobody knows when":    {`"exp":%d`, []any{60}, proofs.ReasonMissing},
	} {
		t.Run(name, func(t *testing.T) {
			for i := range tc.plus {
				tc.plus[i] = int64(tc.plus[i].(int)) + identity.Instant(now).Unix()
			}
			payload := `{"iss":"` + client + `","sub":"` + client + `","aud":"` + server + `","jti":"j",` + fmt.Sprintf(tc.times, tc.plus...) + `}`
			_, err := assertionRules().Verify([]byte(list[0].Token(`{"alg":"EdDSA"}`, payload)), now, keys)
			if tc.reason == "" {
				require.NoError(t, err)
				return
			}
			requireReason(t, tc.reason, err)
		})
	}
}

// Without a start there is nothing to compare iat with, so it need not be there (RFC 7523 section 3).
func TestAssertionWithoutIatIsGoodWhereNoStartIsGiven(t *testing.T) {
	list, keys := signers(t, "k", 1)
	payload := `{"iss":"` + client + `","sub":"` + client + `","aud":"` + server + `","jti":"j","exp":1790000330}`
	rules := assertionRules()
	rules.NotBefore = 0
	a, err := rules.Verify([]byte(list[0].Token(`{"alg":"EdDSA"}`, payload)), now, keys)
	require.NoError(t, err)
	require.True(t, a.IssuedAt.IsZero())

	payload = strings.Replace(payload, "1790000330", "1790000331", 1)
	_, err = rules.Verify([]byte(list[0].Token(`{"alg":"EdDSA"}`, payload)), now, keys)
	requireReason(t, proofs.ReasonLifetime, err)
}

// The id that is peeked at is looked up, so it must look like one.
func TestPeekingFindsOnlyWhatCouldBeAClient(t *testing.T) {
	names := 0
	for _, c := range goodAssertion(t).Cases() {
		got, err := proofs.AssertionClient([]byte(c.Token))
		if strings.HasPrefix(c.Name, "iss and sub are") && !strings.HasSuffix(c.Name, "another client") {
			requireReason(t, proofs.ReasonSubject, err)
			names++
		}
		if err == nil {
			require.NoError(t, identity.ValidName(got), c.Name)
		}
	}
	require.Greater(t, names, 5)
}

// An iat is in whole seconds, so one of the second in which the process started may lie before the start.
func TestAssertionOfTheSecondOfTheStartIsRefused(t *testing.T) {
	list, keys := signers(t, "k", 1)
	rules := assertionRules()
	rules.NotBefore = now + 1
	_, err := rules.Verify(assertionBy(list[0], "k0"), now+500, keys)
	requireReason(t, proofs.ReasonBeforeStart, err)
}

func TestAssertionIsGoodOnce(t *testing.T) {
	list, keys := signers(t, "k", 1)
	memory := proofs.NewReplay(1000)
	for _, at := range []identity.Instant{now, now + 30_000, now + 89_999} { // exp is now+60 s, the skew 30 s
		a, err := assertionRules().Verify(assertionBy(list[0], "k0"), at, keys)
		require.NoError(t, err)
		if at == now {
			require.NoError(t, a.Once(memory, at))
		}
		requireReason(t, proofs.ReasonReplayed, a.Once(memory, at))
	}
	// One that arrives late is still good once.
	a, err := assertionRules().Verify(assertionBy(list[0], "k0"), now+89_999, keys)
	require.NoError(t, err)
	require.NoError(t, a.Once(proofs.NewReplay(1000), now+89_999))

	// From here on it is refused by its exp, and may be forgotten.
	_, err = assertionRules().Verify(assertionBy(list[0], "k0"), now+90_000, keys)
	requireReason(t, proofs.ReasonExpired, err)
}

func TestJtiBelongsToItsClientAndUse(t *testing.T) {
	memory := proofs.NewReplay(1000)
	a := proofs.Assertion{ClientID: "a", JTI: "bc", Expires: now + 1000}
	require.NoError(t, a.Once(memory, now))
	b := proofs.Assertion{ClientID: "ab", JTI: "c", Expires: now + 1000}
	require.NoError(t, b.Once(memory, now))
	p := proofs.Proof{Thumbprint: "a", JTI: "bc", IssuedAt: now}
	require.NoError(t, p.Once(memory, now))
	requireReason(t, proofs.ReasonReplayed, a.Once(memory, now))
	requireReason(t, proofs.ReasonReplayed, b.Once(memory, now))
	requireReason(t, proofs.ReasonReplayed, p.Once(memory, now))
}

// Rules that nobody filled in accept nothing.
func TestEmptyRulesAcceptNothing(t *testing.T) {
	keys := publicKeys(t)
	_, err := (&proofs.AssertionRules{}).Verify([]byte(goodAssertion(t).Valid()[0].Token), now, keys)
	require.Error(t, err)
	_, err = (&proofs.AssertionRules{ClientID: client}).Verify([]byte(goodAssertion(t).Valid()[0].Token), now, keys)
	requireReason(t, proofs.ReasonAudience, err)
	_, err = (&proofs.IDTokenRules{}).Verify([]byte(goodIDToken(t).Valid()[0].Token), now, keys)
	require.Error(t, err)
	_, err = (&proofs.IDTokenRules{Issuer: issuer}).Verify([]byte(goodIDToken(t).Valid()[0].Token), now, keys)
	requireReason(t, proofs.ReasonAudience, err)
	_, err = (&proofs.ProofRules{}).Verify([]byte(goodProof(t).Valid()[0].Token), now)
	require.Error(t, err)
	_, err = (&proofs.ProofRules{Method: "POST"}).Verify([]byte(goodProof(t).Valid()[0].Token), now)
	requireReason(t, proofs.ReasonTarget, err)
}
