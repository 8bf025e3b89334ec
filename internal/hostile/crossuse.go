package hostile

import (
	"crypto/rand"

	"github.com/deputy-id/deputy/identity"
)

// otherUses makes good tokens of every kind by the same keys, to be shown where another kind is wanted.
type otherUses struct {
	client, issuer, url string
	now                 identity.Instant
	keys                *Keys
}

// crossUse adds each kind but the one that is wanted. Where a kind's typ does not give it away, its claims do.
func (c *cases) crossUse(wanted string, o otherUses) {
	reason := map[string]string{
		"access token": "type", "access token of typ JWT": "type", "ID token": "type", "ID token without nonce": "issuer",
		"DPoP proof": "type", "DPoP proof of typ JWT": "type", "logout token": "type", "assertion": "issuer",
	}
	if wanted == "proof" { // whose typ must be there
		for name := range reason {
			reason[name] = "type"
		}
	}
	for _, s := range o.keys.All() {
		header := object{{"alg", quote(s.Alg)}, {"kid", quote(s.KID)}}
		jwk := header.with("typ", `"JWT"`)
		times := object{{"iat", number(o.now.Unix())}, {"exp", number(o.now.Unix() + 60)}, {"jti", quote(rand.Text())}}
		access := append(object{
			{"iss", quote(o.issuer)},
			{"sub", `"user@company.example"`},
			{"aud", quote(o.issuer)},
			{"client_id", quote(o.client)},
			{"scope", `"mail.read"`},
			{"act", `{"sub":` + quote(o.client) + `}`},
			{"anc", `["ses_x"]`},
		}, times...)
		id := append(object{{"iss", quote(o.issuer)}, {"sub", `"user@company.example"`}, {"aud", quote(o.client)}}, times...)
		proof := append(object{{"htm", `"POST"`}, {"htu", quote(o.url)}}, times...)
		for name, d := range map[string]draft{
			"access token":            {header.with("typ", `"at+jwt"`), access, s},
			"access token of typ JWT": {jwk, access, s},
			"ID token":                {jwk, id.with("nonce", `"n"`), s},
			"ID token without nonce":  {jwk, id, s},
			"DPoP proof":              {object{{"alg", quote(s.Alg)}, {"typ", `"dpop+jwt"`}, {"jwk", s.JWK}}, proof, s},
			"DPoP proof of typ JWT":   {jwk, proof, s},
			"logout token":            {header.with("typ", `"logout+jwt"`), id.with("events", `{"http://schemas.openid.net/event/backchannel-logout":{}}`), s},
			"assertion":               {jwk, append(object{{"iss", quote(o.client)}, {"sub", quote(o.client)}, {"aud", quote(o.issuer)}}, times...), s},
		} {
			if name == wanted || wanted == "ID token" && name == "ID token without nonce" || wanted == "proof" && name == "DPoP proof" {
				continue
			}
			why := reason[name]
			if name == "DPoP proof" && wanted != "proof" {
				why = "header" // the key that it brings along is met first
			}
			c.add("cross-use: "+name+", "+s.Alg, why, d.token())
		}
	}
}
