package hostile

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"net/url"
	"strings"

	"github.com/deputy-id/deputy/identity"
)

// Proof is what a good DPoP proof says.
type Proof struct {
	Method      string
	URL         string
	AccessToken string // "" for none
	Nonce       string // "" for none
	Now         identity.Instant
	Keys        *Keys // the caller's
}

func (p Proof) draft(s *Signer) draft {
	d := draft{
		header: object{{"typ", `"dpop+jwt"`}, {"alg", quote(s.Alg)}, {"jwk", s.JWK}},
		payload: object{
			{"htm", quote(p.Method)}, {"htu", quote(p.URL)}, {"iat", number(p.Now.Unix())}, {"jti", quote(rand.Text())},
		},
		signer: s,
	}
	if p.AccessToken != "" {
		digest := sha256.Sum256([]byte(p.AccessToken))
		d.payload = d.payload.with("ath", quote(b64.EncodeToString(digest[:])))
	}
	if p.Nonce != "" {
		d.payload = d.payload.with("nonce", quote(p.Nonce))
	}
	return d
}

// Valid returns good proofs.
func (p Proof) Valid() []Case {
	var c cases
	u, err := url.Parse(p.URL)
	must(err)
	for _, s := range p.Keys.All() {
		c.base = p.draft(s)
		h := c.base.header
		c.payload(s.Alg, "", c.base.payload)
		c.header(s.Alg+" with all that a key may say", "", h.with("jwk", `{"use":"sig","key_ops":["verify"],"alg":"`+s.Alg+`",`+s.namedJWK()[1:]))
		c.header(s.Alg+" with a kid", "", h.with("kid", `"nobody"`))
		c.claim(s.Alg+" with query and fragment", "", "htu", quote(p.URL+"?a=b#c"))
		c.claim(s.Alg+" with the host in capitals", "", "htu", quote(u.Scheme+"://"+strings.ToUpper(u.Host)+u.EscapedPath()))
		c.claim(s.Alg+" with an escape that is not needed", "", "htu", quote(p.URL[:len(p.URL)-1]+"%"+hex.EncodeToString([]byte(p.URL[len(p.URL)-1:]))))
		c.claim(s.Alg+" with a dot segment", "", "htu", quote(u.Scheme+"://"+u.Host+"/x/./.."+u.EscapedPath()))
	}
	return c.list
}

// Cases returns hostile ones.
func (p Proof) Cases() []Case {
	c := cases{base: p.draft(p.Keys.EdDSA)}
	c.form(p.Keys, 4<<10)
	h, base, now := c.base.header, c.base.payload, p.Now.Unix()
	c.types("JWT", "jwt", "at+jwt", "DPOP+JWT", "dpop+JWT", "application/dpop+jwt", "dpop+jwt ", "dpop", "client-authentication+jwt", "")
	c.header("no typ", "type", h.without("typ"))
	c.header("header: x5t", "header", h.with("x5t", `"AAAA"`))
	c.proofKeys(p)

	for _, name := range []string{"htm", "htu", "iat", "jti"} {
		c.payload(name+" is missing", "missing", base.without(name))
	}
	for _, method := range []string{strings.ToLower(p.Method), "GET ", "PATCH", p.Method + "\x00", "*"} {
		c.claim("htm is "+quote(method), "method", "htm", quote(method))
	}
	c.targets(p)
	for _, claim := range []string{"htm", "htu", "ath", "nonce"} {
		for _, value := range []string{"null", "1", "true", `["a"]`, "{}", `""`} {
			c.claim(claim+" is "+value, "malformed", claim, value)
		}
	}
	c.claim("jti of 129 bytes", "malformed", "jti", quote(strings.Repeat("j", 129)))
	c.claim("nonce of 257 bytes", "malformed", "nonce", quote(strings.Repeat("n", 257)))
	c.claim("iat is in the future", "not-yet", "iat", number(now+62))
	c.claim("iat is too long ago", "expired", "iat", number(now-60))
	c.claim("iat is too long ago, with a fraction", "expired", "iat", number(now-60)+".9")
	c.claim("iat is zero", "expired", "iat", "0")
	c.claim("exp has come", "expired", "exp", number(now-31))
	c.claim("nbf is in the future", "not-yet", "nbf", number(now+32))
	if p.AccessToken != "" {
		digest := sha256.Sum256([]byte(p.AccessToken))
		other := sha256.Sum256([]byte(p.AccessToken + "x"))
		c.payload("ath is missing", "missing", base.without("ath"))
		c.claim("ath of another token", "token-hash", "ath", quote(b64.EncodeToString(other[:])))
		c.claim("ath in hexadecimal", "token-hash", "ath", quote(hex.EncodeToString(digest[:])))
		c.claim("ath padded", "token-hash", "ath", quote(b64.EncodeToString(digest[:])+"="))
		c.claim("ath cut", "token-hash", "ath", quote(b64.EncodeToString(digest[:16])))
		c.claim("ath is the token", "token-hash", "ath", quote(p.AccessToken[:min(len(p.AccessToken), 1000)]))
	}
	c.crossUse("proof", otherUses{client: "inbox-assistant", issuer: p.URL, url: p.URL, now: p.Now, keys: p.Keys})
	return c.list
}

func (c *cases) targets(p Proof) {
	u, err := url.Parse(p.URL)
	must(err)
	path := u.EscapedPath()
	for name, htu := range map[string]string{
		"another host":                 u.Scheme + "://attacker.example" + path,
		"ours as a part of its host":   u.Scheme + "://" + u.Host + ".attacker.example" + path,
		"ours as user information":     u.Scheme + "://" + u.Host + "@attacker.example" + path,
		"user information before ours": u.Scheme + "://user@" + u.Host + path,
		"ours as a path":               u.Scheme + "://attacker.example/" + u.Host + path,
		"ours as a query":              u.Scheme + "://attacker.example/?" + p.URL,
		"another path":                 u.Scheme + "://" + u.Host + path + "/more",
		"a path in another case":       u.Scheme + "://" + u.Host + strings.ToUpper(path),
		"a slash behind":               p.URL + "/",
		"an escaped slash":             strings.Replace(p.URL, path, "/"+strings.ReplaceAll(path[1:], "/", "%2F")+"%2F", 1),
		"two slashes":                  u.Scheme + "://" + u.Host + "/" + path,
		"a way out of the path":        p.URL + "/../../..",
		"another port":                 u.Scheme + "://" + u.Hostname() + ":1" + path,
		"a port too many":              u.Scheme + "://" + u.Host + ":1:2" + path,
		"another scheme":               "ftp://" + u.Host + path,
		"no scheme":                    u.Host + path,
		"a scheme only":                u.Scheme + "://",
		"a path only":                  path,
		"a relative URL":               "//" + u.Host + path,
		"a backslash":                  u.Scheme + `:\\` + u.Host + path,
		"a backslash in the host":      u.Scheme + `://attacker.example\` + u.Host + path,
		"an escaped host":              u.Scheme + "://%61" + u.Host + path,
		"a broken escape":              p.URL + "%",
		"a broken escape, too":         p.URL + "%zz",
		"an escaped zero byte":         p.URL + "%00",
		"a zero byte":                  p.URL + "\x00",
		"a line break":                 p.URL + "\n",
		"a space in front":             " " + p.URL,
		"a host beyond ASCII":          u.Scheme + "://\u0434" + u.Host + path,
		"full width":                   u.Scheme + "://" + u.Host + "\uff0f" + path[1:],
		"an IPv6 host without end":     u.Scheme + "://[::1" + path,
		"an empty host":                u.Scheme + "://:443" + path,
	} {
		c.claim("htu: "+name, "target", "htu", quote(htu))
	}
}

// proofKeys adds proofs whose key is hostile.
func (c *cases) proofKeys(p Proof) {
	h := c.base.header
	c.header("no jwk", "missing", h.without("jwk"))
	for _, value := range []string{"null", "1", `"x"`, "[" + c.base.signer.JWK + "]"} {
		c.header("jwk is "+value[:min(8, len(value))], "malformed", h.with("jwk", value))
	}
	c.header("jwk twice", "malformed", h.and("jwk", c.base.signer.JWK))
	stranger, _ := p.Keys.others()
	c.header("jwk of somebody else", "signature", h.with("jwk", stranger.EdDSA.JWK))
	for _, k := range badKeys(p.Keys) {
		if k.sign == nil {
			c.header("jwk: "+k.name, k.reason, h.with("jwk", k.jwk))
			continue
		}
		d := c.base
		d.header = h.with("alg", quote(k.alg)).with("jwk", k.jwk)
		c.signature("jwk: "+k.name, k.reason, d, k.sign)
	}
}
