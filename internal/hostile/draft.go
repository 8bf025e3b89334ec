package hostile

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// object is a JSON object under construction; its members are JSON already, and may be there twice.
type object []member

type member struct{ name, value string }

// text writes the object as it stands.
func (o object) text() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`"` + m.name + `":` + m.value)
	}
	b.WriteByte('}')
	return b.String()
}

// with returns a copy in which the member has the value.
func (o object) with(name, value string) object {
	c := slices.Clone(o)
	for i := range c {
		if c[i].name == name {
			c[i].value = value
			return c
		}
	}
	return append(c, member{name, value})
}

// and returns a copy with one member more, whether it is there already or not.
func (o object) and(name, value string) object { return append(slices.Clone(o), member{name, value}) }

// before returns a copy with one member more in front.
func (o object) before(name, value string) object { return append(object{{name, value}}, o...) }

// without returns a copy that lacks the member.
func (o object) without(name string) object {
	return slices.DeleteFunc(slices.Clone(o), func(m member) bool { return m.name == name })
}

func (o object) get(name string) string {
	for _, m := range o {
		if m.name == name {
			return m.value
		}
	}
	return "null"
}

func quote(text string) string {
	b, err := json.Marshal(text)
	must(err)
	return string(b)
}

func number(n int64) string { return fmt.Sprint(n) }

// draft is a token before it is signed.
type draft struct {
	header, payload object
	signer          *Signer
}

func (d draft) token() string { return d.signer.Token(d.header.text(), d.payload.text()) }

// cases gathers what is made of one draft.
type cases struct {
	base draft
	list []Case
}

func (c *cases) add(name, reason, token string) {
	c.list = append(c.list, Case{Name: name, Token: token, Reason: reason})
}

// header adds the draft with another header.
func (c *cases) header(name, reason string, header object) {
	c.raw(name, reason, header.text(), c.base.payload.text())
}

// payload adds the draft with another payload.
func (c *cases) payload(name, reason string, payload object) {
	c.raw(name, reason, c.base.header.text(), payload.text())
}

// claim adds the draft with one claim changed.
func (c *cases) claim(name, reason, claim, value string) {
	c.payload(name, reason, c.base.payload.with(claim, value))
}

// raw adds the draft with any text as header and payload, signed.
func (c *cases) raw(name, reason, header, payload string) {
	c.add(name, reason, c.base.signer.Token(header, payload))
}

// signature adds the draft with another signature.
func (c *cases) signature(name, reason string, d draft, sign func(signed string) []byte) {
	signed := b64.EncodeToString([]byte(d.header.text())) + "." + b64.EncodeToString([]byte(d.payload.text()))
	c.add(name, reason, signed+"."+b64.EncodeToString(sign(signed)))
}

// nested returns an object or array with as many others inside each other.
func nested(depth int, open, middle, closing string) string {
	return strings.Repeat(open, depth) + middle + strings.Repeat(closing, depth)
}
