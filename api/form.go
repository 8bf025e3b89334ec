package api

import (
	"bytes"
	"iter"
	"strconv"

	"github.com/deputy-id/deputy/identity"
)

// Names of form parameters.
const (
	formGrantType     = "grant_type"
	formScope         = "scope"
	formAudience      = "audience"
	formResource      = "resource"
	formTriggerReason = "trigger_reason"
	formMaxDuration   = "max_duration_seconds"
	formClientID      = "client_id"
	formClientSecret  = "client_secret"
	formTool          = "tool"
	formToken         = "token"
	formAssertion     = "client_assertion"
	formAssertionType = "client_assertion_type"
	formSubjectToken  = "subject_token"
	formSubjectType   = "subject_token_type"
	formActorToken    = "actor_token"
	formActorType     = "actor_token_type"
	formRequestedType = "requested_token_type"
	formNonce         = "nonce"
)

// maxFormFields bounds a form: the check for repeats compares each field with the ones before it.
const maxFormFields = 96

// form holds the fields of an application/x-www-form-urlencoded body (URL standard, section 5.1) in their order. They
// lie in the body where nothing in them is escaped, as nothing in a token is, and in text where something is.
type form struct {
	fields []formField
	text   []byte // unescaped
}

type formField struct{ name, value []byte }

// parse takes over a body, which is not changed and has to outlive the form.
func (f *form) parse(body []byte) error {
	for len(body) > 0 {
		var field []byte
		if field, body = cutAt(body, '&'); len(field) == 0 {
			continue
		}
		if len(f.fields) == maxFormFields {
			return identity.Errorf(identity.CodeInvalid, "the form has more than %d fields", maxFormFields)
		}
		name, value := cutAt(field, '=')
		f.fields = append(f.fields, formField{f.plain(name), f.plain(value)})
	}
	return nil
}

// cutAt is bytes.Cut for one byte.
func cutAt(b []byte, separator byte) (before, after []byte) {
	if i := bytes.IndexByte(b, separator); i >= 0 {
		return b[:i], b[i+1:]
	}
	return b, nil
}

// plain is b without escapes. A percent sign that no two hexadecimal digits follow stands for itself.
func (f *form) plain(b []byte) []byte {
	if bytes.IndexByte(b, '%') < 0 && bytes.IndexByte(b, '+') < 0 {
		return b
	}
	from := len(f.text)
	f.text, _ = appendUnescaped(f.text, b)
	return f.text[from:len(f.text):len(f.text)]
}

// appendUnescaped decodes application/x-www-form-urlencoded text; dst may be the beginning of b. A percent sign that no two
// hexadecimal digits follow stands for itself, and then exact is false.
func appendUnescaped(dst, b []byte) (_ []byte, exact bool) {
	exact = true
	for i := 0; i < len(b); i++ {
		c := b[i]
		switch c {
		case '+':
			c = ' '
		case '%':
			high, low := -1, -1
			if i+2 < len(b) {
				high, low = unhex(b[i+1]), unhex(b[i+2])
			}
			if high >= 0 && low >= 0 {
				c = byte(high<<4 | low)
				i += 2
			} else {
				exact = false
			}
		}
		dst = append(dst, c)
	}
	return dst, exact
}

// value of the first field of that name; empty where there is none.
func (f *form) value(name string) []byte {
	for i := range f.fields {
		if string(f.fields[i].name) == name {
			return f.fields[i].value
		}
	}
	return nil
}

func (f *form) has(name string) bool {
	for i := range f.fields {
		if string(f.fields[i].name) == name {
			return true
		}
	}
	return false
}

// all are the names and values in their order.
func (f *form) all() iter.Seq2[string, []byte] {
	return func(yield func(string, []byte) bool) {
		for i := range f.fields {
			if !yield(textOf(f.fields[i].name), f.fields[i].value) {
				return
			}
		}
	}
}

// reset keeps the room of a form of usual size, and nothing of what stood in it.
func (f *form) reset() {
	clear(f.fields)
	clear(f.text)
	f.fields, f.text = f.fields[:0], f.text[:0]
	if cap(f.text) > maxKeptBuffer {
		f.text = nil
	}
}

// readForm holds the request to a form in which no parameter comes twice (RFC 6749 section 3.2). Only resource
// (RFC 8707 section 2) and audience (RFC 8693 section 2.1) may.
func (c *call) readForm() error {
	if err := c.wantMedia(mediaForm); err != nil {
		return err
	}
	if err := c.form.parse(c.ctx.PostBody()); err != nil {
		return err
	}
	fields := c.form.fields
	for i := range fields {
		name := fields[i].name
		if string(name) == formResource || string(name) == formAudience {
			continue
		}
		for j := range i {
			if bytes.Equal(fields[j].name, name) {
				return identity.Errorf(identity.CodeInvalid, "the parameter %.64q is there more than once", name)
			}
		}
	}
	return nil
}

// formText copies a form parameter.
func (c *call) formText(name string) string { return string(c.form.value(name)) }

// formSeconds reads a whole number of seconds; absent is 0.
func (c *call) formSeconds(name string) (int64, error) {
	text := c.form.value(name)
	if len(text) == 0 {
		return 0, nil
	}
	n, err := strconv.ParseInt(textOf(text), 10, 64)
	if err != nil || n <= 0 {
		return 0, identity.Errorf(identity.CodeInvalid, "the parameter %s is %.20q; it must be a positive whole number", name, text)
	}
	return n, nil
}
