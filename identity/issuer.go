package identity

import (
	"slices"
	"strings"
)

// PrincipalClaim says which claim of an ID token names the principal.
type PrincipalClaim string

// An email names somebody only where the issuer says that it has verified it.
const (
	ClaimEmail   PrincipalClaim = "email"
	ClaimSubject PrincipalClaim = "sub"
)

// Bounds of trusted issuers.
const (
	MaxIssuers        = 64 // a company has a few; each is asked for its keys
	MaxIssuerClients  = 32 // client ids whose ID tokens are taken
	MaxIssuerDomains  = 64
	MaxDomainLength   = 253 // RFC 1035 section 2.3.4
	MaxClientIDLength = 256

	DefaultIDTokenAgeSeconds = 3600
	MinIDTokenAgeSeconds     = 60
	MaxIDTokenAgeSeconds     = 24 * 3600
)

// TrustedIssuer is an OpenID Connect issuer whose ID tokens prove who a user is. Two issuers that may name the same
// principals are two who may speak for them: Domains keeps each to its own.
type TrustedIssuer struct {
	ID        string         `codec:"i"` // iss_…
	Issuer    string         `codec:"u"` // the `iss` claim, byte for byte
	Clients   []string       `codec:"c"` // accepted in `aud`: who the ID tokens were issued to
	Principal PrincipalClaim `codec:"p"`
	Domains   []string       `codec:"d,omitempty"` // of emails, lower case; empty: any
	MaxAge    int64          `codec:"m"`           // seconds since `iat` after which an ID token proves nothing any more

	// Where its keys are: a JWKS, a place that has one, or, where both are empty, where its discovery document says.
	Keys    string `codec:"ky,omitempty"`
	KeysURI string `codec:"ku,omitempty"`

	Created  Instant `codec:"ct"`
	Revision uint64  `codec:"r"`
}

// MayName reports whether the issuer may vouch for the principal.
func (t *TrustedIssuer) MayName(principal string) bool {
	if len(t.Domains) == 0 {
		return true
	}
	at := strings.LastIndexByte(principal, '@')
	return at >= 0 && slices.Contains(t.Domains, strings.ToLower(principal[at+1:]))
}

// Validate holds every field that a caller may set to its bound.
func (t *TrustedIssuer) Validate() error {
	var v violations
	v.webAddress("/issuer", t.Issuer)
	if len(t.Clients) == 0 {
		v.add("/client_ids", "is empty; name the clients whose ID tokens are taken, as they stand in aud")
	}
	if len(t.Clients) > MaxIssuerClients {
		v.add("/client_ids", "has %d entries; at most %d are allowed", len(t.Clients), MaxIssuerClients)
	}
	for _, id := range t.Clients {
		v.text("/client_ids", id, MaxClientIDLength)
		if id == "" {
			v.add("/client_ids", "holds an empty one")
		}
	}
	switch t.Principal {
	case ClaimEmail, ClaimSubject:
	default:
		v.add("/principal_claim", "is %q; it must be %s or %s", t.Principal, ClaimEmail, ClaimSubject)
	}
	if len(t.Domains) > 0 && t.Principal != ClaimEmail {
		v.add("/email_domains", "is there, but principals are named by %s", t.Principal)
	}
	if len(t.Domains) > MaxIssuerDomains {
		v.add("/email_domains", "has %d entries; at most %d are allowed", len(t.Domains), MaxIssuerDomains)
	}
	for _, domain := range t.Domains {
		if domain == "" || len(domain) > MaxDomainLength || domain != strings.ToLower(domain) || strings.ContainsAny(domain, "@ /") {
			v.add("/email_domains", "holds %.64q; a domain is lower case, such as company.com", domain)
		}
	}
	v.between("/max_age_seconds", t.MaxAge, MinIDTokenAgeSeconds, MaxIDTokenAgeSeconds)
	v.keys("/jwks", t.Keys, "/jwks_uri", t.KeysURI)
	return v.err("the trusted issuer is not valid")
}
