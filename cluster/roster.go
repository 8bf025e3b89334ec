package cluster

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/deputy-id/deputy/internal/privatefile"
)

// Peers is the table of members as it was at one log index, with what it takes to gossip with them. It is
// kept beside the log, because the table itself is in the log: a node that starts has replayed nothing yet,
// and replays nothing until it has found the others.
type Peers struct {
	ClusterID  string
	Index      uint64 // the log index at which the table was so, or a later one
	Members    []Member
	GossipKeys [][]byte // the first one encrypts
}

// roster answers who is a member. It speaks for the replicated table once this node has applied the index of
// the last known Peers, and for those Peers until then: while the log is replayed the replicated table is
// that of some moment in the past, in which a present leader may be missing.
type roster struct {
	directory Directory
	progress  Progress
	clusterID string
	dir       *dataDir // nil: in memory

	seed   atomic.Pointer[seed]
	saving sync.Mutex // serialises changes of seed and of the file
	held   uint64     // the index of the replicated table that seed was last held against; under saving
}

// seed is Peers with an index by id and key. It is never modified.
type seed struct {
	Peers
	byID  map[string]Member
	byKey map[string]Member
}

func newSeed(p Peers) *seed {
	s := &seed{Peers: p, byID: make(map[string]Member, len(p.Members)), byKey: make(map[string]Member, len(p.Members))}
	for _, m := range p.Members {
		s.byID[m.ID] = m
		s.byKey[string(m.Key)] = m
	}
	return s
}

func newRoster(o *Options, dir *dataDir) (*roster, error) {
	r := &roster{directory: o.Directory, progress: o.Applied, clusterID: o.ClusterID, dir: dir}
	r.seed.Store(newSeed(Peers{ClusterID: o.ClusterID}))
	if dir == nil {
		return r, nil
	}
	if err := dir.inCluster(o.ClusterID); err != nil {
		return nil, err
	}
	peers, err := loadPeers(dir.file(peersFile))
	if errors.Is(err, fs.ErrNotExist) {
		return r, nil
	}
	if errors.Is(err, errBadPeers) {
		dir.peersBad = err // whether this node can do without is for the log to say
		return r, nil
	}
	if err != nil {
		return nil, folderError("reading the list of peers", err)
	}
	if err := dir.inCluster(peers.ClusterID); err != nil {
		return nil, err
	}
	r.seed.Store(newSeed(peers))
	return r, nil
}

// fromSeed returns the seed while it is newer than the replicated table, else nil.
func (r *roster) fromSeed() *seed {
	if s := r.seed.Load(); s.Index > r.progress.Applied() {
		return s
	}
	return nil
}

func (r *roster) member(id string) (Member, bool) {
	if s := r.fromSeed(); s != nil {
		m, ok := s.byID[id]
		return m, ok
	}
	return r.directory.Member(id)
}

func (r *roster) memberByKey(key []byte) (Member, bool) {
	if s := r.fromSeed(); s != nil {
		m, ok := s.byKey[string(key)]
		return m, ok
	}
	return r.directory.MemberByKey(key)
}

func (r *roster) members() []Member {
	if s := r.fromSeed(); s != nil {
		return s.Members
	}
	return r.directory.Members()
}

// peers is what this node would tell another one that has lost touch.
func (r *roster) peers() Peers {
	s := r.seed.Load()
	if s.Index > r.progress.Applied() {
		return s.Peers
	}
	members, index := r.consistent()
	return Peers{ClusterID: s.ClusterID, Index: index, Members: members, GossipKeys: s.GossipKeys}
}

// consistent reads the table and an index at which it was so. The state machine publishes its state before its
// index, so a table between two equal indexes may be newer than they say, never older.
func (r *roster) consistent() ([]Member, uint64) {
	var members []Member
	index := r.progress.Applied()
	for range 4 { // under steady writes the later index will do: the next poll sees what it missed
		members = r.directory.Members()
		now := r.progress.Applied()
		if now == index {
			break
		}
		index = now
	}
	members = slices.Clone(members)
	slices.SortFunc(members, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return members, index
}

// refresh takes over what the replicated table says now, and stores it if it has changed.
func (r *roster) refresh() (changed bool, err error) {
	r.saving.Lock()
	defer r.saving.Unlock()
	s := r.seed.Load()
	applied := r.progress.Applied()
	if s.Index > applied || applied == r.held {
		return false, nil
	}
	members, index := r.consistent()
	if len(members) == 0 || sameMembers(members, s.Members) {
		r.held = applied // read before the table was, which is therefore not older
		return false, nil
	}
	return true, r.replace(Peers{ClusterID: s.ClusterID, Index: index, Members: members, GossipKeys: s.GossipKeys})
}

// adopt takes over the table of a member that has come further, or of the answer to a join.
func (r *roster) adopt(p Peers) (changed bool, err error) {
	if err := p.validate(); err != nil {
		return false, err
	}
	r.saving.Lock()
	defer r.saving.Unlock()
	s := r.seed.Load()
	if p.Index <= s.Index || p.Index <= r.progress.Applied() {
		return false, nil
	}
	if s.ClusterID != "" && p.ClusterID != "" && s.ClusterID != p.ClusterID {
		return false, fmt.Errorf("%w: those are members of cluster %s, this node is of %s", ErrForeignFolder, p.ClusterID, s.ClusterID)
	}
	if p.ClusterID == "" {
		p.ClusterID = s.ClusterID
	}
	if len(p.GossipKeys) == 0 {
		p.GossipKeys = s.GossipKeys
	}
	return true, r.replace(p)
}

// setGossipKeys stores a new set of keys beside the members.
func (r *roster) setGossipKeys(keys [][]byte) error {
	r.saving.Lock()
	defer r.saving.Unlock()
	s := r.seed.Load()
	if reflect.DeepEqual(s.GossipKeys, keys) {
		return nil
	}
	p := s.Peers
	p.GossipKeys = keys
	return r.replace(p)
}

// replace is called with saving held. What can't be stored still counts in memory: losing the file costs a
// node its way back after a restart, refusing the change would cost it its cluster now.
func (r *roster) replace(p Peers) error {
	r.seed.Store(newSeed(p))
	if r.dir == nil {
		return nil
	}
	if err := r.dir.inCluster(p.ClusterID); err != nil {
		return err
	}
	return savePeers(r.dir.file(peersFile), p)
}

func sameMembers(a, b []Member) bool {
	return slices.EqualFunc(a, b, func(x, y Member) bool {
		return x.ID == y.ID && x.Key.Equal(y.Key) && x.ClusterAddr == y.ClusterAddr &&
			x.GossipAddr == y.GossipAddr && x.PublicURL == y.PublicURL
	})
}

// maxPeers bounds peers.json and the table that a member may tell; a cluster of this size is far beyond what
// one leader serves.
const (
	maxPeers         = 4096
	maxPeersFile     = 8 << 20
	maxGossipKeys    = 8
	peersFileVersion = 1
)

func (p *Peers) validate() error {
	if len(p.Members) == 0 || len(p.Members) > maxPeers {
		return fmt.Errorf("a list of peers has %d members; 1 to %d are allowed", len(p.Members), maxPeers)
	}
	if len(p.GossipKeys) > maxGossipKeys {
		return fmt.Errorf("a list of peers has %d gossip keys; at most %d are allowed", len(p.GossipKeys), maxGossipKeys)
	}
	for _, key := range p.GossipKeys {
		if len(key) != gossipKeySize {
			return fmt.Errorf("a gossip key has %d bytes; it must have %d", len(key), gossipKeySize)
		}
	}
	for _, m := range p.Members {
		if m.ID == "" || len(m.ID) > MaxNodeIDLength {
			return fmt.Errorf("a peer's id has %d characters; 1 to %d are allowed", len(m.ID), MaxNodeIDLength)
		}
		if len(m.Key) != ed25519.PublicKeySize {
			return fmt.Errorf("peer %s has a key of %d bytes; it must have %d", m.ID, len(m.Key), ed25519.PublicKeySize)
		}
		if _, _, err := net.SplitHostPort(m.ClusterAddr); err != nil {
			return fmt.Errorf("peer %s: cluster address: %w", m.ID, err)
		}
	}
	return nil
}

// peersDocument is peers.json. Keys are base64 as encoding/json writes byte slices.
type peersDocument struct {
	Version    int            `json:"version"`
	ClusterID  string         `json:"cluster_id,omitempty"`
	Index      uint64         `json:"index"`
	Members    []peerDocument `json:"members"`
	GossipKeys [][]byte       `json:"gossip_keys,omitempty"`
}

type peerDocument struct {
	ID          string `json:"id"`
	Key         []byte `json:"key"`
	ClusterAddr string `json:"cluster_addr"`
	GossipAddr  string `json:"gossip_addr,omitempty"`
	PublicURL   string `json:"public_url,omitempty"`
}

func encodePeers(p Peers) ([]byte, error) {
	d := peersDocument{Version: peersFileVersion, ClusterID: p.ClusterID, Index: p.Index, GossipKeys: p.GossipKeys}
	for _, m := range p.Members {
		d.Members = append(d.Members, peerDocument{m.ID, m.Key, m.ClusterAddr, m.GossipAddr, m.PublicURL})
	}
	return json.MarshalIndent(d, "", "  ")
}

func decodePeers(data []byte) (Peers, error) {
	var d peersDocument
	if err := json.Unmarshal(data, &d); err != nil {
		return Peers{}, fmt.Errorf("reading a list of peers: %w", err)
	}
	if d.Version != peersFileVersion {
		return Peers{}, fmt.Errorf("the list of peers has version %d; this program reads version %d", d.Version, peersFileVersion)
	}
	p := Peers{ClusterID: d.ClusterID, Index: d.Index, GossipKeys: d.GossipKeys}
	for _, m := range d.Members {
		p.Members = append(p.Members, Member{m.ID, m.Key, m.ClusterAddr, m.GossipAddr, m.PublicURL})
	}
	// A list without members is the keys of a cluster that is being bootstrapped.
	if len(p.Members) == 0 && p.Index == 0 {
		return p, nil
	}
	return p, p.validate()
}

// errBadPeers: the file is there and is no list of peers.
var errBadPeers = errors.New("is damaged")

func loadPeers(path string) (Peers, error) {
	data, err := readBounded(path, maxPeersFile)
	if errors.Is(err, errOverLimit) {
		return Peers{}, fmt.Errorf("%s %w: %w", path, errBadPeers, err)
	}
	if err != nil {
		return Peers{}, err
	}
	p, err := decodePeers(data)
	if err != nil {
		return Peers{}, fmt.Errorf("%s %w: %w", path, errBadPeers, err)
	}
	return p, nil
}

func savePeers(path string, p Peers) error {
	data, err := encodePeers(p)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", path, err)
	}
	return privatefile.Replace(path, data)
}

// someOthers returns at most so many members other than self, in random order: the first ones of a sorted list
// may be dead for long.
func (r *roster) someOthers(self string, most int) []Member {
	others := slices.DeleteFunc(slices.Clone(r.members()), func(m Member) bool { return m.ID == self })
	rand.Shuffle(len(others), func(i, j int) { others[i], others[j] = others[j], others[i] })
	return others[:min(len(others), most)]
}

// ask is how a node that hears no leader finds its way back; see Node.findPeers.
type ask func(ctx context.Context, member string) (Peers, error)

// catchUp asks members, one after the other, for their tables and adopts each that is newer than ours.
func (r *roster) catchUp(ctx context.Context, self string, most int, ask ask) (changed bool, err error) {
	var errs []error
	for _, m := range r.someOthers(self, most) {
		if ctx.Err() != nil {
			break
		}
		p, err := ask(ctx, m.ID)
		if err == nil {
			var adopted bool
			adopted, err = r.adopt(p)
			changed = changed || adopted
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("member %s: %w", m.ID, err))
		}
	}
	return changed, errors.Join(errs...)
}
