package audit

import "strings"

// Handlers never put a token or a secret into a record. But a record also holds what strangers send: a client id into
// whose field somebody pasted the secret, a URL with a token in its query. A log that can't be changed must not keep
// those, so what looks like one is taken out.

const (
	redacted = "[redacted]"
	// shortestSecret is below the length of any token or secret and above that of every id.
	shortestSecret = 36
	// secretRun is how many characters of the alphabet must follow a prefix: more than a name that begins alike has.
	secretRun = 20
)

// jwtPrefix is `{"` in base64url, with which the header of every JWT begins.
const jwtPrefix = "eyJ"

// secretPrefixes begin the secrets of this project (clients, API tokens, joining) and JWTs.
var secretPrefixes = [...]string{"dps_", "dpt_", "dpj_", jwtPrefix}

// redact replaces everything in s that looks like a secret.
func redact(s string) (clean string, found bool) {
	for _, prefix := range secretPrefixes {
		for from := 0; ; {
			at := strings.Index(s[from:], prefix)
			if at < 0 {
				break
			}
			at += from
			end := at + len(prefix)
			for end < len(s) && secretByte(s[end]) {
				end++
			}
			// A JWT has dots; the random id of a key may begin like one by chance.
			if end-at < len(prefix)+secretRun || (prefix == jwtPrefix && strings.IndexByte(s[at:end], '.') < 0) {
				from = end
				continue
			}
			s, found = s[:at]+redacted+s[end:], true
			from = at + len(redacted)
		}
	}
	return s, found
}

// secretByte is true for base64url, and for the dots between the parts of a token.
func secretByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.'
}
