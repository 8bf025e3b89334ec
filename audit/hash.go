package audit

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

// Hash is a SHA-256. In JSON it is 64 lower-case hexadecimal digits.
type Hash [sha256.Size]byte

const hexDigits = "0123456789abcdef"

// String spells the hash as it stands in a line.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// MarshalText spells the hash as it stands in a line.
func (h Hash) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, h[:]), nil }

// UnmarshalText takes the one spelling that MarshalText writes.
func (h *Hash) UnmarshalText(text []byte) error {
	parsed, ok := parseHash(text)
	if !ok {
		return fmt.Errorf("%.80q is not a SHA-256 of %d lower-case hexadecimal digits", text, 2*len(h))
	}
	*h = parsed
	return nil
}

func parseHash(text []byte) (h Hash, ok bool) {
	if len(text) != 2*len(h) {
		return h, false
	}
	wrong := byte(0)
	for i := range h {
		high, low := hexValues[text[2*i]], hexValues[text[2*i+1]]
		wrong |= high | low
		h[i] = high<<4 | low&15
	}
	return h, wrong < 16
}

// hexValues are those of lower-case digits; of anything else, 0xff.
var hexValues = func() (table [256]byte) {
	for i := range table {
		table[i] = 0xff
	}
	for i := range len(hexDigits) {
		table[hexDigits[i]] = byte(i)
	}
	return table
}()

func appendHash(dst []byte, h *Hash) []byte {
	for _, b := range h {
		dst = append(dst, hexDigits[b>>4], hexDigits[b&15])
	}
	return dst
}
