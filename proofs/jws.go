package proofs

import (
	"bytes"
	"encoding/base64"
	"slices"
	"unicode/utf8"
)

// Algorithm is a JWS algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1).
type Algorithm string

// The algorithms that are accepted. All are asymmetric, and each key is for one of them only.
const (
	EdDSA Algorithm = "EdDSA" // Ed25519
	ES256 Algorithm = "ES256" // ECDSA on P-256 with SHA-256
	RS256 Algorithm = "RS256" // RSASSA-PKCS1-v1_5 with SHA-256
)

// Algorithms lists them, for metadata documents (RFC 8414 section 2).
func Algorithms() []Algorithm { return []Algorithm{EdDSA, ES256, RS256} }

// algorithmOf returns the constant of that name, or "".
func algorithmOf(name string) Algorithm {
	for _, alg := range [...]Algorithm{EdDSA, ES256, RS256} {
		if name == string(alg) {
			return alg
		}
	}
	return ""
}

const (
	// maxSignature is the size of one by an RSA key of maxModulusBits.
	maxSignature = maxModulusBits / 8
	// maxKID bounds a key's name: a thumbprint, a UUID, or a URL at most.
	maxKID = 256
	// room is what fits on the stack when a segment is decoded: all of a usual token.
	room = 2 << 10
)

// use is what tokens of one kind look like before their claims.
type use struct {
	what        string   // in messages
	maxBytes    int      // of the whole token
	types       []string // what typ may be
	typed       bool     // typ must be there
	embedsKey   bool     // the header carries the key, as `jwk`
	thumbprints bool     // x5t and x5t#S256 are passed over
}

// compact is a JWS in compact form (RFC 7515 section 7.1) whose signature has not been looked at.
type compact struct {
	signed    []byte // header and payload, of the caller's bytes
	payload   string
	signature [maxSignature]byte
	length    int // of the signature

	alg    Algorithm
	kid    string
	hasKID bool
	jwk    jwk
}

// segment is unpadded base64url with the unused bits of the last character zero, so that bytes have one
// spelling. It still skips line breaks, as all of encoding/base64 does: parse refuses those beforehand.
var segment = base64.RawURLEncoding.Strict()

// parse reads the form and the header. Errors are *Error.
func (t *compact) parse(token []byte, u *use) error {
	if len(token) == 0 {
		return malformed("there is no %s", u.what)
	}
	if len(token) > u.maxBytes {
		return refuse(ReasonTooLong, "the %s has %d bytes; at most %d are allowed", u.what, len(token), u.maxBytes)
	}
	if bytes.IndexByte(token, '\n') >= 0 || bytes.IndexByte(token, '\r') >= 0 {
		return malformed("there is a line break in the %s", u.what)
	}
	header, rest, _ := bytes.Cut(token, []byte{'.'})
	payload, signature, ok := bytes.Cut(rest, []byte{'.'})
	if !ok || bytes.IndexByte(signature, '.') >= 0 {
		return malformed("the %s has not three segments; only the compact form of a JWS is read", u.what)
	}
	t.signed = token[:len(header)+1+len(payload)]
	if segment.DecodedLen(len(signature)) > len(t.signature) {
		return malformed("the signature is longer than any of %v", Algorithms())
	}
	var err error
	if t.length, err = segment.Decode(t.signature[:], signature); err != nil {
		return notBase64("signature")
	}
	text, err := decode(header)
	if err != nil {
		return notBase64("header")
	}
	if err := t.readHeader(text, u); err != nil {
		return err
	}
	if t.payload, err = decode(payload); err != nil {
		return notBase64("payload")
	}
	return nil
}

func notBase64(what string) error {
	return malformed("the %s is not unpadded base64url in its only spelling (RFC 7515 section 2)", what)
}

// decode copies once for what fits on the stack.
func decode(text []byte) (string, error) {
	var near [room]byte
	buffer := near[:]
	if n := segment.DecodedLen(len(text)); n > len(buffer) {
		buffer = make([]byte, n)
	}
	n, err := segment.Decode(buffer, text)
	return string(buffer[:n]), err
}

// readHeader reads the members that matter, refuses those that would have a verifier fetch a key, trust one that the
// token brings along, or read the rest in another way, and passes over all others (RFC 7515 section 4).
func (t *compact) readHeader(text string, u *use) error {
	if text == "" {
		return malformed("the header is empty")
	}
	s := scan(text)
	typ, alg := "", ""
	hasTyp, hasAlg := false, false
	var o object
	s.open('{')
	for {
		name, ok := s.member(&o)
		if !ok {
			break
		}
		switch name {
		case "alg":
			alg, hasAlg = s.headerText(name), true
		case "typ":
			typ, hasTyp = s.headerText(name), true
		case "cty":
			s.headerText(name)
		case "kid":
			t.kid, t.hasKID = s.headerText(name), true
			if s.err == nil && (t.kid == "" || len(t.kid) > maxKID) {
				s.fail(`"kid" has %d bytes; it must have 1 to %d`, len(t.kid), maxKID)
			}
		case "jwk":
			if !u.embedsKey {
				s.refuse(ReasonHeader, `a %s must not bring a key along ("jwk"); name a registered one with "kid"`, u.what)
				break
			}
			t.jwk.read(&s)
		case "x5t", "x5t#S256":
			if !u.thumbprints {
				s.refuse(ReasonHeader, `header member %q is not allowed; name the key with "kid"`, name)
				break
			}
			s.headerText(name)
		case "crit", "b64", "zip", "jku", "x5u", "x5c":
			s.refuse(ReasonHeader, "header member %q is not allowed", name)
		default:
			if known := sameLetters(name, "alg", "typ", "cty", "kid", "jwk", "crit", "b64", "zip", "jku", "x5u", "x5c", "x5t"); known != "" {
				s.fail("%q is spelled in another case", known)
			}
			s.skip()
		}
	}
	s.end()
	if text[0] != '{' || text[len(text)-1] != '}' {
		// It is allowed by RFC 8259, but some readers check the signature over the header without it.
		s.fail("there is white space around it")
	}
	if s.err != nil {
		return within("header", s.err)
	}
	// What it was made for comes first: "this is an access token" says more than "its algorithm is wrong".
	if hasTyp && !slices.Contains(u.types, typ) || !hasTyp && u.typed {
		return refuse(ReasonType, `the "typ" of a %s must be %q%s`, u.what, u.types[0], absent(u))
	}
	if t.alg = algorithmOf(alg); t.alg == "" || !hasAlg {
		return refuse(ReasonAlgorithm, `"alg" must be one of %v`, Algorithms())
	}
	if u.embedsKey && !t.jwk.there {
		return refuse(ReasonMissing, `the header of a %s must hold the public key as "jwk"`, u.what)
	}
	return nil
}

func absent(u *use) string {
	if u.typed {
		return ""
	}
	return " or absent"
}

func (s *scanner) headerText(name string) string {
	if s.peek() != '"' {
		s.fail("%q must be a string", name)
		return ""
	}
	return s.string()
}

// within says in which part of a token something malformed was found.
func within(part string, err error) error {
	if e, ok := err.(*Error); ok && e.Reason == ReasonMalformed {
		return &Error{Reason: e.Reason, Detail: part + ": " + e.Detail}
	}
	return err
}

// maxTries bounds the signatures that one token can have checked.
const maxTries = 4

// verify finds the key that signed the token, and the place of its set among those given. A kid is looked up and used
// for nothing else. Without one, every key of the algorithm is tried, as long as they are few.
func (t *compact) verify(sets []*Keys) (key *Key, set int, err error) {
	named, tries := false, 0
	for i, keys := range sets {
		for j := range keys.all() {
			k := &keys.keys[j]
			if t.hasKID && k.kid != t.kid {
				continue
			}
			named = true
			if k.alg != t.alg {
				continue
			}
			if tries++; tries > maxTries {
				return nil, 0, refuse(ReasonUnknownKey, `more than %d keys could have signed it; name one with "kid"`, maxTries)
			}
			if k.verify(t.signed, t.signature[:t.length]) {
				return k, i, nil
			}
		}
	}
	switch {
	case tries > 0:
		return nil, 0, refuse(ReasonSignature, "none of the keys that could have signed it did")
	case named && t.hasKID:
		return nil, 0, refuse(ReasonAlgorithm, `the key that "kid" names is not for the algorithm of the header`)
	case t.hasKID:
		return nil, 0, refuse(ReasonUnknownKey, `no key has the "kid" of the header`)
	}
	return nil, 0, refuse(ReasonUnknownKey, "there is no key for the algorithm of the header")
}

// visible reports whether a text is of visible ASCII without '"' and '\', which JSON would escape.
func visible(text string) bool {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c <= ' ' || c >= utf8.RuneSelf-1 || c == '"' || c == '\\' {
			return false
		}
	}
	return true
}
