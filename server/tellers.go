package server

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/deputy-id/deputy/identity"
)

const (
	// tellTimeout bounds one call; who does not answer within it is told by gossip and by the log.
	tellTimeout = 2 * time.Second
	// tellBytes bounds one call: some thousands of handles, well below the bound of a call's body.
	tellBytes = 128 << 10
	// maxUntold bounds the denies that wait for one member that is slow to answer.
	maxUntold = 1 << 14
)

var errBadHandles = errors.New("malformed handles")

// tellers tell members of denies by call. To each member at most one call is under way, and the next carries
// all that has gathered meanwhile, so that a flood costs as many calls as a member can answer.
type tellers struct {
	carrier denyCarrier
	boot    func() time.Duration
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu      sync.Mutex
	stopped bool
	untold  map[string][]*denied // by member; a key is there while a call is under way
}

func newTellers(carrier denyCarrier, boot func() time.Duration) *tellers {
	t := &tellers{carrier: carrier, boot: boot, untold: make(map[string][]*denied)}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	return t
}

func (t *tellers) tell(members []string, said *denied) {
	for _, id := range members {
		t.mu.Lock()
		waiting, busy := t.untold[id]
		accepted := !t.stopped && len(waiting) < maxUntold
		if accepted {
			t.untold[id] = append(waiting, said)
			if !busy {
				t.running.Go(func() { t.run(id) })
			}
		}
		t.mu.Unlock()
		if !accepted {
			said.answer(false, t.boot())
		}
	}
}

// run tells one member until nothing is left to tell.
func (t *tellers) run(id string) {
	for {
		t.mu.Lock()
		batch := t.untold[id]
		if len(batch) == 0 {
			delete(t.untold, id)
			t.mu.Unlock()
			return
		}
		t.untold[id] = []*denied{} // a key, as a call is under way
		t.mu.Unlock()
		heard := t.call(id, batch) == nil
		now := t.boot()
		for _, said := range batch {
			said.answer(heard, now)
		}
	}
}

func (t *tellers) call(id string, batch []*denied) error {
	var handles []identity.Handle
	for _, said := range batch {
		handles = append(handles, said.handles...)
	}
	for len(handles) > 0 {
		payload, taken := encodeHandles(handles, tellBytes)
		handles = handles[taken:]
		ctx, cancel := context.WithTimeout(t.ctx, tellTimeout)
		_, err := t.carrier.Call(ctx, id, methodDeny, payload)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tellers) stop() {
	t.mu.Lock()
	t.stopped = true
	t.mu.Unlock()
	t.cancel()
	t.running.Wait()
}

// encodeHandles packs as many handles as fit into size bytes, at least one.
func encodeHandles(handles []identity.Handle, size int) (payload []byte, taken int) {
	for _, h := range handles {
		if taken > 0 && len(payload)+binary.MaxVarintLen32+len(h) > size {
			break
		}
		payload = binary.AppendUvarint(payload, uint64(len(h)))
		payload = append(payload, h...)
		taken++
	}
	return payload, taken
}

// decodeHandles undoes encodeHandles. The handles share nothing with the payload.
func decodeHandles(payload []byte) ([]identity.Handle, error) {
	var handles []identity.Handle
	for rest := payload; len(rest) > 0; {
		length, n := binary.Uvarint(rest)
		if n <= 0 || length == 0 || length > uint64(identity.MaxHandleLength) || length > uint64(len(rest)-n) {
			return nil, fmt.Errorf("%w at byte %d of %d", errBadHandles, len(payload)-len(rest), len(payload))
		}
		handles = append(handles, identity.Handle(rest[n:n+int(length)]))
		rest = rest[n+int(length):]
	}
	return handles, nil
}
