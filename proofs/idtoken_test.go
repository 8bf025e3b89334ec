package proofs_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/proofs"
)

func idToken(t *testing.T, claims string) []byte {
	t.Helper()
	s := pairs(t).ES256
	payload := `{"iss":"` + issuer + `","sub":"248289761001","iat":1790000000,"exp":1790003600` + claims + `}`
	return []byte(s.Token(`{"alg":"ES256","kid":"`+s.KID+`"}`, payload))
}

func TestAnswerSaysWhatTheIDTokenSays(t *testing.T) {
	token := idToken(t, `,"aud":["deputy-console","deputy-cli"],"azp":"deputy-cli","nonce":"n-0S6","jti":"j","email":"Ada\u0040company.example",
		"email_verified":true,"may_act":{"sub":"inbox-assistant","iss":"`+server+`"},"groups":["a","b"],"amr":["pwd",{"x":[1,2.5e3]}]`)
	iss, err := proofs.IDTokenIssuer(token)
	require.NoError(t, err)
	require.Equal(t, issuer, iss)

	rules := proofs.IDTokenRules{Issuer: issuer, Audiences: []string{loginID, "deputy-cli"}, Nonce: "n-0S6"}
	got, err := rules.Verify(token, now, publicKeys(t))
	require.NoError(t, err)
	require.Equal(t, "ec-1", got.Key.ID())
	got.Key = nil
	require.Equal(t, &proofs.IDToken{
		Issuer: issuer, Subject: "248289761001", Email: "Ada@company.example", EmailVerified: true, Audience: []string{loginID, "deputy-cli"},
		AuthorizedParty: "deputy-cli", Nonce: "n-0S6", JTI: "j", MayAct: &proofs.Party{Subject: "inbox-assistant", Issuer: server},
		IssuedAt: now, Expires: now + 3_600_000,
	}, got)

	rules.Nonce = "another"
	_, err = rules.Verify(token, now, publicKeys(t))
	requireReason(t, proofs.ReasonNonce, err)
	rules.Nonce, rules.Audiences = "", []string{loginID}
	_, err = rules.Verify(token, now, publicKeys(t))
	requireReason(t, proofs.ReasonAudience, err)
}

func TestNonceMustBeThereWhereOneWasAskedFor(t *testing.T) {
	rules := idTokenRules()
	rules.Nonce = "n"
	_, err := rules.Verify(idToken(t, `,"aud":"`+loginID+`"`), now, publicKeys(t))
	requireReason(t, proofs.ReasonNonce, err)
}

func TestUnverifiedEmailNamesNobody(t *testing.T) {
	for _, c := range goodIDToken(t).Unverified() {
		got, err := idTokenRules().Verify([]byte(c.Token), now, publicKeys(t))
		require.NoError(t, err, c.Name)
		email, err := got.VerifiedEmail()
		requireReason(t, proofs.ReasonSubject, err)
		require.Empty(t, email)
		require.False(t, got.EmailVerified)
	}
	got, err := idTokenRules().Verify(idToken(t, `,"aud":"`+loginID+`","email_verified":true`), now, publicKeys(t))
	require.NoError(t, err)
	require.False(t, got.EmailVerified, "there is no address that could be verified")
}

func TestMayActHoldsInAllItsParts(t *testing.T) {
	for name, tc := range map[string]struct {
		party  proofs.Party
		allows bool
	}{
		"this client":                {proofs.Party{Subject: client}, true},
		"this client by its id":      {proofs.Party{ClientID: client}, true},
		"this client twice":          {proofs.Party{Subject: client, ClientID: client, Issuer: server}, true},
		"another client":             {proofs.Party{Subject: "x"}, false},
		"another client by its id":   {proofs.Party{ClientID: "x"}, false},
		"two clients":                {proofs.Party{Subject: client, ClientID: "x"}, false},
		"a namesake somewhere else":  {proofs.Party{Subject: client, Issuer: issuer}, false},
		"this client in upper case":  {proofs.Party{Subject: strings.ToUpper(client)}, false},
		"another client and its own": {proofs.Party{Subject: "x", ClientID: client}, false},
	} {
		require.Equal(t, tc.allows, tc.party.Allows(server, client), name)
	}
}

func TestIDTokenHasAnAge(t *testing.T) {
	token := idToken(t, `,"aud":"`+loginID+`","nbf":1790000000`)
	rules := idTokenRules()
	rules.MaxAge = 10 * time.Minute
	for seconds, reason := range map[int64]proofs.Reason{
		-31: proofs.ReasonNotYet, -30: "", 0: "", 629: "", 630: proofs.ReasonTooOld, 3629: proofs.ReasonTooOld, 3630: proofs.ReasonExpired,
	} {
		_, err := rules.Verify(token, proofsInstant(seconds), publicKeys(t))
		require.Equal(t, reason, proofs.ReasonOf(err), "after %d s: %v", seconds, err)
	}
}
