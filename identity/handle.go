package identity

import (
	"fmt"
	"strconv"
	"strings"
)

// Handle is an opaque reason to kill a token. A token lists every handle that it rests on; it is dead if
// and only if one of them is in the revocation set. Handles are never reused: ids are unique, and a
// generation comes from one counter that never goes back.
type Handle string

// MaxHandleLength bounds a handle; the longest is a principal's id with its generation.
const MaxHandleLength = len("usr_") + MaxPrincipalLength + len("#") + 20

// AgentHandle names one generation of an agent.
func AgentHandle(name string, generation uint64) Handle {
	return generationHandle("agt_", name, generation)
}

// PrincipalHandle names one generation of a principal.
func PrincipalHandle(id string, generation uint64) Handle {
	return generationHandle("usr_", id, generation)
}

// generationHandle allocates the handle and nothing else, as every mint spells one or two.
func generationHandle(prefix, name string, generation uint64) Handle {
	var digits [20]byte
	return Handle(prefix + name + "#" + string(strconv.AppendUint(digits[:0], generation, 10)))
}

// SessionHandle names one session; its id is the handle.
func SessionHandle(id string) Handle { return Handle(id) }

// DelegationHandle names one delegation; its id is the handle.
func DelegationHandle(id string) Handle { return Handle(id) }

// CredentialHandle names what a caller proved itself with: one credential (crd_…) or one API token (tok_…). Its
// id is the handle.
func CredentialHandle(id string) Handle { return Handle(id) }

// KeyHandle names a signing key. It is implied by a token's `kid` and not written into it.
func KeyHandle(kid string) Handle { return Handle("key_" + kid) }

// ParseHandle holds text from outside to the shape of a handle: a known prefix, visible ASCII, bounded.
func ParseHandle(text string) (Handle, error) {
	if len(text) > MaxHandleLength {
		return "", fmt.Errorf("handle has %d characters; at most %d are allowed", len(text), MaxHandleLength)
	}
	for i := 0; i < len(text); i++ {
		if !claimSafe(text[i]) {
			return "", fmt.Errorf("handle %q holds %q, which no handle has", text, text[i])
		}
	}
	prefix, rest, ok := strings.Cut(text, "_")
	if !ok || rest == "" {
		return "", fmt.Errorf("handle %q has no prefix such as %s", text, PrefixSession)
	}
	switch prefix + "_" {
	case PrefixSession, PrefixDelegation, PrefixCredential, PrefixAPIToken:
		if _, err := ParseID(prefix+"_", text); err != nil {
			return "", err
		}
	case "agt_", "usr_":
		i := strings.LastIndexByte(rest, '#')
		if i <= 0 {
			return "", fmt.Errorf("handle %q lacks its generation, as in %s#7", text, text)
		}
		if g, err := strconv.ParseUint(rest[i+1:], 10, 64); err != nil || strconv.FormatUint(g, 10) != rest[i+1:] {
			return "", fmt.Errorf("handle %q has no whole number as its generation", text)
		}
	case "key_":
	default:
		return "", fmt.Errorf("handle %q has an unknown prefix", text)
	}
	return Handle(text), nil
}

// claimSafe reports whether c may stand in a claim without JSON escapes: visible ASCII but for '"' and '\'.
// Everything that the mint path copies into a token is held to it when it enters the system.
func claimSafe(c byte) bool { return c > ' ' && c <= '~' && c != '"' && c != '\\' }
