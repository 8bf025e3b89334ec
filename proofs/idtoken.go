package proofs

import (
	"slices"
	"time"

	"github.com/deputy-id/deputy/identity"
)

// Bounds of ID tokens.
const (
	// MaxIDTokenBytes bounds an ID token. Those with two hundred groups have about 11 KiB.
	MaxIDTokenBytes = 16 << 10
	// MaxIDTokenAge is the longest time since iat, whatever exp says, where IDTokenRules name none.
	MaxIDTokenAge = 24 * time.Hour
	// MaxSubject bounds `sub` (OpenID Connect Core section 2), and so the parties of `may_act`.
	MaxSubject = 255
	// MaxEmail is the longest address of RFC 5321 section 4.5.3.1.3.
	MaxEmail = 254
)

// IDTokenRules say what an ID token (OpenID Connect Core section 2) must be.
type IDTokenRules struct {
	// Issuer is what iss must be, to the letter.
	Issuer string
	// Audiences are the client ids that are trusted: one must be in aud, and no other may be. The authorized party
	// (azp), which must be there where aud has several values, is one of them too.
	Audiences []string
	// MaxAge is the longest time since iat, to which Skew is added; zero is MaxIDTokenAge.
	MaxAge time.Duration
	// Nonce, if set, is what nonce must be.
	Nonce string
}

// IDToken is an ID token that held. Its strings share the memory of the whole token.
type IDToken struct {
	Issuer          string
	Subject         string
	Email           string // as claimed: it names nobody unless EmailVerified; see VerifiedEmail
	EmailVerified   bool
	Audience        []string
	AuthorizedParty string
	Nonce           string
	JTI             string
	MayAct          *Party // who may act for the subject; nil: it does not say
	IssuedAt        identity.Instant
	Expires         identity.Instant
	Key             *Key // that signed it
}

// VerifiedEmail returns the address that the issuer vouches for, or an *Error.
func (t *IDToken) VerifiedEmail() (string, error) {
	switch {
	case t.Email == "":
		return "", refuse(ReasonSubject, `claim "email" is missing, by which this issuer's users are named; ask for the scope email`)
	case !t.EmailVerified:
		return "", refuse(ReasonSubject, `"email_verified" is not true, and an address that nobody verified names no one`)
	}
	return t.Email, nil
}

// Party is who may become the actor (RFC 8693 section 4.4). Each part that is set must hold.
type Party struct {
	Subject  string
	ClientID string
	Issuer   string // of Subject; "" is the issuer of the token
}

// Allows reports whether the party is the client that asks. A party that another issuer names is none of ours.
func (p *Party) Allows(issuer, clientID string) bool {
	return (p.Subject == "" || p.Subject == clientID) && (p.ClientID == "" || p.ClientID == clientID) &&
		(p.Issuer == "" || p.Issuer == issuer)
}

// idTokenUse: issuers set no typ, or "JWT". Entra ID and AD FS send x5t beside kid.
func idTokenUse() *use {
	return &use{what: "ID token", maxBytes: MaxIDTokenBytes, types: []string{"JWT", "jwt"}, thumbprints: true}
}

// idClaims are those of an ID token.
type idClaims struct {
	claims
	email, azp, nonce string
	verified          bool
	mayAct            *Party
}

// IDTokenIssuer reads who claims to have issued an ID token WITHOUT VERIFYING IT, so that the issuer's rules and keys
// can be looked up. Errors are *Error, the same ones that Verify gives.
func IDTokenIssuer(token []byte) (issuer string, err error) {
	var t compact
	var c idClaims
	if err := readIDToken(token, &t, &c); err != nil {
		return "", err
	}
	return c.issuer, nil
}

func readIDToken(token []byte, t *compact, c *idClaims) error {
	if err := t.parse(token, idTokenUse()); err != nil {
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
	if err := c.require(claimIssuer | claimSubject | claimAudience | claimExpires | claimIssuedAt); err != nil {
		return err
	}
	if len(c.subject) > MaxSubject || !printable(c.subject) {
		return refuse(ReasonSubject, `"sub" must have 1 to %d characters of ASCII`, MaxSubject)
	}
	return nil
}

// read takes the value of any claim.
func (c *idClaims) read(name string, s *scanner) {
	switch name {
	case "email":
		if c.email = s.claim(name); len(c.email) > MaxEmail {
			s.fail(`"email" has %d bytes; at most %d are allowed`, len(c.email), MaxEmail)
		}
	case "email_verified":
		c.verified = s.verified()
	case "azp":
		c.azp = s.claim(name)
	case "nonce":
		c.nonce = s.claim(name)
	case "may_act":
		c.readMayAct(s)
	case "typ", "token_use":
		// Keycloak and Cognito sign access tokens with the same key and header, and say here what a token is for.
		if kind := s.headerText(name); s.err == nil && kind != "ID" && kind != "id" {
			s.refuse(ReasonType, "claim %q says that it is not an ID token", name)
		}
	case "scope", "scp", "events", "htm", "htu", "anc":
		// An access token, a logout token, a DPoP proof, or one of our own.
		s.refuse(ReasonType, "claim %q does not belong into an ID token", name)
	default:
		if !c.claims.read(name, s) {
			s.skip()
		}
	}
}

// verified reads a boolean; some issuers write it as a string.
func (s *scanner) verified() bool {
	if s.peek() != '"' {
		return s.boolean()
	}
	text := s.string()
	if text != "true" && text != "false" {
		s.fail(`"email_verified" must be true or false`)
	}
	return text == "true"
}

// readMayAct refuses a party that is described in ways which can't be judged, as to pass over one would widen who may
// act.
func (c *idClaims) readMayAct(s *scanner) {
	c.mayAct = &Party{}
	var o object
	s.open('{')
	for {
		name, ok := s.member(&o)
		if !ok {
			break
		}
		switch name {
		case "sub":
			c.mayAct.Subject = s.claim(name)
		case "client_id":
			c.mayAct.ClientID = s.claim(name)
		case "iss":
			c.mayAct.Issuer = s.claim(name)
		default:
			s.fail(`"may_act" may hold "sub", "client_id" and "iss" only`)
		}
	}
	if s.err == nil && c.mayAct.Subject == "" && c.mayAct.ClientID == "" {
		s.fail(`"may_act" must hold "sub" or "client_id"`)
	}
}

// Verify checks the token against the issuer's keys. Errors are *Error.
func (r *IDTokenRules) Verify(token []byte, now identity.Instant, keys *Keys) (*IDToken, error) {
	var t compact
	var c idClaims
	if err := readIDToken(token, &t, &c); err != nil {
		return nil, err
	}
	if c.issuer != r.Issuer {
		return nil, refuse(ReasonIssuer, `"iss" must be %q`, r.Issuer)
	}
	key, _, err := t.verify([]*Keys{keys})
	if err != nil {
		return nil, err
	}
	if err := r.forUs(&c); err != nil {
		return nil, err
	}
	if err := c.inTime(now); err != nil {
		return nil, err
	}
	age := r.MaxAge
	if age <= 0 {
		age = MaxIDTokenAge
	}
	if err := c.youngerThan(age, now); err != nil {
		return nil, err
	}
	if r.Nonce != "" && c.nonce != r.Nonce {
		return nil, refuse(ReasonNonce, `"nonce" is not the one that was asked for`)
	}
	return &IDToken{
		Issuer: c.issuer, Subject: c.subject, Email: c.email, EmailVerified: c.verified && c.email != "",
		Audience: slices.Clone(c.audiences[:c.audience]), AuthorizedParty: c.azp, Nonce: c.nonce, JTI: c.jti,
		MayAct: c.mayAct, IssuedAt: instant(c.issuedAt), Expires: instant(c.expires), Key: key,
	}, nil
}

// forUs holds aud and azp to OpenID Connect Core section 3.1.3.7.
func (r *IDTokenRules) forUs(c *idClaims) error {
	for _, aud := range c.audiences[:c.audience] {
		if !slices.Contains(r.Audiences, aud) {
			return refuse(ReasonAudience, `"aud" may only hold client ids that are accepted from this issuer: %q`, r.Audiences)
		}
	}
	switch {
	case c.azp == "" && c.audience > 1:
		return refuse(ReasonParty, `"azp" is missing, which must be there where "aud" has several values`)
	case c.azp != "" && !slices.Contains(r.Audiences, c.azp):
		return refuse(ReasonParty, `"azp" must be one of the client ids that are accepted from this issuer: %q`, r.Audiences)
	}
	return nil
}

// printable reports whether a text is of ASCII that can be shown.
func printable(text string) bool {
	for i := 0; i < len(text); i++ {
		if c := text[i]; c < ' ' || c > '~' {
			return false
		}
	}
	return true
}
