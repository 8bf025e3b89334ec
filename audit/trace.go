package audit

import "strings"

// ParseTraceparent returns the trace and the caller's span of a W3C Trace Context header, or nothing where it isn't
// one: the header comes from outside, and a wrong one is treated as absent (section 3.2.2). Versions above 00 may
// carry more behind the flags.
func ParseTraceparent(header string) (trace, span string) {
	const length = len("00-0123456789abcdef0123456789abcdef-0123456789abcdef-01")
	if len(header) < length || header[2] != '-' || header[35] != '-' || header[52] != '-' {
		return "", ""
	}
	version := header[:2]
	if version == "ff" || (version == "00" && len(header) != length) || (len(header) > length && header[length] != '-') {
		return "", ""
	}
	trace, span = header[3:35], header[36:52]
	if !lowerHex(version) || !lowerHex(trace) || !lowerHex(span) || !lowerHex(header[53:55]) ||
		strings.Trim(trace, "0") == "" || strings.Trim(span, "0") == "" {
		return "", ""
	}
	return trace, span
}

func lowerHex(s string) bool {
	for i := 0; i < len(s); i++ {
		if hexValues[s[i]] > 15 {
			return false
		}
	}
	return true
}
