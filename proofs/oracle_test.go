package proofs_test

import (
	"bytes"
	"crypto"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"io"
	"math"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"
	"github.com/lestrrat-go/jwx/v2/jwt"
	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/hostile"
	"github.com/deputy-id/deputy/proofs"
)

// Two other readers, jwx and the standard library's JSON, must accept whatever this package accepts, and see in it
// what this package sees. They accept far more; that is their business.

// reading is a token as the others read it.
type reading struct {
	header, payload map[string]any
	token           jwt.Token
}

// requireAccepted holds a token that was accepted to what the others say about form, signature and types.
func requireAccepted(t testing.TB, token string, alg proofs.Algorithm, public crypto.PublicKey) reading {
	t.Helper()
	var r reading
	parts := strings.Split(token, ".")
	require.Len(t, parts, 3)
	respelled := make([]string, 3)
	for i, part := range parts {
		content, err := base64.RawURLEncoding.DecodeString(part)
		require.NoError(t, err)
		respelled[i] = base64.RawURLEncoding.EncodeToString(content)
		if i < 2 {
			object := map[string]any{}
			requireOneObject(t, content, &object)
			*[]*map[string]any{&r.header, &r.payload}[i] = object
		}
	}
	require.Equal(t, strings.Join(respelled, "."), token, "a second spelling of the same token")

	key := jws.WithKey(jwa.SignatureAlgorithm(alg), public)
	payload, err := jws.Verify([]byte(token), key)
	require.NoError(t, err, "%s", token)
	content, err := base64.RawURLEncoding.DecodeString(parts[1])
	require.NoError(t, err)
	require.Equal(t, string(content), string(payload))
	message, err := jws.Parse([]byte(token))
	require.NoError(t, err)
	protected := message.Signatures()[0].ProtectedHeaders()
	require.Equal(t, string(alg), protected.Algorithm().String())
	require.Empty(t, protected.Critical())
	require.Equal(t, string(alg), r.header["alg"])
	r.token, err = jwt.Parse([]byte(token), jwt.WithKey(jwa.SignatureAlgorithm(alg), public), jwt.WithValidate(false))
	require.NoError(t, err)
	return r
}

func requireOneObject(t testing.TB, content []byte, object *map[string]any) {
	t.Helper()
	decoder := json.NewDecoder(bytes.NewReader(content))
	require.NoError(t, decoder.Decode(object))
	_, err := decoder.Token()
	require.ErrorIs(t, err, io.EOF)
}

// requireDate compares in seconds. The others read a fraction as a float64, which may round up to the next one.
func (r reading) requireDate(t testing.TB, claim string, theirs time.Time, ours identity.Instant) {
	t.Helper()
	value, there := r.payload[claim].(float64)
	if !there {
		require.NotContains(t, r.payload, claim)
		require.True(t, ours.IsZero())
		return
	}
	rounds := 0.0
	if value != math.Trunc(value) || !strings.HasSuffix(ours.String(), ".000Z") {
		rounds = 1
	}
	require.Zero(t, int64(ours)%1000)
	require.InDelta(t, value, float64(ours.Unix()), 1)
	require.InDelta(t, float64(theirs.Unix()), float64(ours.Unix()), math.Max(rounds, boolean(r.fraction(claim))))
}

func (r reading) fraction(claim string) bool {
	// A fraction so small that the float64 lost it shows in neither reading.
	value, _ := r.payload[claim].(float64)
	return value == math.Trunc(value)
}

func boolean(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// text is a claim that is a string, "" where it is not there.
func (r reading) text(claim string) string {
	value, _ := r.payload[claim].(string)
	return value
}

// signerOf finds the private half of the key that a token was accepted by.
func signerOf(t testing.TB, k *proofs.Key) *hostile.Signer {
	t.Helper()
	for _, s := range pairs(t).All() {
		if s.Alg == string(k.Algorithm()) {
			return s
		}
	}
	require.FailNow(t, "no such key", k.ID())
	return nil
}

func requireSameAssertion(t testing.TB, token string, a *proofs.Assertion) {
	t.Helper()
	s := signerOf(t, a.Key)
	r := requireAccepted(t, token, a.Key.Algorithm(), s.Public)
	if kid, there := r.header["kid"]; there {
		require.Equal(t, kid, a.Key.ID())
	}
	require.Equal(t, r.token.Issuer(), a.ClientID)
	require.Equal(t, r.token.Subject(), a.ClientID)
	require.Equal(t, r.token.JwtID(), a.JTI)
	require.Contains(t, append([]string{server}, tokenURL), firstOf(r.token.Audience(), server, tokenURL))
	r.requireDate(t, "exp", r.token.Expiration(), a.Expires)
	r.requireDate(t, "iat", r.token.IssuedAt(), a.IssuedAt)
	require.Less(t, int64(now), int64(a.Expires.Add(proofs.Skew)))
	require.LessOrEqual(t, a.Expires.Sub(a.IssuedAt), proofs.MaxAssertionLifetime)
	require.GreaterOrEqual(t, a.IssuedAt, identity.Instant(started))
	for _, claim := range []string{"nonce", "azp", "htm", "events"} {
		require.NotContains(t, r.payload, claim)
	}
}

// firstOf returns the first of the wanted values that is in the list.
func firstOf(list []string, wanted ...string) string {
	for _, w := range wanted {
		for _, l := range list {
			if l == w {
				return w
			}
		}
	}
	return ""
}

func requireSameIDToken(t testing.TB, token string, got *proofs.IDToken) {
	t.Helper()
	s := signerOf(t, got.Key)
	r := requireAccepted(t, token, got.Key.Algorithm(), s.Public)
	require.Equal(t, r.token.Issuer(), got.Issuer)
	require.Equal(t, issuer, got.Issuer)
	require.Equal(t, r.token.Subject(), got.Subject)
	require.Equal(t, r.token.Audience(), got.Audience)
	require.Equal(t, loginID, firstOf(got.Audience, loginID))
	require.Equal(t, r.token.JwtID(), got.JTI)
	require.Equal(t, r.text("email"), got.Email)
	require.Equal(t, r.text("azp"), got.AuthorizedParty)
	require.Equal(t, r.text("nonce"), got.Nonce)
	verified := r.payload["email_verified"] == true || r.payload["email_verified"] == "true"
	require.Equal(t, verified && got.Email != "", got.EmailVerified)
	r.requireDate(t, "exp", r.token.Expiration(), got.Expires)
	r.requireDate(t, "iat", r.token.IssuedAt(), got.IssuedAt)
	if got.MayAct == nil {
		require.NotContains(t, r.payload, "may_act")
		return
	}
	party := map[string]any{}
	for name, value := range map[string]string{"sub": got.MayAct.Subject, "client_id": got.MayAct.ClientID, "iss": got.MayAct.Issuer} {
		if value != "" {
			party[name] = value
		}
	}
	require.Equal(t, r.payload["may_act"], any(party))
}

func requireSameProof(t testing.TB, token string, p *proofs.Proof) {
	t.Helper()
	message, err := jws.Parse([]byte(token))
	require.NoError(t, err)
	key := message.Signatures()[0].ProtectedHeaders().JWK()
	require.NotNil(t, key)
	private, err := jwk.IsPrivateKey(key)
	require.NoError(t, err)
	require.False(t, private)
	digest, err := key.Thumbprint(crypto.SHA256)
	require.NoError(t, err)
	require.Equal(t, base64.RawURLEncoding.EncodeToString(digest), p.Thumbprint)
	var public any
	require.NoError(t, key.Raw(&public))

	r := requireAccepted(t, token, p.Algorithm, public)
	require.Equal(t, "dpop+jwt", r.header["typ"])
	require.Equal(t, "POST", r.payload["htm"])
	require.NotEmpty(t, r.text("htu"))
	require.Equal(t, r.token.JwtID(), p.JTI)
	require.Equal(t, r.text("nonce"), p.Nonce)
	r.requireDate(t, "iat", r.token.IssuedAt(), p.IssuedAt)
}

func TestOthersReadWhatIsAcceptedAsWeDo(t *testing.T) {
	keys := publicKeys(t)
	for _, c := range goodAssertion(t).Valid() {
		a, err := assertionRules().Verify([]byte(c.Token), now, keys)
		require.NoError(t, err, c.Name)
		requireSameAssertion(t, c.Token, a)
	}
	for _, c := range append(goodIDToken(t).Valid(), goodIDToken(t).Unverified()...) {
		got, err := idTokenRules().Verify([]byte(c.Token), now, keys)
		require.NoError(t, err, c.Name)
		requireSameIDToken(t, c.Token, got)
	}
	for _, c := range goodProof(t).Valid() {
		p, err := proofRules().Verify([]byte(c.Token), now)
		require.NoError(t, err, c.Name)
		requireSameProof(t, c.Token, p)
	}
}

// A reader that believes jwx alone would take one token in many spellings, and headers that we refuse. This shows that
// the strict reader is not there for nothing.
func TestOthersAcceptWhatWeRefuse(t *testing.T) {
	accepted := 0
	for _, c := range goodAssertion(t).Cases() {
		if _, err := jwt.Parse([]byte(c.Token), jwt.WithKey(jwa.EdDSA, pairs(t).EdDSA.Public), jwt.WithValidate(false)); err == nil {
			accepted++
		}
	}
	t.Logf("jwx takes %d of the hostile assertions for good ones, times and parties left aside", accepted)
	require.Greater(t, accepted, 50)
}

// ecdsaDER is the form of a signature that the standard library verifies.
func ecdsaDER(raw []byte) ([]byte, error) {
	return asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
}
