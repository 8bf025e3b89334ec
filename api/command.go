package api

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"

	"github.com/deputy-id/deputy/api/wire"
	"github.com/deputy-id/deputy/fsm"
	"github.com/deputy-id/deputy/identity"
)

// commandPlan is what identifies the command of a write, how long its client waits, and what has come of it.
type commandPlan struct {
	internal    fsm.CommandID // drawn for this request alone
	key         fsm.CommandID // from the client's Idempotency-Key; zero without one
	fingerprint [16]byte      // of the request, to tell another body under the same key
	step        byte          // 0 for the first command of the request, 1 for its second
	wish        wish
	outcome     outcome
	decided     bool // the log has spoken on a command of this attempt
}

// plan draws, or takes over from the origin, what identifies the write.
func (a *API) plan(c *call) error {
	if c.origin != nil {
		c.command.internal = c.origin.command
		c.seed = &seedReader{seed: c.origin.seed}
	} else {
		c.seed = &seedReader{}
		if _, err := io.ReadFull(a.Entropy, c.command.internal[:]); err != nil {
			return fmt.Errorf("drawing a command id: %w", err)
		}
		if _, err := io.ReadFull(a.Entropy, c.seed.seed[:]); err != nil {
			return fmt.Errorf("drawing a seed: %w", err)
		}
	}
	key := c.ctx.Request.Header.Peek(wire.HeaderIdempotencyKey)
	if len(key) == 0 {
		return nil
	}
	if len(key) > wire.MaxIdempotencyKey {
		return identity.Errorf(identity.CodeInvalid, "the header %s has %d bytes; at most %d are allowed", wire.HeaderIdempotencyKey, len(key), wire.MaxIdempotencyKey)
	}
	h := sha256.New()
	io.WriteString(h, c.caller.id()) //nolint:errcheck // a hash never fails
	h.Write([]byte{0})
	h.Write(key)
	copy(c.command.key[:], h.Sum(nil))

	h.Reset()
	h.Write(c.ctx.Method())
	h.Write([]byte{0})
	h.Write(c.ctx.Request.Header.RequestURI())
	h.Write([]byte{0})
	h.Write(c.ctx.PostBody())
	copy(c.command.fingerprint[:], h.Sum(nil))
	return nil
}

// second has the call propose its second command: another id, that a retry arrives at again.
func (c *call) second() *call {
	c.command.step = 1
	return c
}

// commandID is the internal id of the command that is proposed next.
func (p *commandPlan) commandID() fsm.CommandID {
	id := p.internal
	id[0] ^= p.step
	return id
}

// propose commits a command of this write, under the client's Idempotency-Key where there is one. The error
// holds the refusal of Apply as well.
func (a *API) propose(c *call, body fsm.Body) (fsm.Result, error) {
	cmd := fsm.Command{ID: c.command.commandID(), Time: a.now(), By: c.caller.id(), Body: body}
	if c.command.key != (fsm.CommandID{}) {
		cmd.ID, cmd.Fingerprint, cmd.ClientKey = c.command.key, c.command.fingerprint, true
	}
	return a.commit(c, cmd)
}

// proposeStop is propose for whatever denies handles. It leaves the client's key aside: a revocation that was
// asked for is made, also where an earlier one had the same key.
func (a *API) proposeStop(c *call, body fsm.Body) (fsm.Result, error) {
	return a.commit(c, fsm.Command{ID: c.command.commandID(), Time: a.now(), By: c.caller.id(), Body: body})
}

func (a *API) commit(c *call, cmd fsm.Command) (fsm.Result, error) {
	ctx, cancel := context.WithTimeout(context.Background(), writeDeadline)
	defer cancel()
	result, err := a.proposer.Propose(ctx, cmd)
	if err != nil {
		return result, err
	}
	c.settled = true // also where Apply refuses: a quorum holds the entry that says so
	c.decide()
	if result.Index != 0 {
		c.setIndex(result.Index)
	}
	if result.Err != nil {
		return result, result.Err
	}
	return result, nil
}

// decide notes that the log has spoken. What it says of a command, it says again to whoever repeats it.
func (c *call) decide() {
	c.command.decided = true
	if c.origin != nil {
		c.ctx.SetUserValue(decidedKey, true)
	}
}

// valueOf takes a result's value as the type that the command's documentation names.
func valueOf[T any](result fsm.Result) (T, error) {
	value, ok := result.Value.(T)
	if !ok {
		return value, fmt.Errorf("BUG: the state machine answered %T where %T belongs", result.Value, value)
	}
	return value, nil
}

// proposed is propose with the value's type.
func proposed[T any](a *API, c *call, body fsm.Body) (T, fsm.Result, error) {
	result, err := a.propose(c, body)
	if err != nil {
		var none T
		return none, result, err
	}
	value, err := valueOf[T](result)
	return value, result, err
}

// stopped is proposeStop with the value's type.
func stopped[T any](a *API, c *call, body fsm.Body) (T, fsm.Result, error) {
	result, err := a.proposeStop(c, body)
	if err != nil {
		var none T
		return none, result, err
	}
	value, err := valueOf[T](result)
	return value, result, err
}

// seedReader yields the random bytes of one write from a seed: SHA-256 of the seed and a counter. A retry at
// another leader carries the seed along and so makes the same ids and secrets, which it must, as the first
// attempt may have been committed.
type seedReader struct {
	seed    [32]byte
	counter uint64
	left    []byte
}

func (s *seedReader) rewind() { s.counter, s.left = 0, nil }

func (s *seedReader) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		if len(s.left) == 0 {
			var input [40]byte
			copy(input[:], s.seed[:])
			binary.BigEndian.PutUint64(input[32:], s.counter)
			s.counter++
			block := sha256.Sum256(input[:])
			s.left = block[:]
		}
		k := copy(p[n:], s.left)
		s.left = s.left[k:]
		n += k
	}
	return n, nil
}

// Prefixes tell a secret's kind at a glance, to people and to scanners for leaked secrets.
const (
	prefixClientSecret = "dps_"
	prefixAPIToken     = "dpt_"
)

// secret makes the text of a secret: 256 random bits behind its prefix.
func (c *call) secret(prefix string) string {
	var bits [32]byte
	_, _ = c.seed.Read(bits[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(bits[:])
}

// newID makes an id for an object of this write.
func (c *call) newID(prefix string) string {
	var entropy [10]byte
	_, _ = c.seed.Read(entropy[:]) // never fails
	return identity.NewID(prefix, c.now, entropy)
}

// shown returns a secret only if it is the one that was stored: the answer to a replayed create leaves it out.
func shown(secret string, stored []byte) string {
	if hash := identity.HashSecret(secret); string(hash[:]) != string(stored) {
		return ""
	}
	return secret
}

func addrPort(a netip.Addr) netip.AddrPort {
	if !a.IsValid() {
		a = netip.IPv4Unspecified()
	}
	return netip.AddrPortFrom(a, 0)
}
