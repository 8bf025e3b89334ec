package outbound

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"time"
)

const (
	// SignatureHeader carries the signature of a delivery:
	//
	//	Deputy-Signature: t=1764547200,id=evt_0mq3,v1=5257a869…
	//
	// t is the time of this attempt in seconds since 1970, id names the delivery and is the same in every attempt, and v1
	// is the lower-case hex of HMAC-SHA256, keyed with the secret's bytes as they are, over
	//
	//	t "." id "." body
	//
	// While a secret is being replaced there are two v1, either of which will do. Elements of other names are to be
	// ignored. The id is signed with the rest: a receiver drops ids that it has seen, and somebody who replays a delivery
	// under another id would get past that.
	SignatureHeader = "Deputy-Signature"
	// SignatureTolerance is how far the time of a signature may be from the receiver's. A receiver has to remember ids
	// for at least twice that, and longer to also drop attempts of which it lost the answer.
	SignatureTolerance = 5 * time.Minute

	// MinSecret is the shortest secret, in bytes: 256 random bits take 43 characters, 32 of any kind are accepted.
	MinSecret  = 32
	maxSecrets = 2

	maxSignatureHeader = 1024
	maxSignatures      = 8
	maxDeliveryID      = 128
)

// ErrSignature is what the errors of Verify wrap: the body is not to be believed.
var ErrSignature = errors.New("the signature does not hold")

// Secret is what sender and receiver of a webhook share. It does not show in logs or in text made by package fmt.
type Secret string

const hidden = "(secret)"

// Format keeps the secret out of every verb of package fmt.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hidden)) }

// LogValue keeps the secret out of logs.
func (Secret) LogValue() slog.Value { return slog.StringValue(hidden) }

// MarshalText keeps the secret out of JSON and the like; to store one, say string(secret).
func (Secret) MarshalText() ([]byte, error) { return []byte(hidden), nil }

// Sign makes the value of SignatureHeader, with one v1 for each secret.
func Sign(id string, at time.Time, body []byte, secrets ...Secret) string {
	t := strconv.FormatInt(at.Unix(), 10)
	var b strings.Builder
	b.WriteString("t=" + t + ",id=" + id)
	for _, secret := range secrets {
		b.WriteString(",v1=")
		b.WriteString(hex.EncodeToString(mac(secret, t, id, body)))
	}
	return b.String()
}

// Signed is what a signature vouches for, beside the body.
type Signed struct {
	ID string    // of the delivery; drop it if you have seen it
	At time.Time // of this attempt
}

// Verify is for receivers: it checks the value of SignatureHeader against the body as it came over the wire, before
// anything parsed it. Give both secrets while one is being replaced.
func Verify(header string, body []byte, now time.Time, secrets ...Secret) (Signed, error) {
	refuse := func(why string) (Signed, error) { return Signed{}, fmt.Errorf("%w: %s", ErrSignature, why) }
	if len(header) > maxSignatureHeader {
		return refuse("the header is too long")
	}
	var t, id string
	var candidates [][]byte
	for element := range strings.SplitSeq(header, ",") {
		name, value, ok := strings.Cut(strings.TrimSpace(element), "=")
		switch {
		case !ok:
			return refuse("the header is not t=…,id=…,v1=…")
		case (name == "t" && t != "") || (name == "id" && id != ""):
			return refuse("the header gives " + name + " twice")
		case name == "t":
			t = value
		case name == "id":
			id = value
		case name == "v1":
			sum, err := hex.DecodeString(value)
			if err != nil || len(candidates) == maxSignatures {
				return refuse("v1 is not hexadecimal, or there are too many of them")
			}
			candidates = append(candidates, sum)
		}
	}
	seconds, err := strconv.ParseInt(t, 10, 64)
	if err != nil || checkDeliveryID(id) != nil || len(candidates) == 0 {
		return refuse("the header is not t=…,id=…,v1=…")
	}
	if !anyMatches(candidates, secrets, t, id, body) {
		return refuse("it was not made with this secret over this body")
	}
	// Only now: whoever can't sign learns nothing about this clock.
	at := time.Unix(seconds, 0)
	if off := now.Sub(at); off > SignatureTolerance || off < -SignatureTolerance {
		return refuse("it is too old, or one of the clocks is wrong")
	}
	return Signed{ID: id, At: at}, nil
}

func anyMatches(candidates [][]byte, secrets []Secret, t, id string, body []byte) bool {
	matches := false
	for _, secret := range secrets {
		if len(secret) < MinSecret {
			continue // an empty one would be everybody's
		}
		want := mac(secret, t, id, body)
		for _, candidate := range candidates {
			matches = hmac.Equal(want, candidate) || matches
		}
	}
	return matches
}

// mac covers time, id and body. Neither of the first two may hold a dot, so no other three give the same bytes.
func mac(secret Secret, t, id string, body []byte) []byte {
	h := hmac.New(sha256.New, []byte(secret))
	h.Write([]byte(t + "." + id + "."))
	h.Write(body)
	return h.Sum(nil)
}

func checkDeliveryID(id string) error {
	if id == "" || len(id) > maxDeliveryID {
		return fmt.Errorf("the id of a delivery has 1 to %d characters", maxDeliveryID)
	}
	for _, r := range id {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' {
			return errors.New("the id of a delivery is made of letters, digits, _ and -")
		}
	}
	return nil
}
