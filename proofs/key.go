package proofs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"strings"
)

// Bounds of RSA keys. Fewer bits are not safe, more make a signature check slow enough to be a way to keep a node busy.
const (
	minModulusBits = 2048
	maxModulusBits = 4096
	minExponent    = 3
	maxExponent    = 1<<31 - 1 // what crypto/rsa takes on every platform
	maxExponentLen = 4         // bytes
)

// Key is one public key. It is immutable.
type Key struct {
	kid        string
	thumbprint string
	alg        Algorithm
	material   material

	ed25519 ed25519.PublicKey
	ecdsa   *ecdsa.PublicKey
	rsa     *rsa.PublicKey
}

// ID is the name under which tokens refer to the key: its kid, or its thumbprint where it came without.
func (k *Key) ID() string { return k.kid }

// Algorithm is the one algorithm that the key is for.
func (k *Key) Algorithm() Algorithm { return k.alg }

// Thumbprint is that of RFC 7638 with SHA-256, in base64url. It depends on nothing but the key itself.
func (k *Key) Thumbprint() string { return k.thumbprint }

// verify reports whether the key signed the bytes.
func (k *Key) verify(signed, signature []byte) bool {
	switch k.alg {
	case EdDSA:
		return len(signature) == ed25519.SignatureSize && ed25519.Verify(k.ed25519, signed, signature)
	case ES256:
		var room [maxDER]byte
		der, ok := derSignature(room[:0], signature)
		if !ok {
			return false
		}
		digest := sha256.Sum256(signed)
		return ecdsa.VerifyASN1(k.ecdsa, digest[:], der)
	case RS256:
		digest := sha256.Sum256(signed)
		return rsa.VerifyPKCS1v15(k.rsa, crypto.SHA256, digest[:], signature) == nil
	}
	return false
}

const (
	coordinate = 32 // bytes of a coordinate or a scalar of P-256
	// maxDER is the longest DER form of an ES256 signature: a sequence of two integers with a zero byte in front.
	maxDER = 2 + 2*(2+1+coordinate)
)

// derSignature turns r || s (RFC 7518 section 3.4) into the form that crypto/ecdsa reads. Any other length is no
// signature, above all not one that is in DER already.
func derSignature(der, signature []byte) ([]byte, bool) {
	if len(signature) != 2*coordinate {
		return nil, false
	}
	der = append(der, 0x30, 0)
	for _, n := range [2][]byte{signature[:coordinate], signature[coordinate:]} {
		n = bytes.TrimLeft(n, "\x00")
		if len(n) == 0 {
			return nil, false // zero, which no signature holds
		}
		pad := int(n[0] >> 7) // a set top bit would make it negative
		der = append(der, 2, byte(len(n)+pad))
		der = append(der, "\x00"[:pad]...)
		der = append(der, n...)
	}
	der[1] = byte(len(der) - 2)
	return der, true
}

// material are the members of which a key is made (RFC 7518 section 6, RFC 8037 section 2).
type material struct{ kty, crv, x, y, n, e string }

// jwk are the members of a JSON Web Key (RFC 7517), as somebody wrote them.
type jwk struct {
	material
	there            bool
	kid, alg, use    string
	hasKID, hasAlg   bool
	hasUse           bool
	hasOps, verifies bool   // key_ops is there; "verify" is in it
	private          string // a member that belongs into no public key
}

// read takes the value of a JWK. Errors stick to the scanner.
func (j *jwk) read(s *scanner) {
	var o object
	s.open('{')
	for {
		name, ok := s.member(&o)
		if !ok {
			break
		}
		j.member(name, s)
	}
	j.there = true
}

// member takes the value of one member.
func (j *jwk) member(name string, s *scanner) {
	switch name {
	case "kty":
		j.kty = s.headerText(name)
	case "crv":
		j.crv = s.headerText(name)
	case "x":
		j.x = s.headerText(name)
	case "y":
		j.y = s.headerText(name)
	case "n":
		j.n = s.headerText(name)
	case "e":
		j.e = s.headerText(name)
	case "alg":
		j.alg, j.hasAlg = s.headerText(name), true
	case "kid":
		j.kid, j.hasKID = s.headerText(name), true
	case "use":
		j.use, j.hasUse = s.headerText(name), true
	case "key_ops":
		j.readOps(s)
	default:
		if private := sameLetters(name, "d", "p", "q", "dp", "dq", "qi", "oth", "k", "priv"); private != "" {
			j.private = private
		} else if known := sameLetters(name, "kty", "crv", "x", "y", "n", "e", "alg", "kid", "use", "key_ops"); known != "" {
			s.fail("%q is spelled in another case", known)
		}
		s.skip()
	}
}

// sameLetters returns which of the names this one is but for upper and lower case. Names are case-sensitive, but not to
// every reader: to some, such a member is there, and may be there twice.
func sameLetters(name string, names ...string) string {
	for _, n := range names {
		if strings.EqualFold(name, n) {
			return n
		}
	}
	return ""
}

// maxOps is as many as RFC 7517 section 4.3 defines.
const maxOps = 8

// readOps wants an array of different strings.
func (j *jwk) readOps(s *scanner) {
	j.hasOps, j.verifies = true, false
	var ops [maxOps]string
	s.open('[')
	for n := 0; s.element(n); n++ {
		if n == maxOps {
			s.fail(`"key_ops" has more than %d values`, maxOps)
			return
		}
		ops[n] = s.headerText("key_ops")
		for _, earlier := range ops[:n] {
			if earlier == ops[n] {
				s.fail(`"key_ops" holds a value twice`)
			}
		}
		j.verifies = j.verifies || ops[n] == "verify"
	}
}

// public makes a key of the members, or says why it is of no use. The name is left to the caller.
func (j *jwk) public() (Key, error) {
	if j.private != "" {
		return Key{}, refuse(ReasonPrivateKey, "member %q belongs to a private or a shared key, which has now been sent and must be considered leaked: make a new key pair and send its public half", j.private)
	}
	var k Key
	var err error
	switch {
	case j.kty == "":
		return Key{}, refuse(ReasonMissing, `"kty" is missing; it is OKP, EC or RSA`)
	case j.kty == "OKP" && j.crv == "Ed25519":
		k.alg, k.material = EdDSA, material{kty: "OKP", crv: "Ed25519", x: j.x}
		err = k.setEd25519()
	case j.kty == "EC" && j.crv == "P-256":
		k.alg, k.material = ES256, material{kty: "EC", crv: "P-256", x: j.x, y: j.y}
		err = k.setP256()
	case j.kty == "RSA":
		k.alg, k.material = RS256, material{kty: "RSA", n: j.n, e: j.e}
		err = k.setRSA()
	default:
		return Key{}, refuse(ReasonKey, `its "kty" and "crv" must be OKP with Ed25519, EC with P-256, or RSA`)
	}
	switch {
	case err != nil:
		return Key{}, err
	case j.hasAlg && j.alg != string(k.alg):
		return Key{}, refuse(ReasonKey, `a key of its kind is used with %s only, and its "alg" says otherwise`, k.alg)
	case j.hasUse && j.use != "sig":
		return Key{}, refuse(ReasonKey, `its "use" is not "sig"`)
	case j.hasOps && !j.verifies:
		return Key{}, refuse(ReasonKey, `its "key_ops" lacks "verify"`)
	}
	k.thumbprint = k.material.thumbprint()
	return k, nil
}

func (k *Key) setEd25519() error {
	x := make([]byte, ed25519.PublicKeySize)
	if err := decodeExactly(x, "x", k.material.x); err != nil {
		return err
	}
	if weakEd25519(x) {
		return refuse(ReasonKey, `its "x" is no Ed25519 public key: not in its only spelling, or one under which anybody can sign`)
	}
	k.ed25519 = x
	return nil
}

func (k *Key) setP256() (err error) {
	var point [1 + 2*coordinate]byte
	point[0] = 4
	if err := decodeExactly(point[1:1+coordinate], "x", k.material.x); err != nil {
		return err
	}
	if err := decodeExactly(point[1+coordinate:], "y", k.material.y); err != nil {
		return err
	}
	if k.ecdsa, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point[:]); err != nil {
		return refuse(ReasonKey, `its "x" and "y" are no point of P-256`)
	}
	return nil
}

func (k *Key) setRSA() error {
	var roomN [maxModulusBits / 8]byte
	var roomE [maxExponentLen]byte
	n, err := decodeMember(roomN[:], "n", k.material.n)
	if err != nil {
		return err
	}
	e, err := decodeMember(roomE[:], "e", k.material.e)
	if err != nil {
		return err
	}
	exponent := 0
	for _, b := range e {
		exponent = exponent<<8 | int(b)
	}
	modulus := new(big.Int).SetBytes(n)
	switch bits := modulus.BitLen(); {
	case n[0] == 0 || e[0] == 0:
		return refuse(ReasonKey, `its "n" or "e" begins with a zero byte, which RFC 7518 section 2 leaves out`)
	case bits < minModulusBits || bits > maxModulusBits:
		return refuse(ReasonKey, "it has %d bits; RSA keys must have %d to %d", bits, minModulusBits, maxModulusBits)
	case modulus.Bit(0) == 0:
		return refuse(ReasonKey, `its "n" is even, so it is no product of two large primes`)
	case exponent < minExponent || exponent > maxExponent || exponent%2 == 0:
		return refuse(ReasonKey, `its "e" must be odd, at least %d and below 2^31; it is usually 65537`, minExponent)
	}
	k.rsa = &rsa.PublicKey{N: modulus, E: exponent}
	return nil
}

// decodeExactly reads base64url of as many bytes as fit.
func decodeExactly(room []byte, name, text string) error {
	value, err := decodeMember(room, name, text)
	if err == nil && len(value) != len(room) {
		return wrongSize(name, len(value))
	}
	return err
}

// decodeMember reads base64url of one byte or more into the room.
func decodeMember(room []byte, name, text string) ([]byte, error) {
	if text == "" {
		return nil, refuse(ReasonMissing, "%q is missing from the key", name)
	}
	if n := segment.DecodedLen(len(text)); n > len(room) {
		return nil, wrongSize(name, n)
	}
	// encoding/base64 skips line breaks.
	n := 0
	ok := visible(text)
	if ok {
		var err error
		n, err = segment.Decode(room, []byte(text))
		ok = err == nil
	}
	if !ok || n == 0 {
		return nil, malformed("%q is not unpadded base64url in its only spelling", name)
	}
	return room[:n], nil
}

func wrongSize(name string, n int) error {
	return refuse(ReasonKey, "%q has %d bytes, which is not what a key of its kind has", name, n)
}

// appendMembers appends the members that make up the key, in the order of RFC 7638 section 3.2. Their values have been
// decoded, so they hold nothing that JSON would escape.
func (m *material) appendMembers(b []byte) []byte {
	member := func(name, value string) {
		if value == "" {
			return
		}
		if b[len(b)-1] != '{' {
			b = append(b, ',')
		}
		b = append(append(append(append(append(b, '"'), name...), `":"`...), value...), '"')
	}
	member("crv", m.crv)
	member("e", m.e)
	member("kty", m.kty)
	member("n", m.n)
	member("x", m.x)
	member("y", m.y)
	return b
}

func (m *material) thumbprint() string {
	var room [maxModulusBits/8*4/3 + 64]byte
	text := append(m.appendMembers(append(room[:0], '{')), '}')
	digest := sha256.Sum256(text)
	return encode(digest[:])
}

// encode writes base64url without padding.
func encode(data []byte) string {
	var room [base64Digest]byte
	return string(base64.RawURLEncoding.AppendEncode(room[:0], data))
}

// base64Digest is the length of a SHA-256 in base64url.
const base64Digest = (sha256.Size*8 + 5) / 6
