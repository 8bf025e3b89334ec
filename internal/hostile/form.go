package hostile

import (
	"bytes"
	"crypto"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"
	"slices"
	"strings"
)

// form adds what is hostile about any JWT, whatever it is for: its spelling, its header, its JSON, its signature. The
// base must be good and signed by keys.EdDSA; oversize is more than its kind may have.
func (c *cases) form(keys *Keys, oversize int) {
	c.spelling(oversize)
	c.algorithms(keys)
	c.headers(keys)
	c.json()
	c.signatures(keys)
}

func (c *cases) spelling(oversize int) {
	token := c.base.token()
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	// A payload of 3n+1 bytes leaves four bits of its last character unused.
	d := c.base
	for pad := ""; len(d.payload.text())%3 != 1; pad += "x" {
		d.payload = d.payload.with("pad", quote(pad))
	}
	loose := b64.EncodeToString([]byte(d.payload.text()))
	loose = loose[:len(loose)-1] + string(after(loose[len(loose)-1]))
	std := base64.RawStdEncoding.EncodeToString([]byte(d.payload.with("pad", `"???>>>???>>>"`).text()))

	resigned := func(header, payload string) string {
		signed := header + "." + payload
		return signed + "." + b64.EncodeToString(c.base.signer.Sign(signed))
	}
	for name, forged := range map[string]string{
		"nothing":                       "",
		"dots alone":                    "..",
		"a single segment":              header,
		"two segments":                  header + "." + payload,
		"four segments":                 token + ".e30",
		"five segments":                 header + "." + payload + "." + signature + ".e30.e30",
		"no header":                     resigned("", payload),
		"no payload":                    resigned(header, ""),
		"padded":                        resigned(header, payload+"="),
		"padded signature":              token + "==",
		"unused bits set":               resigned(header, loose),
		"alphabet of standard base64":   resigned(header, std),
		"a length that base64 lacks":    resigned(header, payload[:len(payload)-len(payload)%4]+"e"),
		"trailing newline":              token + "\n",
		"trailing line break":           token + "\r\n",
		"trailing space":                token + " ",
		"trailing zero byte":            token + "\x00",
		"leading space":                 " " + token,
		"newline inside the payload":    resigned(header, payload[:4]+"\n"+payload[4:]),
		"newline inside the header":     resigned(header[:4]+"\r\n"+header[4:], payload),
		"newline inside the signature":  header + "." + payload + "." + signature[:4] + "\n" + signature[4:],
		"escaped with percent":          strings.Replace(token, ".", "%2e", 1),
		"in JSON form":                  `{"protected":"` + header + `","payload":"` + payload + `","signature":"` + signature + `"}`,
		"with the scheme in front":      "Bearer " + token,
		"two tokens with a comma":       token + "," + token,
		"bytes beyond ASCII":            "\xff\xfe" + token,
		"full stops that look the same": strings.ReplaceAll(token, ".", "\u2024"),
	} {
		c.add("spelling: "+name, "malformed", forged)
	}
	big := strings.Repeat("x", oversize)
	c.payload("oversize payload", "too-long", c.base.payload.with("pad", quote(big)))
	c.header("oversize kid", "too-long", c.base.header.with("kid", quote(big)))
	c.add("oversize signature", "too-long", header+"."+payload+"."+b64.EncodeToString([]byte(big)))
	c.add("oversize run of dots", "too-long", strings.Repeat(".", oversize+1))
	c.signature("signature longer than any", "malformed", c.base, func(string) []byte { return make([]byte, 600) })
}

// after returns the character with the next value in the alphabet, which differs in the unused bits.
func after(c byte) byte {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return alphabet[strings.IndexByte(alphabet, c)+1]
}

func (c *cases) algorithms(keys *Keys) {
	h := c.base.header
	unsigned := func(string) []byte { return nil }
	for _, alg := range []string{"none", "None", "NONE", "nOnE", ""} {
		d := c.base
		d.header = h.with("alg", quote(alg))
		c.signature("alg "+quote(alg)+" without signature", "algorithm", d, unsigned)
		c.add("alg "+quote(alg)+" with the signature of EdDSA", "algorithm", d.token())
	}
	d := c.base
	d.header = h.without("alg")
	c.signature("no alg and no signature", "algorithm", d, unsigned)
	c.header("no alg", "algorithm", h.without("alg"))
	for name, secret := range publicSecrets(keys) {
		d.header = h.with("alg", `"HS256"`)
		c.signature("HS256 by "+name, "algorithm", d, func(signed string) []byte {
			mac := hmac.New(sha256.New, secret)
			mac.Write([]byte(signed))
			return mac.Sum(nil)
		})
	}
	d.header = h.with("alg", `"HS256"`).with("kid", `"../../../../../../dev/null"`)
	c.signature("HS256 by the empty file that kid names", "algorithm", d, func(signed string) []byte {
		mac := hmac.New(sha256.New, nil)
		mac.Write([]byte(signed))
		return mac.Sum(nil)
	})
	for _, alg := range []string{
		"HS384", "HS512", "RS1", "RS384", "RS512", "PS256", "ES384", "ES256K", "Ed25519", "EdDSA ", "eddsa", "EDDSA", "\u0000EdDSA",
		"dir", "A128KW", "RSA-OAEP", "ECDH-ES", "EdDSA,RS256",
	} {
		c.header("alg "+quote(alg), "algorithm", h.with("alg", quote(alg)))
	}
	c.header("alg of another key", "algorithm", h.with("alg", `"ES256"`))
	c.header("alg of a third key", "algorithm", h.with("alg", `"RS256"`))
	for _, value := range []string{"null", "1", "true", `["EdDSA"]`, `{"alg":"EdDSA"}`} {
		c.header("alg "+value, "malformed", h.with("alg", value))
	}
}

// publicSecrets are what a reader that takes the algorithm from the token might use as an HMAC key.
func publicSecrets(keys *Keys) map[string][]byte {
	secrets := map[string][]byte{
		"the JWKS":            keys.JWKS(),
		"the Ed25519 key":     keys.EdDSA.Public.(ed25519.PublicKey),
		"the JWK":             []byte(keys.EdDSA.JWK),
		"the empty secret":    nil,
		"the RSA modulus":     keys.RS256.Public.(*rsa.PublicKey).N.Bytes(),
		"the kid":             []byte(keys.EdDSA.KID),
		"the text of the key": []byte(b64.EncodeToString(keys.EdDSA.Public.(ed25519.PublicKey))),
	}
	for _, s := range keys.All() {
		der, err := x509.MarshalPKIXPublicKey(s.Public)
		must(err)
		secrets["the DER of the "+s.Alg+" key"] = der
		secrets["the PEM of the "+s.Alg+" key"] = pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	}
	return secrets
}

func (c *cases) headers(keys *Keys) {
	h := c.base.header
	stranger, _ := keys.others()
	own := stranger.EdDSA
	for name, value := range map[string]string{
		"jku":                        `"https://attacker.example/jwks.json"`,
		"jku to a link-local host":   `"http://169.254.169.254/latest/meta-data"`,
		"x5u":                        `"https://attacker.example/chain.pem"`,
		"x5c":                        `["MIIB"]`,
		"crit of nothing":            `[]`,
		"crit of exp":                `["exp"]`,
		"crit of b64":                `["b64"]`,
		"crit of something unknown":  `["urn:example:must-know"]`,
		"crit as a string":           `"exp"`,
		"b64 false":                  `false`,
		"b64 true":                   `true`,
		"zip":                        `"DEF"`,
		"jku with its name escaped":  `"https://attacker.example/jwks.json"`,
		"crit with its name escaped": `["exp"]`,
	} {
		member, _, _ := strings.Cut(name, " ")
		if strings.HasSuffix(name, "escaped") {
			member = `\u00` + hexOf(member[0]) + member[1:]
		}
		c.add("header: "+name, "header", own.Token(h.and(member, value).text(), c.base.payload.text()))
		c.header("header: "+name+", signed by the right key", "header", h.and(member, value))
	}
	for name, value := range map[string]string{
		"a path":                  `"../../../../etc/passwd"`,
		"a path to an empty file": `"/dev/null"`,
		"a query":                 `"' OR '1'='1"`,
		"a union":                 `"x' UNION SELECT 'a2V5' --"`,
		"a zero byte":             `"` + c.base.signer.KID + `\u0000"`,
		"a command":               `"$(id)|id"`,
		"a URL":                   `"https://attacker.example/key"`,
		"another case":            quote(strings.ToUpper(c.base.signer.KID)),
		"a space behind":          quote(c.base.signer.KID + " "),
		"a line break behind":     quote(c.base.signer.KID + "\n"),
		"the kid of a stranger":   `"nobody"`,
		"markup":                  `"<script>alert(1)</script>"`,
	} {
		c.kid("kid: "+name, "unknown-key", value)
	}
	for name, value := range map[string]string{
		"empty": `""`, "null": "null", "a number": "1", "an array": `["` + c.base.signer.KID + `"]`, "an object": `{}`, "true": "true",
		"257 bytes": quote(strings.Repeat("k", 257)),
	} {
		c.header("kid: "+name, "malformed", h.with("kid", value))
	}
	c.header("header: alg twice", "malformed", h.and("alg", h.get("alg")))
	c.header("header: alg twice, first none", "malformed", h.before("alg", `"none"`))
	c.header("header: alg twice, once escaped", "malformed", h.and(`\u0061lg`, `"none"`))
	c.header("header: kid twice", "malformed", h.with("kid", quote(c.base.signer.KID)).and("kid", `"nobody"`))
	for _, name := range []string{"Alg", "ALG", "Kid", "Typ", "JWK", "Crit", "B64", "Zip", "JKU", "X5U", "x5C", "\u212aid", "\u212aID"} {
		c.header("header: "+name, "malformed", h.and(name, `"none"`))
	}
	c.header("header: unknown member twice", "malformed", h.and("x", "1").and("x", "2"))
	c.header("header: a name twice far inside", "malformed", h.and("x", `[{"y":{"z":1,"z":1}}]`))
	c.header("header: too deep", "malformed", h.and("x", nested(20, "[", "", "]")))
	c.header("header: cty a number", "malformed", h.and("cty", "1"))
	c.raw("header: white space in front", "malformed", " "+h.text(), c.base.payload.text())
	c.raw("header: a line break behind", "malformed", h.text()+"\n", c.base.payload.text())
	for name, text := range notObjects(h.text()) {
		c.raw("header: "+name, "malformed", text, c.base.payload.text())
	}
}

// kid adds the draft with another kid. Where the key is in the header, a kid means nothing and is passed over.
func (c *cases) kid(name, reason, value string) {
	if c.base.header.get("jwk") == "null" {
		c.header(name, reason, c.base.header.with("kid", value))
	}
}

func hexOf(c byte) string { return string("0123456789abcdef"[c>>4]) + string("0123456789abcdef"[c&15]) }

// notObjects are texts that are near to being a JSON object, and none.
func notObjects(good string) map[string]string {
	utf16 := bytes.NewBufferString("\xfe\xff")
	for _, c := range []byte(good) {
		utf16.Write([]byte{0, c})
	}
	return map[string]string{
		"empty":                    "",
		"null":                     "null",
		"an array":                 "[" + good + "]",
		"a string":                 quote(good),
		"a number":                 "1",
		"two objects":              good + good,
		"garbage behind":           good + "x",
		"a zero byte behind":       good + "\x00",
		"a byte order mark":        "\xef\xbb\xbf" + good,
		"UTF-16":                   utf16.String(),
		"not UTF-8":                good[:len(good)-1] + `,"x":"` + "\xff" + `"}`,
		"overlong UTF-8":           good[:len(good)-1] + `,"x":"` + "\xc0\xaf" + `"}`,
		"no end":                   good[:len(good)-1],
		"a comma too many":         good[:len(good)-1] + ",}",
		"a comma in front":         "{," + good[1:],
		"a comment":                good[:len(good)-1] + "/* */}",
		"single quotes":            strings.ReplaceAll(good, `"`, `'`),
		"a name without quotes":    good[:len(good)-1] + `,x:1}`,
		"a value missing":          good[:len(good)-1] + `,"x":}`,
		"a control character":      good[:len(good)-1] + `,"x":"` + "\n" + `"}`,
		"a control character, too": good[:len(good)-1] + `,"x":"\t` + "\n" + `"}`,
		"half a surrogate pair":    good[:len(good)-1] + `,"x":"\ud800"}`,
		"the wrong half":           good[:len(good)-1] + `,"x":"\udc00\ud800"}`,
		"half a pair and a letter": good[:len(good)-1] + `,"x":"\ud800\u0041"}`,
		"an unknown escape":        good[:len(good)-1] + `,"x":"\x41"}`,
		"an escape without end":    good[:len(good)-1] + `,"x":"\u12"}`,
		"a string without end":     good[:len(good)-1] + `,"x":"`,
		"a backslash at the end":   good[:len(good)-1] + `,"x":"\`,
		"NaN":                      good[:len(good)-1] + `,"x":NaN}`,
		"a hexadecimal number":     good[:len(good)-1] + `,"x":0x1}`,
		"a leading zero":           good[:len(good)-1] + `,"x":01}`,
		"a leading plus":           good[:len(good)-1] + `,"x":+1}`,
		"a fraction without end":   good[:len(good)-1] + `,"x":1.}`,
		"a number beyond float64":  good[:len(good)-1] + `,"x":1e999}`,
		"a number of 100 digits":   good[:len(good)-1] + `,"x":` + strings.Repeat("9", 100) + `}`,
		"True":                     good[:len(good)-1] + `,"x":True}`,
	}
}

func (c *cases) json() {
	p := c.base.payload
	for name, text := range notObjects(p.text()) {
		c.raw("payload: "+name, "malformed", c.base.header.text(), text)
	}
	for _, m := range p {
		c.payload("payload: "+m.name+" twice", "malformed", p.and(m.name, m.value))
		c.payload("payload: "+m.name+" twice, once escaped", "malformed", p.and(`\u00`+hexOf(m.name[0])+m.name[1:], m.value))
	}
	c.payload("payload: unknown claim twice", "malformed", p.and("x", "1").and("x", "1"))
	c.payload("payload: a name twice far inside", "malformed", p.and("x", `[{"y":{"z":1,"z":1}}]`))
	c.payload("payload: a name twice, once far inside escaped", "malformed", p.and("x", `[{"y":{"z":1,"\u007a":1}}]`))
	c.payload("payload: a deep act", "malformed", p.and("act", nested(12, `{"sub":"a","act":`, `{"sub":"a"}`, "}")))
	c.payload("payload: deep arrays", "malformed", p.and("x", nested(500, "[", "", "]")))
	c.payload("payload: deep objects without end", "malformed", p.and("x", strings.Repeat(`{"a":`, 300)))
	many := p
	for i := range 80 {
		many = many.and("m"+number(int64(i)), "0")
	}
	c.payload("payload: too many members", "malformed", many)
	c.payload("payload: too many elements", "malformed", p.and("x", "["+strings.Repeat("0,", 1100)+"0]"))
	for _, claim := range []string{"exp", "nbf", "iat"} {
		for name, value := range map[string]string{
			"null": "null", "a string": `"` + number(4e9) + `"`, "true": "true", "an array": "[1]", "negative": "-1", "minus zero": "-0",
			"beyond the year 9999": "253402300800", "beyond int64": "9223372036854775808", "in milliseconds": "1790000000000",
			"with an exponent": "4e9", "a small exponent": "4000000000e-1", "beyond float64": "1e400",
		} {
			c.claim("payload: "+claim+" "+name, "malformed", claim, value)
		}
	}
	for _, claim := range []string{"iss", "sub", "jti"} {
		for _, value := range []string{"null", "1", "true", `["a"]`, `{"a":1}`, `""`, quote(strings.Repeat("x", 1025))} {
			c.claim("payload: "+claim+" is "+value[:min(8, len(value))], "malformed", claim, value)
		}
	}
	for name, value := range map[string]string{
		"null": "null", "a number": "1", "an object": "{}", "an empty array": "[]", "an empty string": `""`, "an array of arrays": `[["a"]]`,
		"an array with a number": `["a",1]`, "an array with an empty string": `["a",""]`, "17 values": `["a"` + strings.Repeat(`,"a"`, 16) + `]`,
	} {
		c.claim("payload: aud is "+name, "malformed", "aud", value)
	}
}

// order is that of the group of Ed25519's base point.
var order, _ = new(big.Int).SetString("1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed", 16)

func (c *cases) signatures(keys *Keys) {
	stranger, _ := keys.others()
	ed, ec, rs := keys.EdDSA, keys.ES256, keys.RS256
	of := func(s *Signer) draft {
		d := c.base
		d.signer = s
		d.header = d.header.with("alg", quote(s.Alg))
		if d.header.get("jwk") != "null" {
			d.header = d.header.with("jwk", s.JWK)
		} else {
			d.header = d.header.with("kid", quote(s.KID))
		}
		return d
	}
	for _, s := range keys.All() {
		c.signature(s.Alg+": no signature", "signature", of(s), func(string) []byte { return nil })
		c.signature(s.Alg+": all zeros", "signature", of(s), func(string) []byte { return make([]byte, len(s.Sign("x"))) })
		c.signature(s.Alg+": one bit flipped", "signature", of(s), func(signed string) []byte {
			signature := s.Sign(signed)
			signature[len(signature)/2] ^= 1
			return signature
		})
		c.signature(s.Alg+": one byte short", "signature", of(s), func(signed string) []byte {
			signature := s.Sign(signed)
			return signature[:len(signature)-1]
		})
		c.signature(s.Alg+": a zero byte behind", "signature", of(s), func(signed string) []byte { return append(s.Sign(signed), 0) })
		c.signature(s.Alg+": a zero byte in front", "signature", of(s), func(signed string) []byte { return slices.Insert(s.Sign(signed), 0, 0) })
		c.signature(s.Alg+": of the payload alone", "signature", of(s), func(signed string) []byte {
			_, payload, _ := strings.Cut(signed, ".")
			return s.Sign(payload)
		})
		c.signature(s.Alg+": of another token", "signature", of(s), func(signed string) []byte { return s.Sign(signed + "x") })
	}
	c.signature("EdDSA: by a stranger", "signature", of(ed), stranger.EdDSA.Sign)
	c.signature("ES256: by a stranger", "signature", of(ec), stranger.ES256.Sign)
	c.signature("RS256: by a stranger", "signature", of(rs), stranger.RS256.Sign)
	c.signature("ES256: by an RSA key", "signature", of(ec), rs.Sign)
	c.signature("EdDSA: s plus the order of the group", "signature", of(ed), func(signed string) []byte {
		signature := ed.Sign(signed)
		slices.Reverse(signature[32:])
		s := new(big.Int).SetBytes(signature[32:])
		s.Add(s, order).FillBytes(signature[32:])
		slices.Reverse(signature[32:])
		return signature
	})
	c.signature("ES256: in DER", "signature", of(ec), ec.der)
	c.signature("ES256: a zero byte between r and s", "signature", of(ec), func(signed string) []byte { return slices.Insert(ec.Sign(signed), 32, 0) })
	for name, half := range map[string]int{"r": 0, "s": 32} {
		for value, fill := range map[string]byte{"zero": 0, "beyond the order of the group": 0xff} {
			c.signature("ES256: "+name+" "+value, "signature", of(ec), func(signed string) []byte {
				signature := ec.Sign(signed)
				copy(signature[half:half+32], bytes.Repeat([]byte{fill}, 32))
				return signature
			})
		}
	}
	c.signature("RS256: by PSS", "signature", of(rs), func(signed string) []byte {
		digest := sha256.Sum256([]byte(signed))
		signature, err := rsa.SignPSS(rand.Reader, rs.private.(*rsa.PrivateKey), crypto.SHA256, digest[:], nil)
		must(err)
		return signature
	})
	c.signature("RS256: plus the modulus", "signature", of(rs), func(signed string) []byte {
		n := rs.Public.(*rsa.PublicKey).N
		sum := new(big.Int).Add(new(big.Int).SetBytes(rs.Sign(signed)), n)
		return sum.FillBytes(make([]byte, 257))
	})
}
