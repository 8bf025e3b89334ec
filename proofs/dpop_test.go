package proofs_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/proofs"
)

func proofsInstant(seconds int64) identity.Instant { return now + identity.Instant(seconds*1000) }

// The proofs and the token that RFC 9449 prints in sections 4.1 and 7.1.
const (
	rfc9449Proof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19" +
		".eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ" +
		".2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
	rfc9449BoundProof = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19" +
		".eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9" +
		".2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
	rfc9449Token      = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	rfc9449Thumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
)

func TestProofsOfTheRFCHold(t *testing.T) {
	rules := proofs.ProofRules{Method: "POST", URLs: []string{"https://server.example.com/token"}}
	p, err := rules.Verify([]byte(rfc9449Proof), 1562262616_000)
	require.NoError(t, err)
	require.Equal(t, &proofs.Proof{Thumbprint: rfc9449Thumbprint, JTI: "-BwC3ESc6acc2lTc", IssuedAt: 1562262616_000, Algorithm: proofs.ES256}, p)

	rules = proofs.ProofRules{
		Method: "GET", URLs: []string{"https://resource.example.org/protectedresource"},
		AccessToken: []byte(rfc9449Token), Thumbprint: rfc9449Thumbprint,
	}
	_, err = rules.Verify([]byte(rfc9449BoundProof), 1562262618_000)
	require.NoError(t, err)
	require.Equal(t, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo", proofs.HashToken([]byte(rfc9449Token)))
}

func TestProofByAnotherKeyThanTheTokenIsBoundToIsRefused(t *testing.T) {
	rules := proofRules()
	token := []byte(goodProof(t).Valid()[0].Token)
	p, err := rules.Verify(token, now)
	require.NoError(t, err)
	rules.Thumbprint = p.Thumbprint
	_, err = rules.Verify(token, now)
	require.NoError(t, err)
	rules.Thumbprint = rfc9449Thumbprint
	_, err = rules.Verify(token, now)
	requireReason(t, proofs.ReasonBinding, err)
}

func TestProofIsGoodForAMinuteBeforeAndAfter(t *testing.T) {
	token := []byte(goodProof(t).Valid()[0].Token)
	for ms, reason := range map[identity.Instant]proofs.Reason{
		-60_001: proofs.ReasonNotYet, -60_000: "", 0: "", 59_999: "", 60_000: proofs.ReasonExpired,
	} {
		_, err := proofRules().Verify(token, now+ms)
		require.Equal(t, reason, proofs.ReasonOf(err), "after %d ms: %v", ms, err)
	}
	rules := proofRules()
	rules.NotBefore = now + 1
	_, err := rules.Verify(token, now)
	requireReason(t, proofs.ReasonBeforeStart, err)
}

func TestProofIsGoodOnceForAsLongAsItWouldHold(t *testing.T) {
	memory := proofs.NewReplay(1000)
	token := []byte(goodProof(t).Valid()[0].Token)
	p, err := proofRules().Verify(token, now-60_000)
	require.NoError(t, err)
	require.NoError(t, p.Once(memory, now-60_000))
	for _, at := range []identity.Instant{now - 60_000, now, now + 59_999} {
		p, err := proofRules().Verify(token, at)
		require.NoError(t, err)
		requireReason(t, proofs.ReasonReplayed, p.Once(memory, at))
	}
}

func TestNonceOfAProofIsGivenBack(t *testing.T) {
	good := goodProof(t)
	good.Nonce = "nonce"
	p, err := proofRules().Verify([]byte(good.Valid()[0].Token), now)
	require.NoError(t, err)
	require.Equal(t, "nonce", p.Nonce)
}

// What is refused ends up in logs and answers, so the refusal must not hold what was refused.
func TestErrorsQuoteNothingOfWhatTheyRefuse(t *testing.T) {
	const canary = "canary"
	s := pairs(t).EdDSA
	member := func(names ...string) string {
		text := ""
		for _, name := range names {
			text += `,"` + name + `":"` + canary + `"`
		}
		return text
	}
	headers := []string{member("alg"), member("kid"), member("typ"), member("jku"), member("crit"), member("cty"), `,"` + canary + `":1,"` + canary + `":2`, member("jwk")}
	claims := []string{
		member("iss"), member("sub"), member("aud"), member("exp"), member("jti"), `,"iat":{"` + canary + `":1}`, member("htm"), member("htu"), member("ath"),
		member("email_verified"), member("may_act"), member("azp"), member("nonce"), member("scope"), member("token_use"), `,"` + canary + `":` + canary,
	}
	names := func(object string) string { return object[2 : 2+strings.IndexByte(object[2:], '"')] }
	put := func(base, object string) string {
		return "{" + strings.TrimPrefix(strings.Replace(base, `"`+names(object)+`"`, `"was"`, 1)+object, ",") + "}"
	}
	kinds := map[string]struct {
		header, payload string
		verify          func(string) error
	}{
		"assertion": {`,"alg":"EdDSA","kid":"ed-1"`, `,"iss":"` + client + `","sub":"` + client + `","aud":"` + server + `","iat":1790000000,"exp":1790000060,"jti":"j"`, verifyAssertion(t)},
		"ID token":  {`,"alg":"EdDSA","kid":"ed-1"`, `,"iss":"` + issuer + `","sub":"s","aud":"` + loginID + `","iat":1790000000,"exp":1790000060`, verifyIDToken(t)},
		"proof":     {`,"alg":"EdDSA","typ":"dpop+jwt","jwk":` + s.JWK, `,"htm":"POST","htu":"` + tokenURL + `","iat":1790000000,"jti":"j"`, verifyProof(someToken)},
	}
	refused := 0
	for kind, k := range kinds {
		for _, h := range headers {
			if err := k.verify(s.Token(put(k.header, h), "{"+k.payload[1:]+"}")); err != nil {
				refused++
				require.NotContains(t, err.Error(), canary, kind)
			}
		}
		for _, c := range claims {
			if err := k.verify(s.Token("{"+k.header[1:]+"}", put(k.payload, c))); err != nil {
				refused++
				require.NotContains(t, err.Error(), canary, kind)
			}
		}
	}
	require.Greater(t, refused, 40)
	for _, key := range []string{
		`{"kty":"` + canary + `"}`, `{"kty":"OKP","crv":"` + canary + `"}`, `{"kty":"OKP","crv":"Ed25519","x":"` + canary + `"}`, `{"` + canary + `":1,"` + canary + `":1}`,
		`{"kid":"` + canary + `\n","kty":"OKP","crv":"Ed25519","x":"` + base64.RawURLEncoding.EncodeToString(make([]byte, 32)) + `"}`, `{"kty":"oct","k":"` + canary + `"}`,
	} {
		_, err := proofs.ParseKeys([]byte(key))
		require.Error(t, err)
		require.NotContains(t, err.Error(), canary)
	}
}
