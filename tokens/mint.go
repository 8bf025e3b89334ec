package tokens

import (
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"sync/atomic"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/policy"
)

// MinterOptions are what a Minter is made of.
type MinterOptions struct {
	// Issuer returns the `iss` of the cluster at this moment.
	Issuer func() string
	// Checker is asked about every handle before a token is signed.
	Checker Checker
	// Cache, if any, is told of every token minted, so that this node need not check its own signature.
	Cache *Cache
}

// Minter makes tokens. It is safe for concurrent use.
type Minter struct {
	issuer  func() string
	checker Checker
	cache   *Cache
	signer  atomic.Pointer[Signer]
}

// NewMinter fails where the issuer or the checker is missing. Until SetSigner the Minter mints nothing.
func NewMinter(o MinterOptions) (*Minter, error) {
	if o.Issuer == nil {
		return nil, errors.New("tokens: MinterOptions.Issuer is missing")
	}
	if o.Checker == nil {
		return nil, errors.New("tokens: MinterOptions.Checker is missing: nothing is minted without asking about revocations")
	}
	return &Minter{issuer: o.Issuer, checker: o.Checker, cache: o.Cache}, nil
}

// SetSigner makes the Minter sign with this key from now on; with nil it mints no more. The public half must
// have reached every node first.
func (m *Minter) SetSigner(s *Signer) { m.signer.Store(s) }

// Mint appends the token for a grant to dst, which is returned as it was on an error. With MaxTokenBytes of
// room in dst it allocates nothing.
//
// Errors are *identity.Error: CodeNotFresh where this node has no good key or no issuer, CodeRevoked where one of
// the grant's handles was revoked since policy looked, CodeTooLarge for more claims than a token holds, and
// CodeInternal for a grant that no policy made.
func (m *Minter) Mint(dst []byte, g *policy.Grant) ([]byte, error) {
	token, _, err := m.MintSigned(dst, g)
	return token, err
}

// MintSigned is Mint, and says which key has signed: by its handle, which is in no token and ends it like those that are.
func (m *Minter) MintSigned(dst []byte, g *policy.Grant) (token []byte, key identity.Handle, err error) {
	signer, err := m.mayMint(g)
	if err != nil {
		return dst, "", err
	}
	issuer := m.issuer()
	if issuer == "" {
		return dst, "", identity.Errorf(identity.CodeNotFresh, "this node has not heard of the cluster's issuer yet").
			WithHint("ask another node, or try again shortly")
	}
	token, err = appendToken(dst, signer, issuer, g.Session(), g.Handles())
	if err != nil {
		return dst, "", err
	}
	if m.cache != nil {
		d := sha256.Sum256(token[len(dst):])
		m.cache.add(&d, nil)
	}
	return token, signer.handles[0], nil
}

// mayMint returns the key to sign with, or why there is nothing to sign.
func (m *Minter) mayMint(g *policy.Grant) (*Signer, error) {
	if g == nil || !g.Valid() {
		return nil, identity.Errorf(identity.CodeInternal, "BUG: minting from a grant that no policy made")
	}
	signer := m.signer.Load()
	if signer == nil {
		return nil, identity.Errorf(identity.CodeNotFresh, "this node has no token key in use").
			WithHint("ask another node, or try again shortly")
	}
	if m.checker.Revoked(signer.handles...) {
		return nil, identity.Errorf(identity.CodeNotFresh, "the token key of this node is revoked").
			WithHint("ask another node")
	}
	if m.checker.Revoked(g.Handles()...) {
		return nil, identity.Errorf(identity.CodeRevoked, "what this session rests on has been revoked").
			WithHint("start again from the agent's own credentials, or ask who revoked it: GET /api/v1/revocations")
	}
	return signer, nil
}

// appendToken appends header, payload and signature.
func appendToken(dst []byte, signer *Signer, issuer string, session *identity.Session, handles []identity.Handle) ([]byte, error) {
	var w writer
	if err := w.claims(issuer, session, handles); err != nil {
		return dst, err
	}
	size := len(signer.header) + segment.EncodedLen(len(w.payload())) + 1 + segment.EncodedLen(ed25519.SignatureSize)
	if w.full || size > MaxTokenBytes {
		return dst, identity.Errorf(identity.CodeTooLarge, "the token would have more than %d bytes", MaxTokenBytes).
			WithHint("request fewer scopes or fewer audiences for one session")
	}
	start := len(dst)
	out := append(dst, signer.header...)
	out = segment.AppendEncode(out, w.payload())
	signature := ed25519.Sign(signer.private, out[start:])
	out = append(out, '.')
	return segment.AppendEncode(out, signature), nil
}
