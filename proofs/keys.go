package proofs

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Bounds of key sets.
const (
	// MaxKeysBytes bounds a key or a set that a caller registers, and the canonical form of any set.
	MaxKeysBytes = 16 << 10
	// MaxPublishedBytes bounds a set that was fetched from an issuer: some put a certificate chain beside each key.
	MaxPublishedBytes = 64 << 10
	// MaxKeys bounds the keys of a set, those of no use included.
	MaxKeys = 32
)

// Keys is a set of public keys. It is immutable and safe for concurrent use; the nil Keys is empty.
type Keys struct {
	keys    []Key // by kid
	skipped []string
}

// ParseKeys reads what a caller registers, or what Canonical wrote: one JSON Web Key, or a set of them (RFC 7517), of at
// most MaxKeysBytes and MaxKeys keys. Every key must be of use: Ed25519 (for EdDSA), P-256 (ES256) or RSA of 2048 to 4096 bits (RS256). A
// key without kid is filed under its thumbprint. Members that are not known are passed over; those of a private key
// are refused with ReasonPrivateKey, as such a key has leaked. Errors are *Error.
func ParseKeys(jwks []byte) (*Keys, error) { return parseKeys(jwks, MaxKeysBytes, false) }

// ParsePublishedKeys reads a set that an issuer publishes, of at most MaxPublishedBytes. Such sets also hold keys for
// other purposes, so keys that are of no use are left out: Skipped says which. At least one must be of use. Private
// members, duplicate names and two usable keys of one kid are refused all the same.
func ParsePublishedKeys(jwks []byte) (*Keys, error) { return parseKeys(jwks, MaxPublishedBytes, true) }

func parseKeys(text []byte, most int, lenient bool) (*Keys, error) {
	if len(text) > most {
		return nil, refuse(ReasonTooLong, "the keys have %d bytes; at most %d are allowed", len(text), most)
	}
	set, err := readKeys(string(text), lenient)
	if err != nil {
		return nil, err
	}
	k := &Keys{}
	for i := range set {
		if err := k.add(&set[i], i, lenient); err != nil {
			return nil, err
		}
	}
	if len(k.keys) == 0 {
		detail := "there is no key in it"
		if len(k.skipped) > 0 {
			detail = "no key in it is of use: " + strings.Join(k.skipped, "; ")
		}
		return nil, refuse(ReasonKey, "%s", detail)
	}
	slices.SortFunc(k.keys, func(a, b Key) int { return cmp.Compare(a.kid, b.kid) })
	for i := 1; i < len(k.keys); i++ {
		if k.keys[i].kid == k.keys[i-1].kid {
			return nil, refuse(ReasonKey, `two keys have the same "kid"; a token could mean either`)
		}
	}
	// What is stored must be readable again, and the names that were added have made it longer.
	if n := len(k.Canonical()); n > MaxKeysBytes {
		return nil, refuse(ReasonTooLong, "the keys of use have %d bytes with their names; at most %d are allowed", n, MaxKeysBytes)
	}
	return k, nil
}

// readKeys reads the JSON, in either form.
func readKeys(text string, lenient bool) ([]jwk, error) {
	s := scan(text)
	var single jwk
	var set []jwk
	isSet := false
	var o object
	s.open('{')
	for {
		name, ok := s.member(&o)
		if !ok {
			break
		}
		if name != "keys" {
			if sameLetters(name, "keys") != "" {
				s.fail(`"keys" is spelled in another case`)
			}
			single.member(name, &s)
			continue
		}
		isSet = true
		if s.peek() != '[' {
			s.fail(`"keys" must be an array of keys`)
		}
		s.open('[')
		for n := 0; s.element(n); n++ {
			if n == MaxKeys {
				s.fail("there are more than %d keys", MaxKeys)
				break
			}
			set = append(set, jwk{})
			set[n].read(&s)
		}
	}
	s.end()
	switch {
	case s.err != nil:
		return nil, s.err
	case isSet && single.private != "":
		_, err := single.public()
		return nil, err
	case isSet && single.kty != "":
		return nil, malformed(`there is a key beside "keys"; it must be one key or one set`)
	case isSet:
		return set, nil
	case lenient:
		return nil, malformed(`"keys" is missing; a key set is {"keys": [...]}`)
	}
	return []jwk{single}, nil
}

func (k *Keys) add(j *jwk, place int, lenient bool) error {
	key, err := j.public()
	if err == nil {
		key.kid = key.thumbprint
		if j.hasKID {
			key.kid = j.kid
		}
		if key.kid == "" || len(key.kid) > maxKID || !visible(key.kid) {
			err = refuse(ReasonKey, `its "kid" must have 1 to %d visible ASCII characters without '"' and '\'`, maxKID)
		}
	}
	var refused *Error
	switch {
	case err == nil:
		k.keys = append(k.keys, key)
		return nil
	case !errors.As(err, &refused):
		return err
	}
	detail := fmt.Sprintf("key %d: %s", place+1, refused.Detail)
	if lenient && refused.Reason != ReasonPrivateKey {
		k.skipped = append(k.skipped, detail)
		return nil
	}
	return &Error{Reason: refused.Reason, Detail: detail}
}

// all returns the keys; the nil set has none.
func (k *Keys) all() []Key {
	if k == nil {
		return nil
	}
	return k.keys
}

// Len is the number of usable keys.
func (k *Keys) Len() int { return len(k.all()) }

// All yields the usable keys in the order of their ids.
func (k *Keys) All() iter.Seq[*Key] {
	return func(yield func(*Key) bool) {
		for i := range k.all() {
			if !yield(&k.keys[i]) {
				return
			}
		}
	}
}

// Skipped says of each key that ParsePublishedKeys left out why it is of no use.
func (k *Keys) Skipped() []string {
	if k == nil {
		return nil
	}
	return slices.Clone(k.skipped)
}

// Algorithms lists the algorithms that the keys are for, each once.
func (k *Keys) Algorithms() []Algorithm {
	var algs []Algorithm
	for _, alg := range Algorithms() {
		if slices.ContainsFunc(k.all(), func(key Key) bool { return key.alg == alg }) {
			algs = append(algs, alg)
		}
	}
	return algs
}

// Canonical writes the set for storage: public members only, one spelling and one order for the same keys under the
// same names. ParseKeys reads it back.
func (k *Keys) Canonical() []byte {
	b := []byte(`{"keys":[`)
	for i := range k.all() {
		if i > 0 {
			b = append(b, ',')
		}
		key := &k.keys[i]
		b = append(append(append(b, `{"alg":"`...), key.alg...), `",`...)
		b = append(append(append(b, `"kid":"`...), key.kid...), `",`...)
		b = key.material.appendMembers(append(b, `"use":"sig"`...))
		b = append(b, '}')
	}
	return append(b, `]}`...)
}
