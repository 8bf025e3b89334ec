package cluster

import (
	"bytes"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/hashicorp/memberlist"
)

const gossipKeySize = 32 // AES-256

// chooseGossipKeys takes those given, else those known from the last run, else a new one: that of a cluster which
// is about to begin, or one that the owner replaces by SetGossipKeys once the log has been replayed.
func (n *Node) chooseGossipKeys() error {
	keys := n.o.GossipKeys
	if len(keys) == 0 {
		keys = n.roster.seed.Load().GossipKeys
	}
	if len(keys) == 0 {
		if n.HasState() {
			n.logger.Warn("no gossip key is known; this node counts as dead until it has replayed the log")
		}
		key, err := newGossipKey()
		if err != nil {
			return err
		}
		keys = [][]byte{key}
	}
	return n.roster.setGossipKeys(keys)
}

// startGossip begins under the keys last set: opening the log may have brought newer ones than were chosen.
func (n *Node) startGossip() error {
	n.gossip.rekeying.Lock()
	defer n.gossip.rekeying.Unlock()
	return n.gossip.start(n.GossipKeys())
}

// SetGossipKeys makes this node gossip under keys, the first of which encrypts, and remember them. The owner
// calls it when the replicated settings change, in steps that every member has applied: add, use, drop.
func (n *Node) SetGossipKeys(keys [][]byte) error {
	if err := validGossipKeys(keys); err != nil {
		return err
	}
	n.gossip.rekeying.Lock()
	defer n.gossip.rekeying.Unlock()
	if n.gossip.list.Load() != nil { // else it will begin under them
		if err := replaceKeys(n.gossip.keyring, keys); err != nil {
			return err
		}
	}
	return n.roster.setGossipKeys(keys)
}

// replaceKeys goes round a flaw of memberlist 0.7.0: RemoveKey shifts the keys within the very array that a
// receiver may be trying one by one, which thereby passes over a key that is to stay. Only the removal of the
// last key moves nothing. So the ring is cut back from its end to the first key that goes, and what was to stay
// is added again. In the steps of a rotation nothing that stays is behind what goes.
func replaceKeys(ring *memberlist.Keyring, keys [][]byte) error {
	if err := ring.AddKey(keys[0]); err != nil {
		return fmt.Errorf("adding a gossip key: %w", err)
	}
	if err := ring.UseKey(keys[0]); err != nil { // moves it to the front
		return fmt.Errorf("using a gossip key: %w", err)
	}
	present := ring.GetKeys()
	going := slices.IndexFunc(present, func(old []byte) bool {
		return !slices.ContainsFunc(keys, func(key []byte) bool { return bytes.Equal(key, old) })
	})
	if going >= 0 {
		for _, old := range slices.Backward(present[going:]) {
			if err := ring.RemoveKey(old); err != nil {
				return fmt.Errorf("dropping a gossip key: %w", err)
			}
		}
	}
	for _, key := range keys[1:] {
		if err := ring.AddKey(key); err != nil {
			return fmt.Errorf("adding a gossip key: %w", err)
		}
	}
	return nil
}

func newGossipKey() ([]byte, error) {
	key := make([]byte, gossipKeySize)
	if _, err := rand.Read(key); err != nil {
		return nil, fmt.Errorf("making a gossip key: %w", err)
	}
	return key, nil
}

func validGossipKeys(keys [][]byte) error {
	if len(keys) == 0 || len(keys) > maxGossipKeys {
		return fmt.Errorf("%d gossip keys; 1 to %d are allowed", len(keys), maxGossipKeys)
	}
	for _, key := range keys {
		if len(key) != gossipKeySize {
			return errors.New("a gossip key must have 32 bytes")
		}
	}
	return nil
}
