package tokens

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/deputy-id/deputy/identity"
)

// Keyring is the set of public keys that tokens may be signed with: those of all nodes, at one moment. It is
// immutable; when the replicated keys change, another one is made. The zero and the nil Keyring are empty.
type Keyring struct {
	keys map[string]ed25519.PublicKey // by kid; Ed25519 is the one algorithm
	jwks []byte
	etag string
}

// NewKeyring makes a keyring of the keys that it can use. It always returns one: a key that is of no use must
// not take the others down. The error then names each key that was left out, and why.
func NewKeyring(keys []identity.SigningKey) (*Keyring, error) {
	k := &Keyring{keys: make(map[string]ed25519.PublicKey, len(keys))}
	var unusable []error
	for i := range keys {
		if err := usable(&keys[i]); err != nil {
			unusable = append(unusable, fmt.Errorf("signing key %.64q of node %.64q: %w", keys[i].KID, keys[i].Node, err))
			continue
		}
		k.keys[keys[i].KID] = slices.Clone(keys[i].Public)
	}
	k.jwks = k.document()
	digest := sha256.Sum256(k.jwks)
	k.etag = `"` + base64.RawURLEncoding.EncodeToString(digest[:16]) + `"`
	return k, errors.Join(unusable...)
}

func usable(key *identity.SigningKey) error {
	if key.Alg != algorithm {
		return fmt.Errorf("its algorithm is %.32q; only %s is known", key.Alg, algorithm)
	}
	if len(key.Public) != ed25519.PublicKeySize {
		return fmt.Errorf("it has %d bytes; an Ed25519 key has %d", len(key.Public), ed25519.PublicKeySize)
	}
	// As the name is made from the key, no other key can ever be filed under it.
	if want := thumbprint(key.Public); key.KID != want {
		return fmt.Errorf("its thumbprint is %q", want)
	}
	return nil
}

// document writes the keys as RFC 7517 section 5 and RFC 8037 section 2 have it, in the order of their kids,
// so that every node serves the same bytes under the same ETag.
func (k *Keyring) document() []byte {
	var b bytes.Buffer
	b.WriteString(`{"keys":[`)
	for i, kid := range slices.Sorted(maps.Keys(k.keys)) {
		if i > 0 {
			b.WriteByte(',')
		}
		x := base64.RawURLEncoding.EncodeToString(k.keys[kid])
		fmt.Fprintf(&b, `{"kty":"OKP","crv":"Ed25519","alg":"%s","use":"sig","kid":"%s","x":"%s"}`, algorithm, kid, x)
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// JWKS is the document for /.well-known/jwks.json. The slice is shared and must not be changed.
func (k *Keyring) JWKS() []byte {
	if k == nil || k.jwks == nil {
		return []byte(`{"keys":[]}`)
	}
	return k.jwks
}

// ETag is a strong entity tag of JWKS with its quotes (RFC 9110 section 8.8.3), the same at every node.
func (k *Keyring) ETag() string {
	if k == nil || k.etag == "" {
		return `"empty"`
	}
	return k.etag
}

// Has reports whether tokens signed by that key can be verified.
func (k *Keyring) Has(kid string) bool { return k.key(kid) != nil }

// key returns the public key, or nil.
func (k *Keyring) key(kid string) ed25519.PublicKey {
	if k == nil {
		return nil
	}
	return k.keys[kid]
}
