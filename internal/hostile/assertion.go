package hostile

import (
	"crypto/rand"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// Assertion is what a good client assertion says.
type Assertion struct {
	ClientID string
	Audience string // the issuer or the token endpoint
	Now      identity.Instant
	// Started, if set and less than four minutes ago, is the start of the process, before which none may be issued.
	Started identity.Instant
	Keys    *Keys // the client's, registered
}

func (a Assertion) draft(s *Signer) draft {
	now := a.Now.Unix()
	return draft{
		header: object{{"alg", quote(s.Alg)}, {"kid", quote(s.KID)}, {"typ", `"JWT"`}},
		payload: object{
			{"iss", quote(a.ClientID)},
			{"sub", quote(a.ClientID)},
			{"aud", quote(a.Audience)},
			{"iat", number(now)},
			{"exp", number(now + 60)},
			{"jti", quote(rand.Text())},
		},
		signer: s,
	}
}

// Valid returns good assertions.
func (a Assertion) Valid() []Case {
	var c cases
	for _, s := range a.Keys.All() {
		c.base = a.draft(s)
		p := c.base.payload
		c.payload(s.Alg, "", p)
		c.header(s.Alg+" without kid", "", c.base.header.without("kid"))
		c.header(s.Alg+" without typ", "", c.base.header.without("typ"))
		c.header(s.Alg+" with a typ of its own", "", c.base.header.with("typ", `"client-authentication+jwt"`))
		c.header(s.Alg+" with an unknown header member", "", c.base.header.with("x", `{"y":[1]}`))
		c.claim(s.Alg+" with a list as audience", "", "aud", `["https://elsewhere.example",`+quote(a.Audience)+`]`)
		c.claim(s.Alg+" with a fraction of a second", "", "exp", number(a.Now.Unix()+60)+".75")
		c.claim(s.Alg+" with unknown claims", "", "x", `{"y":[null,true,-1.5e-3,"\ud83d\ude00"]}`)
		c.raw(s.Alg+" with white space", "", "{ "+c.base.header.text()[1:], strings.ReplaceAll(p.with("jti", `"spaced"`).text(), `,`, " ,\r\n\t"))
	}
	return c.list
}

// Cases returns hostile ones.
func (a Assertion) Cases() []Case {
	c := cases{base: a.draft(a.Keys.EdDSA)}
	c.form(a.Keys, 4<<10)
	h, p, now := c.base.header, c.base.payload, a.Now.Unix()
	c.bringsKey(a.Keys)
	c.header("header: x5t", "header", h.with("x5t", `"AAAA"`))
	c.types("at+jwt", "application/at+jwt", "dpop+jwt", "logout+jwt", "secevent+jwt", "id_token+jwt", "token-introspection+jwt", "JOSE", "")

	for _, name := range []string{"iss", "sub", "aud", "exp", "jti"} {
		c.payload(name+" is missing", "missing", p.without(name))
	}
	c.claim("iss is another client", "issuer", "iss", `"somebody-else"`)
	c.claim("sub is another client", "issuer", "sub", `"somebody-else"`)
	c.claim("iss is the server", "issuer", "iss", quote(a.Audience))
	c.payload("iss and sub are another client", "subject", p.with("iss", `"somebody-else"`).with("sub", `"somebody-else"`))
	for name, id := range map[string]string{
		"a path": "../" + a.ClientID, "a query": "x' OR '1'='1", "upper case": strings.ToUpper(a.ClientID), "a zero byte": a.ClientID + "\x00",
		"a space": a.ClientID + " ", "huge": strings.Repeat("x", 1000), "beyond ASCII": a.ClientID + "\u0131",
	} {
		c.payload("iss and sub are "+name, "subject", p.with("iss", quote(id)).with("sub", quote(id)))
	}
	for name, aud := range map[string]string{
		"somebody else": `"https://attacker.example"`, "a list of others": `["https://attacker.example","https://b.example"]`,
		"a prefix": quote(a.Audience[:len(a.Audience)-1]), "ours and more": quote(a.Audience + ".attacker.example"), "with a slash": quote(a.Audience + "//"),
		"in another case": quote(strings.ToUpper(a.Audience)), "the client": quote(a.ClientID), "with a space": quote(a.Audience + " "), "all of ours in one": quote(a.Audience + " " + a.Audience),
	} {
		c.claim("aud is "+name, "audience", "aud", aud)
	}
	c.claim("exp has come", "expired", "exp", number(now-31))
	c.claim("exp is zero", "expired", "exp", "0")
	c.payload("exp has come, with a fraction", "expired", p.with("exp", number(now-31)+".999999"))
	c.claim("exp is too far ahead", "lifetime", "exp", number(now+331))
	c.claim("exp is a century ahead", "lifetime", "exp", number(now+100*365*86400))
	c.payload("exp is too long after iat", "lifetime", p.with("iat", number(now-100)).with("exp", number(now+201)))
	c.payload("iat is in the future", "not-yet", p.with("iat", number(now+32)).with("exp", number(now+90)))
	c.claim("nbf is in the future", "not-yet", "nbf", number(now+32))
	c.claim("jti of 129 bytes", "malformed", "jti", quote(strings.Repeat("j", 129)))
	if !a.Started.IsZero() {
		before := a.Started.Unix() - 1
		c.payload("issued before the start", "before-start", p.with("iat", number(before)).with("exp", number(before+300)))
		c.payload("iat is missing", "missing", p.without("iat"))
	}
	for name, value := range map[string]string{
		"nonce": `"n"`, "azp": `"x"`, "at_hash": `"x"`, "c_hash": `"x"`, "htm": `"POST"`, "htu": quote(a.Audience), "ath": `"x"`, "events": "{}", "anc": "[]",
	} {
		c.claim("holds "+name, "type", name, value)
	}
	c.crossUse("assertion", otherUses{client: a.ClientID, issuer: a.Audience, url: a.Audience, now: a.Now, keys: a.Keys})
	return c.list
}

// bringsKey adds tokens that bring the key along by which they are signed, as only DPoP proofs may.
func (c *cases) bringsKey(keys *Keys) {
	stranger, _ := keys.others()
	for _, s := range stranger.All() {
		d := c.base
		d.signer = s
		d.header = d.header.with("alg", quote(s.Alg)).with("jwk", s.JWK)
		c.add("header: jwk of a stranger, "+s.Alg, "header", d.token())
		d.header = d.header.without("kid")
		c.add("header: jwk of a stranger and no kid, "+s.Alg, "header", d.token())
	}
	c.header("header: jwk of the right key", "header", c.base.header.with("jwk", c.base.signer.JWK))
	c.header("header: jwk null", "header", c.base.header.with("jwk", "null"))
}

// types adds the draft with each typ.
func (c *cases) types(wrong ...string) {
	for _, typ := range wrong {
		c.header("typ "+quote(typ), "type", c.base.header.with("typ", quote(typ)))
	}
	for _, typ := range []string{"null", "1", `["JWT"]`} {
		c.header("typ "+typ, "malformed", c.base.header.with("typ", typ))
	}
}
