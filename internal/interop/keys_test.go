package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

// signingKey is an ES256 key of a client or of an issuer of ID tokens.
type signingKey struct{ private *ecdsa.PrivateKey }

func newSigningKey(t *testing.T) *signingKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return &signingKey{private}
}

// jwks is the public half.
func (k *signingKey) jwks(t *testing.T) json.RawMessage {
	t.Helper()
	point, err := k.private.PublicKey.Bytes() // 4, X, Y
	require.NoError(t, err)
	encode := base64.RawURLEncoding.EncodeToString
	text, err := json.Marshal(map[string]any{"keys": []map[string]string{{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "k1",
		"x": encode(point[1:33]), "y": encode(point[33:]),
	}}})
	require.NoError(t, err)
	return text
}

// pem is the private half, as PKCS #8.
func (k *signingKey) pem(t *testing.T) string {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	require.NoError(t, err)
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

// sign makes a JWT.
func (k *signingKey) sign(t *testing.T, claims map[string]any) string {
	t.Helper()
	encode := base64.RawURLEncoding.EncodeToString
	body, err := json.Marshal(claims)
	require.NoError(t, err)
	signed := encode([]byte(`{"alg":"ES256","kid":"k1","typ":"JWT"}`)) + "." + encode(body)
	digest := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, k.private, digest[:])
	require.NoError(t, err)
	signature := make([]byte, 64) // RFC 7518 section 3.4
	r.FillBytes(signature[:32])
	s.FillBytes(signature[32:])
	return signed + "." + encode(signature)
}

// register lets an agent prove itself with the key.
func (n *node) register(t *testing.T, agent string, key *signingKey) {
	t.Helper()
	_, err := n.CreateAgentCredential(t.Context(), agent, wire.CredentialRequest{JWKS: key.jwks(t)})
	require.NoError(t, err)
}

const (
	idIssuer = "https://login.company.com"
	idClient = "inbox-ui"
)

// trust has the node take ID tokens of the issuer, signed with the key.
func (n *node) trust(t *testing.T, key *signingKey) {
	t.Helper()
	_, err := n.TrustIssuer(t.Context(), wire.TrustedIssuerRequest{Issuer: idIssuer, ClientIDs: []string{idClient}, JWKS: key.jwks(t)})
	require.NoError(t, err)
}

// idToken is what the issuer gives the user's program.
func (k *signingKey) idToken(t *testing.T, email string) string {
	t.Helper()
	now := time.Now().Unix()
	return k.sign(t, map[string]any{
		"iss": idIssuer, "aud": idClient, "sub": "248289761001", "email": email, "email_verified": true, "iat": now, "exp": now + 300,
	})
}
