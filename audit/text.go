package audit

import (
	"unicode/utf8"

	"github.com/deputy-id/deputy/identity"
)

// appendQuoted appends s as a JSON string. It has one spelling only, on which searching in lines relies: quotation mark,
// backslash, controls and DEL are escaped, nothing else is, and what isn't UTF-8 becomes U+FFFD.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	plain := 0 // s[plain:i] is yet to be copied as it is
	for i := 0; i < len(s); {
		if i+8 <= len(s) && allPlain(s[i:i+8]) {
			i += 8
			continue
		}
		c := s[i]
		if c >= ' ' && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		if c >= utf8.RuneSelf {
			r, width := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && width == 1 {
				dst = append(append(dst, s[plain:i]...), "\uFFFD"...)
				plain = i + 1
			}
			i += width
			continue
		}
		dst = append(dst, s[plain:i]...)
		if c == '"' || c == '\\' {
			dst = append(dst, '\\', c)
		} else {
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		i++
		plain = i
	}
	return append(append(dst, s[plain:]...), '"')
}

// allPlain reports whether none of eight bytes is escaped or begins a character of several bytes. It looks at all of
// them at once; where it is false, one may be plain all the same.
func allPlain(s string) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	_ = s[7]
	w := uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
		uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56
	quote, backslash := w^ones*'"', w^ones*'\\'
	odd := w | // 0x80 and above
		(w - ones*' ') | // below a space
		(w + ones) | // DEL
		(quote - ones) | (backslash - ones) // zero after the xor
	return odd&highs == 0
}

// appendInstant appends RFC 3339 with milliseconds in UTC, for the years 1970 to 9999. A time out of that is one of its
// ends: no record is lost over a clock that is wrong.
func appendInstant(dst []byte, at identity.Instant) []byte {
	const last = 253402300799999 // 9999-12-31T23:59:59.999Z
	ms := uint64(min(max(at, 0), last))
	seconds, ms := ms/1000, ms%1000
	days, seconds := seconds/86400, seconds%86400
	year, month, day := civil(days)
	dst = append(append(dst, pair(year/100)...), pair(year%100)...)
	dst = append(append(dst, '-'), pair(month)...)
	dst = append(append(dst, '-'), pair(day)...)
	dst = append(append(dst, 'T'), pair(seconds/3600)...)
	dst = append(append(dst, ':'), pair(seconds/60%60)...)
	dst = append(append(dst, ':'), pair(seconds%60)...)
	dst = append(dst, '.', byte('0'+ms/100))
	return append(append(dst, pair(ms%100)...), 'Z')
}

// civil turns days since 1970 into a date of the Gregorian calendar. It counts years from March, so that the leap day is
// the last of its year, in eras of 400 years, which are all equally long.
func civil(days uint64) (year, month, day uint64) {
	const era, toEpoch = 146097, 719468 // days of an era; from 0000-03-01 to 1970-01-01
	days += toEpoch
	inEra := days % era
	yearOfEra := (inEra - inEra/1460 + inEra/36524 - inEra/146096) / 365
	dayOfYear := inEra - (365*yearOfEra + yearOfEra/4 - yearOfEra/100)
	shifted := (5*dayOfYear + 2) / 153 // 0 is March
	day = dayOfYear - (153*shifted+2)/5 + 1
	year = yearOfEra + days/era*400
	if shifted < 10 {
		return year, shifted + 3, day
	}
	return year + 1, shifted - 9, day
}

// pair spells a number below 100 with two digits.
func pair(n uint64) string {
	const digits = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899"
	return digits[2*n : 2*n+2]
}

// parseInstant takes the one spelling that appendInstant writes.
func parseInstant(text []byte) (identity.Instant, bool) {
	const shape = "0000-00-00T00:00:00.000Z"
	if len(text) != len(shape) {
		return 0, false
	}
	var parts [7]uint64
	n := 0
	for i := range text {
		switch digit := text[i] - '0'; {
		case shape[i] == '0' && digit <= 9:
			parts[n] = parts[n]*10 + uint64(digit)
		case shape[i] != '0' && text[i] == shape[i]:
			n++
		default:
			return 0, false
		}
	}
	year, month, day, hour, minute, second, ms := parts[0], parts[1], parts[2], parts[3], parts[4], parts[5], parts[6]
	if year < 1970 || month < 1 || month > 12 || day < 1 || hour > 23 || minute > 59 || second > 59 {
		return 0, false
	}
	days := daysOf(year, month, day)
	if y, m, d := civil(days); y != year || m != month || d != day { // the month has no such day
		return 0, false
	}
	return identity.Instant((days*86400+hour*3600+minute*60+second)*1000 + ms), true
}

// daysOf is the way back from civil.
func daysOf(year, month, day uint64) uint64 {
	const era, toEpoch = 146097, 719468
	if month <= 2 {
		year--
		month += 12
	}
	yearOfEra := year % 400
	dayOfYear := (153*(month-3)+2)/5 + day - 1
	return year/400*era + yearOfEra*365 + yearOfEra/4 - yearOfEra/100 + dayOfYear - toEpoch
}
