package hostile

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"fmt"
	"math/big"
	"sync"
)

// b64 is what JWTs are spelled in.
var b64 = base64.RawURLEncoding

// Signer is one key pair and what it signs by.
type Signer struct {
	Alg string
	KID string
	// JWK is the public key as a JSON Web Key, without kid and alg.
	JWK string
	// Public is the public half: an ed25519.PublicKey, *ecdsa.PublicKey or *rsa.PublicKey.
	Public crypto.PublicKey

	private crypto.Signer
}

// NewSigner wraps a private key: Ed25519, ECDSA on P-256, or RSA.
func NewSigner(private crypto.Signer, kid string) (*Signer, error) {
	s := &Signer{KID: kid, Public: private.Public(), private: private}
	switch public := s.Public.(type) {
	case ed25519.PublicKey:
		s.Alg = "EdDSA"
		s.JWK = `{"kty":"OKP","crv":"Ed25519","x":"` + b64.EncodeToString(public) + `"}`
	case *ecdsa.PublicKey:
		point, err := public.Bytes()
		if err != nil {
			return nil, fmt.Errorf("encode the public key: %w", err)
		}
		s.Alg = "ES256"
		s.JWK = `{"kty":"EC","crv":"P-256","x":"` + b64.EncodeToString(point[1:33]) + `","y":"` + b64.EncodeToString(point[33:]) + `"}`
	case *rsa.PublicKey:
		s.Alg = "RS256"
		s.JWK = rsaJWK(public.N.Bytes(), big.NewInt(int64(public.E)).Bytes())
	default:
		return nil, fmt.Errorf("a signer can't be made of a %T", private)
	}
	return s, nil
}

func rsaJWK(n, e []byte) string {
	return `{"kty":"RSA","n":"` + b64.EncodeToString(n) + `","e":"` + b64.EncodeToString(e) + `"}`
}

// Sign makes a JWS signature of header and payload with their dot.
func (s *Signer) Sign(signed string) []byte {
	switch private := s.private.(type) {
	case ed25519.PrivateKey:
		return ed25519.Sign(private, []byte(signed))
	case *ecdsa.PrivateKey:
		digest := sha256.Sum256([]byte(signed))
		r, t, err := ecdsa.Sign(rand.Reader, private, digest[:])
		must(err)
		return append(r.FillBytes(make([]byte, 32)), t.FillBytes(make([]byte, 32))...)
	case *rsa.PrivateKey:
		digest := sha256.Sum256([]byte(signed))
		signature, err := rsa.SignPKCS1v15(nil, private, crypto.SHA256, digest[:])
		must(err)
		return signature
	}
	panic("BUG: a signer without a key")
}

// Token makes a JWS of a header and a payload, whatever they hold.
func (s *Signer) Token(header, payload string) string {
	signed := b64.EncodeToString([]byte(header)) + "." + b64.EncodeToString([]byte(payload))
	return signed + "." + b64.EncodeToString(s.Sign(signed))
}

// der makes an ES256 signature in the form that X.509 has, which is none for a JWS.
func (s *Signer) der(signed string) []byte {
	raw := s.Sign(signed)
	der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:])})
	must(err)
	return der
}

// Keys are one party's, one pair for each algorithm.
type Keys struct {
	EdDSA, ES256, RS256 *Signer

	once     sync.Once
	stranger *Keys   // somebody else's
	short    *Signer // an RSA key of 1024 bits
}

// others returns what attackers bring along, the same at each call, as RSA keys take their time.
func (k *Keys) others() (stranger *Keys, short *Signer) {
	k.once.Do(func() {
		var err error
		k.stranger, err = NewKeys()
		must(err)
		private, err := rsa.GenerateKey(rand.Reader, 1024)
		must(err)
		k.short, err = NewSigner(private, "short")
		must(err)
	})
	return k.stranger, k.short
}

// NewKeys makes key pairs, which takes a moment.
func NewKeys() (*Keys, error) {
	_, ed, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, fmt.Errorf("make an Ed25519 key: %w", err)
	}
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make a P-256 key: %w", err)
	}
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, fmt.Errorf("make an RSA key: %w", err)
	}
	return KeysOf(ed, ec, rs)
}

// KeysOf wraps key pairs that somebody has.
func KeysOf(ed ed25519.PrivateKey, ec *ecdsa.PrivateKey, rs *rsa.PrivateKey) (*Keys, error) {
	k := &Keys{}
	var err error
	for _, pair := range []struct {
		to      **Signer
		private crypto.Signer
		kid     string
	}{{&k.EdDSA, ed, "ed-1"}, {&k.ES256, ec, "ec-1"}, {&k.RS256, rs, "rsa-1"}} {
		if *pair.to, err = NewSigner(pair.private, pair.kid); err != nil {
			return nil, err
		}
	}
	return k, nil
}

// All returns the signers.
func (k *Keys) All() []*Signer { return []*Signer{k.EdDSA, k.ES256, k.RS256} }

// JWKS is the set of the public keys, under their kids.
func (k *Keys) JWKS() []byte {
	set := ""
	for _, s := range k.All() {
		set += `,` + s.namedJWK()
	}
	return []byte(`{"keys":[` + set[1:] + `]}`)
}

func (s *Signer) namedJWK() string { return `{"kid":"` + s.KID + `",` + s.JWK[1:] }

// must ends the program: what fails here is a broken die or a broken key.
func must(err error) {
	if err != nil {
		panic("BUG: " + err.Error())
	}
}
