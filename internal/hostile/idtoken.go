package hostile

import (
	"crypto/rand"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// IDToken is what a good ID token says.
type IDToken struct {
	Issuer   string
	Audience string // the client id that is accepted
	Subject  string
	Email    string
	Now      identity.Instant
	Keys     *Keys // the issuer's, published
}

func (t IDToken) draft(s *Signer) draft {
	now := t.Now.Unix()
	return draft{
		header: object{{"alg", quote(s.Alg)}, {"kid", quote(s.KID)}, {"typ", `"JWT"`}},
		payload: object{
			{"iss", quote(t.Issuer)},
			{"sub", quote(t.Subject)},
			{"aud", quote(t.Audience)},
			{"iat", number(now)},
			{"exp", number(now + 3600)},
			{"email", quote(t.Email)},
			{"email_verified", "true"},
			{"jti", quote(rand.Text())},
		},
		signer: s,
	}
}

// Valid returns good ID tokens.
func (t IDToken) Valid() []Case {
	var c cases
	for _, s := range t.Keys.All() {
		c.base = t.draft(s)
		c.payload(s.Alg, "", c.base.payload)
		c.header(s.Alg+" without kid", "", c.base.header.without("kid"))
		c.header(s.Alg+" without typ", "", c.base.header.without("typ"))
		c.header(s.Alg+" with x5t", "", c.base.header.with("x5t", `"AAAA"`).with("x5t#S256", `"AAAA"`))
		c.claim(s.Alg+" with a list as audience", "", "aud", `[`+quote(t.Audience)+`]`)
		c.payload(s.Alg+" with a list of two as audience", "", c.base.payload.with("aud", `[`+quote(t.Audience)+`,`+quote(t.Audience)+`]`).with("azp", quote(t.Audience)))
		c.claim(s.Alg+" with an authorized party", "", "azp", quote(t.Audience))
		c.claim(s.Alg+" with email_verified as a string", "", "email_verified", `"true"`)
		c.claim(s.Alg+" with groups", "", "groups", `["`+strings.Repeat(`g","`, 200)+`g"]`)
		c.claim(s.Alg+" with may_act", "", "may_act", `{"sub":"inbox-assistant"}`)
		c.claim(s.Alg+" by Keycloak", "", "typ", `"ID"`)
		c.claim(s.Alg+" by Cognito", "", "token_use", `"id"`)
	}
	return c.list
}

// Unverified returns ID tokens that hold and whose email still names nobody.
func (t IDToken) Unverified() []Case {
	c := cases{base: t.draft(t.Keys.EdDSA)}
	c.claim("email not verified", "subject", "email_verified", "false")
	c.claim("email not verified, as a string", "subject", "email_verified", `"false"`)
	c.payload("email without a word about it", "subject", c.base.payload.without("email_verified"))
	c.payload("no email", "subject", c.base.payload.without("email"))
	return c.list
}

// Cases returns hostile ones.
func (t IDToken) Cases() []Case {
	c := cases{base: t.draft(t.Keys.EdDSA)}
	c.form(t.Keys, 16<<10)
	p, now := c.base.payload, t.Now.Unix()
	c.bringsKey(t.Keys)
	c.types("at+jwt", "application/at+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt", "client-authentication+jwt", "JOSE", "Jwt ", "")

	for _, name := range []string{"iss", "sub", "aud", "exp", "iat"} {
		c.payload(name+" is missing", "missing", p.without(name))
	}
	for name, iss := range map[string]string{
		"another issuer": "https://attacker.example", "with a slash": t.Issuer + "/", "in another case": strings.ToUpper(t.Issuer),
		"ours and more": t.Issuer + ".attacker.example", "without its scheme": strings.TrimPrefix(t.Issuer, "https://"),
		"by plain http": strings.Replace(t.Issuer, "https:", "http:", 1) + "#", "with a zero byte": t.Issuer + "\x00",
	} {
		c.claim("iss is "+name, "issuer", "iss", quote(iss))
	}
	other := `"another-client"`
	for name, aud := range map[string]string{
		"another client": other, "a list of others": `[` + other + `]`, "ours and another": `[` + quote(t.Audience) + `,` + other + `]`,
		"another and ours": `[` + other + `,` + quote(t.Audience) + `]`, "a prefix": quote(t.Audience[:len(t.Audience)-1]),
		"in another case": quote(strings.ToUpper(t.Audience)), "ours and a space": quote(t.Audience + " "),
	} {
		c.claim("aud is "+name, "audience", "aud", aud)
	}
	c.claim("several audiences and no azp", "authorized-party", "aud", `[`+quote(t.Audience)+`,`+quote(t.Audience)+`]`)
	c.claim("azp is another client", "authorized-party", "azp", other)
	for _, value := range []string{"null", "1", `""`, `["a"]`, "{}"} {
		c.claim("azp is "+value, "malformed", "azp", value)
		c.claim("nonce is "+value, "malformed", "nonce", value)
		c.claim("email is "+value, "malformed", "email", value)
	}
	c.claim("email of 255 bytes", "malformed", "email", quote(strings.Repeat("e", 255)))
	for _, value := range []string{"null", "1", `"yes"`, `"True"`, `"TRUE"`, "[true]"} {
		c.claim("email_verified is "+value, "malformed", "email_verified", value)
	}
	for _, value := range []string{"null", "1", `"inbox-assistant"`, "{}", "[]", `{"sub":1}`, `{"sub":""}`, `{"iss":"x"}`, `{"sub":"a","tenant":"b"}`, `{"sub":"a","sub":"b"}`} {
		c.claim("may_act is "+value, "malformed", "may_act", value)
	}
	c.claim("exp has come", "expired", "exp", number(now-31))
	c.claim("exp is zero", "expired", "exp", "0")
	c.payload("exp has come, with a fraction", "expired", p.with("exp", number(now-31)+".999999"))
	c.claim("iat is in the future", "not-yet", "iat", number(now+32))
	c.claim("nbf is in the future", "not-yet", "nbf", number(now+32))
	c.claim("iat is two days ago", "too-old", "iat", number(now-2*86400))
	c.claim("iat is zero", "too-old", "iat", "0")
	for name, sub := range map[string]string{"256 characters": strings.Repeat("s", 256), "beyond ASCII": "us\u00e9r", "a zero byte": "user\x00", "a line break": "user\nadmin"} {
		c.claim("sub: "+name, "subject", "sub", quote(sub))
	}
	for name, value := range map[string]string{
		"scope": `"openid mail.read"`, "scp": `["mail.read"]`, "events": "{}", "htm": `"POST"`, "htu": quote(t.Issuer), "anc": "[]",
		"typ": `"Bearer"`, "token_use": `"access"`,
	} {
		c.claim("holds "+name, "type", name, value)
	}
	c.claim("typ claim a number", "malformed", "typ", "1")
	c.crossUse("ID token", otherUses{client: t.Audience, issuer: t.Issuer, url: t.Issuer, now: t.Now, keys: t.Keys})
	return c.list
}
