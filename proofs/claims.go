package proofs

import (
	"strings"
	"time"

	"github.com/deputy-id/deputy/identity"
)

const (
	// maxTime is the last second of the year 9999, so that seconds turned to milliseconds can't overflow.
	maxTime = 253402300799
	// maxAudiences bounds `aud`: a client names an issuer and some of its endpoints, an issuer some of its clients.
	maxAudiences = 16
	// maxClaim bounds the text of a claim that is looked at: an identifier, a URL or a nonce.
	maxClaim = 1024
)

// The claims that RFC 7519 section 4.1 registers, as bits of what has been seen.
const (
	claimIssuer = 1 << iota
	claimSubject
	claimAudience
	claimExpires
	claimNotBefore
	claimIssuedAt
	claimJTI
)

var claimNames = [...]string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti"}

// claims are the registered ones. Their types are checked in every kind of token, also where the claim has no
// meaning for it: a reader that does look must not stumble.
type claims struct {
	seen      int
	issuer    string
	subject   string
	jti       string
	audiences [maxAudiences]string
	audience  int // how many of them
	expires   int64
	notBefore int64
	issuedAt  int64
}

// read takes the value of a registered claim and reports whether the claim is one.
func (c *claims) read(name string, s *scanner) bool {
	switch name {
	case "iss":
		c.issuer = s.claim(name)
		c.seen |= claimIssuer
	case "sub":
		c.subject = s.claim(name)
		c.seen |= claimSubject
	case "aud":
		c.readAudience(s)
		c.seen |= claimAudience
	case "exp":
		c.expires = s.date(name)
		c.seen |= claimExpires
	case "nbf":
		c.notBefore = s.date(name)
		c.seen |= claimNotBefore
	case "iat":
		c.issuedAt = s.date(name)
		c.seen |= claimIssuedAt
	case "jti":
		c.jti = s.claim(name)
		c.seen |= claimJTI
	default:
		return false
	}
	return true
}

// claim reads a string of one to maxClaim bytes.
func (s *scanner) claim(name string) string {
	if s.peek() != '"' {
		s.fail("%q must be a string", name)
		return ""
	}
	value := s.string()
	if s.err == nil && (value == "" || len(value) > maxClaim) {
		s.fail("%q has %d bytes; it must have 1 to %d", name, len(value), maxClaim)
	}
	return value
}

// readAudience reads one string, or an array of them (RFC 7519 section 4.1.3).
func (c *claims) readAudience(s *scanner) {
	c.audience = 0
	if s.peek() != '[' {
		c.audiences[0] = s.claim("aud")
		c.audience = 1
		return
	}
	s.open('[')
	for s.element(c.audience) {
		if c.audience == maxAudiences {
			s.fail(`"aud" has more than %d values`, maxAudiences)
			return
		}
		c.audiences[c.audience] = s.claim("aud")
		c.audience++
	}
	if c.audience == 0 {
		s.fail(`"aud" is an empty array`)
	}
}

// date reads a NumericDate (RFC 7519 section 2) and cuts off its fraction. An exponent is a second spelling that
// nobody uses.
func (s *scanner) date(name string) int64 {
	if c := s.peek(); (c < '0' || c > '9') && c != '-' {
		s.fail("%q must be a number of seconds since the epoch", name)
		return 0
	}
	text := s.number()
	if s.err != nil {
		return 0
	}
	if strings.ContainsAny(text, "-eE") {
		s.fail("%q must be a number of seconds since the epoch without sign or exponent", name)
		return 0
	}
	whole, _, _ := strings.Cut(text, ".")
	n := int64(0)
	for i := 0; i < len(whole); i++ {
		if n = n*10 + int64(whole[i]-'0'); n > maxTime {
			s.fail("%q is later than the year 9999; it must be in seconds, not in smaller units", name)
			return 0
		}
	}
	return n
}

// require returns an error that names the first claim which is missing.
func (c *claims) require(wanted int) error {
	for i, name := range claimNames {
		if wanted&^c.seen&(1<<i) != 0 {
			return refuse(ReasonMissing, "claim %q is missing", name)
		}
	}
	return nil
}

// among returns whether any of the accepted values is in `aud`.
func (c *claims) among(accepted []string) bool {
	for _, value := range c.audiences[:c.audience] {
		for _, a := range accepted {
			if value == a && a != "" {
				return true
			}
		}
	}
	return false
}

// instant makes seconds to milliseconds.
func instant(seconds int64) identity.Instant { return identity.Instant(seconds * 1000) }

// inTime looks at exp, nbf and iat where they are there.
func (c *claims) inTime(now identity.Instant) error {
	if c.seen&claimIssuedAt != 0 && instant(c.issuedAt) > now.Add(Skew) {
		return refuse(ReasonNotYet, `it was issued at %s ("iat"), and it is %s here; set the clock`, instant(c.issuedAt), now)
	}
	if c.seen&claimNotBefore != 0 && instant(c.notBefore) > now.Add(Skew) {
		return refuse(ReasonNotYet, `it is good from %s on ("nbf"), and it is %s here`, instant(c.notBefore), now)
	}
	if c.seen&claimExpires != 0 && now >= instant(c.expires).Add(Skew) {
		return refuse(ReasonExpired, `it ended at %s ("exp"), and it is %s here; make a new one`, instant(c.expires), now)
	}
	return nil
}

// youngerThan looks at the time since iat, which must be there.
func (c *claims) youngerThan(age time.Duration, now identity.Instant) error {
	if now >= instant(c.issuedAt).Add(age+Skew) {
		return refuse(ReasonTooOld, `it was issued at %s ("iat"), more than %s before now, %s; make a new one`, instant(c.issuedAt), age, now)
	}
	return nil
}
