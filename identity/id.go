package identity

import (
	"encoding/binary"
	"fmt"
)

// Prefixes of generated ids. An id is its prefix and a UUIDv7 (RFC 9562 section 5.7) in lower-case Crockford
// base32, so that ids sort by the time of their making and can be read aloud. Agents, applications and
// policies have no generated id: theirs is the name that operators type.
const (
	PrefixSession    = "ses_"
	PrefixDelegation = "dlg_"
	PrefixCredential = "crd_"
	PrefixAPIToken   = "tok_"
	PrefixJoinToken  = "jtk_"
	PrefixRequest    = "req_"
	PrefixIssuer     = "iss_"
	PrefixApproval   = "apr_"
)

const (
	crockford   = "0123456789abcdefghjkmnpqrstvwxyz"
	idBodyChars = 26 // 128 bits in groups of five
)

// NewID makes an id from a time and ten random bytes.
func NewID(prefix string, now Instant, entropy [10]byte) string {
	b := make([]byte, 0, len(prefix)+idBodyChars)
	return string(AppendID(append(b, prefix...), now, entropy))
}

// AppendID appends the 26 characters of an id, without a prefix, to dst.
func AppendID(dst []byte, now Instant, entropy [10]byte) []byte {
	hi := uint64(now)<<16 | 0x7000 | uint64(binary.BigEndian.Uint16(entropy[0:2])&0x0fff)
	lo := binary.BigEndian.Uint64(entropy[2:10])&(1<<62-1) | 1<<63
	return appendBase32(dst, hi, lo)
}

func appendBase32(dst []byte, hi, lo uint64) []byte {
	// 128 bits are 26 digits of five bits; the first digit holds the top three bits only.
	dst = append(dst, crockford[hi>>61])
	for shift := 56; shift >= 1; shift -= 5 {
		dst = append(dst, crockford[hi>>uint(shift)&31])
	}
	dst = append(dst, crockford[(hi&1)<<4|lo>>60])
	for shift := 55; shift >= 0; shift -= 5 {
		dst = append(dst, crockford[lo>>uint(shift)&31])
	}
	return dst
}

// ParseID returns the 128 bits of an id and refuses any spelling that NewID could not have written.
func ParseID(prefix, id string) (uuid [16]byte, err error) {
	if len(id) != len(prefix)+idBodyChars || id[:len(prefix)] != prefix {
		return uuid, fmt.Errorf("%.64q is not an id of the form %s followed by %d characters", id, prefix, idBodyChars)
	}
	var hi, lo uint64
	for i := len(prefix); i < len(id); i++ {
		digit := crockfordValue[id[i]]
		if digit < 0 || (i == len(prefix) && digit > 7) {
			return uuid, fmt.Errorf("%q holds %q, which no id has at that place", id, id[i])
		}
		hi = hi<<5 | lo>>59
		lo = lo<<5 | uint64(digit)
	}
	binary.BigEndian.PutUint64(uuid[0:8], hi)
	binary.BigEndian.PutUint64(uuid[8:16], lo)
	return uuid, nil
}

// FormatID spells the 128 bits that ParseID read.
func FormatID(prefix string, uuid [16]byte) string {
	return string(AppendFormattedID(make([]byte, 0, len(prefix)+idBodyChars), prefix, uuid))
}

// AppendFormattedID appends what FormatID returns to dst.
func AppendFormattedID(dst []byte, prefix string, uuid [16]byte) []byte {
	return appendBase32(append(dst, prefix...), binary.BigEndian.Uint64(uuid[0:8]), binary.BigEndian.Uint64(uuid[8:16]))
}

var crockfordValue = func() (table [256]int8) {
	for i := range table {
		table[i] = -1
	}
	for i := 0; i < len(crockford); i++ {
		table[crockford[i]] = int8(i)
	}
	return table
}()
