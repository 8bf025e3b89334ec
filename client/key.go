package client

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"time"
)

// Key is an Ed25519 key by which a client proves who it is (private_key_jwt), or that a token is its own (DPoP). It never
// leaves the client: nodes get its public half.
type Key struct {
	private ed25519.PrivateKey
}

// keyBlock is PKCS #8 (RFC 5958) in PEM, as `openssl genpkey -algorithm ed25519` writes it.
const keyBlock = "PRIVATE KEY"

// assertionLife is how long an assertion or a proof is good: it is made for one request.
const assertionLife = time.Minute

// NewKey makes a key.
func NewKey() (*Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	return &Key{private}, nil
}

// ParseKey reads a key in PEM.
func ParseKey(text []byte) (*Key, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != keyBlock {
		return nil, fmt.Errorf("not a private key in PEM; make one with `openssl genpkey -algorithm ed25519`")
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key can't be read; it must be PKCS #8") // the cause may quote it
	}
	private, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return nil, errors.New("the private key is of another kind; this client signs with Ed25519: make one with `openssl genpkey -algorithm ed25519`")
	}
	return &Key{private}, nil
}

// PEM is the private key, to be kept in a file of mode 0600.
func (k *Key) PEM() []byte {
	der, err := x509.MarshalPKCS8PrivateKey(k.private)
	if err != nil {
		panic("BUG: an Ed25519 key does not marshal: " + err.Error())
	}
	return pem.EncodeToMemory(&pem.Block{Type: keyBlock, Bytes: der})
}

// JWK is the public half (RFC 8037), as a node registers it.
func (k *Key) JWK() json.RawMessage {
	return json.RawMessage(`{"kty":"OKP","crv":"Ed25519","kid":"` + k.Thumbprint() + `","x":"` + k.x() + `"}`)
}

// Thumbprint names the key (RFC 7638): it is the `jkt` of tokens that are bound to it.
func (k *Key) Thumbprint() string {
	digest := sha256.Sum256([]byte(`{"crv":"Ed25519","kty":"OKP","x":"` + k.x() + `"}`))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// String never shows the private half.
func (k *Key) String() string { return "key " + k.Thumbprint() }

// GoString is String, for the verb that would print every field.
func (k *Key) GoString() string { return k.String() }

func (k *Key) x() string {
	return base64.RawURLEncoding.EncodeToString(k.private.Public().(ed25519.PublicKey))
}

// Proof makes a DPoP proof (RFC 9449 section 4) for one request, whose URL is without query. Nonce is what the server
// asked for, if it did; accessToken is the one that the request presents, if it does.
func (k *Key) Proof(method, url, nonce, accessToken string, now time.Time) string {
	claims := map[string]any{"jti": rand.Text(), "htm": method, "htu": url, "iat": now.Unix()}
	if nonce != "" {
		claims["nonce"] = nonce
	}
	if accessToken != "" {
		digest := sha256.Sum256([]byte(accessToken))
		claims["ath"] = base64.RawURLEncoding.EncodeToString(digest[:])
	}
	jwk := map[string]string{"kty": "OKP", "crv": "Ed25519", "x": k.x()}
	return k.sign(map[string]any{"typ": "dpop+jwt", "alg": "EdDSA", "jwk": jwk}, claims)
}

// Assertion makes a client assertion (RFC 7523 section 3) for one request. The audience is the issuer.
func (k *Key) Assertion(client, audience string, now time.Time) string {
	return k.sign(map[string]any{"typ": "JWT", "alg": "EdDSA", "kid": k.Thumbprint()}, map[string]any{
		"iss": client, "sub": client, "aud": audience, "jti": rand.Text(), "iat": now.Unix(), "exp": now.Add(assertionLife).Unix(),
	})
}

func (k *Key) sign(header, claims map[string]any) string {
	signed := segment(header) + "." + segment(claims)
	return signed + "." + base64.RawURLEncoding.EncodeToString(ed25519.Sign(k.private, []byte(signed)))
}

func segment(v map[string]any) string {
	text, err := json.Marshal(v)
	if err != nil {
		panic("BUG: a part of a JWT does not marshal: " + err.Error())
	}
	return base64.RawURLEncoding.EncodeToString(text)
}
