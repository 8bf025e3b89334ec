package proofs

import (
	"crypto/sha256"
	"crypto/subtle"
	"time"

	"github.com/deputy-id/deputy/identity"
)

// Bounds of DPoP proofs.
const (
	// MaxProofBytes bounds a proof. One by an RSA key of 4096 bits, which it holds, has about 1,900 bytes.
	MaxProofBytes = 4 << 10
	// ProofWindow is how far a proof's iat may be from now, in either direction: so long must its jti be remembered.
	ProofWindow = time.Minute
	// maxNonce bounds the nonce that a proof gives back.
	maxNonce = 256
)

// ProofRules say what a DPoP proof (RFC 9449 section 4.3) must be.
type ProofRules struct {
	// Method is the HTTP method of the request.
	Method string
	// URLs are those under which the request may have been sent: each external URL of this server with the request's
	// path. Query and fragment make no difference.
	URLs []string
	// AccessToken is the token that the request presents, if any; the proof must hold its hash.
	AccessToken []byte
	// Thumbprint, if set, is that of the key which the access token is bound to (cnf.jkt, RFC 9449 section 6.1).
	Thumbprint string
	// NotBefore, if set, refuses what was issued before it, as a jti that an earlier process saw is forgotten.
	NotBefore identity.Instant
}

// Proof is a DPoP proof that held. Its strings share the memory of the whole proof.
type Proof struct {
	Thumbprint string // of its key: what cnf.jkt of a bound token holds
	JTI        string
	Nonce      string // as it was given back, "" for none; whether it is good is the caller's to ask: see Nonces
	IssuedAt   identity.Instant
	Algorithm  Algorithm
}

func proofUse() *use {
	return &use{what: "DPoP proof", maxBytes: MaxProofBytes, types: []string{"dpop+jwt"}, typed: true, embedsKey: true}
}

// proofClaims are those of a DPoP proof.
type proofClaims struct {
	claims
	htm, htu, ath, nonce string
}

// Verify checks a proof by the key that it brings along. Whether its jti has been seen is left to Once, its nonce to
// Nonces. Errors are *Error.
func (r *ProofRules) Verify(proof []byte, now identity.Instant) (*Proof, error) {
	var t compact
	var c proofClaims
	if err := readProof(proof, &t, &c); err != nil {
		return nil, err
	}
	key, err := t.jwk.public()
	if err != nil {
		return nil, within(`"jwk"`, err)
	}
	switch {
	case key.alg != t.alg:
		return nil, refuse(ReasonAlgorithm, `"alg" is not what the key in "jwk" is for`)
	case !key.verify(t.signed, t.signature[:t.length]):
		return nil, refuse(ReasonSignature, `the key in "jwk" did not sign it`)
	}
	if err := r.holds(&c, now); err != nil {
		return nil, err
	}
	if r.Thumbprint != "" && !same(key.thumbprint, r.Thumbprint) {
		return nil, refuse(ReasonBinding, "the access token is bound to another key")
	}
	return &Proof{
		Thumbprint: key.thumbprint, JTI: c.jti, Nonce: c.nonce, IssuedAt: instant(c.issuedAt), Algorithm: key.alg,
	}, nil
}

func readProof(proof []byte, t *compact, c *proofClaims) error {
	if err := t.parse(proof, proofUse()); err != nil {
		return err
	}
	s := scan(t.payload)
	var o object
	s.open('{')
	for {
		name, ok := s.member(&o)
		if !ok {
			break
		}
		c.read(name, &s)
	}
	s.end()
	if s.err != nil {
		return within("payload", s.err)
	}
	if err := c.require(claimJTI | claimIssuedAt); err != nil {
		return err
	}
	switch {
	case c.htm == "":
		return refuse(ReasonMissing, `claim "htm" is missing`)
	case c.htu == "":
		return refuse(ReasonMissing, `claim "htu" is missing`)
	case len(c.jti) > MaxJTI:
		return malformed(`"jti" has %d bytes; at most %d are allowed`, len(c.jti), MaxJTI)
	case len(c.nonce) > maxNonce:
		return malformed(`"nonce" has %d bytes; at most %d are allowed`, len(c.nonce), maxNonce)
	}
	return nil
}

func (c *proofClaims) read(name string, s *scanner) {
	switch name {
	case "htm":
		c.htm = s.claim(name)
	case "htu":
		c.htu = s.claim(name)
	case "ath":
		c.ath = s.claim(name)
	case "nonce":
		c.nonce = s.claim(name)
	default:
		if !c.claims.read(name, s) {
			s.skip()
		}
	}
}

// holds decides whether the proof is for this request and from about now.
func (r *ProofRules) holds(c *proofClaims, now identity.Instant) error {
	if c.htm != r.Method {
		return refuse(ReasonMethod, `"htm" must be %q`, r.Method)
	}
	if !sameTarget(c.htu, r.URLs) {
		return refuse(ReasonTarget, `"htu" must be one of %q`, r.URLs)
	}
	issued := instant(c.issuedAt)
	switch {
	case issued > now.Add(ProofWindow):
		return refuse(ReasonNotYet, `it was made at %s ("iat"), and it is %s here; set the clock`, issued, now)
	case now >= issued.Add(ProofWindow):
		return refuse(ReasonExpired, `it was made at %s ("iat"), %s or more before now, %s; make a new one for each request`, issued, ProofWindow, now)
	case issued < r.NotBefore:
		return refuse(ReasonBeforeStart, "it was made at %s, before this server started, %s; make a new one", issued, r.NotBefore)
	}
	if c.seen&(claimExpires|claimNotBefore) != 0 {
		if err := c.inTime(now); err != nil {
			return err
		}
	}
	if len(r.AccessToken) == 0 {
		return nil
	}
	digest := sha256.Sum256(r.AccessToken)
	switch {
	case c.ath == "":
		return refuse(ReasonMissing, `claim "ath" is missing, which must be the hash of the access token`)
	case !same(c.ath, encode(digest[:])):
		return refuse(ReasonTokenHash, `"ath" is not the hash of the access token`)
	}
	return nil
}

// same compares what an attacker may want to guess.
func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

// HashToken returns the hash of an access token, as `ath` holds it (RFC 9449 section 4.2).
func HashToken(token []byte) string {
	digest := sha256.Sum256(token)
	return encode(digest[:])
}

// Once reports, by an error, a proof that was presented before, or one that can't be remembered. It is asked after all
// else: a nonce that is no good should cost no memory.
func (p *Proof) Once(memory *Replay, now identity.Instant) error {
	return memory.once(ReplayKey("proof", p.Thumbprint, p.JTI), p.IssuedAt.Add(ProofWindow), now)
}
