package proofs

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"sync/atomic"
	"time"

	"github.com/deputy-id/deputy/identity"
)

const (
	// NonceRotation is how often the nonce changes.
	NonceRotation = time.Minute
	// NonceLifetime is how long a nonce is good from the minute on in which it was given out.
	NonceLifetime = 4 * NonceRotation
	// nonceBytes of the code are shown: 128 bits that nobody guesses.
	nonceBytes = 16
	nonces     = int(NonceLifetime / NonceRotation)
)

// Nonces gives out the nonces that DPoP proofs must give back (RFC 9449 section 8), and knows its own again without
// keeping a list. A nonce is a code over the node's name and the minute, by a key that dies with the process: one of
// another node, or from before a restart, is refused. So a proof with a nonce can be replayed to no node but this,
// which remembers its jti. It is safe for concurrent use.
type Nonces struct {
	node   string
	key    [sha256.Size]byte
	window atomic.Pointer[window]
}

// window are the nonces that are good during one minute, the newest first.
type window struct {
	slot int64
	good [nonces]string
}

// NewNonces wants a key of 32 random bytes that is made anew in each process and shown to nobody.
func NewNonces(node string, key [sha256.Size]byte) *Nonces { return &Nonces{node: node, key: key} }

// Current is the nonce to give out now, of 22 characters.
func (n *Nonces) Current(now identity.Instant) string { return n.at(now).good[0] }

// Valid reports whether this process gave the nonce out in this minute or in one of the three before it. Comparison
// takes the same time for any nonce of the right length.
func (n *Nonces) Valid(nonce string, now identity.Instant) bool {
	found := 0
	for _, good := range n.at(now).good {
		found |= subtle.ConstantTimeCompare([]byte(good), []byte(nonce))
	}
	return found == 1
}

// at returns the window of a moment. Two callers may make the same one at once; either will do.
func (n *Nonces) at(now identity.Instant) *window {
	slot := int64(now) / NonceRotation.Milliseconds()
	if w := n.window.Load(); w != nil && w.slot == slot {
		return w
	}
	w := &window{slot: slot}
	for i := range w.good {
		w.good[i] = n.code(slot - int64(i))
	}
	n.window.Store(w)
	return w
}

func (n *Nonces) code(slot int64) string {
	mac := hmac.New(sha256.New, n.key[:])
	mac.Write(binary.BigEndian.AppendUint64(nil, uint64(slot)))
	mac.Write([]byte(n.node)) // last, so that no name can run into the slot
	return encode(mac.Sum(nil)[:nonceBytes])
}
