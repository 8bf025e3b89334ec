package api

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/deputy-id/deputy/api/wire"
)

// signer is a key of somebody outside: a client, a holder of tokens, or an issuer of ID tokens.
type signer struct {
	t       testing.TB
	private ed25519.PrivateKey
	kid     string
}

var drawn atomic.Uint64

// newSigner makes a key that no other test has.
func newSigner(t testing.TB, kid string) *signer {
	t.Helper()
	seed := sha256.Sum256([]byte(t.Name() + kid + strconv.FormatUint(drawn.Add(1), 10)))
	return &signer{t: t, private: ed25519.NewKeyFromSeed(seed[:]), kid: kid}
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwk is the public half.
func (s *signer) jwk() map[string]any {
	return map[string]any{"kty": "OKP", "crv": "Ed25519", "x": b64(s.private.Public().(ed25519.PublicKey))}
}

func (s *signer) jwks() json.RawMessage {
	key := s.jwk()
	key["kid"] = s.kid
	text, err := json.Marshal(map[string]any{"keys": []any{key}})
	require.NoError(s.t, err)
	return text
}

// thumbprint is RFC 7638's.
func (s *signer) thumbprint() string {
	digest := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + b64(s.private.Public().(ed25519.PublicKey)) + `"}`))
	return b64(digest[:])
}

type claimSet map[string]any

// but returns a copy with other values; nil leaves a claim out.
func (c claimSet) but(changes claimSet) claimSet {
	changed := claimSet{}
	for name, value := range c {
		changed[name] = value
	}
	for name, value := range changes {
		if value == nil {
			delete(changed, name)
			continue
		}
		changed[name] = value
	}
	return changed
}

func (s *signer) sign(header, claims claimSet) string {
	s.t.Helper()
	h, err := json.Marshal(claimSet{"alg": "EdDSA", "kid": s.kid}.but(header))
	require.NoError(s.t, err)
	p, err := json.Marshal(claims)
	require.NoError(s.t, err)
	signed := b64(h) + "." + b64(p)
	return signed + "." + b64(ed25519.Sign(s.private, []byte(signed)))
}

// jti is one that no other token of these tests has.
func jti() string { return "jti-" + strconv.FormatUint(drawn.Add(1), 10) }

// assertion is a good one for the client, but for changes.
func (s *signer) assertion(g *group, client string, changes claimSet) string {
	now := g.time().Unix()
	return s.sign(nil, claimSet{
		"iss": client, "sub": client, "aud": testIssuer, "iat": now, "exp": now + 60, "jti": jti(),
	}.but(changes))
}

// asserted adds private_key_jwt to a form.
func asserted(form url.Values, assertion string) url.Values {
	all := url.Values{"client_assertion_type": {assertionType}, "client_assertion": {assertion}}
	for name, values := range form {
		all[name] = values
	}
	return all
}

// proof is a good DPoP proof for the token endpoint, but for changes.
func (s *signer) proof(g *group, nonce string, changes claimSet) string {
	claims := claimSet{"htm": "POST", "htu": testIssuer + tokenPath, "iat": g.time().Unix(), "jti": jti()}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	return s.sign(claimSet{"kid": nil, "typ": "dpop+jwt", "jwk": s.jwk()}, claims.but(changes))
}

// proven sends a DPoP proof along.
func proven(proof string) option {
	return func(r *http.Request) { r.Header[wire.HeaderDPoP] = append(r.Header[wire.HeaderDPoP], proof) }
}

// nonce asks a node for one, as a client does: by a proof without any.
func (s *signer) nonce(n *node, form url.Values, who option) string {
	n.t.Helper()
	a := n.send("POST", tokenPath, form, who, proven(s.proof(n.group, "", nil)))
	a.refusedOAuth(400, "use_dpop_nonce")
	require.NotEmpty(n.t, a.Header.Get(wire.HeaderDPoPNonce))
	return a.Header.Get(wire.HeaderDPoPNonce)
}

// idToken is a good one for a person, but for changes.
func (s *signer) idToken(g *group, email string, changes claimSet) string {
	now := g.time().Unix()
	return s.sign(nil, claimSet{
		"iss": "https://login.company.com", "sub": "00u1", "aud": "web", "email": email, "email_verified": true,
		"iat": now, "exp": now + 600,
	}.but(changes))
}

// trust has the cluster take the signer's word as https://login.company.com.
func (s *signer) trust(n *node) wire.TrustedIssuer {
	n.t.Helper()
	return ok[wire.TrustedIssuer](n.send("POST", issuersPath, wire.TrustedIssuerRequest{
		Issuer: "https://login.company.com", ClientIDs: []string{"web"}, EmailDomains: []string{"company.com"}, JWKS: s.jwks(),
	}), 201)
}

// withKeys registers the signer's public key for an agent or an application, by path.
func (s *signer) register(n *node, path string) wire.NewCredential {
	n.t.Helper()
	return ok[wire.NewCredential](n.send("POST", path+"/credentials", wire.CredentialRequest{JWKS: s.jwks()}), 201)
}

// documentServer serves JSON documents by path.
func documentServer(t *testing.T, documents map[string]func() []byte) (url string) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		document, ok := documents[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		w.Header().Set("Content-Type", contentTypeJSON)
		_, _ = w.Write(document())
	}))
	t.Cleanup(s.Close)
	return s.URL
}

func exchangeForm(subject, kind string, more url.Values) url.Values {
	form := url.Values{"grant_type": {grantExchange}, "subject_token": {subject}, "subject_token_type": {kind}}
	for name, values := range more {
		form[name] = values
	}
	return form
}

// corrupt changes one character of a token's signature.
func corrupt(token string) string {
	at := strings.LastIndexByte(token, '.') + 10
	other := byte('A')
	if token[at] == other {
		other = 'B'
	}
	return token[:at] + string(other) + token[at+1:]
}
