package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode"
)

// none is shown for what was not measured.
const none = "–"

// Count spells a count with thousands apart, and one of fewer than ten with a digit after the point where it has one.
func Count(f float64) string {
	f += 0 // minus zero becomes zero
	if math.Abs(f) < 10 && f != math.Trunc(f) {
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	digits := strconv.FormatFloat(f, 'f', 0, 64)
	sign := ""
	if rest, ok := strings.CutPrefix(digits, "-"); ok {
		sign, digits = "-", rest
	}
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return sign + b.String()
}

// Latency spells microseconds with the unit that suits them and three digits.
func Latency(us float64) string {
	switch {
	case us < 999.5:
		return digits(us) + " µs"
	case us < 999_500:
		return digits(us/1e3) + " ms"
	}
	return digits(us/1e6) + " s"
}

// digits spells three significant ones, and no zeros after the point that say nothing.
func digits(f float64) string {
	places := 2
	switch {
	case f >= 99.95:
		places = 0
	case f >= 9.995:
		places = 1
	}
	text := strconv.FormatFloat(f, 'f', places, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimRight(strings.TrimRight(text, "0"), ".")
	}
	return text
}

// Percent spells a share.
func Percent(share float64) string {
	percent := 100 * share
	switch {
	case share == 0:
		return "0 %"
	case math.Abs(percent) < 0.001:
		return "<0.001 %"
	case math.Abs(percent) < 1:
		return strconv.FormatFloat(percent, 'g', 2, 64) + " %"
	}
	return fmt.Sprintf("%.0f %%", percent)
}

// Ratio spells a share of a ceiling.
func Ratio(f float64) string { return strconv.FormatFloat(f, 'f', 3, 64) }

// Bytes spells a size.
func Bytes(n int64) string {
	switch {
	case n < 1<<10:
		return fmt.Sprintf("%d B", n)
	case n < 1<<20:
		return digits(float64(n)/(1<<10)) + " KiB"
	case n < 1<<30:
		return digits(float64(n)/(1<<20)) + " MiB"
	}
	return digits(float64(n)/(1<<30)) + " GiB"
}

// Seconds spells a time of seconds.
func Seconds(s float64) string {
	switch {
	case s < 120:
		return digits(s) + " s"
	case s < 2*3600:
		return digits(s/60) + " min"
	}
	return digits(s/3600) + " h"
}

func optional(f *float64, spell func(float64) string) string {
	if f == nil {
		return none
	}
	return spell(*f)
}

// plain makes text from a file or a server fit for a terminal: nothing in it moves the cursor or hides a line.
func plain(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
}

// CommandLine spells a command so that a POSIX shell reads it back.
func CommandLine(args []string) string {
	quoted := make([]string, len(args))
	for i, arg := range args {
		quoted[i] = quote(arg)
	}
	return strings.Join(quoted, " ")
}

const shellSafe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=:,./@%"

func quote(arg string) string {
	if arg != "" && strings.Trim(arg, shellSafe) == "" {
		return arg
	}
	return "'" + strings.ReplaceAll(arg, "'", `'\''`) + "'"
}
