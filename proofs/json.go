package proofs

import (
	"strings"
	"unicode/utf8"
)

// Bounds of the JSON in a token or a key set, whose bytes are bounded before. The widest tokens about are those
// with two hundred groups in a list and some forty claims.
const (
	maxDepth    = 8    // objects and arrays inside each other, the outermost included
	maxMembers  = 64   // of one object
	maxElements = 1024 // of one array
	maxNumber   = 32   // characters of a number
)

// scanner reads JSON (RFC 8259) strictly: valid UTF-8, no name twice in an object at any depth, no lone surrogate, no
// number that a float64 can't hold. So whatever it accepts means the same to any other reader.
//
// Strings without escapes are cut out of the text, not copied. The first failure sticks, and every later call
// returns a zero value, so callers look at err once.
type scanner struct {
	text  string
	at    int
	depth int
	err   error // *Error
}

// scan refuses text that is not UTF-8 at once: behind it, bytes can be compared as they are.
func scan(text string) scanner {
	s := scanner{text: text}
	if !utf8.ValidString(text) {
		s.fail("it is not UTF-8")
	}
	return s
}

func (s *scanner) fail(format string, args ...any) { s.refuse(ReasonMalformed, format, args...) }

func (s *scanner) refuse(reason Reason, format string, args ...any) {
	if s.err == nil {
		s.err = refuse(reason, format, args...)
	}
}

// peek moves over white space and returns the next byte, or 0 at the end and after a failure.
func (s *scanner) peek() byte {
	if s.err != nil {
		return 0
	}
	for ; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; c {
		case ' ', '\t', '\n', '\r':
		default:
			return c
		}
	}
	return 0
}

// eat moves over white space and c where it is next, and reports whether it was.
func (s *scanner) eat(c byte) bool {
	if s.peek() != c {
		return false
	}
	s.at++
	return true
}

// want moves over c or fails.
func (s *scanner) want(c byte) {
	if !s.eat(c) {
		s.fail("expected %q at byte %d", c, s.at)
	}
}

// end fails where anything but white space is left.
func (s *scanner) end() {
	s.peek()
	if s.at < len(s.text) {
		s.fail("something is left over at byte %d", s.at)
	}
}

// object is an object or an array under way. Of an object it remembers the names.
type object struct {
	names [maxMembers]string
	n     int
}

func (s *scanner) open(bracket byte) {
	s.want(bracket)
	if s.depth++; s.depth > maxDepth {
		s.fail("more than %d objects and arrays inside each other", maxDepth)
	}
}

// member moves to the next member's value and returns its name, or false after the last member.
func (s *scanner) member(o *object) (name string, ok bool) {
	if s.err != nil {
		return "", false
	}
	if s.eat('}') {
		s.depth--
		return "", false
	}
	if o.n > 0 {
		s.want(',')
	}
	if o.n == maxMembers {
		s.fail("more than %d members in an object", maxMembers)
	}
	at := s.at
	name = s.string()
	s.want(':')
	if s.err != nil {
		return "", false
	}
	for _, earlier := range o.names[:o.n] {
		if earlier == name {
			s.fail("the member name at byte %d is there twice", at)
			return "", false
		}
	}
	o.names[o.n] = name
	o.n++
	return name, true
}

// element moves to the next element of an array of which n have been read, and returns false after the last.
func (s *scanner) element(n int) bool {
	if s.err != nil {
		return false
	}
	if s.eat(']') {
		s.depth--
		return false
	}
	if n > 0 {
		s.want(',')
	}
	if n == maxElements {
		s.fail("more than %d elements in an array", maxElements)
	}
	return s.err == nil
}

// string reads a string and undoes its escapes.
func (s *scanner) string() string {
	s.want('"')
	if s.err != nil {
		return ""
	}
	for i := s.at; i < len(s.text); i++ {
		switch c := s.text[i]; {
		case c == '"':
			value := s.text[s.at:i]
			s.at = i + 1
			return value
		case c == '\\':
			return s.escaped(i)
		case c < ' ':
			s.fail("a control character in the string at byte %d", s.at)
			return ""
		}
	}
	s.fail("the string at byte %d has no end", s.at)
	return ""
}

// escaped reads the rest of a string whose first escape is at byte first.
func (s *scanner) escaped(first int) string {
	start := s.at
	var value strings.Builder
	value.WriteString(s.text[start:first])
	for s.at = first; s.at < len(s.text) && s.err == nil; {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return value.String()
		case c == '\\':
			value.WriteRune(s.escape())
		case c < ' ':
			s.fail("a control character in the string at byte %d", start)
		default:
			value.WriteByte(c)
			s.at++
		}
	}
	s.fail("the string at byte %d has no end", start)
	return ""
}

// escape reads one escape, or the two that make a surrogate pair.
func (s *scanner) escape() rune {
	at := s.at
	if s.at++; s.at == len(s.text) {
		s.fail("the escape at byte %d has no end", at)
		return 0
	}
	c := s.text[s.at]
	s.at++
	if i := strings.IndexByte(`"\/bfnrt`, c); i >= 0 {
		return rune("\"\\/\b\f\n\r\t"[i])
	}
	if c != 'u' {
		s.fail("an unknown escape at byte %d", at)
		return 0
	}
	r := s.hex4()
	if r < 0xd800 || r > 0xdfff {
		return r
	}
	// Readers differ about half a pair: some keep it, some put U+FFFD in its place. So it is none.
	if r < 0xdc00 && strings.HasPrefix(s.text[s.at:], `\u`) {
		s.at += 2
		if low := s.hex4(); low >= 0xdc00 && low <= 0xdfff {
			return 0x10000 + (r-0xd800)<<10 + (low - 0xdc00)
		}
	}
	s.fail("half a surrogate pair at byte %d", at)
	return 0
}

func (s *scanner) hex4() (r rune) {
	if len(s.text)-s.at < 4 {
		s.fail("the escape at byte %d has no end", s.at)
		return 0
	}
	for range 4 {
		c := s.text[s.at]
		digit := unhex(c)
		if digit < 0 {
			s.fail("a hexadecimal digit was expected at byte %d", s.at)
			return 0
		}
		r = r<<4 | rune(digit)
		s.at++
	}
	return r
}

// unhex returns the value of a hexadecimal digit, or -1.
func unhex(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// number reads a number and returns its text. One with an exponent of three digits would be infinite to some
// readers; nobody needs one.
func (s *scanner) number() string {
	s.peek()
	start := s.at
	s.next('-')
	if !s.next('0') && s.digits() == 0 {
		s.fail("a value was expected at byte %d", start)
		return ""
	}
	if s.next('.') && s.digits() == 0 {
		s.fail("the number at byte %d has an empty fraction", start)
	}
	if s.next('e') || s.next('E') {
		if !s.next('+') {
			s.next('-')
		}
		if n := s.digits(); n == 0 || n > 2 {
			s.fail("the number at byte %d has an exponent that is empty or too large", start)
		}
	}
	if s.err == nil && s.at-start > maxNumber {
		s.fail("the number at byte %d has more than %d characters", start, maxNumber)
	}
	if s.err != nil {
		return ""
	}
	return s.text[start:s.at]
}

// next moves over c where it stands right here, and reports whether it did.
func (s *scanner) next(c byte) bool {
	if s.err != nil || s.at == len(s.text) || s.text[s.at] != c {
		return false
	}
	s.at++
	return true
}

func (s *scanner) digits() (n int) {
	for s.err == nil && s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		s.at++
		n++
	}
	return n
}

// literal moves over the word or fails.
func (s *scanner) literal(word string) {
	if s.err == nil && !strings.HasPrefix(s.text[s.at:], word) {
		s.fail("a value was expected at byte %d", s.at)
	}
	if s.err == nil {
		s.at += len(word)
	}
}

// boolean reads true or false.
func (s *scanner) boolean() bool {
	if s.peek() == 't' {
		s.literal("true")
		return s.err == nil
	}
	s.literal("false")
	return false
}

// skip reads any value, as strictly as those that are of interest.
func (s *scanner) skip() {
	switch s.peek() {
	case '{':
		var o object
		s.open('{')
		for {
			if _, ok := s.member(&o); !ok {
				return
			}
			s.skip()
		}
	case '[':
		s.open('[')
		for n := 0; s.element(n); n++ {
			s.skip()
		}
	case '"':
		s.string()
	case 't', 'f':
		s.boolean()
	case 'n':
		s.literal("null")
	default:
		s.number()
	}
}
