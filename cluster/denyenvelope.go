package cluster

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// A deny as it travels, inside memberlist's encryption:
//
//	version    1 byte
//	origin     1 byte of length, then the id of the member that says it
//	time       8 bytes, big endian: milliseconds of the origin's wall clock since 1970
//	nonce      16 random bytes, so that the same payload said twice is two messages
//	payload    2 bytes of length, then the owner's bytes
//	signature  64 bytes, Ed25519 by the origin's node key over denyPurpose and all that precedes
//
// Nothing may be left out or follow, so that a message has one spelling: relays and duplicates are told apart by
// a hash of the whole.
const (
	denyVersion   = 1
	denyNonceSize = 16
	denyTimeSize  = 8
	denyFixedSize = 1 + 1 + denyTimeSize + denyNonceSize + 2 + ed25519.SignatureSize // without origin and payload

	// MaxDenyPayload is the most that one Deny carries. The longest message then is 956 bytes and 991 as a
	// datagram: memberlist never sends one of some 1,390 bytes, and says nothing.
	MaxDenyPayload = 800
	maxDenyMessage = denyFixedSize + MaxNodeIDLength + MaxDenyPayload
	minDenyMessage = denyFixedSize + 1 + 1

	// denyPurpose keeps a signature of a deny from being one of anything else.
	denyPurpose = "deputy gossip deny v1\x00"
)

var errMalformedDeny = errors.New("not a deny message")

// denyEnvelope is a parsed message. Its slices point into the message.
type denyEnvelope struct {
	origin    string
	at        int64 // milliseconds since 1970, never negative
	payload   []byte
	signed    []byte // what the signature is over, without denyPurpose
	signature []byte
}

// sealDeny makes the message in which the member origin, whose key this is, says payload.
func sealDeny(key NodeKey, origin string, at int64, payload []byte) ([]byte, error) {
	message := make([]byte, 0, denyFixedSize+len(origin)+len(payload))
	message = append(message, denyVersion, byte(len(origin)))
	message = append(message, origin...)
	message = binary.BigEndian.AppendUint64(message, uint64(max(at, 0)))
	var nonce [denyNonceSize]byte
	if _, err := rand.Read(nonce[:]); err != nil {
		return nil, fmt.Errorf("making a nonce: %w", err)
	}
	message = append(message, nonce[:]...)
	message = binary.BigEndian.AppendUint16(message, uint16(len(payload)))
	message = append(message, payload...)
	return append(message, key.Sign(append([]byte(denyPurpose), message...))...), nil
}

// parseDeny takes a message apart. It vouches for the form only; see signedBy.
func parseDeny(message []byte) (denyEnvelope, error) {
	if len(message) < minDenyMessage || len(message) > maxDenyMessage {
		return denyEnvelope{}, fmt.Errorf("%w: %d bytes", errMalformedDeny, len(message))
	}
	if message[0] != denyVersion {
		return denyEnvelope{}, fmt.Errorf("%w: version %d", errMalformedDeny, message[0])
	}
	idSize := int(message[1])
	// The shortest message leaves room for an id of one byte; a longer id may leave none for what follows.
	if idSize == 0 || idSize > MaxNodeIDLength || len(message) < denyFixedSize+idSize+1 {
		return denyEnvelope{}, fmt.Errorf("%w: an origin of %d bytes", errMalformedDeny, idSize)
	}
	payloadSize := len(message) - denyFixedSize - idSize
	timeAt := 2 + idSize
	sizeAt := timeAt + denyTimeSize + denyNonceSize
	if said := int(binary.BigEndian.Uint16(message[sizeAt:])); said != payloadSize || said > MaxDenyPayload {
		return denyEnvelope{}, fmt.Errorf("%w: a payload of %d bytes where %d are said", errMalformedDeny, payloadSize, said)
	}
	at := binary.BigEndian.Uint64(message[timeAt:])
	if at > math.MaxInt64 {
		return denyEnvelope{}, fmt.Errorf("%w: a time out of range", errMalformedDeny)
	}
	end := sizeAt + 2 + payloadSize
	return denyEnvelope{
		origin:    string(message[2:timeAt]),
		at:        int64(at),
		payload:   message[sizeAt+2 : end : end],
		signed:    message[:end:end],
		signature: message[end:],
	}, nil
}

func (e *denyEnvelope) signedBy(key ed25519.PublicKey) bool {
	if len(key) != ed25519.PublicKeySize { // ed25519.Verify would panic
		return false
	}
	return ed25519.Verify(key, append([]byte(denyPurpose), e.signed...), e.signature)
}
