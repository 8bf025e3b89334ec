package policy

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// maxFaults keeps an answer readable when a policy is hopeless.
const maxFaults = 16

// fault is one thing that is wrong with a policy's text, and where.
type fault struct {
	line, column int
	what, advice string
	near         string // the name that was meant, where one is near
}

func (f fault) String() string {
	s := fmt.Sprintf("line %d, column %d: %s", f.line, f.column, f.what)
	if f.advice != "" {
		s += "; " + f.advice
	}
	return s
}

func (f fault) advise(format string, args ...any) fault {
	f.advice = fmt.Sprintf(format, args...)
	return f
}

// suggest names the nearest of the names that would do, if one is near.
func (f fault) suggest(name string, names []string) fault {
	if f.near = nearest(name, names); f.near != "" {
		return f.advise("did you mean %q?", f.near)
	}
	return f.advise("there are %s", strings.Join(names, ", "))
}

var (
	parseError = regexp.MustCompile(`parse error at <input>:(\d+):(\d+) (?:"(?:[^"\\]|\\.)*"): (.*)$`)
	scanError  = regexp.MustCompile(`^(?:parser error: )?<input>:(\d+):(\d+): (.*)$`)
	wanted     = regexp.MustCompile(`^(?:exact )?got (.*) want (.*)$`)
	notKnown   = regexp.MustCompile("^`(.*)` is not a (function|method)$")
)

// functions and methods of Cedar.
var (
	functions = []string{"datetime", "decimal", "duration", "ip"}
	methods   = []string{
		"contains", "containsAll", "containsAny", "durationSince", "getTag", "greaterThan", "greaterThanOrEqual", "hasTag", "isEmpty",
		"isInRange", "isIpv4", "isIpv6", "isLoopback", "isMulticast", "lessThan", "lessThanOrEqual", "offset", "toDate", "toDays",
		"toHours", "toMilliseconds", "toMinutes", "toSeconds", "toTime",
	}
)

// syntaxFault words what Cedar's parser says. The parser tells the place of the token that it stands at, which mostly
// is the one after that which it did not like.
func syntaxFault(tokens []token, err error) fault {
	text := err.Error()
	if m := scanError.FindStringSubmatch(text); m != nil {
		return fault{line: number(m[1]), column: number(m[2]), what: m[3]}
	}
	m := parseError.FindStringSubmatch(text)
	if m == nil {
		return literalFault(tokens, strings.TrimPrefix(text, "parser error: "))
	}
	line, column, what := number(m[1]), number(m[2]), m[3]
	at := slices.IndexFunc(tokens, func(t token) bool { return !t.before(line, column) })
	if at < 0 {
		at = len(tokens) - 1
	}
	culprit := tokens[at]
	if at > 0 && culprit.kind != tokenEnd {
		culprit = tokens[at-1]
	}
	on := func(t token, what string) fault { return fault{line: t.line, column: t.column, what: what} }
	last := func(name string) token {
		for i := at - 1; i >= 0; i-- {
			if tokens[i].text == name {
				return tokens[i]
			}
		}
		return culprit
	}
	switch {
	case wanted.MatchString(what):
		w := wanted.FindStringSubmatch(what)
		if w[1] == "" {
			return on(tokens[len(tokens)-1], fmt.Sprintf("the text ends where %q should be", w[2]))
		}
		return on(last(w[1]), fmt.Sprintf("%q stands where %q should be", w[1], w[2]))
	case notKnown.MatchString(what):
		w := notKnown.FindStringSubmatch(what)
		names := functions
		if w[2] == "method" {
			names = methods
		}
		return on(last(w[1]), fmt.Sprintf("there is no %s %q", w[2], w[1])).suggest(w[1], names)
	case strings.HasPrefix(what, "unexpected effect"):
		return on(culprit, fmt.Sprintf("%q stands where \"forbid\" should be", culprit.text))
	case what == "invalid primary":
		if culprit.kind == tokenWord {
			return on(culprit, fmt.Sprintf("%q means nothing here", culprit.text)).
				suggest(culprit.text, []string{"principal", "action", "resource", "context", "true", "false"})
		}
		return on(culprit, fmt.Sprintf("%q stands where a value should be", culprit.text))
	}
	return on(culprit, fmt.Sprintf("at %q: %s", culprit.text, what))
}

// literalFault finds the literal that Cedar's parser could not read: of those it tells no place.
func literalFault(tokens []token, what string) fault {
	for _, t := range tokens {
		if t.kind == tokenNumber {
			if _, err := strconv.ParseInt(t.text, 10, 64); err != nil {
				return fault{line: t.line, column: t.column, what: "the number is too large"}
			}
		}
	}
	for _, t := range tokens {
		if t.kind == tokenString && strings.Contains(t.text, `\`) {
			return fault{line: t.line, column: t.column, what: what}
		}
	}
	return fault{line: 1, column: 1, what: what}
}

func number(digits string) int {
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 1
	}
	return n
}

// nearest returns the name that a mistyped one was meant to be, "" where none is near.
func nearest(name string, names []string) string {
	best, least := "", max(2, len(name)/3)+1
	for _, candidate := range names {
		if d := distance(strings.ToLower(name), strings.ToLower(candidate), least); d < least {
			best, least = candidate, d
		}
	}
	if least >= len(name) {
		return ""
	}
	return best
}

// maxDistanceText bounds what distance looks at: names are short, and what is longer is like none of them.
const maxDistanceText = 64

// distance counts the letters to insert, drop or change to make a into b (Levenshtein), or answers limit.
func distance(a, b string, limit int) int {
	if len(a) > maxDistanceText || len(b) > maxDistanceText {
		return limit
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
