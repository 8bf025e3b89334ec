package audit

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/deputy-id/deputy/identity"
	"github.com/deputy-id/deputy/internal/privatefile"
)

// Bounds of what is kept of other nodes, of some 450 bytes a checkpoint.
const (
	maxPerLog      = 32   // checkpoints of one log
	maxLogsPerNode = 8    // a node begins a log once, and anew when its folder was lost
	maxPeerLogs    = 512  // logs of all nodes
	idleLines      = 1024 // lines of the file that say nothing any more, beyond as many as say something
	maxPeerLines   = 2*maxPerLog*maxPeerLogs + idleLines
)

// peers keeps checkpoints of other nodes, as witnesses against a change of their logs. Of each log it keeps the newest
// and, ever thinner, older ones: a log that was cut off and went on would overtake the newest, but not fit the others.
type peers struct {
	path   string
	keyOf  func(node string) (ed25519.PublicKey, bool)
	logger *slog.Logger
	mu     sync.Mutex
	logs   map[peerLog][]Checkpoint // oldest first
	file   *os.File
	lines  int // of the file
	kept   int // checkpoints
}

type peerLog struct{ node, log string }

// openPeers reads the file. A line that can't be read is left out with a warning: it is one witness less, and no
// reason to keep a node from starting.
func openPeers(path string, keyOf func(string) (ed25519.PublicKey, bool), logger *slog.Logger) (*peers, error) {
	p := &peers{path: path, keyOf: keyOf, logger: logger, logs: map[peerLog][]Checkpoint{}}
	kept, bad, err := readCheckpoints(path)
	if err != nil {
		return nil, err
	}
	if bad > 0 {
		logger.Warn("lines of a file of checkpoints can't be read and are left out", "file", path, "lines", bad)
	}
	for _, c := range kept {
		// What contradicts itself is kept for Verify to find.
		key := peerLog{c.Node, c.Log}
		if len(p.logs) < maxPeerLogs || p.logs[key] != nil {
			p.put(key, c)
		}
	}
	if err := p.rewrite(); err != nil {
		return nil, fmt.Errorf("keeping checkpoints of other nodes: %w", err)
	}
	return p, nil
}

// ReadCheckpoints reads a file of checkpoints, one JSON object a line, such as peers.jsonl in the folder of another
// node's log, and returns them in the order of nodes, logs and records. Lines that are none are counted.
func ReadCheckpoints(path string) (all []Checkpoint, unreadable int, err error) {
	if _, err := os.Stat(path); err != nil {
		return nil, 0, fmt.Errorf("reading checkpoints: %w", err)
	}
	all, unreadable, err = readCheckpoints(filepath.Clean(path))
	slices.SortFunc(all, compareCheckpoints)
	return all, unreadable, err
}

// readCheckpoints reads a file of checkpoints, one JSON object a line. No file is an empty one.
func readCheckpoints(path string) (kept []Checkpoint, bad int, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("reading checkpoints of other nodes: %w", err)
	}
	defer f.Close() //nolint:errcheck // read only
	lines := bufio.NewScanner(f)
	for lines.Scan() && len(kept) < maxPeerLines {
		var c Checkpoint
		if json.Unmarshal(lines.Bytes(), &c) != nil || c.plausible() != nil {
			bad++
			continue
		}
		kept = append(kept, c)
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return kept, bad + 1, nil
	}
	return kept, bad, lines.Err()
}

// insert puts a checkpoint in its place by the record that it reaches to.
func insert(kept []Checkpoint, c Checkpoint) []Checkpoint {
	i, _ := slices.BinarySearchFunc(kept, c.Through, func(k Checkpoint, through uint64) int {
		if k.Through <= through {
			return -1
		}
		return 1
	})
	if i > 0 && kept[i-1].same(&c) {
		return kept
	}
	return slices.Insert(kept, i, c)
}

// thin leaves out the checkpoint whose neighbours stand closest together for their age, so that the gaps grow with the
// distance from the newest. The oldest and the newest stay.
func thin(kept []Checkpoint) []Checkpoint {
	if len(kept) <= maxPerLog {
		return kept
	}
	newest := kept[len(kept)-1].Through
	least, at := 0.0, 0
	for i := 1; i < len(kept)-1; i++ {
		gap := float64(kept[i+1].Through-kept[i-1].Through) / float64(newest-kept[i-1].Through+1)
		if at == 0 || gap < least {
			least, at = gap, i
		}
	}
	return slices.Delete(kept, at, at+1)
}

// keep takes a checkpoint of another node.
func (p *peers) keep(c Checkpoint) error {
	if p.keyOf == nil {
		return fmt.Errorf("keeping a checkpoint of node %.64q: %w", c.Node, ErrUnknownNode)
	}
	key, ok := p.keyOf(c.Node)
	if !ok {
		return fmt.Errorf("keeping a checkpoint of node %.64q: %w", c.Node, ErrUnknownNode)
	}
	if err := c.Verify(key); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	name := peerLog{c.Node, c.Log}
	kept := p.logs[name]
	if err := contradicts(kept, &c); err != nil {
		return err
	}
	if kept == nil {
		if err := p.roomForLog(c.Node); err != nil {
			return err
		}
	}
	if slices.ContainsFunc(kept, func(k Checkpoint) bool { return k.same(&c) }) {
		return nil
	}
	p.put(name, c)
	return p.write(&c)
}

func (p *peers) put(name peerLog, c Checkpoint) {
	before := len(p.logs[name])
	p.logs[name] = thin(insert(p.logs[name], c))
	p.kept += len(p.logs[name]) - before
}

// contradicts compares a checkpoint with those that the same log gave before. A later one that reaches less far shows
// that the log was cut off in between.
func contradicts(kept []Checkpoint, c *Checkpoint) error {
	for i := range kept {
		k := &kept[i]
		switch {
		case k.Through == c.Through && k.Head != c.Head:
			return fmt.Errorf("%w: node %s has signed two different records %d", ErrForked, c.Node, c.Through)
		case k.Through > c.Through && k.Time < c.Time, k.Through < c.Through && k.Time > c.Time: // a log's checkpoints never go back in time
			return fmt.Errorf("%w: the log of node %s reached record %d at %s and record %d at %s",
				ErrForked, c.Node, k.Through, k.Time, c.Through, c.Time)
		}
	}
	return nil
}

func (p *peers) roomForLog(node string) error {
	of := 0
	for name := range p.logs {
		if name.node == node {
			of++
		}
	}
	if of >= maxLogsPerNode || len(p.logs) >= maxPeerLogs {
		return fmt.Errorf("%w audit logs of node %s (%d) or of all nodes (%d) to keep checkpoints of another; move %s to where evidence is kept",
			ErrTooMany, node, of, len(p.logs), p.path)
	}
	return nil
}

// all returns what is kept, node by node.
func (p *peers) all() []Checkpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []Checkpoint
	for _, kept := range p.logs {
		all = append(all, kept...)
	}
	slices.SortFunc(all, compareCheckpoints)
	return all
}

func compareCheckpoints(a, b Checkpoint) int {
	return cmp.Or(cmp.Compare(a.Node, b.Node), cmp.Compare(a.Log, b.Log), cmp.Compare(a.Through, b.Through))
}

// write appends a line. It isn't synced: the same node gives a newer one in a moment.
func (p *peers) write(c *Checkpoint) error {
	if p.lines >= 2*p.kept+idleLines {
		return p.rewrite()
	}
	line, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("keeping a checkpoint: %w", err)
	}
	if _, err := p.file.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("keeping a checkpoint of node %s: %w", c.Node, err)
	}
	p.lines++
	return nil
}

// rewrite replaces the file by what is kept.
func (p *peers) rewrite() error {
	var text bytes.Buffer
	p.lines = 0
	for _, kept := range p.logs {
		for i := range kept {
			line, err := json.Marshal(&kept[i])
			if err != nil {
				return err
			}
			text.Write(append(line, '\n'))
			p.lines++
		}
	}
	if err := privatefile.Replace(p.path, text.Bytes()); err != nil {
		return err
	}
	f, err := os.OpenFile(p.path, os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return err
	}
	old := p.file
	p.file = f
	if old != nil {
		return old.Close()
	}
	return nil
}

func (p *peers) close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.file.Close()
}

// KeepPeer keeps a checkpoint of another node, after checking its signature. One that is known already is fine.
// ErrForked says that it contradicts what that node said before: its log was changed or cut off. What was kept stays.
func (l *Log) KeepPeer(c Checkpoint) error {
	if c.Node == l.options.Node {
		return fmt.Errorf("keeping a checkpoint of node %s: it is this node's own", c.Node)
	}
	return l.peers.keep(c)
}

// PeerCheckpoints returns the checkpoints that are kept of a node, or, for "", of all other nodes: to be held against
// their logs by Verify.
func (l *Log) PeerCheckpoints(node string) []Checkpoint {
	all := l.peers.all()
	if node == "" {
		return all
	}
	return slices.DeleteFunc(all, func(c Checkpoint) bool { return c.Node != node })
}

// Identity returns the name of this node and the id of its log.
func (l *Log) Identity() (node, log string, began identity.Instant) {
	return l.options.Node, l.id, l.began
}
