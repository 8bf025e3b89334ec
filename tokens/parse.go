package tokens

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// Decode reads a token WITHOUT VERIFYING ANYTHING: not the signature, not the times, not a revocation. What
// it returns is what somebody wrote, nothing more. It is for showing a token to a person; a decision needs
// Verify.
func Decode(token []byte) (*Claims, error) {
	t, err := parse(token)
	if err != nil {
		return nil, err
	}
	return t.claims, nil
}

// parsed is a well-formed token whose signature has not been looked at.
type parsed struct {
	claims    *Claims
	signed    []byte // header and payload, of the caller's bytes
	signature [ed25519.SignatureSize]byte
}

// segment is unpadded base64url with the unused bits of the last character zero, so that bytes have one
// spelling. It still skips line breaks, as all of encoding/base64 does: parse refuses those beforehand.
var segment = base64.RawURLEncoding.Strict()

// parse holds a token to the language of DESIGN.md. The errors are *VerifyError.
func parse(token []byte) (parsed, error) {
	if len(token) > MaxTokenBytes {
		return parsed{}, tooLong(len(token))
	}
	if bytes.IndexByte(token, '\n') >= 0 || bytes.IndexByte(token, '\r') >= 0 {
		return parsed{}, malformed("a line break")
	}
	header, rest, _ := bytes.Cut(token, []byte{'.'})
	payload, signature, ok := bytes.Cut(rest, []byte{'.'})
	if !ok || bytes.IndexByte(signature, '.') >= 0 {
		return parsed{}, malformed("not three segments")
	}
	t := parsed{signed: token[:len(header)+1+len(payload)]}
	if len(signature) != segment.EncodedLen(len(t.signature)) {
		return parsed{}, malformed("the signature has not the length of an Ed25519 signature")
	}
	if _, err := segment.Decode(t.signature[:], signature); err != nil {
		return parsed{}, malformed("signature: %v", err)
	}
	// Both texts are copied once, and cut into claims without copying again.
	var room [maxPayloadBytes]byte
	n, err := segment.Decode(room[:], header)
	if err != nil {
		return parsed{}, malformed("header: %v", err)
	}
	kid, err := parseHeader(string(room[:n]))
	if err != nil {
		return parsed{}, malformed("header: %v", err)
	}
	if n, err = segment.Decode(room[:], payload); err != nil {
		return parsed{}, malformed("payload: %v", err)
	}
	t.claims, err = parseClaims(string(room[:n]), kid)
	return t, err
}

func tooLong(n int) *VerifyError {
	e := malformed("%d bytes; at most %d are allowed", n, MaxTokenBytes)
	e.Reason = ReasonTooLong
	return e
}

// parseHeader wants alg, kid and typ, each once and nothing else, and returns the kid. A header that names a
// key in any other way (jku, x5u, jwk) or asks for processing (crit, zip) is refused by that rule.
func parseHeader(text string) (kid string, err error) {
	s := scanner{text: text}
	var seen [3]bool
	s.want('{')
	for n := 0; s.more('}', n); n++ {
		name := s.name()
		value := s.string()
		i := slices.Index([]string{"alg", "kid", "typ"}, name)
		switch {
		case s.err != nil:
		case i < 0:
			s.fail("member %.32q is not allowed", name)
		case seen[i]:
			s.fail("member %q is there twice", name)
		case i == 0 && value != algorithm:
			s.fail("alg is %.32q; it must be %s", value, algorithm)
		case i == 1 && !validKID(value):
			s.fail("kid is not a thumbprint")
		case i == 2 && value != tokenType:
			s.fail("typ is %.32q; it must be %s", value, tokenType)
		case i == 1:
			kid = value
		}
		if i >= 0 {
			seen[i] = true
		}
	}
	s.end()
	if s.err == nil && seen != [3]bool{true, true, true} {
		s.fail("alg, kid and typ must all be there")
	}
	return kid, s.err
}

// The claims, as bits of what has been seen.
const (
	claimIssuer = 1 << iota
	claimSubject
	claimAudience
	claimClientID
	claimScope
	claimIssuedAt
	claimExpires
	claimJTI
	claimSessionID
	claimActor
	claimAncestry
	claimAgentType
	claimConfirmation

	claimsOptional = claimScope | claimActor | claimConfirmation
)

var claimNames = [...]string{"iss", "sub", "aud", "client_id", "scope", "iat", "exp", "jti", "sid", "act", "anc", "agent_type", "cnf"}

// parseClaims reads the payload. Errors are *VerifyError.
func parseClaims(text, kid string) (*Claims, error) {
	s := scanner{text: text}
	c := &Claims{KID: kid}
	seen := 0
	s.want('{')
	for n := 0; s.more('}', n); n++ {
		name := s.name()
		claim := c.read(name, &s)
		if s.err != nil {
			return nil, malformed("claim %.32q: %v", name, s.err)
		}
		if claim == 0 {
			return nil, malformed("claim %.32q is not one of Deputy's", name)
		}
		if seen&claim != 0 {
			return nil, malformed("claim %q is there twice", name)
		}
		seen |= claim
	}
	s.end()
	if s.err != nil {
		return nil, malformed("payload: %v", s.err)
	}
	for i, name := range claimNames {
		if (seen|claimsOptional)&(1<<i) == 0 {
			return nil, malformed("claim %q is missing", name)
		}
	}
	if err := c.link(); err != nil {
		return nil, err
	}
	return c, nil
}

// read takes the value of the named claim and returns the claim's bit, or 0 for a claim that is not ours.
func (c *Claims) read(name string, s *scanner) (claim int) {
	switch name {
	case "iss":
		c.Issuer = readURI(s)
		return claimIssuer
	case "sub":
		c.Subject = s.string()
		hold(s, identity.ValidPrincipal, c.Subject)
		return claimSubject
	case "aud":
		c.readAudiences(s)
		return claimAudience
	case "client_id":
		c.ClientID = readName(s)
		return claimClientID
	case "scope":
		c.Scopes = readScopes(s)
		return claimScope
	case "iat":
		c.IssuedAt = s.integer(maxTime)
		return claimIssuedAt
	case "exp":
		c.Expires = s.integer(maxTime)
		return claimExpires
	case "jti":
		c.JTI = s.string()
		return claimJTI
	case "sid":
		c.SessionID = s.string()
		hold(s, validSessionID, c.SessionID)
		return claimSessionID
	case "act":
		c.Actors = nil
		c.readActor(s)
		return claimActor
	case "anc":
		c.readAncestry(s)
		return claimAncestry
	case "agent_type":
		c.AgentType = identity.AgentType(s.string())
		switch c.AgentType {
		case identity.AgentAutonomous, identity.AgentUserDelegated, identity.AgentScheduled:
		default:
			s.fail("unknown agent type")
		}
		return claimAgentType
	case "cnf":
		c.readConfirmation(s)
		return claimConfirmation
	}
	return 0
}

// hold fails the scanner where a value breaks its rule.
func hold(s *scanner, valid func(string) error, value string) {
	if s.err == nil {
		s.err = valid(value)
	}
}

func validSessionID(id string) error {
	_, err := identity.ParseID(identity.PrefixSession, id)
	return err
}

func readName(s *scanner) string {
	name := s.string()
	hold(s, identity.ValidName, name)
	return name
}

func readURI(s *scanner) string {
	uri := s.string()
	if uri == "" || len(uri) > identity.MaxAudienceLength {
		s.fail("has %d characters; it must have 1 to %d", len(uri), identity.MaxAudienceLength)
	}
	return uri
}

// readAudiences reads one string, or an array of them (RFC 7519 section 4.1.3).
func (c *Claims) readAudiences(s *scanner) {
	if !s.eat('[') {
		c.Audience = []string{readURI(s)}
		return
	}
	c.Audience = make([]string, 0, 4)
	n := 0
	for ; s.more(']', n); n++ {
		if n == identity.MaxApplications {
			s.fail("more than %d audiences", identity.MaxApplications)
			return
		}
		c.Audience = append(c.Audience, readURI(s))
	}
	if n == 0 {
		s.fail("no audience")
	}
}

// readScopes wants the canonical spelling of identity.Scopes. The empty set is spelled by no claim at all.
func readScopes(s *scanner) identity.Scopes {
	text := s.spacedString()
	n, last := 0, ""
	for rest, more := text, true; more && s.err == nil; n++ {
		var scope string
		scope, rest, more = strings.Cut(rest, " ")
		if scope <= last || len(scope) > identity.MaxScopeLength || n == identity.MaxScopes {
			s.fail("not a sorted list of at most %d scopes", identity.MaxScopes)
		}
		last = scope
	}
	return identity.Scopes(text)
}

// readActor reads the nested chain of RFC 8693 section 4.1: {"sub": newest, "act": {"sub": older}}.
func (c *Claims) readActor(s *scanner) {
	depth := len(c.Actors)
	if depth == identity.MaxChain {
		s.fail("more than %d actors", identity.MaxChain)
		return
	}
	c.Actors = append(c.Actors, "")
	s.want('{')
	for n := 0; s.more('}', n); n++ {
		switch name := s.name(); {
		case s.err != nil:
		case name == "sub" && c.Actors[depth] == "":
			c.Actors[depth] = readName(s)
		case name == "act" && len(c.Actors) == depth+1:
			c.readActor(s)
		default:
			s.fail("member %.32q is not allowed, or there twice", name)
		}
	}
	if c.Actors[depth] == "" {
		s.fail("an actor has no sub")
	}
}

// readConfirmation reads {"jkt": thumbprint} and nothing else: another way to bind a token is one that this build could
// not ask for.
func (c *Claims) readConfirmation(s *scanner) {
	s.want('{')
	for n := 0; s.more('}', n); n++ {
		if name := s.name(); s.err == nil && (name != "jkt" || n > 0) {
			s.fail("member %.32q is not allowed, or there twice", name)
			return
		}
		c.Confirmation = s.string()
	}
	if s.err == nil && !validKID(c.Confirmation) {
		s.fail("jkt is not a thumbprint")
	}
}

// readAncestry reads the handles and adds the key's.
func (c *Claims) readAncestry(s *scanner) {
	handles := make([]identity.Handle, 0, 10)
	s.want('[')
	for n := 0; s.more(']', n); n++ {
		if n == MaxAncestry {
			s.fail("more than %d handles", MaxAncestry)
			return
		}
		handle, err := identity.ParseHandle(s.string())
		if s.err == nil {
			s.err = err
		}
		handles = append(handles, handle)
	}
	n := len(handles)
	c.handles = append(handles, identity.KeyHandle(c.KID))
	c.Ancestry = c.handles[:n:n]
}
