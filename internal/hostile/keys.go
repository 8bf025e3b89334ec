package hostile

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"math/big"
	"slices"
	"strings"
)

// badKey is a key that must not be used. Where a signature can be made that holds under it, sign makes it.
type badKey struct {
	name, reason, jwk string
	alg               string
	sign              func(signed string) []byte
}

func badKeys(keys *Keys) []badKey {
	list := slices.Concat(leakedKeys(keys), curveKeys(keys), rsaKeys(keys))
	for _, s := range keys.All() {
		with := func(members string) string { return s.JWK[:len(s.JWK)-1] + members + "}" }
		list = append(list,
			badKey{name: s.Alg + " for encryption", reason: "key", jwk: with(`,"use":"enc"`)},
			badKey{name: s.Alg + " with an empty use", reason: "key", jwk: with(`,"use":""`)},
			badKey{name: s.Alg + " for wrapping", reason: "key", jwk: with(`,"key_ops":["wrapKey","encrypt"]`)},
			badKey{name: s.Alg + " for nothing", reason: "key", jwk: with(`,"key_ops":[]`)},
			badKey{name: s.Alg + " for a use that is a number", reason: "malformed", jwk: with(`,"use":1`)},
			badKey{name: s.Alg + " for operations that are none", reason: "malformed", jwk: with(`,"key_ops":"verify"`)},
			badKey{name: s.Alg + " for the same operation twice", reason: "malformed", jwk: with(`,"key_ops":["verify","verify"]`)},
			badKey{name: s.Alg + " for HS256", reason: "key", jwk: with(`,"alg":"HS256"`)},
			badKey{name: s.Alg + " for none", reason: "key", jwk: with(`,"alg":"none"`)},
			badKey{name: s.Alg + " for PS256", reason: "key", jwk: with(`,"alg":"PS256"`)},
			badKey{name: s.Alg + " with KTY beside kty", reason: "malformed", jwk: with(`,"KTY":"oct"`)},
			badKey{name: s.Alg + " with Alg", reason: "malformed", jwk: with(`,"Alg":"HS256"`)},
			badKey{name: s.Alg + " with kty twice", reason: "malformed", jwk: with(`,"kty":"oct"`)},
			badKey{name: s.Alg + " with kty twice, once escaped", reason: "malformed", jwk: with(`,"\u006bty":"oct"`)},
			badKey{name: s.Alg + " without kty", reason: "missing", jwk: strings.Replace(s.JWK, `"kty"`, `"typ"`, 1)},
			badKey{name: s.Alg + " of an unknown type", reason: "key", jwk: `{"kty":"AKP",` + s.JWK[strings.Index(s.JWK, ",")+1:]},
		)
	}
	return list
}

// leakedKeys are private and shared ones.
func leakedKeys(keys *Keys) []badKey {
	var list []badKey
	for _, s := range keys.All() {
		for _, name := range []string{"d", "p", "q", "dp", "dq", "qi", "k"} {
			list = append(list, badKey{name: s.Alg + " with " + name, reason: "private-key", jwk: s.JWK[:len(s.JWK)-1] + `,"` + name + `":"AQAB"}`})
		}
		list = append(list,
			badKey{name: s.Alg + " with oth", reason: "private-key", jwk: s.JWK[:len(s.JWK)-1] + `,"oth":[{"r":"AQAB","d":"AQAB","t":"AQAB"}]}`},
			badKey{name: s.Alg + " with D", reason: "private-key", jwk: s.JWK[:len(s.JWK)-1] + `,"D":"AQAB"}`},
			badKey{name: s.Alg + " with Oth", reason: "private-key", jwk: s.JWK[:len(s.JWK)-1] + `,"Oth":[]}`},
			badKey{name: s.Alg + " with k by another letter", reason: "private-key", jwk: s.JWK[:len(s.JWK)-1] + `,"\u212a":"AQAB"}`},
			badKey{name: s.Alg + " with d null", reason: "private-key", jwk: `{"d":null,` + s.JWK[1:]},
			badKey{name: s.Alg + " with d escaped", reason: "private-key", jwk: `{"\u0064":"AQAB",` + s.JWK[1:]},
		)
	}
	return append(list,
		badKey{name: "a shared secret", reason: "private-key", jwk: `{"kty":"oct","k":"c2VjcmV0"}`},
		badKey{name: "a shared secret without the secret", reason: "key", jwk: `{"kty":"oct"}`},
		badKey{name: "a private key of a kind to come", reason: "private-key", jwk: `{"kty":"AKP","alg":"ML-DSA-44","pub":"AQAB","priv":"AQAB"}`},
	)
}

func curveKeys(keys *Keys) []badKey {
	ed := func(x []byte) string { return `{"kty":"OKP","crv":"Ed25519","x":"` + b64.EncodeToString(x) + `"}` }
	ec := func(x, y []byte) string {
		return `{"kty":"EC","crv":"P-256","x":"` + b64.EncodeToString(x) + `","y":"` + b64.EncodeToString(y) + `"}`
	}
	public := keys.EdDSA.Public.(ed25519.PublicKey)
	var coordinates [2][]byte
	for i, name := range []string{`"x":"`, `"y":"`} {
		_, rest, _ := strings.Cut(keys.ES256.JWK, name)
		text, _, _ := strings.Cut(rest, `"`)
		decoded, err := b64.DecodeString(text)
		must(err)
		coordinates[i] = decoded
	}
	x, y := coordinates[0], coordinates[1]
	prime, _ := new(big.Int).SetString("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff", 16)
	flipped := slices.Clone(y)
	flipped[31] ^= 1
	neutral := append([]byte{1}, make([]byte, 31)...)
	negative := slices.Clone(neutral)
	negative[31] = 0x80
	unreduced := append([]byte{0xee}, append(slices.Repeat([]byte{0xff}, 30), 0x7f)...)
	return []badKey{
		{"Ed25519, the neutral point, under which anybody can sign", "key", ed(neutral), "EdDSA", signNeutral},
		{"Ed25519, the neutral point with its sign", "key", ed(negative), "EdDSA", signNeutral},
		{"Ed25519, the neutral point, not reduced", "key", ed(unreduced), "EdDSA", signNeutral},
		{"Ed25519, a point of order four", "key", ed(make([]byte, 32)), "EdDSA", signNeutral},
		{name: "Ed25519 of 31 bytes", reason: "key", jwk: ed(public[:31])},
		{name: "Ed25519 of 33 bytes", reason: "key", jwk: ed(append(slices.Clone(public), 0))},
		{name: "Ed25519 without x", reason: "missing", jwk: `{"kty":"OKP","crv":"Ed25519"}`},
		{name: "Ed25519 with an empty x", reason: "missing", jwk: `{"kty":"OKP","crv":"Ed25519","x":""}`},
		{name: "Ed25519 with x padded", reason: "key", jwk: strings.Replace(ed(public), `"}`, `="}`, 1)},
		{name: "Ed25519 with unused bits set", reason: "malformed", jwk: loosened(ed(public))},
		{name: "Ed25519 with a line break", reason: "malformed", jwk: `{"kty":"OKP","crv":"Ed25519","x":"\n` + ed(public[:31])[len(`{"kty":"OKP","crv":"Ed25519","x":"`):]},
		{name: "Ed25519 with x a number", reason: "malformed", jwk: `{"kty":"OKP","crv":"Ed25519","x":1}`},
		{name: "Ed25519 said to be X25519", reason: "key", jwk: strings.Replace(ed(public), "Ed25519", "X25519", 1)},
		{name: "Ed25519 said to be Ed448", reason: "key", jwk: strings.Replace(ed(public), "Ed25519", "Ed448", 1)},
		{name: "Ed25519 said to be EC", reason: "key", jwk: strings.Replace(ed(public), "OKP", "EC", 1)},
		{name: "P-256 off the curve", reason: "key", jwk: ec(x, flipped)},
		{name: "P-256 with x and y swapped", reason: "key", jwk: ec(y, x)},
		{name: "P-256 at zero", reason: "key", jwk: ec(make([]byte, 32), make([]byte, 32))},
		{name: "P-256 not reduced", reason: "key", jwk: ec(prime.Bytes(), prime.Bytes())},
		{name: "P-256 with a short x", reason: "key", jwk: ec(x[:31], y)},
		{name: "P-256 with a long y", reason: "key", jwk: ec(x, append([]byte{0}, y...))},
		{name: "P-256 without y", reason: "missing", jwk: `{"kty":"EC","crv":"P-256","x":"` + b64.EncodeToString(x) + `"}`},
		{name: "P-256 said to be P-384", reason: "key", jwk: strings.Replace(ec(x, y), "P-256", "P-384", 1)},
		{name: "P-256 said to be secp256k1", reason: "key", jwk: strings.Replace(ec(x, y), "P-256", "secp256k1", 1)},
		{name: "P-256 in lower case", reason: "key", jwk: strings.Replace(ec(x, y), "P-256", "p-256", 1)},
	}
}

// loosened sets unused bits in the last character of the last value.
func loosened(jwk string) string {
	end := len(jwk) - len(`"}`)
	return jwk[:end-1] + string(after(jwk[end-1])) + jwk[end:]
}

// signNeutral makes a signature that holds for any message under the neutral point: with R = [s]B, the equation
// [s]B = R + [k]A asks nothing of k.
func signNeutral(string) []byte {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed)
	r := ed25519.NewKeyFromSeed(seed).Public().(ed25519.PublicKey)
	scalar := sha512.Sum512(seed)
	scalar[0] &= 248
	scalar[31] = scalar[31]&63 | 64
	slices.Reverse(scalar[:32])
	s := new(big.Int).SetBytes(scalar[:32])
	reduced := s.Mod(s, order).FillBytes(make([]byte, 32))
	slices.Reverse(reduced)
	return append(slices.Clone(r), reduced...)
}

func rsaKeys(keys *Keys) []badKey {
	n := keys.RS256.Public.(*rsa.PublicKey).N
	e := []byte{1, 0, 1}
	_, weak := keys.others()
	even := new(big.Int).Xor(n, big.NewInt(1))
	long := new(big.Int).Lsh(n, 2049)
	return []badKey{
		{"RSA of 1024 bits", "key", weak.JWK, "RS256", weak.Sign},
		{"RSA with exponent 1, under which anybody can sign", "key", rsaJWK(n.Bytes(), []byte{1}), "RS256", signAsIs},
		{name: "RSA with exponent 2", reason: "key", jwk: rsaJWK(n.Bytes(), []byte{2})},
		{name: "RSA with exponent 0", reason: "key", jwk: rsaJWK(n.Bytes(), []byte{0})},
		{name: "RSA with an even exponent", reason: "key", jwk: rsaJWK(n.Bytes(), []byte{1, 0, 0})},
		{name: "RSA with an exponent of 32 bits", reason: "key", jwk: rsaJWK(n.Bytes(), []byte{0x80, 0, 0, 1})},
		{name: "RSA with an exponent of 2048 bits", reason: "key", jwk: rsaJWK(n.Bytes(), n.Bytes())},
		{name: "RSA with an even modulus", reason: "key", jwk: rsaJWK(even.Bytes(), e)},
		{name: "RSA of 4097 bits", reason: "key", jwk: rsaJWK(long.Bytes(), e)},
		{name: "RSA of 8 bits", reason: "key", jwk: rsaJWK([]byte{0xff}, e)},
		{name: "RSA with a zero in front of n", reason: "key", jwk: rsaJWK(append([]byte{0}, n.Bytes()...), e)},
		{name: "RSA with a zero in front of e", reason: "key", jwk: rsaJWK(n.Bytes(), append([]byte{0}, e...))},
		{name: "RSA without n", reason: "missing", jwk: `{"kty":"RSA","e":"AQAB"}`},
		{name: "RSA without e", reason: "missing", jwk: strings.Replace(rsaJWK(n.Bytes(), e), `"e"`, `"f"`, 1)},
		{name: "RSA with e a number", reason: "malformed", jwk: strings.Replace(rsaJWK(n.Bytes(), e), `"AQAB"`, "65537", 1)},
	}
}

// signAsIs is the padded digest itself, which is its own first power.
func signAsIs(signed string) []byte {
	digest := sha256.Sum256([]byte(signed))
	prefix := []byte{0x30, 0x31, 0x30, 0x0d, 0x06, 0x09, 0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01, 0x05, 0x00, 0x04, 0x20}
	tail := append(prefix, digest[:]...)
	return slices.Concat([]byte{0, 1}, slices.Repeat([]byte{0xff}, 256-3-len(tail)), []byte{0}, tail)
}

// KeySets returns hostile keys and sets of keys, as somebody might register them. Token holds the JSON.
func KeySets(keys *Keys) []Case {
	var c cases
	for _, k := range badKeys(keys) {
		c.add("one key: "+k.name, k.reason, k.jwk)
		c.add("in a set: "+k.name, k.reason, `{"keys":[`+keys.ES256.namedJWK()+`,`+k.jwk+`]}`)
	}
	good := string(keys.JWKS())
	for name, text := range notObjects(good) {
		c.add("set: "+name, "malformed", text)
	}
	one := keys.EdDSA.namedJWK()
	c.add("set: of nothing", "key", `{"keys":[]}`)
	c.add("set: no key at all", "missing", `{}`)
	c.add("set: keys twice", "malformed", `{"keys":[`+one+`],"keys":[]}`)
	c.add("set: Keys beside keys", "malformed", `{"keys":[`+one+`],"Keys":[`+keys.ES256.namedJWK()+`]}`)
	c.add("set: keys an object", "malformed", `{"keys":`+one+`}`)
	c.add("set: keys null", "malformed", `{"keys":null}`)
	c.add("set: a key that is a string", "malformed", `{"keys":["x"]}`)
	c.add("set: a key that is null", "malformed", `{"keys":[null]}`)
	c.add("set: a key beside it", "malformed", `{"keys":[`+keys.ES256.namedJWK()+`],`+one[1:])
	c.add("set: a private member beside it", "private-key", `{"keys":[`+one+`],"d":"AQAB"}`)
	c.add("set: the same kid twice", "key", `{"keys":[`+one+`,{"kid":"`+keys.EdDSA.KID+`",`+keys.ES256.JWK[1:]+`]}`)
	c.add("set: the same key twice", "key", `{"keys":[`+keys.EdDSA.JWK+`,`+keys.EdDSA.JWK+`]}`)
	c.add("set: 33 keys", "malformed", `{"keys":[`+keys.EdDSA.JWK+strings.Repeat(`,{}`, 32)+`]}`)
	c.add("set: too long", "too-long", `{"keys":[`+one+`],"x":"`+strings.Repeat("x", 16<<10)+`"}`)
	c.add("set: too deep", "malformed", `{"x":`+nested(20, "[", "", "]")+`,`+one[1:])
	for name, kid := range map[string]string{
		"empty": `""`, "of 257 bytes": quote(strings.Repeat("k", 257)), "with a line break": `"a\nb"`, "with a quote": `"a\"b"`, "with a backslash": `"a\\b"`,
		"with a zero byte": `"a\u0000"`, "beyond ASCII": `"k\u00e9y"`, "with a space": `"a b"`,
	} {
		c.add("kid "+name, "key", `{"kid":`+kid+`,`+keys.EdDSA.JWK[1:])
	}
	for _, kid := range []string{"null", "1", `["a"]`} {
		c.add("kid "+kid, "malformed", `{"kid":`+kid+`,`+keys.EdDSA.JWK[1:])
	}
	return c.list
}
