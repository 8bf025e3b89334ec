package api

import (
	"unicode/utf16"
	"unicode/utf8"
)

// text reads a string whose opening quote is next. Where nothing is escaped the result is a part of the body.
func (r *jsonReader) text() ([]byte, error) {
	start := r.pos + 1
	for i := start; i < len(r.data); i++ {
		switch c := r.data[i]; {
		case c == '"':
			s := r.data[start:i]
			r.pos = i + 1
			if !utf8.Valid(s) {
				return nil, r.fail("is not UTF-8")
			}
			return s, nil
		case c == '\\':
			return r.escaped(start, i)
		case c < ' ':
			r.pos = i
			return nil, r.fail("holds the control character %U, which JSON must escape", c)
		}
	}
	r.pos = len(r.data)
	return nil, r.syntax("'\"'")
}

func (r *jsonReader) escaped(start, i int) ([]byte, error) {
	out := append([]byte(nil), r.data[start:i]...)
	for i < len(r.data) {
		c := r.data[i]
		i++
		switch {
		case c == '"':
			r.pos = i
			if !utf8.Valid(out) {
				return nil, r.fail("is not UTF-8")
			}
			return out, nil
		case c < ' ':
			r.pos = i - 1
			return nil, r.fail("holds the control character %U, which JSON must escape", c)
		case c != '\\':
			out = append(out, c)
			continue
		}
		if i >= len(r.data) {
			break
		}
		c = r.data[i]
		i++
		switch c {
		case '"', '\\', '/':
			out = append(out, c)
		case 'b':
			out = append(out, '\b')
		case 'f':
			out = append(out, '\f')
		case 'n':
			out = append(out, '\n')
		case 'r':
			out = append(out, '\r')
		case 't':
			out = append(out, '\t')
		case 'u':
			char, width := r.unicode(i)
			if width == 0 {
				r.pos = i
				return nil, r.fail(`holds \u without a character after it`)
			}
			out = utf8.AppendRune(out, char)
			i += width
		default:
			r.pos = i - 1
			return nil, r.fail(`holds the unknown escape \%c`, c)
		}
	}
	r.pos = len(r.data)
	return nil, r.syntax("'\"'")
}

// unicode reads the digits after \u at i, and the second half of a surrogate pair. A lone surrogate names no
// character and is refused.
func (r *jsonReader) unicode(i int) (rune, int) {
	high, ok := hex4(r.data, i)
	if !ok {
		return 0, 0
	}
	if !utf16.IsSurrogate(high) {
		return high, 4
	}
	if i+6 > len(r.data) || r.data[i+4] != '\\' || r.data[i+5] != 'u' {
		return 0, 0
	}
	low, ok := hex4(r.data, i+6)
	char := utf16.DecodeRune(high, low)
	if !ok || char == utf8.RuneError {
		return 0, 0
	}
	return char, 10
}

func hex4(data []byte, i int) (rune, bool) {
	if i+4 > len(data) {
		return 0, false
	}
	var n rune
	for _, c := range data[i : i+4] {
		digit := unhex(c)
		if digit < 0 {
			return 0, false
		}
		n = n<<4 | rune(digit)
	}
	return n, true
}

func unhex(c byte) int {
	switch {
	case c >= '0' && c <= '9':
		return int(c - '0')
	case c >= 'a' && c <= 'f':
		return int(c-'a') + 10
	case c >= 'A' && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}
