package api

import (
	"encoding/json"
	"math"
	"strconv"
)

// maxDepth bounds how deep a body may nest; no body of the surface needs more than four.
const maxDepth = 32

// jsonReader reads one JSON text (RFC 8259) strictly: valid UTF-8, no repeated names, nothing after the
// value. It knows where it is, so that every error points at the field it is about.
type jsonReader struct {
	data  []byte
	pos   int
	path  []byte // JSON pointer (RFC 6901) of the value being read
	depth int
}

func (r *jsonReader) fail(format string, args ...any) error {
	return invalidField(string(r.path), format, args...)
}

func (r *jsonReader) syntax(what string) error {
	if r.pos >= len(r.data) {
		return r.fail("is not JSON: it ends where %s should be", what)
	}
	return r.fail("is not JSON: %q at byte %d, where %s should be", rune(r.data[r.pos]), r.pos, what)
}

func (r *jsonReader) space() {
	for r.pos < len(r.data) {
		switch r.data[r.pos] {
		case ' ', '\t', '\n', '\r':
			r.pos++
		default:
			return
		}
	}
}

// next skips space and returns the byte that begins the next value, 0 at the end.
func (r *jsonReader) next() byte {
	r.space()
	if r.pos < len(r.data) {
		return r.data[r.pos]
	}
	return 0
}

// end refuses anything after the value.
func (r *jsonReader) end() error {
	if r.next(); r.pos < len(r.data) {
		return r.syntax("the end of the body")
	}
	return nil
}

func (r *jsonReader) literal(word string) bool {
	r.space()
	if len(r.data)-r.pos < len(word) || string(r.data[r.pos:r.pos+len(word)]) != word {
		return false
	}
	r.pos += len(word)
	return true
}

func (r *jsonReader) null() bool { return r.literal("null") }

// kind says what the next value is, for messages.
func (r *jsonReader) kind() string {
	switch c := r.next(); {
	case c == '{':
		return "an object"
	case c == '[':
		return "an array"
	case c == '"':
		return "a string"
	case c == 't' || c == 'f':
		return "a boolean"
	case c == 'n':
		return "null"
	case c == '-' || c >= '0' && c <= '9':
		return "a number"
	}
	return "not JSON"
}

func (r *jsonReader) wrong(want string) error {
	switch got := r.kind(); got {
	case "not JSON":
		return r.syntax(want)
	default:
		return r.fail("is %s; it must be %s", got, want)
	}
}

func (r *jsonReader) enter() error {
	r.pos++
	if r.depth++; r.depth > maxDepth {
		return r.fail("nests deeper than %d levels", maxDepth)
	}
	return nil
}

// object reads an object and has member read each value. The name is valid only during the call.
func (r *jsonReader) object(member func(name []byte) error) error {
	if r.next() != '{' {
		return r.wrong("an object")
	}
	if err := r.enter(); err != nil {
		return err
	}
	mark := len(r.path)
	for first := true; ; first = false {
		c := r.next()
		if c == '}' && first {
			break
		}
		if !first {
			if c == '}' {
				break
			}
			if c != ',' {
				return r.syntax("',' or '}'")
			}
			r.pos++
			c = r.next()
		}
		if c != '"' {
			return r.syntax("the name of a field")
		}
		name, err := r.text()
		if err != nil {
			return err
		}
		if r.next() != ':' {
			return r.syntax("':'")
		}
		r.pos++
		r.path = appendPointer(r.path, name)
		if err := member(name); err != nil {
			return err
		}
		r.path = r.path[:mark]
	}
	r.pos++
	r.depth--
	return nil
}

// array reads an array and has element read each value.
func (r *jsonReader) array(element func(i int) error) error {
	if r.next() != '[' {
		return r.wrong("an array")
	}
	if err := r.enter(); err != nil {
		return err
	}
	mark := len(r.path)
	for i := 0; ; i++ {
		c := r.next()
		if c == ']' && i == 0 {
			break
		}
		if i > 0 {
			if c == ']' {
				break
			}
			if c != ',' {
				return r.syntax("',' or ']'")
			}
			r.pos++
		}
		r.path = strconv.AppendInt(append(r.path, '/'), int64(i), 10)
		if err := element(i); err != nil {
			return err
		}
		r.path = r.path[:mark]
	}
	r.pos++
	r.depth--
	return nil
}

func appendPointer(dst, name []byte) []byte {
	dst = append(dst, '/')
	for _, c := range name {
		switch c {
		case '~':
			dst = append(dst, '~', '0')
		case '/':
			dst = append(dst, '~', '1')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

func (r *jsonReader) str() (string, error) {
	if r.next() != '"' {
		return "", r.wrong("a string")
	}
	b, err := r.text()
	return string(b), err
}

// number returns the text of the number that is next.
func (r *jsonReader) number() ([]byte, error) {
	if c := r.next(); c != '-' && (c < '0' || c > '9') {
		return nil, r.wrong("a number")
	}
	start := r.pos
	digits := func() bool {
		from := r.pos
		for r.pos < len(r.data) && r.data[r.pos] >= '0' && r.data[r.pos] <= '9' {
			r.pos++
		}
		return r.pos > from
	}
	at := func(c byte) bool { return r.pos < len(r.data) && r.data[r.pos] == c }
	if at('-') {
		r.pos++
	}
	if at('0') {
		r.pos++
	} else if !digits() {
		return nil, r.syntax("a digit")
	}
	if at('.') {
		if r.pos++; !digits() {
			return nil, r.syntax("a digit")
		}
	}
	if at('e') || at('E') {
		if r.pos++; at('+') || at('-') {
			r.pos++
		}
		if !digits() {
			return nil, r.syntax("a digit")
		}
	}
	return r.data[start:r.pos], nil
}

// integer reads a whole number.
func (r *jsonReader) integer() (int64, error) {
	text, err := r.number()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	if err != nil {
		return 0, r.fail("is %.40s; it must be a whole number between %d and %d", text, math.MinInt64, math.MaxInt64)
	}
	return n, nil
}

func (r *jsonReader) boolean() (bool, error) {
	switch {
	case r.literal("true"):
		return true, nil
	case r.literal("false"):
		return false, nil
	}
	return false, r.wrong("a boolean")
}

// any reads a value of any kind into Go's usual types, numbers as json.Number.
func (r *jsonReader) any() (any, error) {
	switch r.kind() {
	case "an object":
		m := map[string]any{}
		err := r.object(func(name []byte) error {
			if _, repeated := m[string(name)]; repeated {
				return r.fail("is there twice")
			}
			v, err := r.any()
			m[string(name)] = v
			return err
		})
		return m, err
	case "an array":
		s := []any{}
		err := r.array(func(int) error {
			v, err := r.any()
			s = append(s, v)
			return err
		})
		return s, err
	case "a string":
		return r.str()
	case "a number":
		n, err := r.number()
		return json.Number(n), err
	case "a boolean":
		return r.boolean()
	}
	if r.null() {
		return nil, nil
	}
	return nil, r.syntax("a value")
}

// strings reads an array of at most limit strings; null is none.
func (r *jsonReader) strings(limit int) ([]string, error) {
	if r.null() {
		return nil, nil
	}
	var list []string
	err := r.array(func(i int) error {
		if i >= limit {
			return r.fail("is one entry too many; at most %d are allowed", limit)
		}
		s, err := r.str()
		list = append(list, s)
		return err
	})
	return list, err
}
