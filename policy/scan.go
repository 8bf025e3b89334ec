package policy

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// token is a piece of a policy's text, with the place of its first character. Tokens serve to say where a fault is,
// and nothing else: what a policy means is for Cedar's own parser.
type token struct {
	kind         tokenKind
	text         string // of a string with its quotes
	line, column int    // from 1; a column is a character, as editors count
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenWord
	tokenNumber
	tokenString
	tokenSign
)

// scan splits any text whatever; the last token is tokenEnd. A string that is not closed ends with the text.
func scan(text string) []token {
	var tokens []token
	line, column := 1, 1
	for text != "" {
		kind, n := nextToken(text)
		if n == 0 {
			kind, n = tokenSign, 1
		}
		if kind != tokenEnd {
			tokens = append(tokens, token{kind, text[:n], line, column})
		}
		for _, r := range text[:n] {
			column++
			if r == '\n' {
				line, column = line+1, 1
			}
		}
		text = text[n:]
	}
	return append(tokens, token{kind: tokenEnd, line: line, column: column})
}

// nextToken measures what the text begins with. Space and comments are tokenEnd.
func nextToken(text string) (kind tokenKind, n int) {
	first, size := utf8.DecodeRuneInString(text)
	while := func(n int, in func(rune) bool) int {
		for n < len(text) {
			r, size := utf8.DecodeRuneInString(text[n:])
			if !in(r) {
				break
			}
			n += size
		}
		return n
	}
	switch {
	case unicode.IsSpace(first):
		return tokenEnd, while(size, unicode.IsSpace)
	case len(text) > 1 && text[:2] == "//":
		return tokenEnd, while(2, func(r rune) bool { return r != '\n' })
	case len(text) > 1 && text[:2] == "/*":
		if end := strings.Index(text[2:], "*/"); end >= 0 {
			return tokenEnd, 2 + end + 2
		}
		return tokenEnd, len(text)
	case first == '_' || unicode.IsLetter(first):
		return tokenWord, while(size, func(r rune) bool { return r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r) })
	case unicode.IsDigit(first):
		return tokenNumber, while(size, unicode.IsDigit)
	case first == '"':
		escaped, closed := false, false
		n = while(size, func(r rune) bool {
			if closed {
				return false
			}
			closed = r == '"' && !escaped
			escaped = r == '\\' && !escaped
			return true
		})
		return tokenString, n
	}
	for _, sign := range []string{"==", "!=", "<=", ">=", "&&", "||", "::"} {
		if len(text) > 1 && text[:2] == sign {
			return tokenSign, 2
		}
	}
	return tokenSign, size
}
