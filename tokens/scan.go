package tokens

import (
	"fmt"
	"strings"
)

// scanner reads the subset of JSON (RFC 8259) that Mint writes: objects, arrays, strings of printable ASCII
// without escapes, and positive integers, with no white space in between. Whatever it accepts means the same
// to any JSON parser; whatever could mean two things, it refuses.
//
// Strings are cut out of the text, not copied: they keep the whole text alive and are as immutable as it is.
// The first failure sticks, and every later call returns a zero value, so callers look at err once.
type scanner struct {
	text string
	at   int
	err  error
}

func (s *scanner) fail(format string, args ...any) {
	if s.err == nil {
		s.err = fmt.Errorf(format, args...)
	}
}

// eat moves over c where it is next, and reports whether it was.
func (s *scanner) eat(c byte) bool {
	if s.err != nil || s.at == len(s.text) || s.text[s.at] != c {
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

// more reports whether an element follows in an array or object of which n have been read; it moves over the
// comma before the element, or over the closing bracket after the last.
func (s *scanner) more(closing byte, n int) bool {
	if s.err != nil || s.eat(closing) {
		return false
	}
	if n > 0 {
		s.want(',')
	}
	return s.err == nil
}

// string reads a string of visible ASCII.
func (s *scanner) string() string { return s.stringFrom('!') }

// spacedString reads a string of visible ASCII and spaces.
func (s *scanner) spacedString() string { return s.stringFrom(' ') }

// stringFrom reads a string of the characters from least to '~' without '\'. As there is no escape, the next
// '"' ends it.
func (s *scanner) stringFrom(least byte) string {
	s.want('"')
	if s.err != nil {
		return ""
	}
	length := strings.IndexByte(s.text[s.at:], '"')
	if length < 0 {
		s.fail("the string at byte %d has no end", s.at)
		return ""
	}
	value := s.text[s.at : s.at+length]
	for i := 0; i < len(value); i++ {
		if c := value[i]; c < least || c > '~' || c == '\\' {
			s.fail("the string at byte %d holds %q", s.at, c)
			return ""
		}
	}
	s.at += length + 1
	return value
}

// name reads a member's name and the colon after it.
func (s *scanner) name() string {
	name := s.string()
	s.want(':')
	return name
}

// integer reads a whole number from 1 to most, in its only spelling: no sign, fraction, exponent or leading
// zero. most must be under 2^59, so that one digit more can't overflow.
func (s *scanner) integer(most int64) int64 {
	start, n := s.at, int64(0)
	for s.err == nil && s.at < len(s.text) && '0' <= s.text[s.at] && s.text[s.at] <= '9' {
		n = n*10 + int64(s.text[s.at]-'0')
		s.at++
		if n == 0 || n > most {
			break
		}
	}
	if n == 0 || n > most {
		s.fail("expected a whole number from 1 to %d at byte %d", most, start)
		return 0
	}
	return n
}

// end fails where anything is left.
func (s *scanner) end() {
	if s.err == nil && s.at != len(s.text) {
		s.fail("%d bytes are left over at byte %d", len(s.text)-s.at, s.at)
	}
}
