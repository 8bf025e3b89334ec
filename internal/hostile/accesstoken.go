package hostile

import (
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// AccessToken is a good session token of Deputy's, and what is at hand to forge others.
type AccessToken struct {
	Token string // EdDSA, typ at+jwt
	// Signer is the node's key. Where it is nil, as for a token that came from a server, hostile claims are signed by
	// a stranger under the node's kid, so that the signature is what is wrong with them.
	Signer *Signer
	// Keys are somebody else's, such as a client's.
	Keys *Keys
}

// Cases returns hostile ones. The parser of session tokens takes one spelling only, so nearly all are malformed to it.
func (a AccessToken) Cases() ([]Case, error) {
	base, err := a.draft()
	if err != nil {
		return nil, err
	}
	strict := cases{base: base}
	strict.spelling(4 << 10)
	strict.algorithms(a.Keys)
	strict.headers(a.Keys)
	strict.bringsKey(a.Keys)
	strict.types("JWT", "jwt", "dpop+jwt", "application/at+jwt", "AT+JWT", "logout+jwt", "client-authentication+jwt", "")
	strict.crossUse("", otherUses{client: "inbox-assistant", issuer: text(base.payload.get("iss")), url: text(base.payload.get("iss")), now: 0, keys: a.Keys})
	for name, t := range notObjects(base.payload.text()) {
		strict.raw("payload: "+name, "malformed", base.header.text(), t)
	}
	// A thumbprint in capitals may be one or not, as its last character falls; signatures has one that always is.
	strict.list = slices.DeleteFunc(strict.list, func(c Case) bool { return c.Name == "kid: another case" })
	for i := range strict.list {
		if strict.list[i].Reason != "too-long" {
			strict.list[i].Reason = "malformed"
		}
	}
	c := cases{base: base, list: strict.list}
	a.signatures(&c)
	a.claims(&c)
	return c.list, nil
}

// draft takes the token apart.
func (a AccessToken) draft() (draft, error) {
	d := draft{signer: a.Signer}
	if d.signer == nil {
		d.signer = a.Keys.EdDSA
	}
	parts := strings.Split(a.Token, ".")
	if len(parts) != 3 {
		return d, fmt.Errorf("the good token has %d segments", len(parts))
	}
	var err error
	if d.header, err = parse(parts[0]); err != nil {
		return d, fmt.Errorf("header of the good token: %w", err)
	}
	if d.payload, err = parse(parts[1]); err != nil {
		return d, fmt.Errorf("payload of the good token: %w", err)
	}
	if a.Signer == nil {
		named := *a.Keys.EdDSA
		named.KID = text(d.header.get("kid"))
		d.signer = &named
	}
	return d, nil
}

// parse reads a segment into its members, in their order.
func parse(segment string) (object, error) {
	content, err := b64.DecodeString(segment)
	if err != nil {
		return nil, err
	}
	decoder := json.NewDecoder(strings.NewReader(string(content)))
	if _, err := decoder.Token(); err != nil {
		return nil, err
	}
	var o object
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return nil, err
		}
		o = append(o, member{fmt.Sprint(name), string(value)})
	}
	return o, nil
}

// text undoes quote, and is empty for all but strings.
func text(quoted string) string {
	t, _ := strconv.Unquote(quoted)
	return t
}

func (a AccessToken) signatures(c *cases) {
	stranger, _ := a.Keys.others()
	d, own := c.base, c.base.signer
	c.add("by a stranger", "signature", stranger.EdDSA.Token(d.header.text(), d.payload.text()))
	c.header("kid: another thumbprint", "unknown-key", d.header.with("kid", quote(strings.Repeat("A", 43))))
	c.signature("all zeros", "signature", d, func(string) []byte { return make([]byte, ed25519.SignatureSize) })
	c.signature("by the neutral point", "signature", d, signNeutral)
	c.signature("no signature", "malformed", d, func(string) []byte { return nil })
	c.signature("one byte short", "malformed", d, func(signed string) []byte { return own.Sign(signed)[:63] })
	c.signature("a zero byte behind", "malformed", d, func(signed string) []byte { return append(own.Sign(signed), 0) })
	c.signature("of another token", "signature", d, func(signed string) []byte { return own.Sign(signed + "x") })
	c.signature("one bit flipped", "signature", d, func(signed string) []byte {
		signature := own.Sign(signed)
		signature[40] ^= 1
		return signature
	})
}

func (a AccessToken) claims(c *cases) {
	p := c.base.payload
	judged := func(reason string) string {
		if a.Signer == nil {
			return "signature"
		}
		return reason
	}
	integer := func(name string) int64 {
		n, err := strconv.ParseInt(p.get(name), 10, 64)
		must(err)
		return n
	}
	iat, exp := integer("iat"), integer("exp")
	for _, m := range p {
		if m.name != "scope" {
			c.payload("claim missing: "+m.name, "malformed", p.without(m.name))
		}
		c.payload("claim twice: "+m.name, "malformed", p.and(m.name, m.value))
		c.payload("claim twice, once escaped: "+m.name, "malformed", p.and(`\u00`+hexOf(m.name[0])+m.name[1:], m.value))
		c.claim("claim null: "+m.name, "malformed", m.name, "null")
		c.claim("claim an object: "+m.name, "malformed", m.name, `{"a":1}`)
		c.payload("claim in capitals: "+m.name, "malformed", p.and(strings.ToUpper(m.name), m.value))
	}
	for _, name := range []string{"exp", "iat"} {
		for _, value := range []string{"-1", "0", "1.5", "4e9", `"4000000000"`, "253402300800", "18446744073709551616"} {
			c.claim(name+" is "+value, "malformed", name, value)
		}
	}
	for name, value := range map[string]string{
		"an unknown one": `1`, "admin": `true`, "nbf": number(iat), "nonce": `"n"`, "htm": `"POST"`, "events": "{}", "email": `"root@company.example"`,
	} {
		c.payload("claim more: "+name, "malformed", p.and(strings.ReplaceAll(name, " ", "-"), value))
	}
	c.claim("act too deep", "malformed", "act", nested(3, `{"sub":"a","act":`, `{"sub":"a"}`, "}"))
	c.claim("act much too deep", "malformed", "act", nested(100, `{"act":`, `{"sub":"a"}`, "}"))
	c.claim("act without end", "malformed", "act", strings.Repeat(`{"act":`, 200))
	c.claim("anc with a handle that is none", "malformed", "anc", `["nonsense"]`)
	c.claim("anc empty", "malformed", "anc", "[]")
	c.claim("scope out of order", "malformed", "scope", `"b.b a.a"`)
	c.claim("scope twice", "malformed", "scope", `"a.a a.a"`)
	c.claim("aud of nothing", "malformed", "aud", "[]")
	c.claim("jti of another session", "malformed", "jti", `"00000000000000000000000000"`)
	c.claim("client_id of another agent", "malformed", "client_id", `"somebody-else"`)
	c.claim("agent_type unknown", "malformed", "agent_type", `"root"`)
	c.payload("ended", judged("expired"), p.with("iat", number(iat-3*86400)).with("exp", number(iat-3*86400+60)))
	c.payload("from the future", judged("not-yet"), p.with("iat", number(exp+7*86400)).with("exp", number(exp+7*86400+60)))
	c.claim("lives for years", judged("lifetime"), "exp", number(iat+10*365*86400))
	c.payload("ends before it begins", judged("lifetime"), p.with("exp", number(iat-1)))
	c.claim("by another issuer", judged("issuer"), "iss", `"https://attacker.example"`)
}
